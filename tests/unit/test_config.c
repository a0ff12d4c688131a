/*
 * Unit test of shared/options.c, config.c and config_check.c: the table itself, defaults, values,
 * every message, and that what is printed reads back as the same. tests/golden has whole files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/suggest.h"
#include "shared/config.h"
#include "shared/options.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

/* The shortest good file. Rows below append to it, from line 5 on. */
#define SHORT "[listener:web]\naddress = 127.0.0.1:80\n[module:m]\npath = builtin:m\n"

struct errors {
	char text[65536];
	size_t n, n_lines;
};

static void on_error(const char *line, void *arg)
{
	struct errors *e = arg;

	ck_assert_ptr_null(strchr(line, '\n'));
	e->n_lines++;
	e->n += (size_t)snprintf(e->text + e->n, sizeof(e->text) - e->n, "%s\n", line);
}

static int load(const char *text, struct errors *ret_errors, struct config **ret)
{
	memset(ret_errors, 0, sizeof(*ret_errors));
	*ret = NULL;
	return config_load_text("f", "/etc/tined", text, strlen(text), on_error, ret_errors, ret);
}

/* Loads what must load. */
static struct config *must_load(const char *text)
{
	static struct errors e;
	struct config *c;
	int r = load(text, &e, &c);

	ck_assert_msg(r == 0, "%s", e.text);
	ck_assert_uint_eq(e.n_lines, 0);
	return c;
}

static char *print(const struct config *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	ck_assert_int_eq(config_print(c, f), 0);
	fclose(f);
	return text;
}

/* Prints, reads that, prints again: nothing may change. Frees `c`. */
static void check_fixed_point(struct config *c)
{
	char *first = print(c), *second;
	struct config *again = must_load(first);

	second = print(again);
	ck_assert_str_eq(first, second);
	free(first);
	free(second);
	config_free(again);
	config_free(c);
}

/*
 * Every row is in order by itself: the default passes its own checks, and prints as it is written
 * in the table.
 */
START_TEST(test_table)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *o = &option_table[i];
		char *p = calloc(1, option_sections[o->section].size), *text = NULL,
		     why[OPTION_WHY_MAX] = "";
		size_t size;
		FILE *f = open_memstream(&text, &size);

		ck_assert_ptr_eq(option_find(o->section, o->key), o);
		ck_assert_uint_gt(strlen(o->doc), 10);
		ck_assert_int_eq(o->doc[strlen(o->doc) - 1], '.');
		ck_assert_uint_lt(o->offset, option_sections[o->section].size);
		if (o->def) {
			ck_assert_msg(
				option_set(o, p, NULL, o->def, why) == 0, "%s: %s", o->key, why);
			ck_assert_int_eq(option_print(o, p, f), 0);
			fflush(f);
			ck_assert_str_eq(text, o->def);
		}
		fclose(f);
		free(text);
		option_clear_section(o->section, p);
		free(p);
	}
}
END_TEST

/* Both ends of every range are possible, and print and read back as the same. */
START_TEST(test_table_bounds)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *o = &option_table[i];
		const char *bounds[] = {o->min, o->max};
		char *p = calloc(1, option_sections[o->section].size), why[OPTION_WHY_MAX] = "";

		for (size_t j = 0; j < 2 && o->min; j++)
			ck_assert_msg(
				option_set(o, p, NULL, bounds[j], why) == 0, "%s: %s", o->key, why);
		free(p);
	}
}
END_TEST

START_TEST(test_default)
{
	struct config *c = NULL;
	static struct errors e;

	ck_assert_int_eq(config_load(NULL, on_error, &e, &c), 0);
	ck_assert_str_eq(c->path, "(built-in)");
	ck_assert_ptr_null(c->tined.user);
	ck_assert_ptr_null(c->tined.pid_file);
	ck_assert(!c->tined.log.off);
	ck_assert_int_eq(c->tined.log.sink, LOG_SINK_STDERR);
	ck_assert_uint_eq(c->tined.log_level, LOG_LVL_INFO);
	ck_assert_str_eq(c->tined.control, "/run/tined/control.sock");
	ck_assert_uint_eq(c->workers.count, 0);
	ck_assert_uint_eq(c->workers.cpu_affinity, AFFINITY_OFF);
	ck_assert_uint_eq(c->workers.start_timeout_us, 20000000);
	ck_assert_uint_eq(c->workers.backoff_min_us, 100000);
	ck_assert_uint_eq(c->workers.crash_limit.count, 10);
	ck_assert_uint_eq(c->workers.crash_limit.window_us, 60000000);
	ck_assert_uint_eq(c->http.max_header, 16384);
	ck_assert(c->http.access_log.off);
	ck_assert_uint_eq(c->http.trusted_proxies.n, 0);
	ck_assert_uint_eq(c->bus.queue_high, 4u << 20);
	ck_assert(!c->has_admin);
	ck_assert_uint_eq(c->n_farms, 0);
	ck_assert_uint_eq(c->n_listeners, 1);
	ck_assert_str_eq(c->listeners[0].address.text, "127.0.0.1:8080");
	ck_assert_uint_eq(c->n_modules, 3);
	ck_assert_str_eq(c->modules[0].path, "builtin:static");
	ck_assert_str_eq(c->modules[0].mount, "/");
	ck_assert_str_eq(c->modules[0].listener, "web");
	ck_assert_uint_eq(c->modules[0].n_pairs, 0);
	ck_assert_str_eq(c->modules[1].path, "builtin:whoami");
	ck_assert_str_eq(c->modules[1].mount, "/whoami");
	ck_assert_str_eq(c->modules[2].path, "builtin:hub");
	ck_assert_str_eq(c->modules[2].mount, "/hub");
	check_fixed_point(c);
}
END_TEST

/* The sample file says what the built-in default says. */
START_TEST(test_sample)
{
	const char *root = getenv("TINED_SOURCE_ROOT"), *here = strstr(__FILE__, "tests/unit/");
	struct config *sample = NULL, *builtin = NULL;
	static struct errors e;
	char path[4096], *a, *b;

	/* Tests run in the folder the compiler ran in, unless told. */
	if (root)
		snprintf(path, sizeof(path), "%s/conf/tined.ini", root);
	else
		snprintf(
			path, sizeof(path), "%.*sconf/tined.ini", (int)(here - __FILE__), __FILE__);
	ck_assert_msg(config_load(path, on_error, &e, &sample) == 0, "%s", e.text);
	ck_assert_int_eq(config_load(NULL, on_error, &e, &builtin), 0);
	a = print(sample);
	b = print(builtin);
	ck_assert_str_eq(a, b);
	free(a);
	free(b);
	config_free(sample);
	config_free(builtin);
}
END_TEST

START_TEST(test_lines_and_pairs)
{
	struct config *c = must_load(
		"\n[listener:a]\n# x\naddress = 127.0.0.1:1\n\n[listener:b]\naddress=unix:/b\n"
		"protocol = tcp\n[module:m]\n\npath = builtin:m\nlistener = a\nfoo = 1\n"
		"bar = ; nothing\n[farm:f]\nmodule = f.so\n[admin]\n[listener:c]\naccept = "
		"reuseport");

	ck_assert_uint_eq(c->n_listeners, 3);
	ck_assert_uint_eq(c->listeners[0].line, 2);
	ck_assert_uint_eq(c->listeners[0].address_line, 4);
	ck_assert_uint_eq(c->listeners[1].address_line, 7);
	ck_assert_uint_eq(c->listeners[1].protocol, PROTOCOL_TCP);
	ck_assert_uint_eq(c->listeners[2].line, 18);
	ck_assert_uint_eq(c->listeners[2].address_line, 0);
	ck_assert_uint_eq(c->listeners[2].accept, ACCEPT_REUSEPORT);
	ck_assert_uint_eq(c->modules[0].line, 9);
	ck_assert_uint_eq(c->modules[0].path_line, 11);
	ck_assert_uint_eq(c->modules[0].n_pairs, 2);
	ck_assert_str_eq(c->modules[0].pairs[0].key, "foo");
	ck_assert_str_eq(c->modules[0].pairs[0].value, "1");
	ck_assert_uint_eq(c->modules[0].pairs[0].line, 13);
	ck_assert_str_eq(c->modules[0].pairs[1].value, "");
	ck_assert_str_eq(c->farms[0].module, "/etc/tined/f.so");
	ck_assert_uint_eq(c->farms[0].line, 15);
	ck_assert(c->has_admin);
	ck_assert_ptr_eq(config_listener(c, "b"), &c->listeners[1]);
	ck_assert_ptr_null(config_listener(c, "d"));
	check_fixed_point(c);
}
END_TEST

START_TEST(test_paths)
{
	struct config *c = must_load(
		SHORT "[tined]\nlog = file:log/x\npid_file = ./pid\ncontrol = ../c.sock\n"
		      "[http]\naccess_log = file:/abs/x\n[module:n]\npath = mods/n.so\nmount = /n\n"
		      "root = rel/stays\n[admin]\ntoken_file = a b\n");

	ck_assert_str_eq(c->tined.log.path, "/etc/tined/log/x");
	ck_assert_str_eq(c->tined.pid_file, "/etc/tined/pid");
	ck_assert_str_eq(c->tined.control, "/etc/tined/../c.sock");
	ck_assert_str_eq(c->http.access_log.path, "/abs/x");
	ck_assert_str_eq(c->modules[0].path, "builtin:m");
	ck_assert_str_eq(c->modules[1].path, "/etc/tined/mods/n.so");
	ck_assert_str_eq(c->modules[1].pairs[0].value, "rel/stays");
	ck_assert_str_eq(c->admin.token_file, "/etc/tined/a b");
	check_fixed_point(c);
}
END_TEST

/*
 * A folder's name can hold what a value cannot: then the path is refused instead of printed wrong.
 */
START_TEST(test_odd_folder)
{
	static const char *const folders[] = {"/a ;b", "/a\nb", "/\xe4"};
	static const char text[] = SHORT "[tined]\npid_file = x\n";
	static struct errors e;
	struct config *c = NULL;

	for (size_t i = 0; i < 3; i++) {
		memset(&e, 0, sizeof(e));
		ck_assert_int_eq(
			config_load_text("f", folders[i], text, sizeof(text) - 1, on_error, &e, &c),
			-EINVAL);
		ck_assert_uint_eq(e.n_lines, 1);
	}
	ck_assert_int_eq(config_load_text("f", "/", text, sizeof(text) - 1, on_error, &e, &c), 0);
	ck_assert_str_eq(c->tined.pid_file, "/x");
	config_free(c);
}
END_TEST

/* What is appended to SHORT, and the messages it gives. */
static const struct {
	const char *text, *errors;
} bad[] = {
	{"[workers]\ncount = 0\n",
		"f:6: workers.count: \"0\" is not possible; write auto or a number from 1 to "
		"1024\n"},
	{"[workers]\ncount = 1025\n",
		"f:6: workers.count: \"1025\" is not possible; write auto or a number from 1 to "
		"1024\n"},
	{"[workers]\ncount =\n",
		"f:6: workers.count: \"\" is not possible; write auto or a number from 1 to "
		"1024\n"},
	{"[workers]\ncount = 18446744073709551617\n",
		"f:6: workers.count: \"18446744073709551617\" is not possible; write auto or a "
		"number from 1 to 1024\n"},
	{"[workers]\nthreads = auto\n",
		"f:6: workers.threads: \"auto\" is not possible; write a number from 1 to 1024\n"},
	{"[workers]\nbackoff_min = 999us\n",
		"f:6: workers.backoff_min: \"999us\" is not possible; write a duration "
		"(such as 250ms, 10s, 5m) from 1ms to 1h\n"},
	{"[workers]\nhang_timeout = 10\n",
		"f:6: workers.hang_timeout: \"10\" is not possible; write a duration (such "
		"as 250ms, 10s, 5m) from 10ms to 1h\n"},
	{"[workers]\ncrash_limit = 10\n",
		"f:6: workers.crash_limit: \"10\" is not possible; write a count in a time "
		"(such as 10/60s) from 1/1s to 1000000/1d\n"},
	{"[workers]\ncrash_limit = 10/1ms\n",
		"f:6: workers.crash_limit: \"10/1ms\" is not possible; write a count in a "
		"time (such as 10/60s) from 1/1s to 1000000/1d\n"},
	{"[workers]\ncpu_affinity = on\n",
		"f:6: workers.cpu_affinity: \"on\" is not possible; write one of off, auto\n"},
	{"[workers]\nbackoff_min = 2s\nbackoff_max = 1s\n",
		"f:6: workers.backoff_min: larger than backoff_max; write at most as much\n"},
	{"[workers]\nbackoff_max = 10ms\n",
		"f:6: workers.backoff_max: smaller than backoff_min; write at least as much\n"},
	{"[workers]\nbackoff_min = 31s\n",
		"f:6: workers.backoff_min: larger than backoff_max; write at most as much\n"},
	{"[workers]\nbackoff_min = 40s\nbackoff_max = x\n",
		"f:7: workers.backoff_max: \"x\" is not possible; write a duration (such as 250ms, "
		"10s, 5m) from 1ms to 1h\n"},
	{"[bus]\nqueue_low = 5M\n",
		"f:6: bus.queue_low: larger than queue_high; write at most as much\n"},
	{"[http]\nmax_header = 16k\n",
		"f:6: http.max_header: \"16k\" is not possible; write a size (such as 512, 64K, "
		"1M) from 1K to 1M\n"},
	{"[http]\nmax_header = 99999999999999999999\n",
		"f:6: http.max_header: \"99999999999999999999\" is not possible; "
		"write a size (such as 512, 64K, 1M) from 1K to 1M\n"},
	{"[http]\naccess_log = on\n",
		"f:6: http.access_log: \"on\" is not possible; write off, stderr, journal or "
		"file:PATH\n"},
	{"[http]\ntrusted_proxies = 10.0.0.0/8, proxy\n",
		"f:6: http.trusted_proxies: \"proxy\": not a network; write 10.0.0.0/8, 192.0.2.1, "
		"2001:db8::/32 or unix\n"},
	{"[http]\naccess_format = Json\n",
		"f:6: http.access_format: \"Json\" is not possible; write one of combined, json\n"},
	{"[tined]\nlog = off\n",
		"f:6: tined.log: \"off\" is not possible; write stderr, journal or file:PATH\n"},
	{"[tined]\nlog = file:\n",
		"f:6: tined.log: \"file:\" is not possible; write stderr, journal or file:PATH\n"},
	{"[tined]\nlog_level = warn\n",
		"f:6: tined.log_level: \"warn\" is not possible; write one of error, warning, "
		"info, debug\n"},
	{"[tined]\nlog_level =\n",
		"f:6: tined.log_level: \"\" is not possible; write one of error, warning, info, "
		"debug\n"},
	{"[tined]\ncontrol =\n",
		"f:6: tined.control: the value is missing; write /run/tined/control.sock\n"},
	/* Unknown names. */
	{"[workers]\ncuont = 1\n", "f:6: workers.cuont: unknown key; did you mean count?\n"},
	{"[workers]\nhang_timout = 1s\n",
		"f:6: workers.hang_timout: unknown key; did you mean hang_timeout?\n"},
	{"[workers]\nCount = 1\n", "f:6: workers.Count: unknown key; did you mean count?\n"},
	{"[bus]\nxyzzy = 1\n",
		"f:6: bus.xyzzy: unknown key; there are queue_high, queue_low, "
		"max_message, subscriptions, spin, nats, nats_subjects, nats_buffer, "
		"nats_credentials, "
		"nats_tls_ca, nats_tls_cert, nats_tls_key\n"},
	{"[worker]\ncount = 1\n", "f:5: worker: unknown section; did you mean [workers]?\n"},
	{"[HTTP]\nx = 1\n", "f:5: HTTP: unknown section; did you mean [http]?\n"},
	{"[listner:x]\naddress = 1\n",
		"f:5: listner:x: unknown section; did you mean [listener:x]?\n"},
	{"[xyzzy]\n",
		"f:5: xyzzy: unknown section; there are [tined], [workers], [listener:NAME], "
		"[http], "
		"[module:NAME], [farm:NAME], [bus] and [admin]\n"},
	{"[:]\n",
		"f:5: :: unknown section; there are [tined], [workers], [listener:NAME], [http], "
		"[module:NAME], "
		"[farm:NAME], [bus] and [admin]\n"},
	{"[farm]\n",
		"f:5: farm: the section needs a name of letters, digits and _ . -; write "
		"[farm:NAME]\n"},
	{"[farm:]\n",
		"f:5: farm:: the section needs a name of letters, digits and _ . -; write "
		"[farm:NAME]\n"},
	{"[farm:a/b]\n",
		"f:5: farm:a/b: the section needs a name of letters, digits and _ . -; write "
		"[farm:NAME]\n"},
	{"[http:a]\n", "f:5: http:a: the section takes no name; write [http]\n"},
	{"[http:]\n", "f:5: http:: the section takes no name; write [http]\n"},
	/* Twice. */
	{"[http]\nmax_body = 1\n[http]\nmax_body = 2\n",
		"f:7: http: the section is there twice, first in line 5; join them\n"
		"f:8: http.max_body: the key is there twice, first in line 6; remove one\n"},
	{"[listener:web]\n",
		"f:5: listener:web: the section is there twice, first in line 1; join them\n"},
	{"x = 1\nx = 2\n",
		"f:6: module:m.x: the key is there twice, first in line 5; remove one\n"},
	{"path = builtin:n\n",
		"f:5: module:m.path: the key is there twice, first in line 4; remove one\n"},
	/* Listeners. */
	{"[listener:b]\naddress = 127.0.0.1:80\n",
		"f:6: listener:b.address: 127.0.0.1:80 is the address of [listener:web] in line 2 "
		"already; write another one\n"
		"f:3: module:m.listener: missing, and there are 2 of them; write listener = web\n"},
	{"listener = web\n[listener:b]\naddress = unix:/b\naccept = reuseport\n",
		"f:8: listener:b.accept: reuseport is not possible with unix:/b, only with "
		"host:port; write accept = shared\n"},
	{"listener = web\n[listener:b]\naddress = systemd:b\naccept = reuseport\n",
		"f:8: listener:b.accept: reuseport is not possible with systemd:b, only with "
		"host:port; write accept = "
		"shared\n"},
	{"listener = web\n[listener:b]\naddress = localhost:80\n",
		"f:7: listener:b.address: \"localhost:80\": host names are not looked up; write "
		"127.0.0.1:PORT or "
		"[::1]:PORT for localhost\n"},
	{"listener = web\n[listener:b]\nbacklog = 0\nprotocol = udp\n",
		"f:7: listener:b.backlog: \"0\" is not possible; write a number from 1 to 65535\n"
		"f:8: listener:b.protocol: \"udp\" is not possible; write one of http, tcp\n"},
	{"[admin]\nlisten = 127.0.0.1:80\n",
		"f:6: admin.listen: 127.0.0.1:80 is the address of [listener:web] in line 2 "
		"already; write another one\n"},
	/* Modules. */
	{"listener = wbe\n",
		"f:5: module:m.listener: there is no section [listener:wbe]; did you mean web?\n"},
	{"listener = other\n",
		"f:5: module:m.listener: there is no section [listener:other]; write one, or name "
		"one there is\n"},
	{"[module:n]\n",
		"f:5: module:n.path: missing; write path = builtin:NAME or the path of a shared "
		"object\n"
		"f:5: module:n.mount: / of listener web is served by [module:m] in line 3 already; "
		"write another "
		"mount\n"},
	{"[module:n]\nmount = /n\npath =\n",
		"f:7: module:n.path: the value is missing; write builtin:NAME or the path of a "
		"shared object\n"},
	{"[module:n]\nmount = /n\npath = builtin:\n",
		"f:7: module:n.path: \"builtin:\" is not possible; write "
		"builtin:NAME or the path of a shared object\n"},
	{"mount = x\n",
		"f:5: module:m.mount: \"x\": a mount begins with '/'; write a path such as / or "
		"/api\n"},
	{"mount =\n", "f:5: module:m.mount: the value is missing; write /\n"},
	{"mount = /x/\n",
		"f:5: module:m.mount: \"/x/\": a mount does not end in '/', unless it is all of "
		"it; write a "
		"path such as / or /api\n"},
	{"mount = /x//y\n",
		"f:5: module:m.mount: \"/x//y\": a mount has no empty, '.' or '..' parts; write a "
		"path such as / or /api\n"},
	{"mount = /..\n",
		"f:5: module:m.mount: \"/..\": a mount has no empty, '.' or '..' parts; write a "
		"path such as / or /api\n"},
	{"mount = /a/./b\n",
		"f:5: module:m.mount: \"/a/./b\": a mount has no empty, '.' or '..' parts; write a "
		"path such as / or /api\n"},
	{"mount = /a b\n",
		"f:5: module:m.mount: \"/a b\": a mount has no blanks and none of ? # % \\; write "
		"a path such "
		"as / or /api\n"},
	{"mount = /%41\n",
		"f:5: module:m.mount: \"/%41\": a mount has no blanks and none of ? # % \\; write "
		"a path such "
		"as / or /api\n"},
	/* Farms. */
	{"[farm:f]\n",
		"f:5: farm:f.module: missing; write module = builtin:NAME or the path of a shared "
		"object\n"},
	/* What the reader refuses comes in line with the rest. */
	{"[tined]\nlog : stderr\nlog_level = x\n",
		"f:6: tined.log: ':' after the key; write log = value\n"
		"f:7: tined.log_level: \"x\" is not possible; write one of error, warning, info, "
		"debug\n"},
};

/* The messages of a row, by line: those above were written in the order of the rules. */
static int count_lines(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

START_TEST(test_bad)
{
	static struct errors e;
	struct config *c;
	char text[4096], wanted[512];
	unsigned line = 0, last = 0;

	snprintf(text, sizeof(text), "%s%s", SHORT, bad[_i].text);
	ck_assert_int_eq(load(text, &e, &c), -EINVAL);
	ck_assert_ptr_null(c);
	for (const char *s = bad[_i].errors; *s; s = strchr(s, '\n') + 1) {
		snprintf(wanted, sizeof(wanted), "%.*s", (int)(strchr(s, '\n') + 1 - s), s);
		ck_assert_msg(strstr(e.text, wanted), "got:\n%swanted:\n%s", e.text, wanted);
	}
	ck_assert_msg((int)e.n_lines == count_lines(bad[_i].errors), "%s", e.text);
	for (const char *s = e.text; *s; s = strchr(s, '\n') + 1) {
		ck_assert_int_eq(sscanf(s, "f:%u:", &line), 1);
		ck_assert_uint_le(last, line);
		last = line;
	}
}
END_TEST

static const char *const good[] = {
	"[workers]\ncount = 1024\nprobation = 0\nbackoff_min = 1ms\nbackoff_max = 1ms\nmax_memory "
	"= 1G\n",
	"[workers]\nmax_lifetime = 36h\nhang_timeout = 1500ms\nstart_timeout = 61s\ncrash_limit = "
	"3/2m\n",
	"[workers]\ncount = auto\ncpu_affinity = auto\nmax_requests = 1000000000000\n",
	"listener = web\n[listener:x]\naddress = 127.0.0.1:0\n[listener:y]\naddress = "
	"127.0.0.1:0\n",
	"listener = web\n[listener:x]\naddress = [::]:0\naccept = reuseport\n[listener:y]\naddress "
	"= [::]:0\n",
	"listener = web\n[listener:x]\naddress = systemd:x\n[listener:y]\naddress = "
	"unix:/y\nprotocol = tcp\n",
	"[module:n]\nmount = /n\npath = builtin:n\n[module:o]\nmount = /n/o\npath = x.so\nlistener "
	"= web\n",
	"mount = /a.b/..c/~d\n",
	"text = a  b;c # d = e : f [g]\nempty =\nquote = \"\nutf8 = \xc3\xa4\n",
	"[http]\naccess_log = journal\n[tined]\nlog = journal\nuser = www-data\n",
	"[http]\ntrusted_proxies = unix, 192.0.2.1/32,::/0\nclient_header = forwarded\n",
	"[http]\naccess_log = stderr\naccess_format = json\nmax_body = 0\nmax_header = 1025\n",
	"[bus]\nqueue_low = 4M\nqueue_high = 4M\n[farm:f]\nmodule = builtin:f\nretries = "
	"0\n[farm:g]\nmodule = g.so\n",
	"[admin]\nlisten = unix:/run/a\ntoken_file = /t\n",
};

START_TEST(test_good)
{
	char text[4096];

	snprintf(text, sizeof(text), "%s%s", SHORT, good[_i]);
	check_fixed_point(must_load(text));
}
END_TEST

START_TEST(test_no_listener)
{
	static struct errors e;
	struct config *c;

	ck_assert_int_eq(load("", &e, &c), -EINVAL);
	ck_assert_str_eq(e.text,
		"f: no listener; write a section [listener:NAME] with address = host:port\n");
	/* A listener that was refused is not also missing. */
	ck_assert_int_eq(
		load("[listener]\n[module:m]\npath = x\nlistener = web\n", &e, &c), -EINVAL);
	ck_assert_uint_eq(e.n_lines, 1);
}
END_TEST

/* However much is wrong, the report stays readable, and its size bounded. */
START_TEST(test_many_errors)
{
	static struct errors e;
	static char text[100000];
	struct config *c;
	size_t n = (size_t)sprintf(text, "%s[http]\n", SHORT);

	for (int i = 0; i < 1000; i++)
		n += (size_t)sprintf(text + n, "k%d = 1\n", i);
	ck_assert_int_eq(load(text, &e, &c), -EINVAL);
	ck_assert_uint_eq(e.n_lines, 101);
	ck_assert_msg(strstr(e.text, "\nf: 900 more errors\n"), "%s", e.text + e.n - 100);
}
END_TEST

START_TEST(test_too_many)
{
	static const struct {
		const char *format;
		int n;
		const char *message;
	} rows[] = {
		{"[listener:l%d]\naddress = 127.0.0.1:0\n", 64, "too many sections"},
		{"[module:m%1$d]\npath = x\nmount = /%1$d\nlistener = web\n", 256,
			"too many sections"},
		{"[farm:f%d]\nmodule = x\n", 65, "too many sections"},
		{"key%d = x\n", 257, "too many keys"},
	};
	static struct errors e;
	static char text[100000];
	struct config *c;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = (size_t)sprintf(text, "%slistener = web\n", SHORT), last = n;

		for (int j = 0; j < rows[i].n; j++) {
			last = n;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			n += (size_t)sprintf(text + n, rows[i].format, j);
#pragma GCC diagnostic pop
		}
		ck_assert_int_eq(load(text, &e, &c), -EINVAL);
		ck_assert_uint_eq(e.n_lines, 1);
		ck_assert_msg(strstr(e.text, rows[i].message), "%s", e.text);
		text[last] = '\0';
		config_free(must_load(text));
	}
}
END_TEST

START_TEST(test_file)
{
	static struct errors e;
	struct config *c = NULL;
	char dir[] = "/tmp/test_config.XXXXXX", path[64], wanted[128], *home = getcwd(NULL, 0);
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x.ini", dir);
	ck_assert_int_eq(config_load(path, on_error, &e, &c), -ENOENT);
	snprintf(wanted, sizeof(wanted), "%s: cannot read the file: No such file or directory\n",
		path);
	ck_assert_str_eq(e.text, wanted);

	f = fopen(path, "w");
	fputs(SHORT "[module:n]\npath = n.so\nmount = /n\n", f);
	fclose(f);
	ck_assert_int_eq(config_load(path, on_error, &e, &c), 0);
	ck_assert_str_eq(c->path, path);
	snprintf(wanted, sizeof(wanted), "%s/n.so", dir);
	ck_assert_str_eq(c->modules[1].path, wanted);
	config_free(c);

	/* The same by a relative path. */
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(config_load("x.ini", on_error, &e, &c), 0);
	ck_assert_str_eq(c->modules[1].path, wanted);
	config_free(c);
	ck_assert_int_eq(config_load(".", on_error, &e, &c), -EISDIR);
	unlink("x.ini");
	ck_assert_int_eq(chdir(home), 0);
	rmdir(dir);
	free(home);
}
END_TEST

START_TEST(test_suggest)
{
	static const char *const words[] = {"count", "threads", "hang_timeout", "on"};
	static const char *const rows[][2] = {{"cuont", "count"}, {"coun", "count"},
		{"countt", "count"}, {"COUNT", "count"}, {"treads", "threads"},
		{"hang-timeout", "hang_timeout"}, {"hangtimeot", "hang_timeout"}, {"no", NULL},
		{"x", NULL}, {"", NULL}, {"cxxxt", NULL}, {"threadpool", NULL},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			NULL}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_pstr_eq(suggest_word(rows[i][0], words, 4), rows[i][1]);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_suggest);
	tcase_add_test(tc, test_table);
	tcase_add_test(tc, test_table_bounds);
	tcase_add_test(tc, test_default);
	tcase_add_test(tc, test_sample);
	tcase_add_test(tc, test_lines_and_pairs);
	tcase_add_test(tc, test_paths);
	tcase_add_test(tc, test_odd_folder);
	tcase_add_loop_test(tc, test_good, 0, N_ROWS(good));
	tcase_add_loop_test(tc, test_bad, 0, N_ROWS(bad));
	tcase_add_test(tc, test_no_listener);
	tcase_add_test(tc, test_many_errors);
	tcase_add_test(tc, test_too_many);
	tcase_add_test(tc, test_file);
}

int main(void)
{
	return run_tests("config", add);
}
