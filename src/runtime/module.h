/*
 * Modules as a child process sees them: load, check, configure, start, stop.
 * Runs in workers, task processes and the child of `tined --check`; never in the primary.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/module.h>

struct arena;
struct bus;
struct bus_port;
struct conf_module;
struct config;
struct event_base;
struct farm_port;
struct http_router;
struct http_server;
struct loop_figures;
struct mailbox;
struct pool;
struct sb_slot;
struct soon;
struct stream_service;
struct subprocesses;
struct threads;

#define MODULE_ERROR_MAX 512

/* An option's value after checking: the text, and the number for all types but strings. */
struct module_value {
	const struct tine_option *option;
	const char *text;
	int64_t number;
	unsigned line; /* 0: the default */
};

static inline bool module_is_text(enum tine_option_type type)
{
	return type == TINE_OPTION_STRING || type == TINE_OPTION_PATH;
}

/* The public opaque types of tine/module.h live here. */
struct tine_config {
	const struct config *config;
	const struct conf_module *conf;
	struct module_value *values;
	size_t n_values;
	char error[MODULE_ERROR_MAX]; /* what tine_config_error() said last */
};

struct tine_worker {
	struct event_base *base;
	unsigned slot;
	uint64_t generation;
	struct mailbox *mailbox; /* of the loop, as are the next two */
	struct soon *soon;
	const struct sb_slot *figures;
	struct loop_figures *figures_then; /* when the module asked last; NULL: it never did */
	struct pool *pool;
	struct threads *threads;
	struct subprocesses *subprocesses; /* of the process; NULL: it may start none */
	struct arena *arena;               /* memory shared with the other workers */
	struct bus *bus_client;            /* of the process */
	struct bus_port *bus;              /* this module's part of it */
	struct farm_port *farms;           /* its way to the farms */
	struct http_server *http;          /* NULL in a process that serves none */
	struct http_router *router; /* of this module's listener; NULL when that speaks plain tcp */
	struct net_server *net;     /* of the process; NULL where nothing is served */
	struct stream_service **stream; /* of this module's listener; NULL when that speaks HTTP */
	bool serves_stream;             /* it has set *stream */
	bool misplaced;                 /* it wanted to serve what is not spoken on its listener */
	struct tine_config config;
	const struct tine_module *desc;
	struct tine_module copy; /* what desc points to from module_load() on */
	void *handle;            /* of dlopen(3); NULL: built in */
	void *state;
	bool started;
	bool stopped; /* nothing of it is called any more */
};

/* Built-in modules, by the NAME of "builtin:NAME"; the table ends with a row of NULLs. */
struct module_builtin {
	const char *name;
	const struct tine_module *desc;
};

int module_load(const struct config *c, const struct conf_module *conf,
	const struct module_builtin *builtins, struct tine_worker *ret,
	char error[MODULE_ERROR_MAX]);
int module_check_tasks(const struct tine_worker *m, char error[MODULE_ERROR_MAX]);
int module_start(struct tine_worker *m, char error[MODULE_ERROR_MAX]);
void module_drain(struct tine_worker *m);
void module_stop(struct tine_worker *m);
