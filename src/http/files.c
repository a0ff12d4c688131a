/*
 * A folder served over HTTP: from a path to what is answered with (representation.c says how). Worker only.
 *
 * What may take its time is done by the pool while the request is deferred: reading a folder for its page, and
 * compressing a file. Everybody who asks for a compressed file meanwhile waits for the same job; when the
 * pool is full, or there is none, the plain file is sent.
 *
 * Always: a folder lives on until its last job is done, and every request that waits is answered, whatever
 * becomes of the client, the file or the folder.
 */
#include "http/files.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "http/compress.h"
#include "http/encoding.h"
#include "http/file_cache.h"
#include "http/http.h"
#include "http/listing.h"
#include "http/representation.h"
#include "http/request.h"
#include "http/response.h"
#include "runtime/pool.h"

#define MIME_TABLE "/etc/mime.types"

#define GZIP_LEVEL 6
#define GZIP_MIN   1024u      /* smaller ones fit into a packet anyway */
#define GZIP_MAX   (8u << 20) /* larger ones take too much of a thread's time and of memory */

struct tine_files {
	struct file_cache cache;
	unsigned refs; /* the owner's, and one of each job */
	bool closed;   /* by the owner */
	bool listing, precompressed, gzip;
	char *index, *fallback; /* NULL: none */
	char *more;             /* header lines of all answers */
	struct tine_text more_text;
};

/* A request that waits for a file to be compressed. */
struct file_waiter {
	STAILQ_ENTRY(file_waiter) link;
	struct tine_request *request;
};

struct gzip_job {
	struct pool_job job; /* first */
	struct tine_files *files;
	struct file_entry *entry;
	struct compress_source source;
	char *data;
	size_t len;
	int result;
};

struct listing_job {
	struct pool_job job; /* first */
	struct tine_files *files;
	struct tine_request *request;
	int fd;
	char *text;
	size_t len;
	int result;
};

static void files_unref(struct tine_files *f)
{
	if (--f->refs > 0)
		return;
	free(f->index);
	free(f->fallback);
	free(f->more);
	free(f);
}

/* "" is none. Returns 0 or -ENOMEM. */
static int copy_name(const char *from, char **ret)
{
	if (!from || from[0] == '\0')
		return 0;
	*ret = strdup(from);
	return *ret ? 0 : -ENOMEM;
}

static int copy_cache_control(struct tine_files *f, const char *value)
{
	static const char format[] = "Cache-Control: %s\r\n";
	size_t len = value ? strlen(value) : 0;

	if (len == 0)
		return 0;
	if (len + sizeof(format) > REPRESENTATION_MORE_MAX || !http_is_value(value, len))
		return -EINVAL;
	f->more = malloc(len + sizeof(format));
	if (!f->more)
		return -ENOMEM;
	f->more_text.len = (size_t)sprintf(f->more, format, value);
	f->more_text.data = f->more;
	return 0;
}

static int copy_options(struct tine_files *f, const struct tine_files_options *o)
{
	const char *fallback = o->fallback && o->fallback[0] == '/' ? o->fallback + 1 : o->fallback;
	int r = copy_name(o->index, &f->index);

	f->listing = o->listing;
	f->precompressed = o->precompressed;
	f->gzip = o->gzip;
	if (r == 0)
		r = copy_name(fallback, &f->fallback);
	return r < 0 ? r : copy_cache_control(f, o->cache_control);
}

/*
 * See tine_files_new(); o is complete. Returns 0 or a negative errno: why the folder cannot be served, -EINVAL
 * when cache_control is not to be written into a header.
 */
int files_new(const struct tine_files_options *o, struct tine_files **ret)
{
	struct tine_files *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->refs = 1;
	r = copy_options(f, o);
	if (r == 0)
		r = file_cache_init(&f->cache, o->root);
	if (r == 0) {
		r = mime_ref(MIME_TABLE);
		if (r < 0)
			file_cache_clear(&f->cache);
	}
	if (r < 0)
		files_unref(f);
	else
		*ret = f;
	return r;
}

/* Jobs that are under way find it closed. Returns NULL. */
struct tine_files *files_free(struct tine_files *f)
{
	if (!f)
		return NULL;
	f->closed = true;
	file_cache_clear(&f->cache);
	mime_unref();
	files_unref(f);
	return NULL;
}

/* See server.h. */
void http_files_set_budget(unsigned n_fds)
{
	file_cache_set_budget(n_fds);
}

/* See server.h. */
bool http_files_release_some(void)
{
	return file_cache_release_some();
}

static unsigned status_of(int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ENAMETOOLONG:
	case -ELOOP:
	case -EISDIR:
		return 404;
	case -EACCES:
	case -EPERM:
	case -EXDEV:
	case -ENXIO:
	case -ENODEV:
		return 403;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return 503;
	default:
		return 500;
	}
}

static struct file_entry *files_get(
	struct tine_files *f, struct tine_request *rq, const char *path, size_t len, int *ret_error)
{
	struct file_entry *e;

	*ret_error = file_cache_get(&f->cache, path, len, rq->server->net->now_ms, &e);
	return *ret_error < 0 ? NULL : e;
}

/* --- the page of a folder --- */

static void listing_work(struct pool_job *job)
{
	struct listing_job *j = (struct listing_job *)job;

	j->result = listing_make(j->fd, j->request->path, &j->text, &j->len);
}

static void listing_done(struct pool_job *job, int status)
{
	struct listing_job *j = (struct listing_job *)job;
	struct http_answer a = {.status = 200,
		.type = {LISTING_TYPE, sizeof(LISTING_TYPE) - 1},
		.fields = j->files->more_text,
		.length = j->len,
		.body = j->text};

	if (status < 0)
		response_text(j->request, 503);
	else if (j->result < 0)
		response_text(j->request, status_of(j->result));
	else
		response_write(j->request, &a);
	close(j->fd);
	files_unref(j->files);
	free(j->text);
	free(j);
}

/* Has the job done by the pool; by ourselves where there is none. Returns 0 or a negative errno. */
static int listing_start(struct listing_job *j)
{
	struct pool *pool = j->request->server->net->pool;
	int r;

	j->job.lane = POOL_IO;
	j->job.work = listing_work;
	j->job.done = listing_done;
	if (!pool) {
		listing_work(&j->job);
		listing_done(&j->job, 0);
		return 0;
	}
	r = request_defer(j->request);
	return r < 0 ? r : pool_submit(pool, &j->job);
}

/* The page of the folder whose name, "" or ending with '/', is in path. */
static int answer_listing(struct tine_files *f, struct tine_request *rq, const char *path)
{
	struct listing_job *j;
	int fd = file_cache_open_folder(&f->cache, path[0] ? path : ".");

	if (fd < 0)
		return response_text(rq, status_of(fd));
	j = calloc(1, sizeof(*j));
	if (!j) {
		close(fd);
		return response_text(rq, 503);
	}
	*j = (struct listing_job){.files = f, .request = rq, .fd = fd};
	f->refs++;
	if (listing_start(j) < 0)
		listing_done(&j->job, -ENOBUFS);
	return 0;
}

/* --- codings --- */

static int answer_plain(
	struct tine_files *f, struct tine_request *rq, struct file_entry *e, bool varies)
{
	return representation_answer(rq,
		&(struct representation){.entry = e,
			.type = e->type,
			.varies = varies,
			.more = f->more_text,
			.cache = &f->cache});
}

static int answer_compressed(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	struct file_gzip *g = file_gzip_ref(e->gzip);
	int r = representation_answer(rq,
		&(struct representation){.entry = e,
			.gzip = g,
			.type = e->type,
			.coding = "gzip",
			.varies = true,
			.more = f->more_text,
			.cache = &f->cache});

	file_gzip_unref(g);
	return r;
}

static void gzip_work(struct pool_job *job)
{
	struct gzip_job *j = (struct gzip_job *)job;

	j->result = compress_gzip(&j->source, GZIP_LEVEL, &j->data, &j->len);
}

/* Answers all who waited for it, with the plain file if it was in vain. */
static void gzip_answer(struct tine_files *f, struct file_entry *e)
{
	struct file_waiter *w;

	while ((w = STAILQ_FIRST(&e->waiters))) {
		STAILQ_REMOVE_HEAD(&e->waiters, link);
		if (f->closed)
			response_text(w->request, 503);
		else if (e->gzip_state == GZIP_READY)
			answer_compressed(f, w->request, e);
		else
			answer_plain(f, w->request, e, true);
		free(w);
	}
}

static void gzip_done(struct pool_job *job, int status)
{
	struct gzip_job *j = (struct gzip_job *)job;
	struct file_entry *e = j->entry;

	if (status == 0 && j->result == 0 && file_entry_is_current(e)) {
		file_entry_set_gzip(e, j->data, j->len);
	} else {
		free(j->data);
		file_entry_set_gzip(e, NULL, 0);
	}
	gzip_answer(j->files, e);
	file_entry_unref(e);
	files_unref(j->files);
	free(j);
}

/* Has a thread compress the file. Returns 0 or a negative errno. */
static int gzip_start(struct tine_files *f, struct pool *pool, struct file_entry *e)
{
	struct gzip_job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	*j = (struct gzip_job){.job = {.work = gzip_work, .done = gzip_done},
		.files = f,
		.entry = e,
		.source = {e->content, e->fd, e->size}};
	r = pool_submit(pool, &j->job);
	if (r < 0) {
		free(j);
		return r;
	}
	f->refs++;
	file_entry_ref(e);
	e->gzip_state = GZIP_WORKING;
	return 0;
}

/* Has the request wait for what a thread is at. Returns 0 or a negative errno. */
static int gzip_wait(struct tine_request *rq, struct file_entry *e)
{
	struct file_waiter *w = malloc(sizeof(*w));

	if (!w || request_defer(rq) < 0) {
		free(w);
		return -ENOMEM;
	}
	w->request = rq;
	STAILQ_INSERT_TAIL(&e->waiters, w, link);
	return 0;
}

static int answer_gzip(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	struct pool *pool = rq->server->net->pool;

	if (e->gzip_state == GZIP_READY)
		return answer_compressed(f, rq, e);
	if (e->gzip_state == GZIP_UNKNOWN && pool)
		gzip_start(f, pool, e);
	if (e->gzip_state != GZIP_WORKING || gzip_wait(rq, e) < 0)
		return answer_plain(f, rq, e, true);
	return 0;
}

static const struct {
	enum encoding encoding;
	const char *coding, *suffix;
} siblings[] = {{ENCODING_BR, "br", ".br"}, {ENCODING_GZIP, "gzip", ".gz"}};

#define N_SIBLINGS (sizeof(siblings) / sizeof(siblings[0]))

/* The file beside e with that suffix, or NULL. */
static struct file_entry *get_sibling(struct tine_files *f, struct tine_request *rq,
	const struct file_entry *e, const char *suffix)
{
	size_t len = strlen(suffix);
	char path[PATH_MAX];
	int r;

	if (e->path_len + len >= sizeof(path))
		return NULL;
	memcpy(path, e->path, e->path_len);
	memcpy(path + e->path_len, suffix, len + 1);
	return files_get(f, rq, path, e->path_len + len, &r);
}

/* Which files there are beside it that hold it compressed; looked for as often as the file itself is looked at. */
static unsigned siblings_of(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	if (!f->precompressed)
		return 0;
	if (e->siblings_known)
		return e->siblings;
	e->siblings = 0;
	e->siblings_known = true;
	for (size_t i = 0; i < N_SIBLINGS; i++)
		if (get_sibling(f, rq, e, siblings[i].suffix))
			e->siblings |= siblings[i].encoding;
	return e->siblings;
}

/* Returns 0 or a negative errno, or -ENOENT when it is not there any more. */
static int answer_sibling(
	struct tine_files *f, struct tine_request *rq, struct file_entry *e, unsigned encoding)
{
	size_t i = encoding == siblings[0].encoding ? 0 : 1;
	struct file_entry *sibling = get_sibling(f, rq, e, siblings[i].suffix);

	if (!sibling)
		return answer_plain(f, rq, e, true);
	return representation_answer(rq,
		&(struct representation){.entry = sibling,
			.type = e->type,
			.coding = siblings[i].coding,
			.varies = true,
			.more = f->more_text,
			.cache = &f->cache});
}

static bool may_gzip(const struct tine_files *f, const struct file_entry *e)
{
	return f->gzip && e->size >= GZIP_MIN && e->size <= GZIP_MAX &&
		e->gzip_state != GZIP_IN_VAIN && encoding_pays(e->type);
}

/* The file in the coding the client likes best of those it can be had in. A reference to e is held. */
static int answer_coded(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	unsigned beside = siblings_of(f, rq, e);
	unsigned available = beside | (may_gzip(f, e) ? ENCODING_GZIP : 0u);
	unsigned chosen = available ? encoding_choose(&rq->head, available) : ENCODING_IDENTITY;

	if (chosen & beside)
		return answer_sibling(f, rq, e, chosen);
	if (chosen == ENCODING_GZIP)
		return answer_gzip(f, rq, e);
	return answer_plain(f, rq, e, available != 0);
}

static int answer_entry(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	int r;

	if (!f->precompressed && !f->gzip)
		return answer_plain(f, rq, e, false);
	file_entry_ref(e);
	r = answer_coded(f, rq, e);
	file_entry_unref(e);
	return r;
}

/* --- from a path --- */

/* Relative links in a folder's page only work when its address ends with '/'. */
static int redirect_to_folder(struct tine_request *rq)
{
	char path[PATH_MAX];

	if (rq->path.len >= sizeof(path))
		return response_text(rq, 414);
	memcpy(path, rq->path.data, rq->path.len);
	path[rq->path.len] = '/';
	return response_redirect(rq, (struct tine_text){path, rq->path.len + 1});
}

static bool ends_with_slash(struct tine_text t)
{
	return t.len > 0 && t.data[t.len - 1] == '/';
}

/* Whether the path is one of a program in the browser rather than a file that is missing: no '.' in its last segment. */
static bool is_page(struct tine_text path)
{
	const char *slash = memrchr(path.data, '/', path.len);
	const char *last = slash ? slash + 1 : path.data;

	return !memchr(last, '.', path.len - (size_t)(last - path.data));
}

/* There is no such file, or it cannot be read. */
static int answer_error(struct tine_files *f, struct tine_request *rq, int error)
{
	unsigned status = status_of(error);
	struct file_entry *e;

	if (status != 404 || !f->fallback || !is_page(rq->path))
		return response_text(rq, status);
	e = files_get(f, rq, f->fallback, strlen(f->fallback), &error);
	return e ? answer_entry(f, rq, e) : response_text(rq, status_of(error));
}

/* The index file of the folder whose name, "" or ending with '/', is in buf; or else the page of the folder. */
static int answer_folder(struct tine_files *f, struct tine_request *rq, char *buf, size_t len)
{
	size_t n = f->index ? strlen(f->index) : 0;
	struct file_entry *e = NULL;
	int r = n > 0 ? -ENOENT : -EACCES;

	if (!ends_with_slash(rq->path))
		return redirect_to_folder(rq);
	if (n > 0 && len + n < PATH_MAX) {
		memcpy(buf + len, f->index, n + 1);
		e = files_get(f, rq, buf, len + n, &r);
		buf[len] = '\0';
	}
	if (e)
		return answer_entry(f, rq, e);
	if (f->listing && (r == -ENOENT || n == 0))
		return answer_listing(f, rq, buf);
	return answer_error(f, rq, r);
}

/* See tine_respond_file(). */
int files_answer(struct tine_files *f, struct tine_request *rq, struct tine_text path)
{
	char buf[PATH_MAX];
	struct file_entry *e;
	size_t len;
	int r;

	if (path.len > 0 && path.data[0] == '/') {
		path.data++;
		path.len--;
	}
	len = path.len;
	if (len >= sizeof(buf) - 1 || memchr(path.data, '\0', len))
		return response_text(rq, 404);
	memcpy(buf, path.data, len);
	buf[len] = '\0';
	if (len == 0 || buf[len - 1] == '/')
		return answer_folder(f, rq, buf, len);

	e = files_get(f, rq, buf, len, &r);
	if (r == -EISDIR) {
		buf[len++] = '/';
		buf[len] = '\0';
		return answer_folder(f, rq, buf, len);
	}
	return e ? answer_entry(f, rq, e) : answer_error(f, rq, r);
}
