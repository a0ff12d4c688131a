/*
 * The configuration: read, checked, printed, freed. The primary and --check make it, every child
 * inherits it.
 *
 * Always true of a struct config that config_load() returned: every option has a value within its
 * range, every module names a listener that is there, and config_print() of it reads back as the
 * same.
 */
#include "shared/config.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/ini.h"
#include "base/suggest.h"
#include "shared/config_load.h"

/*
 * What runs without a file: the bundled site, who answered, and its chat. conf/tined.ini says the same; a test
 * compares them.
 */
static const char config_default[] = "[listener:web]\n"
				     "address = 127.0.0.1:8080\n"
				     "[module:site]\n"
				     "path = builtin:static\n"
				     "mount = /\n"
				     "[module:whoami]\n"
				     "path = builtin:whoami\n"
				     "mount = /whoami\n"
				     "[module:chat]\n"
				     "path = builtin:hub\n"
				     "mount = /hub\n";

/* The struct of a section: one of the arrays' elements, or a part of struct config itself. */
static void *config_section_struct(const struct config *c, enum option_section kind, size_t index)
{
	switch (kind) {
	case SECTION_TINED:
		return (void *)&c->tined;
	case SECTION_WORKERS:
		return (void *)&c->workers;
	case SECTION_LISTENER:
		return &c->listeners[index];
	case SECTION_HTTP:
		return (void *)&c->http;
	case SECTION_MODULE:
		return &c->modules[index];
	case SECTION_FARM:
		return &c->farms[index];
	case SECTION_BUS:
		return (void *)&c->bus;
	case SECTION_ADMIN:
		return (void *)&c->admin;
	case N_SECTIONS:
		break;
	}
	abort();
}

/* The section of the file that made an element, or NULL when the file has none of the kind. */
struct config_section *config_find_section(
	struct config_loader *l, enum option_section kind, size_t index)
{
	for (size_t i = 0; i < l->n_sections; i++)
		if (l->sections[i].kind == kind && l->sections[i].index == index)
			return &l->sections[i];
	return NULL;
}

/*
 * Keeps one message, "section.key: what is wrong, what would be right". `line` 0: the file as a
 * whole.
 */
void config_report(struct config_loader *l, unsigned line, const char *fmt, ...)
{
	struct config_error *errors;
	char *text;
	va_list ap;
	int r;

	if (l->n_errors == CONFIG_ERRORS_MAX) {
		l->n_more_errors++;
		return;
	}
	va_start(ap, fmt);
	r = vasprintf(&text, fmt, ap);
	va_end(ap);
	errors = r < 0 ? NULL : reallocarray(l->errors, l->n_errors + 1, sizeof(*errors));
	if (!errors) {
		if (r >= 0)
			free(text);
		l->out_of_memory = true;
		return;
	}
	l->errors = errors;
	l->errors[l->n_errors++] = (struct config_error){.line = line, .text = text};
}

static bool config_name_is_good(const char *name)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

	return *name != '\0' && name[strspn(name, good)] == '\0';
}

static void config_report_unknown_section(struct config_loader *l, const char *title, unsigned line)
{
	const char *names[N_SECTIONS], *nearest;
	size_t n = strcspn(title, ":");
	char kind[INI_NAME_MAX + 1];

	for (size_t i = 0; i < N_SECTIONS; i++)
		names[i] = option_sections[i].name;
	memcpy(kind, title, n);
	kind[n] = '\0';
	nearest = suggest_word(kind, names, N_SECTIONS);
	if (nearest)
		config_report(l, line, "%s: unknown section; did you mean [%s%s]?", title, nearest,
			title + n);
	else
		config_report(l, line,
			"%s: unknown section; there are [tined], [workers], [listener:NAME], "
			"[http], [module:NAME], "
			"[farm:NAME], [bus] and [admin]",
			title);
}

/*
 * Splits "listener:web". Returns 0 with the kind and the NAME ("" for sections without), or
 * -EINVAL, reported.
 */
static int config_section_kind(struct config_loader *l, const char *title, unsigned line,
	enum option_section *ret_kind, const char **ret_name)
{
	const char *name = strchrnul(title, ':');
	size_t n = (size_t)(name - title), i;

	for (i = 0; i < N_SECTIONS; i++)
		if (strlen(option_sections[i].name) == n &&
			memcmp(option_sections[i].name, title, n) == 0)
			break;
	if (i == N_SECTIONS) {
		config_report_unknown_section(l, title, line);
		return -EINVAL;
	}
	if (option_sections[i].named && (*name == '\0' || !config_name_is_good(name + 1))) {
		l->bad_listener |= i == SECTION_LISTENER;
		config_report(l, line,
			"%s: the section needs a name of letters, digits and _ . -; write "
			"[%s:NAME]",
			title, option_sections[i].name);
		return -EINVAL;
	}
	if (!option_sections[i].named && *name != '\0') {
		config_report(l, line, "%s: the section takes no name; write [%s]", title,
			option_sections[i].name);
		return -EINVAL;
	}
	*ret_kind = (enum option_section)i;
	*ret_name = *name ? name + 1 : "";
	return 0;
}

/* `items` with room for one more than `n`, which is zero. Returns NULL when there is no memory. */
static void *config_grow(void *items, size_t n, size_t size)
{
	char *grown = reallocarray(items, n + 1, size);

	if (grown)
		memset(grown + n * size, 0, size);
	return grown;
}

/* Names fit: libinih's limit on the whole title is the smaller one. */
static_assert(INI_NAME_MAX <= CONFIG_NAME_MAX, "a section's name is cut");

/* These add an element and return 0, -ENOMEM, or -EINVAL: too many. */
static int config_add_listener(struct config *c, const char *name, unsigned line)
{
	struct conf_listener *items;

	if (c->n_listeners == CONFIG_LISTENERS_MAX)
		return -EINVAL;
	items = config_grow(c->listeners, c->n_listeners, sizeof(*items));
	if (!items)
		return -ENOMEM;
	c->listeners = items;
	items[c->n_listeners].line = line;
	stpncpy(items[c->n_listeners].name, name, CONFIG_NAME_MAX);
	return option_set_defaults(SECTION_LISTENER, &items[c->n_listeners++]);
}

static int config_add_module(struct config *c, const char *name, unsigned line)
{
	struct conf_module *items;

	if (c->n_modules == CONFIG_MODULES_MAX)
		return -EINVAL;
	items = config_grow(c->modules, c->n_modules, sizeof(*items));
	if (!items)
		return -ENOMEM;
	c->modules = items;
	items[c->n_modules].kind = option_sections[SECTION_MODULE].name;
	items[c->n_modules].line = line;
	stpncpy(items[c->n_modules].name, name, CONFIG_NAME_MAX);
	return option_set_defaults(SECTION_MODULE, &items[c->n_modules++]);
}

static int config_add_farm(struct config *c, const char *name, unsigned line)
{
	struct conf_farm *items;

	if (c->n_farms == CONFIG_FARMS_MAX)
		return -EINVAL;
	items = config_grow(c->farms, c->n_farms, sizeof(*items));
	if (!items)
		return -ENOMEM;
	c->farms = items;
	items[c->n_farms].line = line;
	stpncpy(items[c->n_farms].name, name, CONFIG_NAME_MAX);
	return option_set_defaults(SECTION_FARM, &items[c->n_farms++]);
}

/* The struct for a new section, by its index. Returns 0, -ENOMEM, or -EINVAL: too many. */
static int config_add_struct(struct config *c, enum option_section kind, const char *name,
	unsigned line, size_t *ret_index)
{
	switch (kind) {
	case SECTION_LISTENER:
		*ret_index = c->n_listeners;
		return config_add_listener(c, name, line);
	case SECTION_MODULE:
		*ret_index = c->n_modules;
		return config_add_module(c, name, line);
	case SECTION_FARM:
		*ret_index = c->n_farms;
		return config_add_farm(c, name, line);
	default: /* there is one of each, made with its defaults */
		*ret_index = 0;
		return 0;
	}
}

static int config_add_section(struct config_loader *l, enum option_section kind, const char *title,
	const char *name, unsigned line)
{
	struct config_section *items;
	size_t index;
	int r = config_add_struct(l->config, kind, name, line, &index);

	if (r == -EINVAL) {
		l->bad_listener |= kind == SECTION_LISTENER;
		config_report(l, line, "%s: too many sections of this kind", title);
		return 0;
	}
	if (r < 0)
		return r;
	items = config_grow(l->sections, l->n_sections, sizeof(*items));
	if (!items)
		return -ENOMEM;
	l->sections = items;
	l->section = &items[l->n_sections++];
	l->section->kind = kind;
	l->section->index = index;
	l->section->line = line;
	stpncpy(l->section->title, title, CONFIG_NAME_MAX);
	return 0;
}

static int config_on_section(const char *title, unsigned line, void *arg)
{
	struct config_loader *l = arg;
	enum option_section kind;
	const char *name;

	l->section = NULL;
	if (config_section_kind(l, title, line, &kind, &name) < 0)
		return 0;
	for (size_t i = 0; i < l->n_sections; i++) {
		if (strcmp(l->sections[i].title, title) != 0)
			continue;
		/* Its keys are checked all the same, so that they need no second look. */
		l->section = &l->sections[i];
		config_report(l, line,
			"%s: the section is there twice, first in line %u; join them", title,
			l->section->line);
		return 0;
	}
	if (kind == SECTION_ADMIN)
		l->config->has_admin = true;
	return config_add_section(l, kind, title, name, line);
}

static void config_report_unknown_key(struct config_loader *l, const char *key, unsigned line)
{
	const struct config_section *s = l->section;
	const char *keys[OPTIONS_MAX], *nearest;
	char known[1024] = "";
	size_t n = 0, used = 0;

	for (size_t i = 0; i < n_option_rows; i++) {
		if (option_table[i].section != s->kind)
			continue;
		keys[n++] = option_table[i].key;
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
			used ? ", " : "", option_table[i].key);
	}
	nearest = suggest_word(key, keys, n);
	if (nearest)
		config_report(
			l, line, "%s.%s: unknown key; did you mean %s?", s->title, key, nearest);
	else
		config_report(l, line, "%s.%s: unknown key; there are %s", s->title, key, known);
}

static void config_report_duplicate(
	struct config_loader *l, const char *key, unsigned line, unsigned first)
{
	config_report(l, line, "%s.%s: the key is there twice, first in line %u; remove one",
		l->section->title, key, first);
}

/* One of the module's own options. Returns 0 or -ENOMEM. */
static int config_add_pair(
	struct config_loader *l, const char *key, const char *value, unsigned line)
{
	struct conf_module *m = &l->config->modules[l->section->index];
	struct conf_farm *f = &l->config->farms[l->section->index];
	bool is_farm = l->section->kind == SECTION_FARM;
	struct conf_pair **pairs = is_farm ? &f->pairs : &m->pairs;
	size_t *n = is_farm ? &f->n_pairs : &m->n_pairs;
	struct conf_pair *pair;

	for (size_t i = 0; i < *n; i++) {
		if (strcmp((*pairs)[i].key, key) == 0) {
			config_report_duplicate(l, key, line, (*pairs)[i].line);
			return 0;
		}
	}
	if (*n == CONFIG_PAIRS_MAX) {
		config_report(
			l, line, "%s.%s: too many keys in this section", l->section->title, key);
		return 0;
	}
	pair = config_grow(*pairs, *n, sizeof(*pair));
	if (!pair)
		return -ENOMEM;
	*pairs = pair;
	pair += (*n)++;
	pair->line = line;
	pair->key = strdup(key);
	pair->value = strdup(value);
	return pair->key && pair->value ? 0 : -ENOMEM;
}

/* Some lines are wanted long after the loader is gone. */
static void config_keep_line(struct config_loader *l, const char *key, unsigned line)
{
	struct config *c = l->config;

	if (l->section->kind == SECTION_LISTENER && strcmp(key, "address") == 0)
		c->listeners[l->section->index].address_line = line;
	else if (l->section->kind == SECTION_MODULE && strcmp(key, "path") == 0)
		c->modules[l->section->index].path_line = line;
	else if (l->section->kind == SECTION_FARM && strcmp(key, "module") == 0)
		c->farms[l->section->index].module_line = line;
	else if (l->section->kind == SECTION_HTTP && strcmp(key, "access_log") == 0)
		c->http.access_log_line = line;
	else if (l->section->kind == SECTION_TINED && strcmp(key, "control") == 0)
		c->tined.control_line = line;
	else if (l->section->kind == SECTION_ADMIN && strcmp(key, "listen") == 0)
		c->admin.listen_line = line;
	else if (l->section->kind == SECTION_ADMIN && strcmp(key, "token_file") == 0)
		c->admin.token_file_line = line;
}

static int config_on_key(const char *key, const char *value, unsigned line, void *arg)
{
	struct config_loader *l = arg;
	struct config_section *s = l->section;
	char why[OPTION_WHY_MAX];
	const struct option_row *o;
	int r;

	if (!s)
		return 0; /* the section was reported */
	o = option_find(s->kind, key);
	if (!o && option_sections[s->kind].open)
		return config_add_pair(l, key, value, line);
	if (!o) {
		config_report_unknown_key(l, key, line);
		return 0;
	}
	if (s->key_lines[o - option_table]) {
		config_report_duplicate(l, key, line, s->key_lines[o - option_table]);
		return 0;
	}
	s->key_lines[o - option_table] = line;
	config_keep_line(l, key, line);
	r = option_set(
		o, config_section_struct(l->config, s->kind, s->index), l->folder, value, why);
	if (r != -EINVAL)
		return r;
	s->key_is_bad[o - option_table] = true;
	config_report(l, line, "%s.%s: %s", s->title, key, why);
	return 0;
}

static void config_on_error(unsigned line, const char *what, void *arg)
{
	config_report(arg, line, "%s", what);
}

/*
 * By line; in the order of discovery within one line, because the sort must not depend on the C
 * library.
 */
static void config_sort_errors(struct config_loader *l)
{
	for (size_t i = 1; i < l->n_errors; i++) {
		struct config_error e = l->errors[i];
		size_t j = i;

		for (; j > 0 && l->errors[j - 1].line > e.line; j--)
			l->errors[j] = l->errors[j - 1];
		l->errors[j] = e;
	}
}

static void config_say(config_error_fn on_error, void *arg, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void config_say(config_error_fn on_error, void *arg, const char *fmt, ...)
{
	char *line;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (r < 0) {
		on_error("out of memory", arg);
		return;
	}
	/* The names of files and folders are in it, which may hold anything. */
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	on_error(line, arg);
	free(line);
}

static void config_tell_errors(struct config_loader *l, config_error_fn on_error, void *arg)
{
	config_sort_errors(l);
	for (size_t i = 0; i < l->n_errors; i++) {
		const struct config_error *e = &l->errors[i];

		if (e->line == 0)
			config_say(on_error, arg, "%s: %s", l->name, e->text);
		else
			config_say(on_error, arg, "%s:%u: %s", l->name, e->line, e->text);
	}
	if (l->n_more_errors > 0)
		config_say(on_error, arg, "%s: %zu more errors", l->name, l->n_more_errors);
	if (l->out_of_memory)
		config_say(on_error, arg, "%s: out of memory", l->name);
}

static struct config *config_new(const char *path)
{
	struct config *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->path = strdup(path);
	if (!c->path)
		return config_free(c);
	for (size_t i = 0; i < N_SECTIONS; i++)
		if (!option_sections[i].named &&
			option_set_defaults(i, config_section_struct(c, i, 0)) < 0)
			return config_free(c);
	return c;
}

static void config_loader_clear(struct config_loader *l)
{
	for (size_t i = 0; i < l->n_errors; i++)
		free(l->errors[i].text);
	free(l->errors);
	free(l->sections);
	config_free(l->config);
}

/* Reads the file or, when `text` is given, that. */
static int config_read(struct config_loader *l, const char *text, size_t len)
{
	const struct ini_events events = {.on_section = config_on_section,
		.on_key = config_on_key,
		.on_error = config_on_error,
		.arg = l};
	int r;

	l->config = config_new(l->name);
	if (!l->config)
		return -ENOMEM;
	r = text ? ini_read_text(text, len, &events) : ini_read_file(l->name, &events);
	/* -EINVAL: some lines are bad; the others may still have something to say. */
	if (r < 0 && r != -EINVAL)
		return r;
	if (r == 0 || l->n_sections > 0)
		r = config_check(l);
	if (r == 0 && (l->n_errors > 0 || l->out_of_memory))
		r = -EINVAL;
	return r;
}

static int config_load_from(struct config_loader *l, const char *text, size_t len,
	config_error_fn on_error, void *arg, struct config **ret)
{
	int r = config_read(l, text, len);

	if (r == -ENOMEM)
		l->out_of_memory = true;
	if (r < 0)
		config_tell_errors(l, on_error, arg);
	else
		*ret = take_ptr(l->config);
	config_loader_clear(l);
	return r;
}

/*
 * Loads a configuration from `len` bytes of text. `name` stands for the file in messages; relative
 * paths are taken from `folder` (NULL: they stay relative). Otherwise as config_load().
 */
int config_load_text(const char *name, const char *folder, const char *text, size_t len,
	config_error_fn on_error, void *arg, struct config **ret)
{
	struct config_loader l = {.name = name, .folder = folder};

	return config_load_from(&l, text, len, on_error, arg, ret);
}

/* The absolute folder `path` is in. Returns NULL when it cannot be found out. */
static char *config_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	CLEANUP(freep) char *folder = NULL;

	if (!slash)
		return realpath(".", NULL);
	folder = strndup(path, (size_t)(slash - path) + 1);
	return folder ? realpath(folder, NULL) : NULL;
}

/*
 * Loads the file at `path`, or the built-in default when it is NULL. Touches nothing but that file.
 * Every problem is told to `on_error`, in the order of lines. Returns 0 with *ret for
 * config_free(), or a negative errno (-EINVAL: the file has mistakes).
 */
int config_load(const char *path, config_error_fn on_error, void *arg, struct config **ret)
{
	CLEANUP(freep) char *folder = NULL;
	struct config_loader l = {.name = path};
	int r;

	if (!path)
		return config_load_text("(built-in)", NULL, config_default,
			sizeof(config_default) - 1, on_error, arg, ret);
	folder = config_folder(path);
	if (!folder) {
		r = -errno;
		config_say(on_error, arg, "%s: cannot read the file: %s", path, strerror(-r));
		return r;
	}
	l.folder = folder;
	r = config_load_from(&l, NULL, 0, on_error, arg, ret);
	if (r == 0)
		(*ret)->folder = take_ptr(folder);
	return r;
}

/*
 * The value of an option in a section that has no NAME, as it would be printed. Returns text for the caller to free; NULL when
 * there is no memory.
 */
char *config_text(const struct config *c, const struct option_row *o)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int r = out ? option_print(o, config_section_struct(c, o->section, 0), out) : -ENOMEM;

	if (out && fclose(out) != 0)
		r = -ENOMEM;
	if (r == 0)
		return text;
	free(text);
	return NULL;
}

static int config_print_section(
	const struct config *c, enum option_section kind, size_t index, const char *name, FILE *out)
{
	const void *p;
	int r = 0;

	fprintf(out, "%s[%s%s%s]\n", kind == 0 ? "" : "\n", option_sections[kind].name,
		*name ? ":" : "", name);
	for (size_t i = 0; i < n_option_rows && r == 0; i++) {
		if (option_table[i].section != kind)
			continue;
		p = config_section_struct(c, kind, index);
		fprintf(out, "%s =%s", option_table[i].key,
			option_is_empty(&option_table[i], p) ? "" : " ");
		r = option_print(&option_table[i], p, out);
		fputc('\n', out);
	}
	return r;
}

static void config_print_pairs(const struct conf_pair *pairs, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s =%s%s\n", pairs[i].key, *pairs[i].value ? " " : "",
			pairs[i].value);
}

static int config_print_named(const struct config *c, enum option_section kind, FILE *out)
{
	int r = 0;

	if (kind == SECTION_LISTENER)
		for (size_t i = 0; i < c->n_listeners && r == 0; i++)
			r = config_print_section(c, kind, i, c->listeners[i].name, out);
	for (size_t i = 0; kind == SECTION_FARM && i < c->n_farms && r == 0; i++) {
		r = config_print_section(c, kind, i, c->farms[i].name, out);
		config_print_pairs(c->farms[i].pairs, c->farms[i].n_pairs, out);
	}
	for (size_t i = 0; kind == SECTION_MODULE && i < c->n_modules && r == 0; i++) {
		r = config_print_section(c, kind, i, c->modules[i].name, out);
		config_print_pairs(c->modules[i].pairs, c->modules[i].n_pairs, out);
	}
	return r;
}

/*
 * Writes the configuration as an INI file that reads back as the same, every option with its value
 * in effect. Returns 0 or -EIO.
 */
int config_print(const struct config *c, FILE *out)
{
	int r = 0;

	for (enum option_section i = 0; i < N_SECTIONS && r == 0; i++) {
		if (option_sections[i].named)
			r = config_print_named(c, i, out);
		else if (i != SECTION_ADMIN || c->has_admin)
			r = config_print_section(c, i, 0, "", out);
	}
	return r < 0 || ferror(out) ? -EIO : 0;
}

static void config_free_pairs(struct conf_pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(pairs[i].key);
		free(pairs[i].value);
	}
	free(pairs);
}

static void config_free_module(struct conf_module *m)
{
	config_free_pairs(m->pairs, m->n_pairs);
	option_clear_section(SECTION_MODULE, m);
}

static void config_free_farm(struct conf_farm *f)
{
	config_free_pairs(f->pairs, f->n_pairs);
	option_clear_section(SECTION_FARM, f);
}

/* Returns NULL. */
struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < N_SECTIONS; i++)
		if (!option_sections[i].named)
			option_clear_section(i, config_section_struct(c, i, 0));
	for (size_t i = 0; i < c->n_listeners; i++)
		option_clear_section(SECTION_LISTENER, &c->listeners[i]);
	for (size_t i = 0; i < c->n_modules; i++)
		config_free_module(&c->modules[i]);
	for (size_t i = 0; i < c->n_farms; i++)
		config_free_farm(&c->farms[i]);
	free(c->listeners);
	free(c->modules);
	free(c->farms);
	free(c->path);
	free(c->folder);
	free(c);
	return NULL;
}

/* The listener of a name, or NULL. */
const struct conf_listener *config_listener(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_listeners; i++)
		if (strcmp(c->listeners[i].name, name) == 0)
			return &c->listeners[i];
	return NULL;
}

/* The module of a farm, as that of a [module:NAME]. Its texts are the farm's. */
struct conf_module config_farm_module(const struct conf_farm *f)
{
	struct conf_module m = {.kind = option_sections[SECTION_FARM].name,
		.line = f->line,
		.path = f->module,
		.path_line = f->module_line,
		.pairs = f->pairs,
		.n_pairs = f->n_pairs};

	memcpy(m.name, f->name, sizeof(m.name));
	return m;
}

/* The farm of a name, or NULL. */
const struct conf_farm *config_farm(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_farms; i++)
		if (strcmp(c->farms[i].name, name) == 0)
			return &c->farms[i];
	return NULL;
}
