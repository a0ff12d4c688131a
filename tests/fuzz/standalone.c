/*
 * Runs a fuzz target once over every file of the folders and files in its arguments, where there is
 * no libFuzzer: each target is a unit test in this way. A crash is the failure; prints how many
 * inputs there were.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path, size_t size)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	/* Of the exact size, so that the address sanitizer sees every read beyond it. */
	CLEANUP(freep) uint8_t *data = malloc(size ? size : 1);

	if (!f || !data)
		return -errno;
	if (fread(data, 1, size, f) != size)
		return -EIO;
	LLVMFuzzerTestOneInput(data, size);
	return 0;
}

/* Returns how many inputs there were, or -errno. */
static int run_path(const char *path);

static int run_folder(const char *path)
{
	struct dirent **entries;
	char child[PATH_MAX];
	int n = scandir(path, &entries, NULL, alphasort), n_run = 0, r = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r >= 0 && entries[i]->d_name[0] != '.') {
			snprintf(child, sizeof(child), "%s/%s", path, entries[i]->d_name);
			r = run_path(child);
			n_run += r > 0 ? r : 0;
		}
		free(entries[i]);
	}
	free(entries);
	return r < 0 ? r : n_run;
}

static int run_path(const char *path)
{
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return run_folder(path);
	r = run_file(path, (size_t)st.st_size);
	return r < 0 ? r : 1;
}

int main(int argc, char **argv)
{
	int n = 0, r;

	for (int i = 1; i < argc; i++) {
		r = run_path(argv[i]);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return EXIT_FAILURE;
		}
		n += r;
	}
	printf("%d inputs\n", n);
	return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
