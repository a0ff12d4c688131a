/*
 * Every option of the configuration file, as one table. Parsing, defaults, printing, the sample
 * file and the manual page come from it. Any process; pure functions apart from memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The type is also the unit: durations are microseconds and sizes bytes in struct config. */
enum option_type {
	OPTION_UINT,        /* uint64_t: a whole number */
	OPTION_COUNT,       /* uint64_t: auto (0), or a whole number */
	OPTION_DURATION,    /* uint64_t: 250ms, 10s, 5m */
	OPTION_SIZE,        /* uint64_t: 512, 64K, 1M */
	OPTION_RATE,        /* struct rate: 10/60s */
	OPTION_CHOICE,      /* unsigned: the index of one of `choices` */
	OPTION_SINK,        /* struct conf_sink: stderr, journal, file:PATH */
	OPTION_SINK_OR_OFF, /* struct conf_sink: the same, or off */
	OPTION_ADDRESS,     /* struct address */
	OPTION_NETWORKS,    /* struct netmask_list; may be empty */
	OPTION_TEXT,        /* char *: NULL when empty */
	OPTION_PATH,   /* char *: NULL when empty; relative ones are taken from the file's folder */
	OPTION_MODULE, /* char *: builtin:NAME, or as OPTION_PATH */
	OPTION_MOUNT,  /* char *: /path */
};

/* When a changed value begins to count. */
enum option_effect {
	EFFECT_GENERATION, /* at a reload */
	EFFECT_RESTART,    /* when tined is started again */
	EFFECT_NONE,       /* checked, but of no use to this version */
};

enum option_section {
	SECTION_TINED,
	SECTION_WORKERS,
	SECTION_LISTENER,
	SECTION_HTTP,
	SECTION_MODULE,
	SECTION_FARM,
	SECTION_BUS,
	SECTION_ADMIN,
	N_SECTIONS,
};

struct option_section_info {
	const char *name; /* "listener" of [listener:NAME] */
	bool named;       /* there may be several, each with a NAME */
	bool optional;    /* does something by being there: the defaults alone mean nothing */
	bool open;        /* unknown keys belong to the module */
	size_t size;      /* of its struct */
	const char *doc;
};

struct option_row {
	enum option_section section;
	const char *key;
	enum option_type type;
	size_t offset; /* in the section's struct */
	/* As text, inclusive; NULL where the type has none. */
	const char *min, *max;
	const char *choices; /* OPTION_CHOICE: "one|two", in the order of the enum */
	const char *def;     /* as text; NULL: the key is required. Only if "" may text be empty */
	enum option_effect effect;
	const char *doc; /* one sentence */
};

#define OPTIONS_MAX    128 /* rows in the table, at most */
#define OPTION_WHY_MAX 256

extern const struct option_section_info option_sections[N_SECTIONS];
extern const struct option_row option_table[];
extern const size_t n_option_rows;

const struct option_row *option_find(enum option_section section, const char *key);
int option_set(const struct option_row *o, void *section, const char *folder, const char *value,
	char why[OPTION_WHY_MAX]);
int option_set_defaults(enum option_section section, void *ret);
void option_clear_section(enum option_section section, void *p);
bool option_is_empty(const struct option_row *o, const void *section);
int option_print(const struct option_row *o, const void *section, FILE *out);
const char *option_range(const struct option_row *o, char buf[OPTION_WHY_MAX]);
const char *option_effect_text(enum option_effect effect);
