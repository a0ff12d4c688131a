/*
 * tine/module.h - what a module is to tined.
 *
 * A module is code that serves: a shared object (or one of tined's own, "builtin:NAME") named by `path` in a section
 * [module:NAME]. It is loaded by each worker process after the fork, never by the primary, so a reload
 * picks up new code and a crash in it costs one worker. Named by `module` in a section [farm:NAME], it is loaded by the task
 * processes of that farm, which run its task functions (tine/farm.h). It exports one symbol, `tine_module`:
 *
 *	TINE_MODULE = {
 *		.abi = TINE_ABI, .size = sizeof(struct tine_module), .name = "hello",
 *		.worker_start = start,
 *	};
 *
 * Unless a function says otherwise it may be called only in the worker process, on the thread that runs the
 * worker's event loop, and it copies what it must keep. tine_config_*, tine_log and tine_version may be called in a task process, too.
 *
 * Options come in structures whose first field is `size`: sizeof, in the module. They grow at their end, so a module need not be built
 * again: fields that an older header did not have count as 0. Those of a newer header that this tined does not know have to be 0, else
 * the call returns -ENOTSUP. A size below that of the structure's first version, or above 4,096, is -EINVAL.
 */
#ifndef TINE_MODULE_H
#define TINE_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TINE_EXPORT __attribute__((visibility("default")))

/* Grows by one when a structure below changes in a way that old modules cannot live with. */
#define TINE_ABI 1u

struct tine_config; /* the module's own section of the configuration; lives as long as the process */
struct tine_worker; /* one module in one worker process; lives until worker_stop has returned */
struct tine_task;   /* one task in a task process; lives until its function has returned */

enum tine_option_type {
	TINE_OPTION_STRING,
	TINE_OPTION_PATH, /* a string; if relative, made absolute from the configuration file's folder */
	TINE_OPTION_BOOL,     /* on, off */
	TINE_OPTION_INT,      /* 0 or more */
	TINE_OPTION_SIZE,     /* bytes: 512, 64K, 1M, 2G */
	TINE_OPTION_DURATION, /* microseconds: 250ms, 10s, 5m */
};

/*
 * One option of the module's section, checked by tined before `configure` is called. An array of these ends
 * with a row whose name is NULL. All strings must live as long as the module.
 */
struct tine_option {
	const char *name;
	enum tine_option_type type;
	const char *def;       /* default as text, through the same parser; NULL means "" or 0 */
	const char *min, *max; /* inclusive, as text; NULL: no bound; not for strings and paths */
	const char *doc;       /* one sentence */
};

/*
 * What a task process can be asked to do; tine/farm.h says how, and what a function may call. An array of these ends with a
 * row whose name is NULL.
 */
struct tine_task_function {
	const char *name; /* up to 63 bytes; by it tasks are submitted */

	/* Runs one task. state: of task_start. Returns 0, or a negative errno for which the task has failed. */
	int (*run)(struct tine_task *task, void *state);
};

/*
 * The module's descriptor. abi and size are checked before any other field is read; fields beyond `size`
 * count as absent. Every hook may be NULL. Hooks that return int return 0 or a negative errno; before an
 * error they should say why with tine_config_error() or tine_worker_error(): that text is what the operator gets to see.
 */
struct tine_module {
	uint32_t abi;  /* TINE_ABI */
	uint32_t size; /* sizeof(struct tine_module) */
	const char *name;
	const struct tine_option *options;

	/* Checks the options' values. Also called by `tined --check`: opens nothing that outlives the call. */
	int (*configure)(const struct tine_config *config);

	/* Prepares to serve: registers routes, opens files. Connections come only after it has returned 0. */
	int (*worker_start)(struct tine_worker *worker, void **ret_state);

	/* No new connections from here on; requests in flight and on idle connections may still come. */
	void (*worker_drain)(void *state);

	/* The last call: the worker is about to exit and no request is left. Not called where it has come to an end before it was ready:
	 * when worker_start of any module has failed, nothing more of any is called. */
	void (*worker_stop)(void *state);

	/* What the module does in a farm; NULL: it is none for a farm. In a farm worker_start is not called, nor anything of it. */
	const struct tine_task_function *tasks;

	/* In a task process, before its first task. To say why it fails: tine_config_error(). */
	int (*task_start)(const struct tine_config *config, void **ret_state);

	/* In a task process that ends in peace, after its last task. One that crashes, or is killed, ends without. */
	void (*task_stop)(void *state);
};

#define TINE_MODULE TINE_EXPORT const struct tine_module tine_module

/*
 * The value of an option the module declared. Strings and paths belong to the configuration and are never NULL.
 * Asking for an option that was not declared, or by the wrong type, is a bug and aborts the worker.
 */
TINE_EXPORT const char *tine_config_string(const struct tine_config *config, const char *name);
TINE_EXPORT int64_t tine_config_number(const struct tine_config *config, const char *name);

/*
 * Reports what is wrong with an option as "FILE:LINE: module:NAME.option: text" ("farm:NAME" where it is a farm's). Name NULL: the
 * section itself.
 * Returns -EINVAL, so that `return tine_config_error(...)` is enough.
 */
TINE_EXPORT int tine_config_error(const struct tine_config *config, const char *name,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The options of the section this module was loaded for. */
TINE_EXPORT const struct tine_config *tine_worker_config(const struct tine_worker *worker);

/* Says why worker_start fails. Returns -EINVAL. */
TINE_EXPORT int tine_worker_error(struct tine_worker *worker, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Which worker this is: its slot on the scoreboard (0 or more) and the generation it belongs to (1 or more). */
TINE_EXPORT unsigned tine_worker_slot(const struct tine_worker *worker);
TINE_EXPORT uint64_t tine_worker_generation(const struct tine_worker *worker);

/*
 * Whether its generation is on trial: all requests that come are tined's own ([workers] probe), and may not change what those who
 * serve meanwhile use.
 */
TINE_EXPORT bool tine_worker_on_trial(const struct tine_worker *worker);

/* Version of the running tined, "MAJOR.MINOR.PATCH"; static storage. Any thread. */
TINE_EXPORT const char *tine_version(void);

enum tine_log_level { TINE_LOG_ERROR, TINE_LOG_WARNING, TINE_LOG_INFO, TINE_LOG_DEBUG };

/* Writes one line to tined's log, cut at about 2,000 bytes. Bytes that are not printable ASCII are escaped. Any thread. */
TINE_EXPORT void tine_log(enum tine_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
