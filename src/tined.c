/*
 * tined: arguments -> role. The only place that exits, and the only one that knows all roles.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/log.h"
#include "base/title.h"
#include "bridge/bridge.h"
#include "modules/builtin.h"
#include "primary/primary.h"
#include "primary/upgrade.h"
#include "runtime/module.h"
#include "shared/config.h"
#include "task/task.h"
#include "worker/worker.h"

static const struct module_builtin builtins[] = {
	{"hello", &tine_module_hello},
	{"hub", &tine_module_hub},
	{"static", &tine_module_static},
	{"whoami", &tine_module_whoami},
	{NULL, NULL},
};

enum action { ACT_RUN, ACT_CHECK, ACT_PRINT };

static void usage(FILE *out)
{
	fputs("usage: tined [-c FILE] [--check] [--print-config] [--version] [--help]\n"
	      "\n"
	      "Runs network services on every core: one worker process per CPU, supervised.\n"
	      "\n"
	      "  -c, --config FILE  configuration (default: serve the bundled site on "
	      "127.0.0.1:8080)\n"
	      "      --check        check the configuration and the modules it names, then exit\n"
	      "      --print-config print the configuration in force, defaults included, then "
	      "exit\n"
	      "      --version      print the version and exit\n"
	      "  -h, --help         print this text and exit\n"
	      "\n"
	      "Signals: TERM, QUIT, INT stop gracefully (again: at once); HUP reloads; USR1 "
	      "reopens logs;\n"
	      "USR2 upgrades the binary; TTIN and TTOU add and remove a worker. See tined(8) and "
	      "tined.ini(5).\n",
		out);
}

static void print_line(const char *line, void *arg)
{
	fprintf(stderr, "%s\n", line);
	upgrade_report_early(line);
}

static int run_worker(const struct child *c)
{
	return worker_main(c, builtins);
}

static int run_task(const struct child *c)
{
	return task_main(c, builtins);
}

/* In a child of its own, so that no module's code ever runs in the process that was asked. */
static int check_modules(const struct config *c)
{
	char error[MODULE_ERROR_MAX] = "";
	int status = EXIT_SUCCESS;

	for (size_t i = 0; i < c->n_modules; i++) {
		struct tine_worker m;

		if (module_load(c, &c->modules[i], builtins, &m, error) == 0)
			continue;
		fprintf(stderr, "%s\n", error);
		status = EXIT_FAILURE;
	}
	for (size_t i = 0; i < c->n_farms; i++) {
		struct conf_module conf = config_farm_module(&c->farms[i]);
		struct tine_worker m;

		if (module_load(c, &conf, builtins, &m, error) == 0 &&
			module_check_tasks(&m, error) == 0)
			continue;
		fprintf(stderr, "%s\n", error);
		status = EXIT_FAILURE;
	}
	return status;
}

static int check(const struct config *c)
{
	int status;
	pid_t pid = fork();

	if (pid < 0) {
		fprintf(stderr, "tined: cannot fork: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	if (pid == 0)
		_exit(check_modules(c));
	if (waitpid(pid, &status, 0) < 0)
		return EXIT_FAILURE;
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "%s: a module crashed while it was checked: %s\n", c->path,
			strsignal(WTERMSIG(status)));
		return EXIT_FAILURE;
	}
	if (WEXITSTATUS(status) == EXIT_SUCCESS)
		printf("%s: the configuration is good\n", c->path);
	return WEXITSTATUS(status);
}

static int print(const struct config *c)
{
	if (config_print(c, stdout) < 0 || fflush(stdout) != 0) {
		fprintf(stderr, "tined: cannot write: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

/* Returns -1 to go on, or the exit status. */
static int parse_arguments(int argc, char **argv, enum action *ret_action, const char **ret_path)
{
	enum { OPT_CHECK = 256, OPT_PRINT, OPT_VERSION };
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, OPT_CHECK},
		{"print-config", no_argument, NULL, OPT_PRINT},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		if (o == 'c')
			*ret_path = optarg;
		else if (o == OPT_CHECK)
			*ret_action = ACT_CHECK;
		else if (o == OPT_PRINT)
			*ret_action = ACT_PRINT;
		else if (o == OPT_VERSION)
			return puts("tined " TINED_VERSION) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
		else if (o == 'h')
			return usage(stdout), EXIT_SUCCESS;
		else
			return fputs("Try 'tined --help'.\n", stderr), EXIT_FAILURE;
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "tined: unexpected argument '%s'; the configuration is named with -c\n",
		argv[optind]);
	return EXIT_FAILURE;
}

/*
 * Standard streams that were closed would be given to the next sockets we open, and a stray line to stderr would then
 * go to a client.
 */
static void settle_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	signal(SIGPIPE, SIG_IGN); /* nobody may be reading what we say */
}

static char *
	*arguments; /* as they were: what ps(1) shows of us will be written over the original */

/* Returns 0 or -ENOMEM. */
static int copy_arguments(int argc, char **argv)
{
	arguments = calloc((size_t)argc + 1, sizeof(*arguments));
	if (!arguments)
		return -ENOMEM;
	for (int i = 0; i < argc; i++) {
		arguments[i] = strdup(argv[i]);
		if (!arguments[i])
			return -ENOMEM;
	}
	return 0;
}

int main(int argc, char **argv)
{
	enum action action = ACT_RUN;
	const char *path = NULL;
	struct config *c = NULL;
	int status;

	settle_standard_streams();
	if (copy_arguments(argc, argv) < 0)
		return fputs("tined: out of memory\n", stderr), EXIT_FAILURE;
	status = parse_arguments(argc, argv, &action, &path);
	if (status >= 0)
		return status;
	title_init(argc, argv);
	if (config_load(path, print_line, NULL, &c) < 0)
		return EXIT_FAILURE;
	if (action == ACT_RUN)
		return primary_run(&(struct primary_options){
			path, c, run_worker, admin_main, bridge_main, run_task, arguments});
	status = action == ACT_CHECK ? check(c) : print(c);
	config_free(c);
	return status;
}
