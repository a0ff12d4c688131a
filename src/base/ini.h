/*
 * An INI file as events, with line numbers. Nothing is cut, joined or passed over in silence: what
 * libinih would treat so is reported as an error of its line, and reading goes on. Any process; one
 * reading at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define INI_FILE_MAX (1u << 20) /* bytes */
#define INI_NAME_MAX 49 /* bytes of a section's or a key's name: what libinih keeps of them */

/*
 * Strings live as long as the call. on_section and on_key return 0 or a negative errno, which ends
 * the reading.
 */
struct ini_events {
	int (*on_section)(const char *section, unsigned line, void *arg);
	int (*on_key)(const char *key, const char *value, unsigned line, void *arg);
	void (*on_error)(
		unsigned line, const char *what, void *arg); /* line 0: the file as a whole */
	void *arg;
};

int ini_read_file(const char *path, const struct ini_events *events);
int ini_read_text(const char *text, size_t len, const struct ini_events *events);
bool ini_value_fits(const char *value);
