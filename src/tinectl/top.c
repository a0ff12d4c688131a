/*
 * tinectl top: the processes once a second, with rates over that second. Asks anew each time, so it finds the daemon again
 * after a restart. Everything is drawn whole each second; ncurses sends what differs.
 */
#include "tinectl/top.h"

#include <ncurses.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "tinectl/show.h"

#define INTERVAL_US   US_PER_S
#define ANSWER_US     (2 * US_PER_S) /* for each answer: somebody sits here, and may want to leave */
#define PROCESSES_MAX 65536

enum { PAIR_GOOD = 1, PAIR_BAD, PAIR_CHANGING };

/* One look at the daemon. */
struct sample {
	json_t *status, *processes;
	uint64_t at_us;
};

static volatile sig_atomic_t told_to_end;

static void on_end_signal(int sig)
{
	told_to_end = sig;
}

static bool on_status(json_t *record, void *arg)
{
	struct sample *s = arg;

	if (!s->status)
		s->status = json_incref(record);
	return true;
}

static bool on_process(json_t *record, void *arg)
{
	struct sample *s = arg;

	json_array_append(s->processes, record);
	return json_array_size(s->processes) < PROCESSES_MAX;
}

static void sample_clear(struct sample *s)
{
	json_decref(s->status);
	json_decref(s->processes);
	*s = (struct sample){0};
}

static enum tinectl_status sample_take(
	const struct client_options *o, struct sample *s, char error[CLIENT_ERROR_MAX * 8])
{
	enum tinectl_status status;
	json_t *last;

	*s = (struct sample){.processes = json_array(), .at_us = now_us()};
	status = client_run(o, "status", on_status, s, &last, error);
	json_decref(last);
	if (status != TINECTL_OK)
		return status;
	status = client_run(o, "workers", on_process, s, &last, error);
	json_decref(last);
	return status;
}

/* The same process a second before; NULL: there was none, or another one in its slot. */
static const json_t *earlier(const struct sample *before, const json_t *p)
{
	const json_t *o;
	size_t i;

	json_array_foreach(before->processes, i, o)
	{
		if (show_number(o, "slot") == show_number(p, "slot") &&
			show_number(o, "pid") == show_number(p, "pid"))
			return o;
	}
	return NULL;
}

static double rate(const struct sample *now, const struct sample *before, const json_t *a,
	const json_t *b, const char *key)
{
	double seconds = (double)(now->at_us - before->at_us) / US_PER_S;
	double delta = show_number(a, key) - show_number(b, key);

	return b && seconds > 0 && delta > 0 ? delta / seconds : 0;
}

static int state_pair(const char *state)
{
	if (strcmp(state, "ready") == 0)
		return PAIR_GOOD;
	if (strcmp(state, "failed") == 0 || strcmp(state, "dead") == 0 ||
		strcmp(state, "killing") == 0)
		return PAIR_BAD;
	return PAIR_CHANGING;
}

/* Prints as much of a line as the screen has room for. */
static void put(int y, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(int y, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (y >= LINES)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *c = line; *c; c++) {
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	}
	mvaddnstr(y, 0, line, COLS);
}

static void draw_head(const struct sample *now, const struct sample *before)
{
	const json_t *s = now->status, *t = show_member(s, "totals");
	const json_t *t0 = show_member(before->status, "totals");
	char a[32], b[32], c[32], d[32];

	put(0, "tined %s  pid %.0f  %s%s  up %s  generation %.0f  %.0f of %.0f workers ready",
		show_text(s, "version"), show_number(s, "pid"), show_text(s, "phase"),
		show_is(s, "reloading") ? ", reloading" : "",
		show_age(show_number(s, "uptime_ms"), a, sizeof(a)), show_number(s, "generation"),
		show_number(s, "workers_ready"), show_number(s, "workers_wanted"));
	put(1, "%s connections  %s requests/s  %s/s out  %s 5xx/s  %.0f crashes  %.0f hangs",
		show_count(show_number(t, "connections"), a, sizeof(a)),
		show_count(rate(now, before, t, t0, "requests"), b, sizeof(b)),
		show_bytes(rate(now, before, t, t0, "bytes_out"), c, sizeof(c)),
		show_count(rate(now, before, t, t0, "server_errors"), d, sizeof(d)),
		show_number(s, "crashes"), show_number(s, "hangs"));
}

static void draw_process(
	int y, const struct sample *now, const struct sample *before, const json_t *p)
{
	const json_t *p0 = earlier(before, p);
	const char *state = show_is(p, "on_trial") ? "on trial" : show_text(p, "state");
	char age[32], requests[32], lag[32], latency[32], memory[32];
	double busy = rate(now, before, p, p0, "busy_us") / 1e4;

	if (y >= LINES)
		return;
	put(y, "%4.0f %-6s %-9s %8.0f %4.0f %6s %7.0f %8s %5.1f%% %8s %8s %9s  %s",
		show_number(p, "slot"), show_text(p, "role"), state, show_number(p, "pid"),
		show_number(p, "generation"), show_age(show_number(p, "age_ms"), age, sizeof(age)),
		show_number(p, "connections"),
		show_count(rate(now, before, p, p0, "requests"), requests, sizeof(requests)), busy,
		show_us(show_number(show_member(p, "loop_lag"), "p99_us"), lag, sizeof(lag)),
		show_us(show_number(show_member(p, "latency"), "p99_us"), latency, sizeof(latency)),
		show_bytes(show_number(p, "memory"), memory, sizeof(memory)),
		show_text(p, "request_line"));
	mvchgat(y, 12, 9, A_BOLD, (short)state_pair(state), NULL);
}

static void draw(const struct sample *now, const struct sample *before, const char *error)
{
	const json_t *p;
	size_t i;

	erase();
	if (error) {
		put(0, "%s", error);
		put(2, "trying again every second; q quits");
	} else {
		draw_head(now, before);
		put(3, "%4s %-6s %-9s %8s %4s %6s %7s %8s %6s %8s %8s %9s  %s", "SLOT", "ROLE",
			"STATE", "PID", "GEN", "AGE", "CONN", "REQ/S", "BUSY", "LAG p99", "LAT p99",
			"MEMORY", "LAST REQUEST");
		if (LINES > 3)
			mvchgat(3, 0, -1, A_REVERSE, 0, NULL);
		json_array_foreach(now->processes, i, p) draw_process(4 + (int)i, now, before, p);
	}
	refresh();
}

/* Returns -1 when there can be no screen. */
static int screen_open(void)
{
	if (!newterm(NULL, stdout, stdin))
		return -1;
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	if (!has_colors())
		return 0;
	start_color();
	use_default_colors();
	init_pair(PAIR_GOOD, COLOR_GREEN, -1);
	init_pair(PAIR_BAD, COLOR_RED, -1);
	init_pair(PAIR_CHANGING, COLOR_YELLOW, -1);
	return 0;
}

/* Waits for a key until then. Returns ERR when the time has come, 'q' also when the terminal is gone. */
static int wait_key(uint64_t until_us)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	uint64_t now = now_us();
	int key = getch(), n = 0, r; /* draws, too; a resize is a key that no poll(2) announces */

	if (key != ERR)
		return key;
	r = poll(&p, 1, now < until_us ? (int)((until_us - now) / US_PER_MS) + 1 : 0);
	if (r > 0 &&
		(p.revents & (POLLHUP | POLLERR) || ioctl(STDIN_FILENO, FIONREAD, &n) < 0 ||
			n == 0))
		return 'q'; /* readable, and nothing to be read: its end */
	return r != 0 ? getch() : ERR;
}

/* Shows what there is until it is old. Returns whether to go on. */
static bool show(const struct sample *now, const struct sample *before, const char *error)
{
	uint64_t until = now->at_us + INTERVAL_US, soon = now_us() + INTERVAL_US / 4;
	int key;

	until = until > soon ? until : soon; /* the daemon took long to answer */
	do {
		draw(now, before, error);
		key = wait_key(until);
	} while (!told_to_end && key != 'q' && key != 'Q' && now_us() < until);
	return !told_to_end && key != 'q' && key != 'Q';
}

/* Runs until q is pressed or a signal comes; the terminal is as before afterwards. */
enum tinectl_status top_run(const struct client_options *o, char error[CLIENT_ERROR_MAX * 8])
{
	struct client_options bounded = *o;
	struct sample now = {0}, before = {0};
	enum tinectl_status status;

	if (!bounded.timeout_us || bounded.timeout_us > ANSWER_US)
		bounded.timeout_us = ANSWER_US;
	status = sample_take(&bounded, &now, error);
	if (status != TINECTL_OK) {
		sample_clear(&now);
		return status;
	}
	if (screen_open() < 0) {
		const char *terminal = getenv("TERM");

		snprintf(error, CLIENT_ERROR_MAX,
			"top cannot draw on a terminal of the kind \"%.64s\"; set TERM",
			terminal ? terminal : "");
		sample_clear(&now);
		return TINECTL_USAGE;
	}
	signal(SIGINT, on_end_signal);
	signal(SIGTERM, on_end_signal);
	signal(SIGHUP, on_end_signal);
	while (show(&now, &before, status == TINECTL_OK ? NULL : error)) {
		sample_clear(&before);
		before = now;
		status = sample_take(&bounded, &now, error);
	}
	endwin();
	sample_clear(&now);
	sample_clear(&before);
	return TINECTL_OK;
}
