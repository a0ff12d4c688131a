/*
 * tinectl: tells tined what to do, and shows how it is. See tinectl(1); the commands are in ipc/commands.h, but for those
 * that need nothing of the daemon or put its answers together.
 */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/parse.h"
#include "base/suggest.h"
#include "ipc/commands.h"
#include "tinectl/client.h"
#include "tinectl/show.h"
#include "tinectl/top.h"

#define DEFAULT_SOCKET "/run/tined/control.sock"

struct invocation {
	struct client_options client;
	bool json;
	int argc; /* of the command: its name and its arguments */
	char **argv;
	char error[CLIENT_ERROR_MAX * 8];
};

/* --- commands that the daemon runs --- */

/* Prints records as they come, or gathers them in the array. */
struct sink {
	const struct invocation *inv;
	json_t *list;
};

static bool on_record(json_t *record, const char *text, void *arg)
{
	struct sink *s = arg;

	if (s->inv->json) {
		puts(text);
		fflush(stdout);
	} else if (strcmp(show_text(record, "type"), "event") == 0) {
		show_event(record, stdout);
		fflush(stdout);
	} else {
		json_array_append(s->list, record);
	}
	return !ferror(stdout);
}

static void show_one_status(const json_t *list, FILE *out)
{
	show_status(json_array_get(list, 0), out);
}

static void show_config(const json_t *list, FILE *out)
{
	fputs(show_text(json_array_get(list, 0), "text"), out);
}

static const struct {
	const char *name;
	void (*show)(const json_t *list, FILE *out);
} views[] = {
	{"status", show_one_status},
	{"workers", show_processes},
	{"crashes", show_crashes},
	{"config", show_config},
};

/* What a command that has no records said. */
static void show_last(const struct invocation *inv, json_t *last)
{
	CLEANUP(freep) char *text = NULL;

	if (inv->json) {
		text = json_dumps(last, JSON_COMPACT);
		puts(text ? text : "");
	} else if (*show_text(last, "text")) {
		puts(show_text(last, "text"));
	}
}

static enum tinectl_status ask(struct invocation *inv, const char *command)
{
	struct sink sink = {.inv = inv, .list = json_array()};
	json_t *last;
	enum tinectl_status status =
		client_run(&inv->client, command, on_record, &sink, &last, inv->error);

	if (last && (inv->json || status == TINECTL_OK)) {
		for (size_t i = 0; !inv->json && i < sizeof(views) / sizeof(*views); i++) {
			if (strcmp(views[i].name, inv->argv[0]) == 0)
				views[i].show(sink.list, stdout);
		}
		show_last(inv, last);
	}
	json_decref(last);
	json_decref(sink.list);
	return status;
}

/* Joins the command and its arguments with blanks. Returns NULL, with an error, when they do not fit. */
static char *join(struct invocation *inv)
{
	char line[COMMAND_MAX] = "";
	size_t used = 0;

	for (int i = 0; i < inv->argc; i++) {
		int n = snprintf(
			line + used, sizeof(line) - used, "%s%s", i ? " " : "", inv->argv[i]);

		used += (size_t)n;
		if (used + 1 >= sizeof(line) || strchr(inv->argv[i], '\n')) {
			snprintf(inv->error, sizeof(inv->error), "the arguments are too long");
			return NULL;
		}
	}
	return strdup(line);
}

static enum tinectl_status run_remote(struct invocation *inv)
{
	CLEANUP(freep) char *line = join(inv);

	return line ? ask(inv, line) : TINECTL_USAGE;
}

/* --- commands of our own --- */

static enum tinectl_status usage_error(struct invocation *inv, const char *right)
{
	snprintf(inv->error, sizeof(inv->error), "write \"tinectl %s\"", right);
	return TINECTL_USAGE;
}

static enum tinectl_status run_top(struct invocation *inv)
{
	if (inv->argc > 1)
		return usage_error(inv, "top");
	if (!isatty(STDOUT_FILENO)) {
		snprintf(inv->error, sizeof(inv->error),
			"top needs a terminal; \"tinectl workers\" does not");
		return TINECTL_USAGE;
	}
	return top_run(&inv->client, inv->error);
}

static enum tinectl_status run_show(struct invocation *inv)
{
	static char config[] = "config";

	if (inv->argc != 2 || strcmp(inv->argv[1], config) != 0)
		return usage_error(inv, "show config");
	inv->argv[0] = config;
	inv->argc = 1;
	return run_remote(inv);
}

static bool keep_status(json_t *record, const char *text, void *arg)
{
	json_t **ret = arg;

	if (!*ret)
		*ret = json_incref(record);
	return true;
}

/* Asks for the status, silently. *ret: a new reference. */
static enum tinectl_status get_status(struct invocation *inv, json_t **ret)
{
	json_t *last;
	enum tinectl_status status;

	*ret = NULL;
	status = client_run(&inv->client, "status", keep_status, ret, &last, inv->error);
	json_decref(last);
	return status;
}

/* The path of tined: beside us, or wherever it is found. */
static const char *tined_path(char *buf, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", buf, size - 16);
	char *slash;

	if (n > 0) {
		buf[n] = '\0';
		slash = strrchr(buf, '/');
		strcpy(slash + 1, "tined");
		if (access(buf, X_OK) == 0)
			return buf;
		*slash = '\0';
		slash = strrchr(buf, '/');
		if (slash) {
			strcpy(slash + 1, "sbin/tined"); /* we are in bin */
			if (access(buf, X_OK) == 0)
				return buf;
		}
	}
	return "tined";
}

static enum tinectl_status run_check(struct invocation *inv)
{
	char path[4200];
	json_t *status = NULL;
	const char *file = inv->argc > 1 ? inv->argv[1] : NULL;

	if (inv->argc > 2)
		return usage_error(inv, "check [FILE]");
	if (!file) {
		enum tinectl_status r = get_status(inv, &status);

		if (r != TINECTL_OK)
			return r;
		file = show_text(status, "config");
	}
	if (*file)
		execlp(tined_path(path, sizeof(path)), "tined", "--check", "-c", file, NULL);
	else
		execlp(tined_path(path, sizeof(path)), "tined", "--check", NULL);
	snprintf(inv->error, sizeof(inv->error), "cannot execute tined: %s", strerror(errno));
	return TINECTL_FAILED;
}

/* The daemon answers "stopping"; it is stopped when its process has ended. */
static enum tinectl_status run_stop(struct invocation *inv)
{
	CLEANUP(closep) int pidfd = -1;
	json_t *status = NULL;
	struct pollfd p = {.events = POLLIN};
	enum tinectl_status r = get_status(inv, &status);

	if (r == TINECTL_OK)
		pidfd = pidfd_open((pid_t)show_number(status, "pid"), 0);
	json_decref(status);
	if (r == TINECTL_OK)
		r = run_remote(inv);
	if (r != TINECTL_OK)
		return r;
	p.fd = pidfd;
	if (pidfd >= 0 &&
		poll(&p, 1,
			inv->client.timeout_us ? (int)(inv->client.timeout_us / US_PER_MS) : -1) ==
			0) {
		snprintf(inv->error, sizeof(inv->error), "it is still finishing what is in flight");
		return TINECTL_TIMEOUT;
	}
	return TINECTL_OK;
}

static void usage(FILE *out)
{
	fputs("usage: tinectl [-s SOCKET] [--json] [--timeout TIME] COMMAND [ARGUMENT]\n\n"
	      "Tells tined what to do, and shows how it is.\n\n",
		out);
	for (const struct command_info *c = command_table; c->name; c++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", c->name, c->arguments);
		fprintf(out, "  %-22s %s\n", left, c->doc);
	}
	fputs("  top                    Shows the processes live, once a second; q quits.\n"
	      "  show config            The same as config.\n"
	      "  check [FILE]           Checks a configuration file, or the one the daemon uses.\n"
	      "  help                   Prints this text.\n\n"
	      "  -s, --socket SOCKET    the daemon's control socket (default: $TINED_CONTROL or\n"
	      "                         " DEFAULT_SOCKET ")\n"
	      "      --json             print what the daemon says, a line of JSON for each "
	      "record\n"
	      "      --timeout TIME     wait no longer than this, such as 30s (default: as long as "
	      "it takes)\n"
	      "      --version          print the version and exit\n\n"
	      "Exit status: 0 done, 1 it failed, 2 wrong usage, 3 no daemon answers, 4 not "
	      "permitted, 5 busy,\n"
	      "6 no answer in time, 7 the connection was lost.\n",
		out);
}

static enum tinectl_status run_help(struct invocation *inv)
{
	usage(stdout);
	return TINECTL_OK;
}

static const struct {
	const char *name;
	enum tinectl_status (*run)(struct invocation *inv);
} own_commands[] = {
	{"top", run_top},
	{"show", run_show},
	{"check", run_check},
	{"stop", run_stop},
	{"help", run_help},
};

#define N_OWN (sizeof(own_commands) / sizeof(*own_commands))

static enum tinectl_status unknown(struct invocation *inv)
{
	const char *words[64];
	const char *near;
	size_t n = 0;

	for (const struct command_info *c = command_table; c->name; c++)
		words[n++] = c->name;
	for (size_t i = 0; i < N_OWN; i++)
		words[n++] = own_commands[i].name;
	near = suggest_word(inv->argv[0], words, n);
	snprintf(inv->error, sizeof(inv->error), "\"%.64s\" is no command%s%s%s", inv->argv[0],
		near ? "; did you mean \"" : "; \"tinectl help\" lists them", near ? near : "",
		near ? "\"?" : "");
	return TINECTL_USAGE;
}

static enum tinectl_status run(struct invocation *inv)
{
	for (size_t i = 0; i < N_OWN; i++) {
		if (strcmp(own_commands[i].name, inv->argv[0]) == 0)
			return own_commands[i].run(inv);
	}
	return command_find(inv->argv[0]) ? run_remote(inv) : unknown(inv);
}

/* Returns -1 to go on, or the exit status. */
static int parse_arguments(int argc, char **argv, struct invocation *inv)
{
	enum { OPT_JSON = 256, OPT_TIMEOUT, OPT_VERSION };
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, OPT_JSON},
		{"timeout", required_argument, NULL, OPT_TIMEOUT},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int o;

	/* '+': what follows the command is its own, such as "scale -1". */
	while ((o = getopt_long(argc, argv, "+s:h", options, NULL)) != -1) {
		if (o == 's')
			inv->client.path = optarg;
		else if (o == OPT_JSON)
			inv->json = true;
		else if (o == OPT_VERSION)
			return puts("tinectl " TINED_VERSION) < 0 ? TINECTL_FAILED : TINECTL_OK;
		else if (o == 'h')
			return usage(stdout), TINECTL_OK;
		else if (o != OPT_TIMEOUT)
			return fputs("Try 'tinectl --help'.\n", stderr), TINECTL_USAGE;
		else if (parse_duration(optarg, &inv->client.timeout_us) < 0 ||
			inv->client.timeout_us == 0)
			return fprintf(stderr,
				       "tinectl: --timeout: \"%s\" is no duration; write 500ms, "
				       "30s, 5m\n",
				       optarg),
			       TINECTL_USAGE;
	}
	inv->argc = argc - optind;
	inv->argv = argv + optind;
	if (inv->argc > 0 &&
		strcmp(inv->argv[inv->argc - 1], "--json") == 0) { /* where one tends to write it */
		inv->json = true;
		inv->argc--;
	}
	if (inv->argc > 0)
		return -1;
	usage(stderr);
	return TINECTL_USAGE;
}

int main(int argc, char **argv)
{
	const char *from_env = getenv("TINED_CONTROL");
	static struct invocation inv;
	int status;

	setlocale(LC_CTYPE, "");
	inv.client.path = from_env && *from_env ? from_env : DEFAULT_SOCKET;
	status = parse_arguments(argc, argv, &inv);
	if (status >= 0)
		return status;
	status = (int)run(&inv);
	if (*inv.error && status != TINECTL_OK)
		fprintf(stderr, "tinectl: %s\n", inv.error);
	if (fflush(stdout) != 0 && status == TINECTL_OK)
		status = TINECTL_FAILED;
	return status;
}
