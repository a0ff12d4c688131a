/* builtin:static: serves the files of a folder; without a `root` the site that comes with tined. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tine/http.h>

#include "modules/builtin.h"

static const struct tine_option static_options[] = {
	{.name = "root",
		.type = TINE_OPTION_PATH,
		.doc = "Folder to serve; empty: the site that comes with tined."},
	{.name = "index",
		.type = TINE_OPTION_STRING,
		.def = "index.html",
		.doc = "File served for a folder; empty: none."},
	{.name = "listing",
		.type = TINE_OPTION_BOOL,
		.def = "off",
		.doc = "Show what is in a folder that has no index file."},
	{.name = "cache_control",
		.type = TINE_OPTION_STRING,
		.doc = "Text of the field Cache-Control; empty: none."},
	{.name = "precompressed",
		.type = TINE_OPTION_BOOL,
		.def = "on",
		.doc = "Send NAME.br or NAME.gz for NAME where the client takes it."},
	{.name = "gzip",
		.type = TINE_OPTION_BOOL,
		.def = "off",
		.doc = "Compress text of 1K to 8M for clients that take it."},
	{.name = "fallback",
		.type = TINE_OPTION_STRING,
		.doc = "File served, with 200, for paths that are not found and have no '.' in "
		       "their last segment: the page of a single-page application."},
	{.name = NULL},
};

struct static_state {
	struct tine_files *files;
	char root[PATH_MAX];
};

/*
 * The bundled site lies in ../share/tined/site beside the binary's folder, or beside the binary in
 * a build tree.
 */
static void bundled_site(char path[PATH_MAX])
{
	char exe[PATH_MAX - 32];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *folder;

	exe[n > 0 ? n : 0] = '\0';
	folder = dirname(exe);
	snprintf(path, PATH_MAX, "%s/../share/tined/site", folder);
	if (access(path, R_OK | X_OK) != 0)
		snprintf(path, PATH_MAX, "%s/site", folder);
}

static void find_root(const struct tine_config *config, char path[PATH_MAX])
{
	const char *root = tine_config_string(config, "root");

	if (root[0] != '\0')
		snprintf(path, PATH_MAX, "%s", root);
	else
		bundled_site(path);
}

static int open_root(struct tine_worker *worker, struct static_state *s)
{
	const struct tine_config *config = tine_worker_config(worker);
	struct tine_files_options options = {
		.size = sizeof(options),
		.root = s->root,
		.index = tine_config_string(config, "index"),
		.listing = tine_config_number(config, "listing"),
		.precompressed = tine_config_number(config, "precompressed"),
		.gzip = tine_config_number(config, "gzip"),
		.cache_control = tine_config_string(config, "cache_control"),
		.fallback = tine_config_string(config, "fallback"),
	};
	int r;

	find_root(config, s->root);
	r = tine_files_new(worker, &options, &s->files);
	if (r == -ENOSYS)
		return tine_config_error(
			config, "root", "serving files needs openat2(2): Linux 5.6");
	if (r < 0)
		return tine_config_error(config, "root", "%s: %s", s->root, strerror(-r));
	return 0;
}

/* Runs in --check as well: looks, but keeps nothing open. */
static int static_configure(const struct tine_config *config)
{
	char root[PATH_MAX];
	int fd;

	find_root(config, root);
	if (strchr(tine_config_string(config, "index"), '/'))
		return tine_config_error(config, "index", "a file name, without '/'");
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return tine_config_error(config, "root", "%s: %s", root, strerror(errno));
	close(fd);
	return 0;
}

static void static_answer(struct tine_request *request, void *arg)
{
	struct static_state *s = arg;

	tine_respond_file(request, s->files, tine_request_subpath(request));
}

static int static_start(struct tine_worker *worker, void **ret_state)
{
	struct static_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return tine_worker_error(worker, "out of memory");
	r = open_root(worker, s);
	if (r == 0 && tine_http_route(worker, TINE_GET, "/", static_answer, s) < 0)
		r = tine_worker_error(worker, "the mount point is taken");
	if (r < 0) {
		tine_files_free(s->files);
		free(s);
		return r;
	}
	*ret_state = s;
	return 0;
}

static void static_stop(void *state)
{
	struct static_state *s = state;

	tine_files_free(s->files);
	free(s);
}

const struct tine_module tine_module_static = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "static",
	.options = static_options,
	.configure = static_configure,
	.worker_start = static_start,
	.worker_stop = static_stop,
};
