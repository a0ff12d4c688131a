/*
 * tinectl: tells tined what to do, and shows how it is. See tinectl(1); the commands are in ipc/commands.h, but for those
 * that need nothing of the daemon or put its answers together.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <sys/wait.h>
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
#define RECORDS_MAX    65536     /* of one answer that is shown at its end */
#define CHECK_MAX      (1 << 20) /* bytes that a check of the configuration may say */

struct invocation {
	struct client_options client;
	bool json, said_last; /* the daemon's last object has been printed */
	int argc;             /* of the command: its name and its arguments */
	char **argv;
	char error[CLIENT_ERROR_MAX * 8];
};

/* --- commands that the daemon runs --- */

static int output_error; /* what went wrong with standard output, as errno; 0: nothing */

static void flush_output(void)
{
	if (fflush(stdout) != 0 && output_error == 0)
		output_error = errno;
}

/* Prints records as they come, or gathers them in the array. */
struct sink {
	const struct invocation *inv;
	json_t *list;
};

/* In ASCII: a terminal may take characters beyond it for something else. */
static void put_json(const json_t *o)
{
	CLEANUP(freep) char *text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);

	puts(text ? text : "{}");
	flush_output();
}

static bool on_record(json_t *record, void *arg)
{
	struct sink *s = arg;

	if (s->inv->json) {
		put_json(record);
	} else if (strcmp(show_text(record, "type"), "event") == 0) {
		show_event(record, stdout);
		flush_output();
	} else if (strcmp(show_text(record, "type"), "message") == 0) {
		show_message(record, stdout);
		flush_output();
	} else {
		json_array_append(s->list, record);
	}
	return output_error == 0 && json_array_size(s->list) < RECORDS_MAX;
}

static void show_one_status(const json_t *list, FILE *out)
{
	show_status(json_array_get(list, 0), out);
}

static void show_config(const json_t *list, FILE *out)
{
	show_lines(show_text(json_array_get(list, 0), "text"), out);
}

static const struct {
	const char *name;
	void (*show)(const json_t *list, FILE *out);
} views[] = {
	{"status", show_one_status},
	{"workers", show_processes},
	{"crashes", show_crashes},
	{"config", show_config},
	{"farms", show_farms},
};

/* What a command that has no records said. */
static void show_last(struct invocation *inv, const json_t *last)
{
	if (inv->json) {
		put_json(last);
		inv->said_last = true;
	} else if (*show_text(last, "text")) {
		show_lines(show_text(last, "text"), stdout);
		putchar('\n');
	}
}

static enum tinectl_status ask(struct invocation *inv, const char *command)
{
	struct sink sink = {.inv = inv, .list = json_array()};
	json_t *last;
	enum tinectl_status status;

	inv->client.until_unread =
		strcmp(inv->argv[0], "events") == 0 || strcmp(inv->argv[0], "sub") == 0;
	status = client_run(&inv->client, command, on_record, &sink, &last, inv->error);
	if (status == TINECTL_OK && json_array_size(sink.list) == RECORDS_MAX) {
		snprintf(inv->error, sizeof(inv->error), "the daemon's answer has no end");
		status = TINECTL_FAILED;
	}
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

static char *refuse_long(struct invocation *inv)
{
	snprintf(inv->error, sizeof(inv->error),
		"too long: command and arguments have at most %d bytes together, each that is not "
		"ASCII counted as four",
		COMMAND_MAX - 2);
	return NULL;
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
		if (used + 1 >= sizeof(line))
			return refuse_long(inv);
		if (strpbrk(inv->argv[i], "\r\n")) {
			snprintf(inv->error, sizeof(inv->error), "an argument is one line");
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
	snprintf(inv->error, sizeof(inv->error), "write \"%s\"", right);
	return TINECTL_USAGE;
}

static enum tinectl_status run_top(struct invocation *inv)
{
	if (inv->argc > 1)
		return usage_error(inv, "top");
	if (inv->json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
		snprintf(inv->error, sizeof(inv->error),
			"top is for a terminal; \"tinectl workers\" is not, and has --json");
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

static bool keep_status(json_t *record, void *arg)
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

/* What the daemon uses, as an absolute path; "" for the built-in configuration. */
static enum tinectl_status daemons_file(struct invocation *inv, char *ret, size_t size)
{
	json_t *status;
	enum tinectl_status r = get_status(inv, &status);
	const char *file = show_text(status, "config");
	char link[64], folder[PATH_MAX];
	ssize_t n = 0;

	if (r == TINECTL_OK && *file &&
		*file != '/') { /* it was started with that, from where it is */
		snprintf(link, sizeof(link), "/proc/%.0f/cwd", show_number(status, "pid"));
		n = readlink(link, folder, sizeof(folder) - 1);
		if (n < 0) {
			snprintf(inv->error, sizeof(inv->error),
				"cannot tell in which folder the daemon's file is: %s; write "
				"\"tinectl check FILE\"",
				strerror(errno));
			r = TINECTL_FAILED;
		}
	}
	if (r == TINECTL_OK)
		snprintf(ret, size, "%.*s%s%s", (int)n, folder, n > 0 ? "/" : "", file);
	json_decref(status);
	return r;
}

/* Does not return. */
_Noreturn static void execute_check(const char *file)
{
	char path[PATH_MAX + 16];

	if (*file)
		execlp(tined_path(path, sizeof(path)), "tined", "--check", "-c", file, NULL);
	else
		execlp(tined_path(path, sizeof(path)), "tined", "--check", NULL);
	fprintf(stderr, "tinectl: cannot execute tined: %s\n", strerror(errno));
	_exit(TINECTL_FAILED);
}

/* The same with what it says as JSON. */
static enum tinectl_status check_as_json(struct invocation *inv, const char *file)
{
	CLEANUP(freep) char *said = calloc(1, CHECK_MAX + 1);
	CLEANUP(closep) int reading = -1;
	int ends[2], status = -1;
	size_t used = 0;
	json_t *last;
	ssize_t n;
	pid_t pid;

	if (!said || pipe2(ends, O_CLOEXEC) < 0)
		return TINECTL_FAILED;
	reading = ends[0];
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		execute_check(file);
	}
	close(ends[1]);
	while (pid > 0 && used < CHECK_MAX &&
		(n = read(reading, said + used, CHECK_MAX - used)) > 0)
		used += (size_t)n;
	while (used > 0 && said[used - 1] == '\n')
		said[--used] = '\0';
	for (size_t i = 0; i < used; i++) /* a file's name may be anything */
		said[i] = (char)((unsigned char)said[i] < 0x80 ? said[i] : '?');
	close(take_fd(&reading)); /* of one that says more than that, too, the end comes */
	if (pid > 0)
		waitpid(pid, &status, 0);
	last = status == 0 ? json_pack("{s:b,s:s}", "ok", 1, "text", said)
			   : json_pack("{s:b,s:s,s:s}", "ok", 0, "code", "failed", "error", said);
	show_last(inv, last);
	json_decref(last);
	return status == 0 ? TINECTL_OK : TINECTL_FAILED;
}

static enum tinectl_status run_check(struct invocation *inv)
{
	char file[PATH_MAX * 2] = "";
	enum tinectl_status r = TINECTL_OK;

	if (inv->argc > 2)
		return usage_error(inv, "check [FILE]");
	if (inv->argc > 1)
		snprintf(file, sizeof(file), "%s", inv->argv[1]);
	else
		r = daemons_file(inv, file, sizeof(file));
	if (r != TINECTL_OK)
		return r;
	if (inv->json)
		return check_as_json(inv, file);
	execute_check(file);
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

/* As ipc/commands.h wants it: a backslash doubled, what is not printable as \xHH. Returns NULL when it does not fit. */
static char *escape(const char *data)
{
	static char text[COMMAND_MAX];
	size_t n = 0;

	for (const unsigned char *c = (const unsigned char *)data; *c; c++) {
		if (n + 5 > sizeof(text))
			return NULL;
		if (*c == '\\')
			n += (size_t)sprintf(text + n, "\\\\");
		else if (*c >= 0x20 && *c <= 0x7e)
			text[n++] = (char)*c;
		else
			n += (size_t)sprintf(text + n, "\\x%02x", *c);
	}
	text[n] = '\0';
	return text;
}

static bool is_word(const char *text)
{
	const char *c = text;

	while (*c > ' ' && *c <= '~')
		c++;
	return c > text && !*c;
}

static enum tinectl_status run_pub(struct invocation *inv)
{
	if (inv->argc != 3)
		return usage_error(inv, "pub SUBJECT DATA");
	if (!is_word(inv->argv[1])) { /* the rest of the line is the data */
		snprintf(
			inv->error, sizeof(inv->error), "a subject is one word of printable ASCII");
		return TINECTL_USAGE;
	}
	inv->argv[2] = escape(inv->argv[2]);
	if (inv->argv[2])
		return run_remote(inv);
	refuse_long(inv);
	return TINECTL_USAGE;
}

static bool keep_record(json_t *record, void *arg)
{
	return json_array_append(arg, record) == 0 && json_array_size(arg) < RECORDS_MAX;
}

static void print_bus(struct invocation *inv, const json_t *list, const json_t *last)
{
	const json_t *o;
	size_t i;

	if (!inv->json) {
		show_bus(list, stdout);
		return;
	}
	json_array_foreach(list, i, o) put_json(o);
	show_last(inv, last);
}

/* Asks twice: rates are what has changed in between. */
static enum tinectl_status run_bus(struct invocation *inv)
{
	static const struct timespec second = {1, 0};
	json_t *lists[2] = {json_array(), json_array()}, *last = NULL;
	enum tinectl_status status = inv->argc > 1 ? usage_error(inv, "bus") : TINECTL_OK;
	uint64_t at_us[2] = {0};

	for (int i = 0; i < 2 && status == TINECTL_OK; i++) {
		if (i > 0)
			nanosleep(&second, NULL);
		json_decref(last);
		status = client_run(&inv->client, "bus", keep_record, lists[i], &last, inv->error);
		at_us[i] = now_us();
	}
	if (status == TINECTL_OK) {
		show_add_rates(lists[0], lists[1], (double)(at_us[1] - at_us[0]) / US_PER_S);
		print_bus(inv, lists[1], last);
	}
	json_decref(last);
	json_decref(lists[0]);
	json_decref(lists[1]);
	return status;
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
	{"pub", run_pub},
	{"bus", run_bus},
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
	if (!*inv->client.path)
		return fputs("tinectl: --socket: empty; name the daemon's [tined] control\n",
			       stderr),
		       TINECTL_USAGE;
	if (optind + 2 == argc && strcmp(argv[optind + 1], "--help") == 0)
		return usage(stdout), TINECTL_OK;
	inv->argv = argv + optind;
	for (int i = optind; i < argc; i++) { /* behind the command, where one tends to write it */
		if (i > optind && strcmp(argv[i], "--json") == 0)
			inv->json = true;
		else
			inv->argv[inv->argc++] = argv[i];
	}
	if (inv->argc > 0)
		return -1;
	usage(stderr);
	return TINECTL_USAGE;
}

/* For those who read JSON: the last object, which the daemon did not send. */
static void show_failure(const struct invocation *inv, enum tinectl_status status)
{
	static const char *const code[] = {
		[TINECTL_FAILED] = "failed",
		[TINECTL_USAGE] = "usage",
		[TINECTL_UNREACHABLE] = "unreachable",
		[TINECTL_DENIED] = "denied",
		[TINECTL_BUSY] = "busy",
		[TINECTL_TIMEOUT] = "timeout",
		[TINECTL_GONE] = "gone",
	};
	json_t *o = json_pack("{s:b,s:s,s:s}", "ok", 0, "code", code[status], "error", inv->error);

	if (o)
		put_json(o);
	json_decref(o);
}

/* Whether all that was printed has arrived. */
static int finish_output(int status)
{
	flush_output();
	if (output_error == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "tinectl: cannot write to standard output: %s\n",
		strerror(output_error ? output_error : EIO));
	return status == TINECTL_OK ? TINECTL_FAILED : status;
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
		return finish_output(status);
	status = (int)run(&inv);
	if (*inv.error && status != TINECTL_OK)
		fprintf(stderr, "tinectl: %s\n", inv.error);
	if (inv.json && !inv.said_last && status != TINECTL_OK)
		show_failure(&inv, (enum tinectl_status)status);
	return finish_output(status);
}
