/* Answers of every kind, for test_17_responses.py. */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>
#include <tine/loop.h>

static struct tine_worker *worker;
static unsigned n_gone, n_answered, n_room, n_failed_bodies;

static void say(struct tine_request *rq, int status, const char *text)
{
	tine_respond(rq, status, "text/plain", text, strlen(text));
}

/* --- later --- */

struct later {
	struct tine_request *request;
	struct event *timer;
	struct timeval after;
	char line[64];
};

static void on_gone(struct tine_request *rq, void *arg)
{
	n_gone++;
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct later *l = arg;
	int r;

	tine_respond_header(l->request, "X-Later", "yes");
	r = tine_respond(l->request, 200, "text/plain", l->line, strlen(l->line));
	if (r == 0 || r == -ECANCELED)
		n_answered++;
	event_free(l->timer);
	free(l);
}

static void on_gone_before(struct tine_request *rq, void *arg)
{
	struct later *l = arg;

	n_gone++;
	event_add(l->timer, &l->after);
}

/* /later/{ms}: answers with its own path; ?gone: so long after the client has left */
static void later(struct tine_request *rq, void *arg)
{
	struct tine_text ms = tine_request_param(rq, "ms"), path = tine_request_path(rq);
	struct later *l = calloc(1, sizeof(*l));

	l->after = (struct timeval){atoi(ms.data) / 1000, atoi(ms.data) % 1000 * 1000};
	l->request = rq;
	snprintf(l->line, sizeof(l->line), "%.*s", (int)path.len, path.data);
	tine_respond_header(rq, "X-Early", "kept");
	tine_defer(rq);
	l->timer = event_new(tine_loop_base(worker), -1, 0, on_time, l);
	if (tine_request_query(rq).len > 0)
		return tine_on_gone(rq, on_gone_before, l);
	tine_on_gone(rq, on_gone, NULL);
	event_add(l->timer, &l->after);
}

static void on_thread_done(void *arg)
{
	say(arg, 200, "from a thread");
}

static void *on_thread(void *arg)
{
	tine_loop_post(worker, on_thread_done, arg);
	return NULL;
}

static void thread(struct tine_request *rq, void *arg)
{
	pthread_t t;

	tine_defer(rq);
	pthread_create(&t, NULL, on_thread, rq);
	pthread_detach(t);
}

static void never(struct tine_request *rq, void *arg)
{
	tine_defer(rq);
	tine_on_gone(rq, on_gone, NULL);
}

/* --- streams --- */

struct stream {
	unsigned long left, at;
};

static void go_on(struct tine_request *rq, void *arg)
{
	struct stream *s = arg;
	char piece[4096];
	int r = 0;

	n_room++;
	while (s->left > 0) {
		size_t n = s->left < sizeof(piece) ? s->left : sizeof(piece);

		for (size_t i = 0; i < n; i++)
			piece[i] = (char)('a' + (s->at + i) % 26);
		r = tine_respond_write(rq, piece, n);
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			n_gone++;
			break;
		}
		s->left -= n;
		s->at += n;
	}
	if (r == 0)
		tine_respond_trailer(rq, "X-Total", "all");
	tine_respond_end(rq);
	free(s);
}

/* /stream/{n}, ?sized */
static void stream(struct tine_request *rq, void *arg)
{
	unsigned long n = strtoul(tine_request_param(rq, "n").data, NULL, 10);
	struct stream *s = calloc(1, sizeof(*s));

	s->left = n;
	tine_on_gone(rq, on_gone, NULL);
	tine_respond_start(rq, 200, "text/plain", tine_request_query(rq).len > 0 ? (int64_t)n : -1);
	tine_respond_on_room(rq, go_on, s);
	go_on(rq, s);
}

static void too_short(struct tine_request *rq, void *arg)
{
	tine_respond_start(rq, 200, NULL, 10);
	tine_respond_write(rq, "abc", 3);
	tine_respond_end(rq);
}

static void too_long(struct tine_request *rq, void *arg)
{
	tine_respond_start(rq, 200, NULL, 3);
	if (tine_respond_write(rq, "abcd", 4) == -EMSGSIZE)
		tine_respond_write(rq, "abc", 3);
	tine_respond_end(rq);
}

static void broken_off(struct tine_request *rq, void *arg)
{
	tine_respond_start(rq, 200, NULL, -1);
	tine_respond_write(rq, "abc", 3);
	tine_respond_abort(rq);
}

static void events(struct tine_request *rq, void *arg)
{
	tine_on_gone(rq, on_gone, NULL);
	tine_sse_start(rq);
	if (tine_sse_send(rq, "a\nb", NULL, "x", 1) != -EINVAL ||
		tine_sse_send(rq, NULL, "1\r2", "x", 1) != -EINVAL)
		abort();
	tine_sse_send(rq, "greeting", "7", "one\ntwo\r\nthree\rfour", 19);
	tine_sse_send(rq, NULL, NULL, "", 0);
}

/* --- bodies --- */

struct upload {
	unsigned long n, sum;
	struct event *timer;
	struct tine_request *request;
};

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct upload *u = arg;

	event_free(u->timer);
	u->timer = NULL;
	tine_request_pause(u->request, false);
}

static void on_body(struct tine_request *rq, enum tine_body_event event, const void *data,
	size_t len, void *arg)
{
	static const struct timeval soon = {0, 20000};
	struct upload *u = arg;
	char text[96];

	if (event == TINE_BODY_DATA) {
		for (size_t i = 0; i < len; i++)
			u->sum += ((const unsigned char *)data)[i];
		u->n += len;
		if (!u->timer && tine_request_query(rq).len > 0) {
			tine_request_pause(rq, true);
			u->timer = event_new(tine_loop_base(worker), -1, 0, on_resume, u);
			event_add(u->timer, &soon);
		}
		return;
	}
	if (event == TINE_BODY_FAILED)
		n_failed_bodies++;
	snprintf(text, sizeof(text), "%lu bytes, sum %lu, trailer %.*s", u->n, u->sum,
		(int)tine_request_trailer(rq, "X-Sum").len, tine_request_trailer(rq, "X-Sum").data);
	if (u->timer)
		event_free(u->timer);
	free(u);
	say(rq, 200, text);
}

/* /upload: streamed; with a query it is paused after each piece */
static void upload(struct tine_request *rq, void *arg)
{
	struct upload *u = calloc(1, sizeof(*u));

	u->request = rq;
	if (tine_request_read(rq, on_body, u) < 0)
		abort();
}

/* Answers although the body has not come. */
static void early(struct tine_request *rq, void *arg)
{
	say(rq, 200, "early");
}

static void whole(struct tine_request *rq, void *arg)
{
	struct tine_text body = tine_request_body(rq);

	tine_respond(rq, 200, "application/octet-stream", body.data, body.len);
}

/* --- injection --- */

static void inject(struct tine_request *rq, void *arg)
{
	static const char *names[] = {"", "a b", "a:b", "a\r\nb", "Content-Length", "connection",
		"Transfer-Encoding", "Date", "Trailer", "Upgrade"};
	static const char *values[] = {"a\r\nSet-Cookie: x=y", "a\nb", "a\rb", "\x01", " a", "a "};
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		wrong += tine_respond_header(rq, names[i], "v") != -EINVAL;
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		wrong += tine_respond_header(rq, "X-V", values[i]) != -EINVAL;
	wrong += tine_respond(rq, 200, "text/plain\r\nX-Evil: 1", "x", 1) != -EINVAL;
	wrong += tine_respond(rq, 99, NULL, "x", 1) != -EINVAL;
	wrong += tine_respond_start(rq, 200, "a\nb", -1) != -EINVAL;
	if (tine_respond_start(rq, 200, "text/plain", -1) < 0)
		abort();
	wrong += tine_respond_trailer(rq, "X-T", "a\r\nb") != -EINVAL;
	wrong += tine_respond_trailer(rq, "Content-Length", "1") != -EINVAL;
	wrong += tine_respond_header(rq, "X-Late", "1") != -EALREADY;
	tine_respond_write(rq, wrong ? "no" : "ok", 2);
	tine_respond_end(rq);
}

/* --- middleware --- */

static int mark(struct tine_request *rq, void *arg)
{
	tine_respond_header(rq, "X-Way", arg);
	return TINE_NEXT;
}

static int guard(struct tine_request *rq, void *arg)
{
	if (tine_request_header(rq, "X-Key").len > 0)
		return TINE_NEXT;
	say(rq, 401, "no key");
	return TINE_TAKEN;
}

static void on_allowed(evutil_socket_t fd, short what, void *arg)
{
	tine_next(arg);
}

static int slow_guard(struct tine_request *rq, void *arg)
{
	static const struct timeval soon = {0, 20000};

	tine_defer(rq);
	event_base_once(tine_loop_base(worker), -1, EV_TIMEOUT, on_allowed, rq, &soon);
	return TINE_TAKEN;
}

static void counters(struct tine_request *rq, void *arg)
{
	char text[160];

	snprintf(text, sizeof(text),
		"{\"gone\": %u, \"answered\": %u, \"room\": %u, \"failed\": %u}", n_gone,
		n_answered, n_room, n_failed_bodies);
	tine_respond(rq, 200, "application/json", text, strlen(text));
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct tine_route routes[] = {
		{.path = "/later/{ms}", .methods = TINE_GET | TINE_POST, .fn = later},
		{.path = "/thread", .methods = TINE_GET, .fn = thread},
		{.path = "/never", .methods = TINE_GET | TINE_POST, .fn = never},
		{.path = "/stream/{n}", .methods = TINE_GET, .fn = stream},
		{.path = "/short", .methods = TINE_GET, .fn = too_short},
		{.path = "/long", .methods = TINE_GET, .fn = too_long},
		{.path = "/broken", .methods = TINE_GET, .fn = broken_off},
		{.path = "/events", .methods = TINE_GET, .fn = events},
		{.path = "/upload",
			.methods = TINE_POST | TINE_PUT,
			.fn = upload,
			.flags = TINE_ROUTE_STREAM_BODY,
			.max_body = 64 << 20},
		{.path = "/early",
			.methods = TINE_POST,
			.fn = early,
			.flags = TINE_ROUTE_STREAM_BODY},
		{.path = "/whole", .methods = TINE_POST, .fn = whole},
		{.path = "/guarded/whole", .methods = TINE_POST, .fn = whole},
		{.path = "/slow/whole", .methods = TINE_POST, .fn = whole},
		{.path = "/inject", .methods = TINE_GET, .fn = inject},
		{.path = "/counters", .methods = TINE_GET, .fn = counters},
	};
	int r = 0;

	worker = w;
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes) && r == 0; i++) {
		struct tine_route route = routes[i];

		route.size = sizeof(route);
		r = tine_http_route_with(w, &route);
	}
	if (r == 0)
		r = tine_http_use(w, "/guarded", mark, "first");
	if (r == 0)
		r = tine_http_use(w, "/guarded", guard, NULL);
	if (r == 0)
		r = tine_http_use(w, "/guarded/whole", mark, "second");
	if (r == 0)
		r = tine_http_use(w, "/slow", slow_guard, NULL);
	return r;
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "responses",
	.worker_start = start};
