/*
 * Tables. What comes from the daemon may quote a child: control characters are never printed.
 */
#include "tinectl/show.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define CELL_MAX 96

/* --- members --- */

double show_number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

const char *show_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

const json_t *show_member(const json_t *o, const char *key)
{
	return json_object_get(o, key);
}

int show_is(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* --- numbers --- */

const char *show_bytes(double n, char *buf, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t u = 0;

	for (; n >= 1024 && u + 1 < sizeof(units) / sizeof(*units); u++)
		n /= 1024;
	snprintf(buf, size, u > 0 && n < 10 ? "%.1f %s" : "%.0f %s", n, units[u]);
	return buf;
}

const char *show_count(double n, char *buf, size_t size)
{
	static const char *const units[] = {"", "k", "M", "G"};
	size_t u = 0;

	for (; n >= 10000 && u + 1 < sizeof(units) / sizeof(*units); u++)
		n /= 1000;
	snprintf(buf, size, u > 0 && n < 100 ? "%.1f%s" : "%.0f%s", n, units[u]);
	return buf;
}

const char *show_age(double ms, char *buf, size_t size)
{
	double s = ms / 1000;

	if (s < 1)
		snprintf(buf, size, "%.0fms", ms);
	else if (s < 120)
		snprintf(buf, size, "%.0fs", s);
	else if (s < 7200)
		snprintf(buf, size, "%.0fm", s / 60);
	else if (s < 48 * 3600)
		snprintf(buf, size, "%.0fh", s / 3600);
	else
		snprintf(buf, size, "%.0fd", s / 86400);
	return buf;
}

const char *show_us(double us, char *buf, size_t size)
{
	if (us < 1000)
		snprintf(buf, size, "%.0fus", us);
	else if (us < 1e6)
		snprintf(buf, size, us < 1e4 ? "%.1fms" : "%.0fms", us / 1e3);
	else
		snprintf(buf, size, "%.1fs", us / 1e6);
	return buf;
}

/* --- text --- */

static bool has_colour(FILE *out)
{
	const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");

	return isatty(fileno(out)) && (!no || !*no) && terminal && *terminal &&
		strcmp(terminal, "dumb") != 0;
}

/*
 * Prints text without what a terminal would take for more than text: control characters, those of ISO 6429 beyond
 * ASCII (U+0080 to U+009F) included, and, unless it may have lines, newlines. It is UTF-8, for it came as JSON.
 */
static void put_text(const char *text, bool has_lines, FILE *out)
{
	const unsigned char *c = (const unsigned char *)text;

	for (; *c; c++) {
		bool is_c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f;
		bool is_space = has_lines && (*c == '\n' || *c == '\t');

		fputc((*c >= 0x20 && *c != 0x7f && !is_c1) || is_space ? *c : '?', out);
		c += is_c1;
	}
}

void show_lines(const char *text, FILE *out)
{
	put_text(text, true, out);
}

/* Prints a line; nothing that was put into it can end it. */
void show_line(FILE *out, const char *fmt, ...)
{
	CLEANUP(freep) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	else
		put_text(text, false, out);
	fputc('\n', out);
}

/* Green what is well, red what is not, yellow what is on its way. */
static const char *state_colour(const char *state)
{
	static const struct {
		const char *state, *colour;
	} colours[] = {{"ready", "\033[32m"}, {"failed", "\033[31m"}, {"dead", "\033[31m"},
		{"killing", "\033[31m"}, {"backoff", "\033[33m"}, {"starting", "\033[33m"},
		{"draining", "\033[36m"}};

	for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++) {
		if (strcmp(colours[i].state, state) == 0)
			return colours[i].colour;
	}
	return "";
}

/* --- the status --- */

static void show_verdict(const json_t *s, FILE *out)
{
	const char *verdict = show_text(s, "last_reload");

	if (*verdict)
		show_line(out, "last reload  %s", verdict);
}

/* Nothing where nothing was measured. */
static void show_durations(const char *title, const json_t *d, FILE *out)
{
	char p50[32], p90[32], p99[32], longest[32];

	if (show_number(d, "count") > 0)
		show_line(out, "%s p50 %s, p90 %s, p99 %s, longest %s", title,
			show_us(show_number(d, "p50_us"), p50, sizeof(p50)),
			show_us(show_number(d, "p90_us"), p90, sizeof(p90)),
			show_us(show_number(d, "p99_us"), p99, sizeof(p99)),
			show_us(show_number(d, "max_us"), longest, sizeof(longest)));
}

void show_status(const json_t *s, FILE *out)
{
	const json_t *t = show_member(s, "totals");
	char a[32], b[32], c[32], d[32];

	show_line(out, "tined %s, pid %.0f, %s%s%s for %s, configuration %s",
		show_text(s, "version"), show_number(s, "pid"), show_text(s, "phase"),
		show_is(s, "reloading") ? ", reloading" : "",
		show_is(s, "upgrading") ? ", upgrading" : "",
		show_age(show_number(s, "uptime_ms"), a, sizeof(a)),
		*show_text(s, "config") ? show_text(s, "config") : "(built-in)");
	show_line(out, "workers      %.0f of %.0f ready, generation %.0f",
		show_number(s, "workers_ready"), show_number(s, "workers_wanted"),
		show_number(s, "generation"));
	show_verdict(s, out);
	show_line(out,
		"since start  %.0f crashes, %.0f hangs, %.0f restarts, %.0f recycled; "
		"%.0f reloads, %.0f of them failed",
		show_number(s, "crashes"), show_number(s, "hangs"), show_number(s, "restarts"),
		show_number(s, "recycled"), show_number(s, "reloads"),
		show_number(s, "reload_failures"));
	show_line(out, "traffic      %s connections, %s requests, %s in, %s out",
		show_count(show_number(t, "connections"), a, sizeof(a)),
		show_count(show_number(t, "requests"), b, sizeof(b)),
		show_bytes(show_number(t, "bytes_in"), c, sizeof(c)),
		show_bytes(show_number(t, "bytes_out"), d, sizeof(d)));
	show_line(out, "errors       %s by clients (4xx), %s of ours (5xx)",
		show_count(show_number(t, "client_errors"), a, sizeof(a)),
		show_count(show_number(t, "server_errors"), b, sizeof(b)));
	show_durations("latency     ", show_member(s, "latency"), out);
	show_durations("pool: waited", show_member(s, "pool_wait"), out);
	show_durations("pool: worked", show_member(s, "pool_run"), out);
}

/* --- processes --- */

struct column {
	const char *title;
	bool left;
	void (*cell)(const json_t *p, char *buf, size_t size);
};

static void cell_name(const json_t *p, char *buf, size_t size)
{
	snprintf(buf, size, "%.0f", show_number(p, "slot"));
}

static void cell_role(const json_t *p, char *buf, size_t size)
{
	snprintf(buf, size, "%s", show_text(p, "role"));
}

static void cell_state(const json_t *p, char *buf, size_t size)
{
	snprintf(buf, size, "%s", show_is(p, "on_trial") ? "on trial" : show_text(p, "state"));
}

static void cell_pid(const json_t *p, char *buf, size_t size)
{
	snprintf(buf, size, "%.0f", show_number(p, "pid"));
}

static void cell_generation(const json_t *p, char *buf, size_t size)
{
	snprintf(buf, size, "%.0f", show_number(p, "generation"));
}

static void cell_age(const json_t *p, char *buf, size_t size)
{
	show_age(show_number(p, "age_ms"), buf, size);
}

static void cell_connections(const json_t *p, char *buf, size_t size)
{
	snprintf(buf, size, "%.0f", show_number(p, "connections"));
}

static void cell_requests(const json_t *p, char *buf, size_t size)
{
	show_count(show_number(p, "requests"), buf, size);
}

static void cell_errors(const json_t *p, char *buf, size_t size)
{
	show_count(show_number(p, "server_errors"), buf, size);
}

static void cell_lag(const json_t *p, char *buf, size_t size)
{
	show_us(show_number(show_member(p, "loop_lag"), "p99_us"), buf, size);
}

static void cell_latency(const json_t *p, char *buf, size_t size)
{
	show_us(show_number(show_member(p, "latency"), "p99_us"), buf, size);
}

static void cell_memory(const json_t *p, char *buf, size_t size)
{
	show_bytes(show_number(p, "memory"), buf, size);
}

static const struct column columns[] = {
	{"SLOT", false, cell_name},
	{"ROLE", true, cell_role},
	{"STATE", true, cell_state},
	{"PID", false, cell_pid},
	{"GEN", false, cell_generation},
	{"AGE", false, cell_age},
	{"CONN", false, cell_connections},
	{"REQUESTS", false, cell_requests},
	{"5XX", false, cell_errors},
	{"LAG p99", false, cell_lag},
	{"LATENCY p99", false, cell_latency},
	{"MEMORY", false, cell_memory},
};

#define N_COLUMNS (sizeof(columns) / sizeof(*columns))

/* Printable ASCII, as wide as it is long. */
static void fill_cell(size_t column, const json_t *p, char cell[CELL_MAX])
{
	columns[column].cell(p, cell, CELL_MAX);
	for (; *cell; cell++) {
		if (*cell < 0x20 || *cell > 0x7e)
			*cell = '?';
	}
}

static void measure(const json_t *list, int width[N_COLUMNS])
{
	char cell[CELL_MAX];
	const json_t *p;
	size_t i;

	for (size_t c = 0; c < N_COLUMNS; c++)
		width[c] = (int)strlen(columns[c].title);
	json_array_foreach(list, i, p)
	{
		for (size_t c = 0; c < N_COLUMNS; c++) {
			fill_cell(c, p, cell);
			if ((int)strlen(cell) > width[c])
				width[c] = (int)strlen(cell);
		}
	}
}

static void show_row(const json_t *p, const int width[N_COLUMNS], bool colour, FILE *out)
{
	char cell[CELL_MAX];

	for (size_t c = 0; c < N_COLUMNS; c++) {
		bool is_state = columns[c].cell == cell_state;

		if (p)
			fill_cell(c, p, cell);
		else
			snprintf(cell, sizeof(cell), "%s", columns[c].title);
		if (p && is_state && colour)
			fputs(state_colour(cell), out);
		fprintf(out, columns[c].left ? "%-*s" : "%*s", width[c], cell);
		if (p && is_state && colour)
			fputs("\033[0m", out);
		fputs(c + 1 < N_COLUMNS ? "  " : "\n", out);
	}
}

void show_processes(const json_t *list, FILE *out)
{
	bool colour = has_colour(out);
	int width[N_COLUMNS];
	const json_t *p;
	size_t i;

	measure(list, width);
	show_row(NULL, width, colour, out);
	json_array_foreach(list, i, p) show_row(p, width, colour, out);
}

/* --- crashes and events --- */

static void show_indented(char *text, FILE *out)
{
	char *rest = text, *one;

	while ((one = strsep(&rest, "\n"))) {
		if (*one)
			show_line(out, "    %s", one);
	}
}

static void show_crash(const json_t *c, FILE *out)
{
	CLEANUP(freep) char *backtrace = strdup(show_text(c, "backtrace"));
	char age[32], memory[32];

	show_line(out, "%s  %s[%.0f]%s%s, pid %.0f, generation %.0f: %s%s%s", show_text(c, "time"),
		show_text(c, "role"), show_number(c, "slot"),
		*show_text(c, "farm") ? " of farm:" : "", show_text(c, "farm"),
		show_number(c, "pid"), show_number(c, "generation"), show_text(c, "how"),
		show_is(c, "hung") ? "; it hung" : "", show_is(c, "core") ? "; core dumped" : "");
	show_line(out, "  age %s, %.0f requests, CPU %.3f s user %.3f s system, at most %s",
		show_age(show_number(c, "age_ms"), age, sizeof(age)), show_number(c, "requests"),
		show_number(c, "user_ms") / 1e3, show_number(c, "system_ms") / 1e3,
		show_bytes(show_number(c, "max_memory"), memory, sizeof(memory)));
	if (*show_text(c, "request_line"))
		show_line(out, "  serving \"%s\"", show_text(c, "request_line"));
	if (backtrace)
		show_indented(backtrace, out);
}

void show_crashes(const json_t *list, FILE *out)
{
	const json_t *c;
	size_t i;

	if (json_array_size(list) == 0)
		fputs("no crashes\n", out);
	json_array_foreach(list, i, c) show_crash(c, out);
}

void show_event(const json_t *e, FILE *out)
{
	char slot[32] = "";

	if (show_member(e, "slot"))
		snprintf(slot, sizeof(slot), " [%.0f]", show_number(e, "slot"));
	show_line(out, "%s %-7s %-8s%s %s", show_text(e, "time"), show_text(e, "level"),
		show_text(e, "event"), slot, show_text(e, "text"));
}
