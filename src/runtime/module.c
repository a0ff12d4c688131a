/*
 * Loading modules. Runs in workers, in task processes and in the child of `tined --check`.
 */
#include "runtime/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "base/suggest.h"
#include "ipc/msg.h"
#include "shared/config.h"
#include "shared/options.h"

#define BUILTIN_PREFIX "builtin:"
#define ROWS_MAX       1024 /* rows in a module's table; beyond that its end is missing */
#define TASKS_MAX      1024 /* the same of its task functions */
#define KEYS_MAX       64   /* that are offered where one is wrong */
#define LIST_MAX       160  /* bytes of a list of them */
#define SIZE_MIN       offsetof(struct tine_module, tasks) /* of the oldest descriptor there is */

static int complain(const struct config *c, const struct conf_module *m, unsigned line,
	const char *key, char error[MODULE_ERROR_MAX], const char *what, const char *detail)
{
	snprintf(error, MODULE_ERROR_MAX, "%s:%u: %s:%s%s%s: %s%s", c->path, line ? line : m->line,
		m->kind, m->name, key ? "." : "", key ? key : "", what, detail);
	return -EINVAL;
}

/* What the key that names its file is called. */
static const char *path_key(const struct conf_module *conf)
{
	return strcmp(conf->kind, "farm") == 0 ? "module" : "path";
}

/* --- finding the descriptor --- */

static const struct tine_module *find_builtin(
	const struct module_builtin *builtins, const char *name)
{
	for (; builtins->name; builtins++) {
		if (strcmp(builtins->name, name) == 0)
			return builtins->desc;
	}
	return NULL;
}

static int refuse_builtin(const struct config *c, const struct conf_module *conf,
	const struct module_builtin *builtins, const char *name, char error[MODULE_ERROR_MAX])
{
	char detail[256];
	int n = snprintf(detail, sizeof(detail), "%.64s; there is", name);

	for (; builtins->name && n < (int)sizeof(detail); builtins++)
		n += snprintf(detail + n, sizeof(detail) - (size_t)n, " %s%s", builtins->name,
			builtins[1].name ? "," : "");
	return complain(c, conf, conf->path_line, path_key(conf), error,
		"no built-in module of this name: ", detail);
}

/* As all of a start, it is in no hurry: where CPUs are few, those that serve go first. */
static void *load(const char *path)
{
	void *handle;

	sched_yield();
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	sched_yield();
	return handle;
}

static int find_descriptor(const struct config *c, const struct conf_module *conf,
	const struct module_builtin *builtins, struct tine_worker *ret,
	char error[MODULE_ERROR_MAX])
{
	const size_t skip = strlen(BUILTIN_PREFIX);

	if (strncmp(conf->path, BUILTIN_PREFIX, skip) == 0) {
		ret->desc = find_builtin(builtins, conf->path + skip);
		return ret->desc ? 0 : refuse_builtin(c, conf, builtins, conf->path + skip, error);
	}
	ret->handle = load(conf->path);
	if (!ret->handle)
		return complain(c, conf, conf->path_line, path_key(conf), error,
			"cannot be loaded: ", dlerror());
	ret->desc = dlsym(ret->handle, "tine_module");
	if (!ret->desc)
		return complain(c, conf, conf->path_line, path_key(conf), error,
			"is no module of tined: it exports no symbol `tine_module`", "");
	return 0;
}

/*
 * abi and size come first and never move, whatever the rest looks like. What an older module's descriptor does not have yet is
 * absent: from here on `desc` is a copy.
 */
static int take_descriptor(const struct config *c, const struct conf_module *conf,
	struct tine_worker *m, char error[MODULE_ERROR_MAX])
{
	const struct tine_module *d = m->desc;
	char detail[96];

	if (d->abi == TINE_ABI && d->size >= SIZE_MIN) {
		memcpy(&m->copy, d, d->size < sizeof(m->copy) ? d->size : sizeof(m->copy));
		m->desc = &m->copy;
		return 0;
	}
	snprintf(detail, sizeof(detail),
		"ABI %" PRIu32 ", %" PRIu32 " bytes; this is ABI %u, %zu bytes", d->abi, d->size,
		TINE_ABI, sizeof(*d));
	return complain(c, conf, conf->path_line, path_key(conf), error,
		"was built for another tined and must be built again: ", detail);
}

/* --- options --- */

static int parse_on_off(const char *text, uint64_t *ret)
{
	bool on = false;
	int r = parse_bool(text, &on);

	*ret = on;
	return r;
}

static const struct {
	const char *form;                              /* for messages */
	int (*parse)(const char *text, uint64_t *ret); /* NULL: stays text */
} option_types[] = {
	[TINE_OPTION_STRING] = {"text", NULL},
	[TINE_OPTION_PATH] = {"a path", NULL},
	[TINE_OPTION_BOOL] = {"on or off", parse_on_off},
	[TINE_OPTION_INT] = {"a whole number", parse_u64},
	[TINE_OPTION_SIZE] = {"a size such as 512, 64K or 1M", parse_size},
	[TINE_OPTION_DURATION] = {"a duration such as 250ms, 10s or 5m", parse_duration},
};

#define N_OPTION_TYPES (sizeof(option_types) / sizeof(*option_types))

static int parse_number(enum tine_option_type type, const char *text, int64_t *ret)
{
	uint64_t u = 0;
	int r = option_types[type].parse(text, &u);

	if (r == 0 && u > INT64_MAX)
		r = -ERANGE;
	*ret = (int64_t)u;
	return r;
}

static bool in_range(const struct tine_option *o, int64_t n)
{
	int64_t bound;

	if (o->min && parse_number(o->type, o->min, &bound) == 0 && n < bound)
		return false;
	return !(o->max && parse_number(o->type, o->max, &bound) == 0 && n > bound);
}

static const struct conf_pair *find_pair(const struct conf_module *conf, const char *key)
{
	for (size_t i = 0; i < conf->n_pairs; i++) {
		if (strcmp(conf->pairs[i].key, key) == 0)
			return &conf->pairs[i];
	}
	return NULL;
}

/* A relative path means beside the file it is written in; under systemd the working directory is /. */
static int set_path(const struct config *c, struct module_value *v)
{
	char *path;

	if (!*v->text || *v->text == '/' || !c->folder)
		return 0;
	if (asprintf(&path, "%s/%s", c->folder, v->text) < 0)
		return -ENOMEM;
	v->text = path; /* lives as long as the process */
	return 0;
}

static int set_value(const struct config *c, const struct conf_module *conf,
	const struct tine_option *o, struct module_value *v, char error[MODULE_ERROR_MAX])
{
	const struct conf_pair *pair = find_pair(conf, o->name);
	char right[160];

	*v = (struct module_value){.option = o,
		.text = pair     ? pair->value
			: o->def ? o->def
				 : "",
		.line = pair ? pair->line : 0};
	if ((unsigned)o->type >= N_OPTION_TYPES)
		return complain(c, conf, v->line, o->name, error,
			"is of a type this version does not know; the module must be built for it",
			"");
	if (o->type == TINE_OPTION_PATH)
		return set_path(c, v);
	if (o->type == TINE_OPTION_STRING || !*v->text)
		return 0;
	if (parse_number(o->type, v->text, &v->number) < 0) {
		snprintf(right, sizeof(right), "%s, not \"%.64s\"", option_types[o->type].form,
			v->text);
		return complain(c, conf, v->line, o->name, error, "must be ", right);
	}
	if (!in_range(o, v->number)) {
		snprintf(right, sizeof(right), "%s to %s, not %.64s", o->min ? o->min : "0",
			o->max ? o->max : "any", v->text);
		return complain(c, conf, v->line, o->name, error, "must be ", right);
	}
	return 0;
}

static size_t count_options(const struct tine_module *d)
{
	size_t n = 0;

	while (d->options && n < ROWS_MAX && d->options[n].name)
		n++;
	return n;
}

/* The names that a key may have had: the module's options, then the keys of the section itself. Returns how many the former are. */
static size_t list_keys(const struct conf_module *conf, const struct tine_module *d,
	const char *ret[static KEYS_MAX], size_t *ret_n)
{
	size_t n_own = count_options(d), n = 0;

	n_own = n_own < KEYS_MAX ? n_own : KEYS_MAX;
	for (; n < n_own; n++)
		ret[n] = d->options[n].name;
	for (size_t i = 0; i < n_option_rows && n < KEYS_MAX; i++) {
		if (strcmp(option_sections[option_table[i].section].name, conf->kind) == 0)
			ret[n++] = option_table[i].key;
	}
	*ret_n = n;
	return n_own;
}

static void join_words(const char *const *words, size_t n, char ret[static LIST_MAX])
{
	size_t used = 0;

	*ret = '\0';
	for (size_t i = 0; i < n && used < LIST_MAX; i++)
		used += (size_t)snprintf(
			ret + used, LIST_MAX - used, "%s%s", used ? ", " : "", words[i]);
}

static int refuse_key(const struct config *c, const struct conf_module *conf,
	const struct tine_module *d, const struct conf_pair *pair, char error[MODULE_ERROR_MAX])
{
	const char *keys[KEYS_MAX] = {0}, *nearest;
	char own[LIST_MAX], others[LIST_MAX], text[2 * LIST_MAX + 64];
	size_t n, n_own = list_keys(conf, d, keys, &n);

	nearest = suggest_word(pair->key, keys, n);
	join_words(keys, n_own, own);
	join_words(keys + n_own, n - n_own, others);
	if (nearest)
		snprintf(text, sizeof(text), "did you mean %s?", nearest);
	else
		snprintf(text, sizeof(text), "this module has%s %s; the section itself has %s",
			n_own ? ":" : "", n_own ? own : "none", others);
	return complain(c, conf, pair->line, pair->key, error, "unknown option; ", text);
}

/* Every key of the section must be one the module knows. */
static int check_keys(const struct config *c, const struct conf_module *conf,
	const struct tine_module *d, char error[MODULE_ERROR_MAX])
{
	size_t n = count_options(d);

	for (size_t i = 0; i < conf->n_pairs; i++) {
		size_t j = 0;

		while (j < n && strcmp(d->options[j].name, conf->pairs[i].key) != 0)
			j++;
		if (j == n)
			return refuse_key(c, conf, d, &conf->pairs[i], error);
	}
	return 0;
}

static int set_values(const struct config *c, const struct conf_module *conf, struct tine_worker *m,
	char error[MODULE_ERROR_MAX])
{
	size_t n = count_options(m->desc);
	int r = check_keys(c, conf, m->desc, error);

	if (r < 0)
		return r;
	m->config.values = calloc(n + 1, sizeof(*m->config.values));
	if (!m->config.values)
		return -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i++) {
		r = set_value(c, conf, &m->desc->options[i], &m->config.values[i], error);
		m->config.n_values++;
	}
	return r;
}

/*
 * Loads a module, checks its descriptor and its options, and lets it check their values. The process keeps it
 * loaded until it exits; *ret is not to be moved. Returns 0, or -errno and a line for the operator.
 */
int module_load(const struct config *c, const struct conf_module *conf,
	const struct module_builtin *builtins, struct tine_worker *ret,
	char error[MODULE_ERROR_MAX])
{
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->config.config = c;
	ret->config.conf = conf;
	r = find_descriptor(c, conf, builtins, ret, error);
	if (r == 0)
		r = take_descriptor(c, conf, ret, error);
	if (r == 0)
		r = set_values(c, conf, ret, error);
	if (r < 0 || !ret->desc->configure)
		return r;
	r = ret->desc->configure(&ret->config);
	if (r < 0 && *ret->config.error)
		snprintf(error, MODULE_ERROR_MAX, "%s", ret->config.error);
	else if (r < 0)
		complain(c, conf, 0, NULL, error, "refuses its options: ", strerror(-r));
	return r;
}

/* What is wrong with a row of its task functions, or NULL. */
static const char *task_fault(const struct tine_task_function *tasks, size_t i)
{
	if (!*tasks[i].name || strlen(tasks[i].name) > TASK_FUNCTION_MAX)
		return "the name of a task function must have 1 to 63 bytes, not those of ";
	if (!tasks[i].run)
		return "there is no code for its task function ";
	for (size_t j = 0; j < i; j++) {
		if (strcmp(tasks[i].name, tasks[j].name) == 0)
			return "there are two task functions of the name ";
	}
	return NULL;
}

/* Whether a loaded module is one for a farm. Returns 0, or -errno and a line for the operator. */
int module_check_tasks(const struct tine_worker *m, char error[MODULE_ERROR_MAX])
{
	const struct tine_task_function *tasks = m->desc->tasks;
	const struct conf_module *conf = m->config.conf;
	const char *why = NULL;
	size_t i = 0;

	if (!tasks || !tasks[0].name)
		return complain(m->config.config, conf, conf->path_line, path_key(conf), error,
			"the module exports no task functions", "");
	while (tasks[i].name && i < TASKS_MAX && !why)
		why = task_fault(tasks, i++);
	if (!why && i == TASKS_MAX)
		return complain(m->config.config, conf, conf->path_line, path_key(conf), error,
			"the module's list of task functions has no end", "");
	return why ? complain(m->config.config, conf, conf->path_line, path_key(conf), error, why,
			     tasks[i - 1].name)
		   : 0;
}

/* Module and listener do not go together. */
static int complain_listener(const struct tine_worker *m, char error[MODULE_ERROR_MAX])
{
	const struct conf_module *conf = m->config.conf;

	return complain(m->config.config, conf, 0, "listener", error,
		m->stream ? "plain tcp is spoken there, and the module serves none "
			    "(tine_stream_serve); name a listener with protocol = http, not "
			  : "HTTP is spoken there, and the module serves plain streams; name a "
			    "listener with protocol = tcp, not ",
		conf->listener);
}

/* Lets a loaded module prepare to serve. Returns 0, or -errno and a line for the operator. */
int module_start(struct tine_worker *m, char error[MODULE_ERROR_MAX])
{
	int r = m->desc->worker_start ? m->desc->worker_start(m, &m->state) : 0;

	m->started = r >= 0;
	if (r < 0 ? m->misplaced : m->stream && !m->serves_stream)
		return complain_listener(m, error);
	if (r >= 0)
		return 0;
	if (*m->config.error)
		snprintf(error, MODULE_ERROR_MAX, "%s", m->config.error);
	else
		complain(m->config.config, m->config.conf, 0, NULL, error,
			"cannot start: ", strerror(-r));
	return r;
}

void module_drain(struct tine_worker *m)
{
	if (m->started && m->desc->worker_drain)
		m->desc->worker_drain(m->state);
}

void module_stop(struct tine_worker *m)
{
	if (m->started && m->desc->worker_stop)
		m->desc->worker_stop(m->state);
	free(m->figures_then);
	m->figures_then = NULL;
	m->stopped = true;
	m->started = false;
}
