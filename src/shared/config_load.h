/*
 * A configuration while it is being made: where everything was written, and what is wrong so far.
 * Private to config*.c.
 */
#pragma once

#include "shared/config.h"
#include "shared/options.h"

#define CONFIG_ERRORS_MAX         100 /* more are only counted */
#define CONFIG_LISTENERS_MAX      64
#define CONFIG_MODULES_MAX        256
#define CONFIG_FARMS_MAX          64
#define CONFIG_TASK_PROCESSES_MAX 1024u /* that are there in any case */
#define CONFIG_PAIRS_MAX          256   /* own options of one module */

struct config_error {
	unsigned line; /* 0: the file as a whole */
	char *text;
};

/* One section of the file. */
struct config_section {
	enum option_section kind;
	size_t index; /* of the listener, module or farm; 0 for the others */
	unsigned line;
	char title[CONFIG_NAME_MAX + 1]; /* as between the brackets */
	unsigned key_lines[OPTIONS_MAX]; /* by the option's row; 0: not given */
	bool key_is_bad[OPTIONS_MAX];    /* given, but refused: the field has its default */
};

struct config_loader {
	struct config *config;
	const char *name;   /* of the file, for messages */
	const char *folder; /* for relative paths; NULL: leave them */
	struct config_section *sections;
	size_t n_sections;
	struct config_section *section; /* the one being read; NULL: an unknown one */
	bool bad_listener;              /* one was refused: rules about them would mislead */
	struct config_error *errors;
	size_t n_errors, n_more_errors;
	bool out_of_memory; /* a message was lost */
};

struct config_section *config_find_section(
	struct config_loader *l, enum option_section kind, size_t index);
void config_report(struct config_loader *l, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
unsigned config_key_line(const struct config_section *s, const char *key);
bool config_key_is_bad(const struct config_section *s, const char *key);
unsigned config_blame_line(const struct config_section *s, const char *key);
int config_check(struct config_loader *l);
void config_check_nats(struct config_loader *l);
