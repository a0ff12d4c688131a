/*
 * Fuzz target: any bytes as a configuration file. What loads must print, read back and print as the
 * same; what does not must say why, in whole lines.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_error(const char *line, void *arg)
{
	size_t *n = arg;

	if (*line == '\0' || strchr(line, '\n'))
		abort();
	(*n)++;
}

/* The file that says the same as `c`; the caller frees it. */
static char *print(const struct config *c, size_t *ret_size)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_size);

	if (!f || config_print(c, f) < 0 || fclose(f) != 0)
		abort();
	return text;
}

static struct config *load(const char *text, size_t size)
{
	struct config *c = NULL;
	size_t n_errors = 0;
	int r = config_load_text("fuzz", "/folder", text, size, on_error, &n_errors, &c);

	if ((r == 0) != (n_errors == 0) || (r == 0) != (c != NULL))
		abort();
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = load((const char *)data, size), *again;
	size_t first_size, second_size;
	char *first, *second;

	if (!c)
		return 0;
	first = print(c, &first_size);
	again = load(first, first_size);
	if (!again)
		abort();
	second = print(again, &second_size);
	if (first_size != second_size || memcmp(first, second, first_size) != 0)
		abort();
	free(first);
	free(second);
	config_free(again);
	config_free(c);
	return 0;
}
