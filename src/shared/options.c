/*
 * The option table, and how a value of each type is read, checked, printed and freed. The primary
 * uses it at start and at every reload, `tined --check` and the build's documentation tool use
 * nothing else.
 *
 * A row's default is text and goes through the same setter as the operator's value, so no default
 * can be out of its own range, and none is written down twice.
 */
#include "shared/options.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ini.h"
#include "shared/config.h"

const struct option_section_info option_sections[N_SECTIONS] = {
	[SECTION_TINED] = {.name = "tined",
		.size = sizeof(struct conf_tined),
		.doc = "The daemon itself."},
	[SECTION_WORKERS] = {.name = "workers",
		.size = sizeof(struct conf_workers),
		.doc = "The worker processes, and what keeps them healthy."},
	[SECTION_LISTENER] = {.name = "listener",
		.named = true,
		.size = sizeof(struct conf_listener),
		.doc = "A socket that clients connect to; at least one is needed."},
	[SECTION_HTTP] = {.name = "http",
		.size = sizeof(struct conf_http),
		.doc = "Limits of every HTTP connection."},
	[SECTION_MODULE] = {.name = "module",
		.named = true,
		.open = true,
		.size = sizeof(struct conf_module),
		.doc = "Code that serves a listener; keys beyond these are the module's own."},
	[SECTION_FARM] = {.name = "farm",
		.named = true,
		.optional = true,
		.open = true,
		.size = sizeof(struct conf_farm),
		.doc = "A pool of task processes; keys beyond these are the module's own."},
	[SECTION_BUS] = {.name = "bus",
		.size = sizeof(struct conf_bus),
		.doc = "Messages between workers."},
	[SECTION_ADMIN] = {.name = "admin",
		.optional = true,
		.size = sizeof(struct conf_admin),
		.doc = "The dashboard; there is none without this section."},
};

/* The field of a key: durations end _us in struct config. */
#define FIELD_UINT(key)        key
#define FIELD_COUNT(key)       key
#define FIELD_DURATION(key)    key##_us
#define FIELD_SIZE(key)        key
#define FIELD_RATE(key)        key
#define FIELD_CHOICE(key)      key
#define FIELD_SINK(key)        key
#define FIELD_SINK_OR_OFF(key) key
#define FIELD_ADDRESS(key)     key
#define FIELD_NETWORKS(key)    key
#define FIELD_TEXT(key)        key
#define FIELD_PATH(key)        key
#define FIELD_MODULE(key)      key
#define FIELD_MOUNT(key)       key

#define SECTION_OF_tined    SECTION_TINED
#define SECTION_OF_workers  SECTION_WORKERS
#define SECTION_OF_listener SECTION_LISTENER
#define SECTION_OF_http     SECTION_HTTP
#define SECTION_OF_module   SECTION_MODULE
#define SECTION_OF_farm     SECTION_FARM
#define SECTION_OF_bus      SECTION_BUS
#define SECTION_OF_admin    SECTION_ADMIN

#define ROW(s, k, t, mn, mx, words, d, e, text)                    \
	{.section = SECTION_OF_##s,                                \
		.key = #k,                                         \
		.type = OPTION_##t,                                \
		.offset = offsetof(struct conf_##s, FIELD_##t(k)), \
		.min = mn,                                         \
		.max = mx,                                         \
		.choices = words,                                  \
		.def = d,                                          \
		.effect = EFFECT_##e,                              \
		.doc = text},

/* section, key, type, min, max, default, effect, doc */
#define OPT(s, k, t, mn, mx, d, e, text) ROW(s, k, t, mn, mx, NULL, d, e, text)
/* section, key, choices, default, effect, doc */
#define OPT_LIST(s, k, words, d, e, text) ROW(s, k, CHOICE, NULL, NULL, words, d, e, text)
/* section, key, type, default, effect, doc */
#define OPT_TEXT(s, k, t, d, e, text) ROW(s, k, t, NULL, NULL, NULL, d, e, text)

/* clang-format off */
const struct option_row option_table[] = {
	OPT_TEXT(tined, user, TEXT, "", GENERATION,
		"User the children run as when tined is started as root; empty: stay who we are.")
	OPT_TEXT(tined, log, SINK, "stderr", GENERATION,
		"Where the log goes.")
	OPT_LIST(tined, log_level, "error|warning|info|debug", "info", GENERATION,
		"The least important lines that are still logged.")
	OPT_TEXT(tined, control, PATH, "/run/tined/control.sock", RESTART,
		"Socket on which tinectl finds the daemon.")
	OPT_TEXT(tined, control_group, TEXT, "", RESTART,
		"Group whose members may give commands there, as root and the daemon's own user "
		"may.")
	OPT_LIST(tined, control_others, "nothing|read", "nothing", RESTART,
		"What everybody else may do there: nothing, or ask how things are.")
	OPT_TEXT(tined, pid_file, PATH, "", RESTART,
		"File that gets the primary's process number; empty: none.")

	OPT(workers, count, COUNT, "1", "1024", "auto", GENERATION,
		"Worker processes; auto: the CPUs this process may really use (affinity and "
		"cgroup quota).")
	OPT_LIST(workers, cpu_affinity, "off|auto", "off", GENERATION,
		"Ties each worker to a CPU of its own.")
	OPT(workers, threads, UINT, "1", "1024", "4", GENERATION,
		"Threads in the thread pool of each worker.")
	OPT(workers, start_timeout, DURATION, "10ms", "1h", "20s", GENERATION,
		"A worker that is not ready after this long is killed and started again.")
	OPT(workers, hang_timeout, DURATION, "10ms", "1h", "10s", GENERATION,
		"A worker whose loop does not answer for this long counts as hung and is replaced.")
	OPT(workers, drain_timeout, DURATION, "0", "1h", "30s", GENERATION,
		"Requests in flight may take this long to finish when a worker is to leave.")
	OPT(workers, probation, DURATION, "0", "1h", "2s", GENERATION,
		"How long a new generation must stay healthy before the old one drains.")
	OPT(workers, max_surge, UINT, "0", "1024", "0", GENERATION,
		"New workers that start at the same time in a reload; 0: all.")
	OPT_LIST(workers, probe, "off|on", "on", GENERATION,
		"Whether workers of a new generation are sent requests of our own (GET of each "
		"mount, and of what the old ones are being asked for) before they get clients.")
	OPT(workers, max_unavailable, UINT, "1", "1024", "1", GENERATION,
		"Workers that are replaced at the same time when they are recycled or restarted.")
	OPT(workers, max_requests, UINT, "0", "1000000000000", "0", GENERATION,
		"A worker is replaced after about so many requests; 0: never.")
	OPT(workers, max_memory, SIZE, "0", "1024G", "0", GENERATION,
		"A worker whose resident memory exceeds this is replaced; 0: never.")
	OPT(workers, max_memory_hard, SIZE, "0", "1024G", "0", GENERATION,
		"A worker whose resident memory exceeds this is killed at once; 0: never.")
	OPT(workers, max_lifetime, DURATION, "0", "365d", "0", GENERATION,
		"A worker is replaced after about this long; 0: never.")
	OPT(workers, backoff_min, DURATION, "1ms", "1h", "100ms", GENERATION,
		"Wait before the second restart in a row of a worker that keeps failing; it "
		"doubles each time.")
	OPT(workers, backoff_max, DURATION, "1ms", "1h", "30s", GENERATION,
		"Longest wait between two restarts of a worker.")
	OPT(workers, crash_limit, RATE, "1/1s", "1000000/1d", "10/60s", GENERATION,
		"A worker that crashes so often in that time is given up until the next reload.")
	OPT(workers, max_connections, UINT, "1", "1000000", "10000", GENERATION,
		"Connections a worker holds at the same time; more have to wait.")
	OPT(workers, shared_memory, SIZE, "1M", "1024G", "16M", RESTART,
		"Memory that modules of all workers may share (areas, counters, limits per key); what "
		"is not used of it costs nothing.")

	OPT_TEXT(listener, address, ADDRESS, "127.0.0.1:8080", GENERATION,
		"Where to listen: host:port, [v6]:port, unix:/path or systemd:NAME; port 0 is any"
		" free one.")
	OPT_LIST(listener, protocol, "http|tcp", "http", GENERATION,
		"What is spoken there.")
	OPT_LIST(listener, accept, "shared|reuseport", "shared", GENERATION,
		"One socket shared by all workers, or one socket for each of them.")
	OPT(listener, backlog, UINT, "1", "65535", "1024", GENERATION,
		"Connections that may wait in the kernel to be accepted.")
	OPT_LIST(listener, proxy_protocol, "off|on", "off", GENERATION,
		"Whether every connection begins with a PROXY protocol header (version 1 or 2) that "
		"says who the client is; only proxies may be able to connect then.")

	OPT(http, header_timeout, DURATION, "10ms", "1h", "10s", GENERATION,
		"A request's head must be complete after this long.")
	OPT(http, body_timeout, DURATION, "10ms", "1h", "30s", GENERATION,
		"Longest pause within a request's body or while an answer is taken.")
	OPT(http, idle_timeout, DURATION, "10ms", "1h", "60s", GENERATION,
		"A connection without a request is closed after this long.")
	OPT(http, max_header, SIZE, "1K", "1M", "16K", GENERATION,
		"Largest head of a request.")
	OPT(http, max_body, SIZE, "0", "1024G", "1M", GENERATION,
		"Largest body of a request.")
	OPT(http, min_rate, SIZE, "0", "1G", "100", GENERATION,
		"Bytes per second that a client must send of a body or take of an answer, measured "
		"over body_timeout; 0: any pace will do.")
	OPT(http, answer_timeout, DURATION, "10ms", "1d", "60s", GENERATION,
		"A request whose answer a module puts off for longer than this gets a 503.")
	OPT(http, max_keepalive, UINT, "0", "1000000000", "0", GENERATION,
		"Requests on one connection before it is closed; 0: no limit.")
	OPT(http, max_per_client, UINT, "0", "65535", "0", GENERATION,
		"Connections that one client address (of IPv6: one /64 network) may hold over all "
		"workers; more get a 503; 0: no limit.")
	OPT(http, max_total, UINT, "0", "1000000000", "0", GENERATION,
		"Connections over all workers beyond which new ones get a 503 instead of having to "
		"wait; 0: no limit, they wait.")
	OPT_TEXT(http, trusted_proxies, NETWORKS, "", GENERATION,
		"Networks whose word on who the client is counts, such as 10.0.0.0/8, ::1, unix; "
		"empty: nobody's.")
	OPT_LIST(http, client_header, "x-forwarded-for|forwarded", "x-forwarded-for", GENERATION,
		"The one header field in which trusted proxies name the client.")
	OPT_TEXT(http, error_pages, PATH, "", GENERATION,
		"Folder with pages such as 404.html that are sent in place of the short text of an "
		"error; empty: none.")
	OPT(http, websocket_max_message, SIZE, "1K", "1G", "1M", GENERATION,
		"Largest message a WebSocket client may send.")
	OPT(http, websocket_ping, DURATION, "0", "1h", "30s", GENERATION,
		"A WebSocket client that has been silent for this long is asked whether it is still "
		"there; 0: never.")
	OPT_TEXT(http, access_log, SINK_OR_OFF, "off", GENERATION,
		"Where a line for each request goes.")
	OPT_LIST(http, access_format, "combined|json", "combined", GENERATION,
		"What such a line looks like.")

	OPT_TEXT(module, path, MODULE, NULL, GENERATION,
		"The code: builtin:NAME, or the path of a shared object.")
	OPT_TEXT(module, listener, TEXT, "", GENERATION,
		"NAME of the section [listener:NAME] it serves; empty: the only one there is.")
	OPT_TEXT(module, mount, MOUNT, "/", GENERATION,
		"The path below which it serves.")

	OPT_TEXT(farm, module, MODULE, NULL, GENERATION,
		"The code of the tasks: builtin:NAME, or the path of a shared object.")
	OPT(farm, processes, UINT, "1", "1024", "2", GENERATION,
		"Processes that each run one task at a time, at most.")
	OPT(farm, min, UINT, "0", "1024", "1", GENERATION,
		"Processes that are kept when there is nothing to do; the others are started when tasks wait.")
	OPT(farm, idle_time, DURATION, "1s", "1d", "60s", GENERATION,
		"A process above min that has had no task for this long is ended.")
	OPT(farm, queue_max, UINT, "1", "1000000", "1024", GENERATION,
		"Tasks that may wait; more are refused.")
	OPT(farm, queue_memory, SIZE, "64K", "64G", "64M", GENERATION,
		"Bytes that the tasks that wait may have, their arguments included; more are refused.")
	OPT(farm, max_result, SIZE, "1", "4G", "64M", GENERATION,
		"A task whose result is larger has failed.")
	OPT(farm, timeout, DURATION, "1ms", "1d", "30s", GENERATION,
		"A task that runs longer is stopped with its process, unless it was submitted with a limit of its own; the log and "
		"tinectl crashes say where it was.")
	OPT(farm, retries, UINT, "0", "100", "1", GENERATION,
		"How often a task is tried again after its process died.")
	OPT(farm, recycle_after, UINT, "0", "1000000000000", "0", GENERATION,
		"A process is replaced after so many tasks; 0: never.")

	OPT(bus, queue_high, SIZE, "4K", "1G", "4M", GENERATION,
		"Bytes that may wait for one worker; more are refused. Senders are told to wait halfway above queue_low.")
	OPT(bus, queue_low, SIZE, "0", "1G", "1M", GENERATION,
		"Senders may go on when no more than this waits.")
	OPT(bus, max_message, SIZE, "64K", "4G", "256M", GENERATION,
		"The largest message.")
	OPT(bus, subscriptions, UINT, "1", "65536", "4096", GENERATION,
		"Subscriptions that one worker may have.")
	OPT(bus, spin, DURATION, "0", "1ms", "50us", GENERATION,
		"While messages, tasks, or jobs of the thread pool come faster than this, idle time is spent waiting for the next one; "
		"0: sleep at once.")

	OPT_TEXT(bus, nats, TEXT, "", GENERATION,
		"NATS servers that join this bus to those of other machines, nats://HOST:PORT or tls://HOST:PORT, several "
		"with commas between them; empty: none.")
	OPT_TEXT(bus, nats_subjects, TEXT, ">", GENERATION,
		"Patterns, with blanks between them, of the subjects that are carried to other machines and from them.")
	OPT(bus, nats_buffer, SIZE, "64K", "1G", "8M", GENERATION,
		"Bytes that may wait for NATS while it is away, and as many that came from it; what is more is lost.")
	OPT_TEXT(bus, nats_credentials, PATH, "", GENERATION,
		"File with the user's JWT and seed (.creds) for NATS; empty: none.")
	OPT_TEXT(bus, nats_tls_ca, PATH, "", GENERATION,
		"File with the certificates that NATS servers are checked against; empty: the system's.")
	OPT_TEXT(bus, nats_tls_cert, PATH, "", GENERATION,
		"File with the certificate, and its chain, that we show to NATS servers; empty: none.")
	OPT_TEXT(bus, nats_tls_key, PATH, "", GENERATION,
		"File with the key of nats_tls_cert.")

	OPT_TEXT(admin, listen, ADDRESS, "127.0.0.1:8081", GENERATION,
		"Address of the dashboard, metrics and health checks.")
	OPT_TEXT(admin, token_file, PATH, "", GENERATION,
		"File with the token that permits actions; empty: it only shows.")
};
/* clang-format on */

const size_t n_option_rows = sizeof(option_table) / sizeof(option_table[0]);
static_assert(sizeof(option_table) / sizeof(option_table[0]) <= OPTIONS_MAX, "raise OPTIONS_MAX");

static void *option_field(const struct option_row *o, void *section)
{
	return (char *)section + o->offset;
}

static const void *option_field_const(const struct option_row *o, const void *section)
{
	return (const char *)section + o->offset;
}

/* The row of a key, or NULL. */
const struct option_row *option_find(enum option_section section, const char *key)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_table[i].section == section && strcmp(option_table[i].key, key) == 0)
			return &option_table[i];
	return NULL;
}

/* The text of the `index`th choice; *ret_len is its length. NULL beyond the last. */
static const char *option_choice(const struct option_row *o, unsigned index, size_t *ret_len)
{
	const char *s = o->choices;

	for (; index > 0; index--) {
		s = strchr(s, '|');
		if (!s)
			return NULL;
		s++;
	}
	*ret_len = strcspn(s, "|");
	return s;
}

/* What would be a right value, in a few words: "a duration from 1s to 1h". Returns `buf`. */
const char *option_range(const struct option_row *o, char buf[OPTION_WHY_MAX])
{
	static const char *const forms[] = {
		[OPTION_UINT] = "a number",
		[OPTION_COUNT] = "auto or a number",
		[OPTION_DURATION] = "a duration (such as 250ms, 10s, 5m)",
		[OPTION_SIZE] = "a size (such as 512, 64K, 1M)",
		[OPTION_RATE] = "a count in a time (such as 10/60s)",
		[OPTION_CHOICE] = "one of",
		[OPTION_SINK] = "stderr, journal or file:PATH",
		[OPTION_SINK_OR_OFF] = "off, stderr, journal or file:PATH",
		[OPTION_ADDRESS] = "host:port, [v6]:port, unix:/path or systemd:NAME",
		[OPTION_NETWORKS] = "networks such as 10.0.0.0/8, 192.0.2.1, ::1, unix",
		[OPTION_TEXT] = "text",
		[OPTION_PATH] = "a path",
		[OPTION_MODULE] = "builtin:NAME or the path of a shared object",
		[OPTION_MOUNT] = "a path such as / or /api",
	};
	size_t n, used;
	const char *word;

	if (o->min) {
		snprintf(buf, OPTION_WHY_MAX, "%s from %s to %s", forms[o->type], o->min, o->max);
		return buf;
	}
	snprintf(buf, OPTION_WHY_MAX, "%s", forms[o->type]);
	if (o->type != OPTION_CHOICE)
		return buf;
	used = strlen(buf);
	for (unsigned i = 0; (word = option_choice(o, i, &n)); i++)
		used += (size_t)snprintf(
			buf + used, OPTION_WHY_MAX - used, "%s%.*s", i ? ", " : " ", (int)n, word);
	return buf;
}

static int option_refuse(const struct option_row *o, const char *value, char why[OPTION_WHY_MAX])
{
	char range[OPTION_WHY_MAX];

	snprintf(why, OPTION_WHY_MAX, "\"%.60s\" is not possible; write %.160s", value,
		option_range(o, range));
	return -EINVAL;
}

/*
 * Numbers of all kinds by their type's reader. The bounds of a row are text that the same reader
 * takes.
 */
static int option_read_number(enum option_type type, const char *s, uint64_t *ret)
{
	if (type == OPTION_DURATION)
		return parse_duration(s, ret);
	if (type == OPTION_SIZE)
		return parse_size(s, ret);
	return parse_u64(s, ret);
}

static int option_set_number(
	const struct option_row *o, uint64_t *field, const char *value, char *why)
{
	uint64_t number, min, max;

	if (o->type == OPTION_COUNT && strcmp(value, "auto") == 0) {
		*field = 0;
		return 0;
	}
	if (option_read_number(o->type, o->min, &min) < 0 ||
		option_read_number(o->type, o->max, &max) < 0)
		abort(); /* the table is wrong; the unit test reads all of it */
	if (option_read_number(o->type, value, &number) < 0 || number < min || number > max)
		return option_refuse(o, value, why);
	*field = number;
	return 0;
}

static int option_set_rate(
	const struct option_row *o, struct rate *field, const char *value, char *why)
{
	struct rate rate, min, max;

	if (parse_rate(o->min, &min) < 0 || parse_rate(o->max, &max) < 0)
		abort();
	if (parse_rate(value, &rate) < 0 || rate.count < min.count || rate.count > max.count ||
		rate.window_us < min.window_us || rate.window_us > max.window_us)
		return option_refuse(o, value, why);
	*field = rate;
	return 0;
}

static int option_set_choice(
	const struct option_row *o, unsigned *field, const char *value, char *why)
{
	size_t n, n_value = strlen(value);
	const char *word;

	for (unsigned i = 0; (word = option_choice(o, i, &n)); i++) {
		if (n != n_value || memcmp(word, value, n) != 0)
			continue;
		*field = i;
		return 0;
	}
	return option_refuse(o, value, why);
}

/* `value` as an absolute path. Returns 0, -ENOMEM or -EINVAL with `why`. */
static int option_resolve(
	const char *folder, const char *value, char **ret, char why[OPTION_WHY_MAX])
{
	CLEANUP(freep) char *path = NULL;

	while (strncmp(value, "./", 2) == 0)
		value += 2;
	if (*value == '/' || !folder)
		path = strdup(value);
	else if (asprintf(&path, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, value) < 0)
		path = NULL;
	if (!path)
		return -ENOMEM;
	if (strlen(path) >= PATH_MAX || !ini_value_fits(path)) {
		snprintf(why, OPTION_WHY_MAX,
			"the path %.150s is too long, or not text, or has a blank before ';'",
			path);
		return -EINVAL;
	}
	*ret = take_ptr(path);
	return 0;
}

static int option_set_sink(const struct option_row *o, struct conf_sink *field, const char *folder,
	const char *value, char *why)
{
	struct conf_sink sink = {.sink = LOG_SINK_STDERR};
	int r;

	if (strcmp(value, "journal") == 0) {
		sink.sink = LOG_SINK_JOURNAL;
	} else if (strncmp(value, "file:", 5) == 0 && value[5] != '\0') {
		sink.sink = LOG_SINK_FILE;
		r = option_resolve(folder, value + 5, &sink.path, why);
		if (r < 0)
			return r;
	} else if (o->type == OPTION_SINK_OR_OFF && strcmp(value, "off") == 0) {
		sink.off = true;
	} else if (strcmp(value, "stderr") != 0) {
		return option_refuse(o, value, why);
	}
	free(field->path);
	*field = sink;
	return 0;
}

static int option_set_address(struct address *field, const char *value, char why[OPTION_WHY_MAX])
{
	const char *reason;
	int r = address_parse(value, field, &reason);

	if (r < 0)
		snprintf(why, OPTION_WHY_MAX, "\"%.60s\": %s", value, reason);
	return r;
}

static int option_set_networks(
	struct netmask_list *field, const char *value, char why[OPTION_WHY_MAX])
{
	struct netmask_list list;
	int r = netmask_list_parse(value, &list, why);

	if (r < 0)
		return r;
	netmask_list_clear(field);
	*field = list;
	return 0;
}

/* "/" or /a/b: what a request's path, decoded and without "." and "..", can begin with. */
static int option_check_mount(const char *value, char why[OPTION_WHY_MAX])
{
	const char *wrong = NULL;
	size_t n = strlen(value);

	if (*value != '/')
		wrong = "a mount begins with '/'";
	else if (n > 1 && value[n - 1] == '/')
		wrong = "a mount does not end in '/', unless it is all of it";
	else if (strstr(value, "//") || strstr(value, "/./") || strstr(value, "/../") ||
		(n >= 2 && strcmp(value + n - 2, "/.") == 0) ||
		(n >= 3 && strcmp(value + n - 3, "/..") == 0))
		wrong = "a mount has no empty, '.' or '..' parts";
	else if (strpbrk(value, " \t?#%\\"))
		wrong = "a mount has no blanks and none of ? # % \\";
	if (!wrong)
		return 0;
	snprintf(
		why, OPTION_WHY_MAX, "\"%.60s\": %s; write a path such as / or /api", value, wrong);
	return -EINVAL;
}

static int option_set_text(
	const struct option_row *o, char **field, const char *folder, const char *value, char *why)
{
	CLEANUP(freep) char *text = NULL;
	bool builtin = o->type == OPTION_MODULE && strncmp(value, "builtin:", 8) == 0;
	int r = 0;

	if (*value == '\0' && (!o->def || *o->def != '\0')) {
		snprintf(why, OPTION_WHY_MAX, "the value is missing; write %s",
			o->type == OPTION_MODULE ? "builtin:NAME or the path of a shared object"
						 : (o->def ? o->def : "one"));
		return -EINVAL;
	}
	if (builtin && value[8] == '\0')
		return option_refuse(o, value, why);
	if (o->type == OPTION_MOUNT)
		r = option_check_mount(value, why);
	if (r == 0 && *value != '\0') {
		if (!builtin && (o->type == OPTION_PATH || o->type == OPTION_MODULE))
			r = option_resolve(folder, value, &text, why);
		else if (!(text = strdup(value)))
			r = -ENOMEM;
	}
	if (r < 0)
		return r;
	free(*field);
	*field = take_ptr(text);
	return 0;
}

/*
 * Reads `value` into the option's field of `section` (the struct of its section), freeing what was
 * there. Relative paths are taken from `folder`; NULL leaves them as they are. Returns 0, -ENOMEM,
 * or -EINVAL with `why` saying what is wrong and what would be right; the field is unchanged then.
 */
int option_set(const struct option_row *o, void *section, const char *folder, const char *value,
	char why[OPTION_WHY_MAX])
{
	void *field = option_field(o, section);

	switch (o->type) {
	case OPTION_UINT:
	case OPTION_COUNT:
	case OPTION_DURATION:
	case OPTION_SIZE:
		return option_set_number(o, field, value, why);
	case OPTION_RATE:
		return option_set_rate(o, field, value, why);
	case OPTION_CHOICE:
		return option_set_choice(o, field, value, why);
	case OPTION_SINK:
	case OPTION_SINK_OR_OFF:
		return option_set_sink(o, field, folder, value, why);
	case OPTION_ADDRESS:
		return option_set_address(field, value, why);
	case OPTION_NETWORKS:
		return option_set_networks(field, value, why);
	case OPTION_TEXT:
	case OPTION_PATH:
	case OPTION_MODULE:
	case OPTION_MOUNT:
		return option_set_text(o, field, folder, value, why);
	}
	abort();
}

/* Fills in the defaults of a section whose struct is all zero. Returns 0 or -ENOMEM. */
int option_set_defaults(enum option_section section, void *ret)
{
	char why[OPTION_WHY_MAX];
	int r;

	for (size_t i = 0; i < n_option_rows; i++) {
		if (option_table[i].section != section || !option_table[i].def)
			continue;
		r = option_set(&option_table[i], ret, NULL, option_table[i].def, why);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			abort(); /* the table is wrong; the unit test reads all of it */
	}
	return 0;
}

/* Frees what the options of a section own; its struct stays. */
void option_clear_section(enum option_section section, void *p)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *o = &option_table[i];
		char **text = NULL;

		if (o->section != section)
			continue;
		if (o->type == OPTION_NETWORKS)
			netmask_list_clear(option_field(o, p));
		else if (o->type >= OPTION_TEXT)
			text = option_field(o, p);
		else if (o->type == OPTION_SINK || o->type == OPTION_SINK_OR_OFF)
			text = &((struct conf_sink *)option_field(o, p))->path;
		if (!text)
			continue;
		free(*text);
		*text = NULL;
	}
}

/* The largest unit that divides the time; minutes and up only from two of them on: 60s, 5m. */
static void option_print_duration(uint64_t us, FILE *out)
{
	static const struct {
		uint64_t us;
		const char *suffix;
	} units[] = {{86400 * US_PER_S, "d"}, {3600 * US_PER_S, "h"}, {60 * US_PER_S, "m"},
		{US_PER_S, "s"}, {US_PER_MS, "ms"}};

	if (us == 0) {
		fputs("0", out);
		return;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (us % units[i].us != 0 || (units[i].us > US_PER_S && us < 2 * units[i].us))
			continue;
		fprintf(out, "%" PRIu64 "%s", us / units[i].us, units[i].suffix);
		return;
	}
	fprintf(out, "%" PRIu64 "us", us);
}

static void option_print_size(uint64_t bytes, FILE *out)
{
	static const char suffix[] = {0, 'K', 'M', 'G'};
	size_t i = 0;

	for (; i + 1 < sizeof(suffix) && bytes > 0 && bytes % 1024 == 0; i++)
		bytes /= 1024;
	fprintf(out, "%" PRIu64, bytes);
	if (suffix[i])
		fputc(suffix[i], out);
}

static void option_print_sink(const struct conf_sink *sink, FILE *out)
{
	if (sink->off)
		fputs("off", out);
	else if (sink->sink == LOG_SINK_FILE)
		fprintf(out, "file:%s", sink->path);
	else
		fputs(sink->sink == LOG_SINK_JOURNAL ? "journal" : "stderr", out);
}

static void option_print_networks(const struct netmask_list *l, FILE *out)
{
	char text[NETMASK_TEXT_MAX];

	for (size_t i = 0; i < l->n; i++) {
		netmask_text(&l->items[i], text);
		fprintf(out, "%s%s", i ? ", " : "", text);
	}
}

static void option_print_number(const struct option_row *o, uint64_t number, FILE *out)
{
	if (o->type == OPTION_DURATION)
		option_print_duration(number, out);
	else if (o->type == OPTION_SIZE)
		option_print_size(number, out);
	else if (o->type == OPTION_COUNT && number == 0)
		fputs("auto", out);
	else
		fprintf(out, "%" PRIu64, number);
}

/* Whether there is nothing to print. */
bool option_is_empty(const struct option_row *o, const void *section)
{
	const void *field = option_field_const(o, section);

	if (o->type == OPTION_NETWORKS)
		return ((const struct netmask_list *)field)->n == 0;
	return o->type >= OPTION_TEXT && !*(char *const *)field;
}

/* Writes the value in the form option_set() reads; nothing for an empty one. Returns 0 or -EIO. */
int option_print(const struct option_row *o, const void *section, FILE *out)
{
	const void *field = option_field_const(o, section);
	const struct rate *rate;
	const char *text;
	size_t n = 0;

	switch (o->type) {
	case OPTION_UINT:
	case OPTION_COUNT:
	case OPTION_DURATION:
	case OPTION_SIZE:
		option_print_number(o, *(const uint64_t *)field, out);
		break;
	case OPTION_RATE:
		rate = field;
		fprintf(out, "%" PRIu32 "/", rate->count);
		option_print_duration(rate->window_us, out);
		break;
	case OPTION_CHOICE:
		text = option_choice(o, *(const unsigned *)field, &n);
		fprintf(out, "%.*s", (int)n, text);
		break;
	case OPTION_SINK:
	case OPTION_SINK_OR_OFF:
		option_print_sink(field, out);
		break;
	case OPTION_ADDRESS:
		fputs(((const struct address *)field)->text, out);
		break;
	case OPTION_NETWORKS:
		option_print_networks(field, out);
		break;
	case OPTION_TEXT:
	case OPTION_PATH:
	case OPTION_MODULE:
	case OPTION_MOUNT:
		text = *(char *const *)field;
		fputs(text ? text : "", out);
		break;
	}
	return ferror(out) ? -EIO : 0;
}

const char *option_effect_text(enum option_effect effect)
{
	static const char *const texts[] = {
		[EFFECT_GENERATION] = "reload",
		[EFFECT_RESTART] = "restart",
		[EFFECT_NONE] = "not in this version",
	};

	return texts[effect];
}
