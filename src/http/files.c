/*
 * A folder served over HTTP: from a path to an answer. Worker only.
 * What cannot be sent from memory goes with sendfile(2), see output.c.
 */
#include "http/files.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "http/conditional.h"
#include "http/file_cache.h"
#include "http/http.h"
#include "http/response.h"
#include "net/connection.h"
#include "net/output.h"

#define MIME_TABLE "/etc/mime.types"

struct tine_files {
	struct file_cache cache;
	char *index; /* NULL: none */
};

/* Returns 0 or a negative errno: why root cannot be served. */
int files_new(const char *root, const char *index, struct tine_files **ret)
{
	CLEANUP(freep) struct tine_files *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	if (index && index[0] != '\0') {
		f->index = strdup(index);
		if (!f->index)
			return -ENOMEM;
	}
	r = file_cache_init(&f->cache, root);
	if (r == 0) {
		r = mime_ref(MIME_TABLE);
		if (r < 0)
			file_cache_clear(&f->cache);
	}
	if (r < 0) {
		free(f->index);
		return r;
	}
	*ret = take_ptr(f);
	return 0;
}

struct tine_files *files_free(struct tine_files *f)
{
	if (!f)
		return NULL;
	file_cache_clear(&f->cache);
	mime_unref();
	free(f->index);
	free(f);
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

/* Whether it is to be sent from its snapshot, which may be taken just now. */
static bool is_hot(struct tine_files *f, struct net_server *s, struct file_entry *e)
{
	if (file_entry_count(e) && splice_ready(&s->splice))
		file_cache_heat(&f->cache, e, s->now_ms);
	return e->hot.data && splice_ready(&s->splice);
}

static int send_entry(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	struct connection *c = rq->connection;
	struct sending piece = {.left = e->size};
	struct http_answer a = {.status = 200,
		.type = e->type,
		.fields = e->fields,
		.length = e->size,
		.body = e->content};
	int r;

	r = response_write(rq, &a);
	if (r < 0 || e->content || rq->head.method == METHOD_HEAD || e->size == 0)
		return r;
	if (is_hot(f, c->server, e)) {
		piece.kind = SENDING_PAGES;
		piece.data = e->hot.data;
		piece.release = hot_chunk_unref;
		piece.owner = hot_chunk_ref(e->hot.chunk);
	} else {
		piece.kind = SENDING_FILE;
		piece.fd = e->fd;
		piece.release = file_entry_unref;
		piece.owner = file_entry_ref(e);
	}
	output_piece(c, &piece, false);
	return 0;
}

static int answer_entry(struct tine_files *f, struct tine_request *rq, struct file_entry *e)
{
	switch (conditional_check(&rq->head, e->etag, e->last_modified)) {
	case CONDITIONAL_UNCHANGED:
		return response_write(
			rq, &(struct http_answer){.status = 304, .fields = e->fields});
	case CONDITIONAL_FAILED:
		return response_text(rq, 412);
	default:
		return send_entry(f, rq, e);
	}
}

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

/* The index file of the folder whose name, "" or ending with '/', is in buf. */
static int answer_index(struct tine_files *f, struct tine_request *rq, char *buf, size_t len)
{
	size_t n = f->index ? strlen(f->index) : 0;
	struct file_entry *e;
	int r;

	if (!ends_with_slash(rq->path))
		return redirect_to_folder(rq);
	if (n == 0)
		return response_text(rq, 403);
	if (len + n >= PATH_MAX)
		return response_text(rq, 404);
	memcpy(buf + len, f->index, n + 1);
	r = file_cache_get(&f->cache, buf, len + n, rq->server->net->now_ms, &e);
	return r < 0 ? response_text(rq, status_of(r)) : answer_entry(f, rq, e);
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
		return answer_index(f, rq, buf, len);

	r = file_cache_get(&f->cache, buf, len, rq->server->net->now_ms, &e);
	if (r == -EISDIR) {
		buf[len++] = '/';
		return answer_index(f, rq, buf, len);
	}
	return r < 0 ? response_text(rq, status_of(r)) : answer_entry(f, rq, e);
}
