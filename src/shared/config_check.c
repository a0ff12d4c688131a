/*
 * The rules that need more than one option: what is missing, what contradicts, what names something
 * that is not there. The primary, at start and at every reload, and --check. Runs once after the
 * whole file was read; options whose value was refused take no part, so that one mistake gives one
 * message.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "shared/config_load.h"

/* Where a key of a section was given; 0: it was not. */
unsigned config_key_line(const struct config_section *s, const char *key)
{
	return s ? s->key_lines[option_find(s->kind, key) - option_table] : 0;
}

bool config_key_is_bad(const struct config_section *s, const char *key)
{
	return s && s->key_is_bad[option_find(s->kind, key) - option_table];
}

/* The line to blame for a key: its own, or its section's when the value is the default. */
unsigned config_blame_line(const struct config_section *s, const char *key)
{
	unsigned line = config_key_line(s, key);

	return line || !s ? line : s->line;
}

/* Reports low > high of two keys of one of the sections there is only one of. */
static void config_check_order(struct config_loader *l, enum option_section kind, const char *low,
	uint64_t low_value, const char *high, uint64_t high_value)
{
	const struct config_section *s = config_find_section(l, kind, 0);
	const char *title = option_sections[kind].name;
	bool blame_low = config_key_line(s, low) != 0;

	if (low_value <= high_value || config_key_is_bad(s, low) || config_key_is_bad(s, high))
		return;
	if (blame_low)
		config_report(l, config_blame_line(s, low),
			"%s.%s: larger than %s; write at most as much", title, low, high);
	else
		config_report(l, config_blame_line(s, high),
			"%s.%s: smaller than %s; write at least as much", title, high, low);
}

/* Required keys that were not given. */
static void config_check_missing(struct config_loader *l)
{
	char range[OPTION_WHY_MAX];

	for (size_t i = 0; i < l->n_sections; i++) {
		const struct config_section *s = &l->sections[i];

		for (size_t j = 0; j < n_option_rows; j++) {
			if (option_table[j].section != s->kind || option_table[j].def ||
				s->key_lines[j])
				continue;
			config_report(l, s->line, "%s.%s: missing; write %s = %s", s->title,
				option_table[j].key, option_table[j].key,
				option_range(&option_table[j], range));
		}
	}
}

static bool config_any_port(const struct address *a)
{
	if (a->kind != ADDRESS_INET)
		return false;
	if (a->sa.ss_family == AF_INET)
		return ((const struct sockaddr_in *)&a->sa)->sin_port == 0;
	return ((const struct sockaddr_in6 *)&a->sa)->sin6_port == 0;
}

static void config_check_clash(struct config_loader *l, struct config_section *s, const char *key,
	const struct address *address)
{
	if (config_key_is_bad(s, key) || config_any_port(address))
		return;
	for (size_t i = 0; i < l->config->n_listeners; i++) {
		const struct config_section *other = config_find_section(l, SECTION_LISTENER, i);

		if (other == s)
			return;
		if (config_key_is_bad(other, "address") ||
			!address_equal(&l->config->listeners[i].address, address))
			continue;
		config_report(l, config_blame_line(s, key),
			"%s.%s: %s is the address of [%s] in line %u already; write another one",
			s->title, key, address->text, other->title,
			config_blame_line(other, "address"));
		return;
	}
}

static void config_check_listener(struct config_loader *l, size_t index)
{
	const struct conf_listener *listener = &l->config->listeners[index];
	struct config_section *s = config_find_section(l, SECTION_LISTENER, index);

	config_check_clash(l, s, "address", &listener->address);
	if (listener->accept != ACCEPT_REUSEPORT || listener->address.kind == ADDRESS_INET ||
		config_key_is_bad(s, "address"))
		return;
	config_report(l, config_blame_line(s, "accept"),
		"%s.accept: reuseport is not possible with %s, only with host:port; write accept = "
		"shared",
		s->title, listener->address.text);
}

static void config_check_listeners(struct config_loader *l)
{
	struct config_section *admin = config_find_section(l, SECTION_ADMIN, 0);

	for (size_t i = 0; i < l->config->n_listeners; i++)
		config_check_listener(l, i);
	if (l->config->n_listeners == 0 && !l->bad_listener)
		config_report(l, 0,
			"no listener; write a section [listener:NAME] with address = host:port");
	if (admin)
		config_check_clash(l, admin, "listen", &l->config->admin.listen);
}

/* Names a listener that is not there. */
static void config_report_listener(
	struct config_loader *l, const struct config_section *s, const char *name)
{
	const char *names[CONFIG_LISTENERS_MAX], *nearest;
	size_t n = l->config->n_listeners;
	unsigned line = config_blame_line(s, "listener");

	for (size_t i = 0; i < n; i++)
		names[i] = l->config->listeners[i].name;
	nearest = suggest_word(name, names, n);
	if (nearest)
		config_report(l, line,
			"%s.listener: there is no section [listener:%s]; did you mean %s?",
			s->title, name, nearest);
	else
		config_report(l, line,
			"%s.listener: there is no section [listener:%s]; write one, or name one "
			"there is",
			s->title, name);
}

/* Makes sure the module has a listener. Returns 0 or -ENOMEM. */
static int config_check_module(struct config_loader *l, size_t index)
{
	const struct config *c = l->config;
	struct conf_module *m = &l->config->modules[index];
	const struct config_section *s = config_find_section(l, SECTION_MODULE, index);

	if (m->listener) {
		if (!config_listener(c, m->listener) && !l->bad_listener)
			config_report_listener(l, s, m->listener);
	} else if (c->n_listeners == 1) {
		m->listener = strdup(c->listeners[0].name);
		if (!m->listener)
			return -ENOMEM;
	} else if (c->n_listeners > 1) {
		config_report(l, s->line,
			"%s.listener: missing, and there are %zu of them; write listener = %s",
			s->title, c->n_listeners, c->listeners[0].name);
	}
	return 0;
}

/* Two modules cannot serve the same path of one listener. */
static void config_check_mounts(struct config_loader *l, size_t index)
{
	const struct conf_module *m = &l->config->modules[index];
	const struct config_section *s = config_find_section(l, SECTION_MODULE, index);

	if (!m->listener || config_key_is_bad(s, "mount"))
		return;
	for (size_t i = 0; i < index; i++) {
		const struct conf_module *other = &l->config->modules[i];
		const struct config_section *other_section =
			config_find_section(l, SECTION_MODULE, i);

		if (!other->listener || strcmp(m->listener, other->listener) != 0 ||
			strcmp(m->mount, other->mount) != 0 ||
			config_key_is_bad(other_section, "mount"))
			continue;
		config_report(l, config_blame_line(s, "mount"),
			"%s.mount: %s of listener %s is served by [%s] in line %u already; write "
			"another mount",
			s->title, m->mount, m->listener, other_section->title, other_section->line);
		return;
	}
}

/* Plain tcp has no paths to be shared out: one module serves all of its listener. */
static void config_check_alone(struct config_loader *l, size_t index)
{
	const struct conf_module *m = &l->config->modules[index];
	const struct config_section *s = config_find_section(l, SECTION_MODULE, index);

	for (size_t i = 0; i < index; i++) {
		const char *other = l->config->modules[i].listener;
		const struct config_section *other_section =
			config_find_section(l, SECTION_MODULE, i);

		if (!other || strcmp(m->listener, other) != 0)
			continue;
		config_report(l, config_blame_line(s, "listener"),
			"%s.listener: %s speaks plain tcp and is served by [%s] in line %u "
			"already; write another listener",
			s->title, m->listener, other_section->title, other_section->line);
		return;
	}
}

static bool config_speaks_tcp(const struct config *c, const char *listener)
{
	const struct conf_listener *l = listener ? config_listener(c, listener) : NULL;

	return l && l->protocol == PROTOCOL_TCP;
}

static void config_check_farm(struct config_loader *l, size_t index)
{
	const struct conf_farm *f = &l->config->farms[index];
	const struct config_section *s = config_find_section(l, SECTION_FARM, index);
	const char *blame = config_key_line(s, "min") ? "min" : "processes";

	if (f->min <= f->processes || config_key_is_bad(s, "min") ||
		config_key_is_bad(s, "processes"))
		return;
	config_report(l, config_blame_line(s, blame),
		"%s.%s: min = %" PRIu64 " is more than processes = %" PRIu64
		"; write at most as much for min, or more processes",
		s->title, blame, f->min, f->processes);
}

/* There are so many places for processes, and two generations at a time in a reload. */
static void config_check_farms(struct config_loader *l)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->config->n_farms; i++) {
		sum += l->config->farms[i].min;
		if (sum > CONFIG_TASK_PROCESSES_MAX) {
			config_report(l, l->config->farms[i].line,
				"farm:%s: the farms' min are more than %u processes together; "
				"write less "
				"for some",
				l->config->farms[i].name, CONFIG_TASK_PROCESSES_MAX);
			return;
		}
	}
}

/*
 * Checks all of what was read and fills in the defaults that depend on it. Problems are reported to
 * the loader. Returns 0 (whether or not there were any) or -ENOMEM.
 */
int config_check(struct config_loader *l)
{
	const struct config *c = l->config;
	int r;

	config_check_missing(l);
	config_check_order(l, SECTION_WORKERS, "backoff_min", c->workers.backoff_min_us,
		"backoff_max", c->workers.backoff_max_us);
	config_check_order(
		l, SECTION_BUS, "queue_low", c->bus.queue_low, "queue_high", c->bus.queue_high);
	config_check_nats(l);
	config_check_listeners(l);
	for (size_t i = 0; i < c->n_farms; i++)
		config_check_farm(l, i);
	config_check_farms(l);
	for (size_t i = 0; i < c->n_modules; i++) {
		r = config_check_module(l, i);
		if (r < 0)
			return r;
		if (config_speaks_tcp(c, c->modules[i].listener))
			config_check_alone(l, i);
		else
			config_check_mounts(l, i);
	}
	return 0;
}
