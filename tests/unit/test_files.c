/* http/files.c and the sending of files in http/output.c, over socket pairs. */
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "http_harness.h"

#include "http/file_cache.h"
#include "http/files.h"
#include "http/router.h"
#include "needs.h"
#include "run.h"

#define BIG     (6u << 20)
#define WARM    300001u
#define SKIPPED 77 /* to Meson: no openat2(2) here, as under Valgrind before 3.21 */

static char folder[64];
static char path_buf[256];
static struct tine_files *files;
static struct tine_files_options options;
static char big[BIG];
static time_t ahead_s;
static bool swallowing; /* sockets take every file at once */
static size_t swallowed;

/* In place of libc's: what files are compared with. Runs ahead as a test likes. */
time_t time(time_t *ret)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += ahead_s;
	if (ret)
		*ret = now.tv_sec;
	return now.tv_sec;
}

/* In place of libc's, too: a socket that is never full. */
ssize_t sendfile(int out, int in, off_t *off, size_t len)
{
	if (!swallowing)
		return syscall(SYS_sendfile, out, in, off, len);
	*off += (off_t)len;
	swallowed += len;
	return (ssize_t)len;
}

static const char *in_folder(const char *name)
{
	snprintf(path_buf, sizeof(path_buf), "%s/%s", folder, name);
	return path_buf;
}

static void write_file(const char *name, const char *data, size_t len)
{
	FILE *f = fopen(in_folder(name), "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void serve(struct tine_request *rq, void *arg)
{
	struct tine_text path = rq->path;

	path.data += rq->match.route->mount_len;
	path.len -= rq->match.route->mount_len;
	ck_assert_int_eq(files_answer(files, rq, path.len ? path : (struct tine_text){"/", 1}), 0);
}

static void setup(void)
{
	harness_start();
	ahead_s = 0;
	swallowing = false;
	swallowed = 0;
	strcpy(folder, "/tmp/tined-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	mkdir(in_folder("sub"), 0755);
	mkdir(in_folder("bare"), 0755);
	write_file("index.html", "start", 5);
	write_file("a b.txt", "text", 4);
	write_file("sub/index.html", "below", 5);
	write_file("empty", "", 0);
	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)('a' + (i * 7 + i / 1000) % 26);
	write_file("big", big, BIG);
	symlink("/etc/passwd", in_folder("out"));
	mkfifo(in_folder("fifo"), 0644);
	options = (struct tine_files_options){
		.size = sizeof(options), .root = folder, .index = "index.html"};
	ck_assert_int_eq(files_new(&options, &files), 0);
	add_route("/", "/", serve);
	add_route("/m", "/", serve);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	harness_stop();
	files = files_free(files);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *get(const char *target, const char *fields)
{
	char request[1024];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", target, fields);
	return ask(request);
}

static const struct {
	const char *target;
	int status;
	const char *has;
} answers[] = {
	{"/", 200, "\r\n\r\nstart"},
	{"/index.html", 200, "Content-Type: text/html; charset=utf-8\r\n"},
	{"/a%20b.txt", 200, "\r\n\r\ntext"},
	{"/sub/", 200, "\r\n\r\nbelow"},
	{"/sub", 301, "Location: /sub/\r\n"},
	{"/sub?a=b&c", 301, "Location: /sub/?a=b&c\r\n"},
	{"/sub?", 301, "Location: /sub/?\r\n"},
	{"//sub", 301, "Location: /sub/\r\n"},
	{"/sub/index.html", 200, "\r\n\r\nbelow"},
	{"/sub/../index.html", 200, "\r\n\r\nstart"},
	{"/sub/..", 200, "\r\n\r\nstart"},
	{"/bare/", 404, "404 Not Found"},
	{"/bare", 301, "Location: /bare/\r\n"},
	{"/none", 404, "404 Not Found"},
	{"/none/", 404, "404 Not Found"},
	{"/index.html/", 404, "404 Not Found"},
	{"/index.html/x", 404, "404 Not Found"},
	{"/out", 403, "403 Forbidden"},
	{"/fifo", 403, "403 Forbidden"},
	{"/../../etc/passwd", 404, "404 Not Found"},
	{"/%2e%2e/%2e%2e/etc/passwd", 404, "404 Not Found"},
	{"/empty", 200, "Content-Length: 0\r\n"},
	{"/m/", 200, "\r\n\r\nstart"},
	{"/m/sub/", 200, "\r\n\r\nbelow"},
	{"/m", 301, "Location: /m/\r\n"},
	{"/m/sub", 301, "Location: /m/sub/\r\n"},
	{"/big", 200, "Content-Length: 6291456\r\n"},
};

START_TEST(test_answers)
{
	get(answers[_i].target, "");
	ck_assert_msg(
		reply_status() == answers[_i].status, "%s: %.200s", answers[_i].target, reply);
	ck_assert_msg(strstr(reply, answers[_i].has), "%s: %.200s", answers[_i].target, reply);
	ck_assert(!reply_eof);
}
END_TEST

START_TEST(test_location_is_safe)
{
	mkdir(in_folder("x\r\nSet-Cookie: a"), 0755);
	mkdir(in_folder("evil.example"), 0755);
	get("/x%0d%0aSet-Cookie:%20a", "");
	ck_assert_int_eq(reply_status(), 301);
	ck_assert_uint_eq(count("Location: /x%0D%0ASet-Cookie:%20a/\r\n"), 1);
	get("//evil.example", "");
	ck_assert_uint_eq(count("Location: /evil.example/\r\n"), 1);
}
END_TEST

/* Copies the value of a field of the last answer. */
static void field(const char *name, char *value, size_t size)
{
	const char *p = strstr(reply, name), *end;

	ck_assert_ptr_nonnull(p);
	p += strlen(name) + 2;
	end = strstr(p, "\r\n");
	snprintf(value, size, "%.*s", (int)(end - p), p);
}

START_TEST(test_conditional)
{
	char etag[64], date[64], fields[256];

	get("/index.html", "");
	field("ETag", etag, sizeof(etag));
	field("Last-Modified", date, sizeof(date));
	snprintf(fields, sizeof(fields), "If-None-Match: %s\r\n", etag);
	get("/index.html", fields);
	ck_assert_int_eq(reply_status(), 304);
	ck_assert_ptr_nonnull(strstr(reply, etag));
	ck_assert_uint_eq(count("Content-Length"), 0);
	ck_assert_str_eq(reply + reply_len - 4, "\r\n\r\n");
	snprintf(fields, sizeof(fields), "If-Modified-Since: %s\r\n", date);
	get("/index.html", fields);
	ck_assert_int_eq(reply_status(), 304);
	snprintf(fields, sizeof(fields), "If-None-Match: \"x\"\r\nIf-Modified-Since: %s\r\n", date);
	get("/index.html", fields);
	ck_assert_int_eq(reply_status(), 200);
	get("/index.html", "If-Match: \"x\"\r\n");
	ck_assert_int_eq(reply_status(), 412);
}
END_TEST

START_TEST(test_modified_in_the_future)
{
	struct timespec times[2] = {{.tv_sec = time(NULL) + 5000}, {.tv_sec = time(NULL) + 5000}};
	char date[64], fields[256];
	time_t t;

	utimensat(AT_FDCWD, in_folder("index.html"), times, 0);
	get("/index.html", "");
	field("Last-Modified", date, sizeof(date));
	ck_assert_int_eq(http_date_parse((struct tine_text){date, strlen(date)}, &t), 0);
	ck_assert_int_le(t, time(NULL));
	ck_assert_int_ge(t, time(NULL) - 10);
	snprintf(fields, sizeof(fields), "If-Modified-Since: %s\r\n", date);
	get("/index.html", fields);
	ck_assert_int_eq(reply_status(), 304);
}
END_TEST

#define MEDIUM 1900000u

/* However fast one client takes large files, others are answered between them. */
START_TEST(test_many_files_take_turns)
{
	static const char request[] = "GET /medium HTTP/1.1\r\nHost:a\r\n\r\n";
	static char requests[600 * (sizeof(request) - 1) + 1];
	int greedy, other;
	char buf[512];

	write_file("medium", big, MEDIUM);
	for (unsigned i = 0; i < 600; i++)
		memcpy(requests + i * (sizeof(request) - 1), request, sizeof(request));
	swallowing = true;
	greedy = client_new();
	other = client_new();
	client_send(greedy, requests, sizeof(requests) - 1);
	client_send(other, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27);
	event_base_loop(base, EVLOOP_ONCE); /* one turn, where turn() goes on until all wait */
	ck_assert_uint_le(swallowed, 2 * MEDIUM);
	ck_assert_int_gt(recv(other, buf, sizeof(buf), 0), 0);
	settle(greedy);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 600);
	ck_assert_uint_eq(swallowed, (size_t)600 * MEDIUM);
	ck_assert(!LIST_NEXT(LIST_FIRST(&net->open), link)->writing);
	close(greedy);
	close(other);
}
END_TEST

/* Lets the server's own timer run once, after a client has come and gone. */
static void wait_for_tick(void)
{
	get("/index.html", "");
	turn();
	ck_assert_uint_eq(net_server_connections(net), 0);
	ck_assert_uint_eq(net->timer_ms, WHEEL_TICK_MS);
	usleep(2 * WHEEL_TICK_MS * 1000);
	turn();
}

/* Files kept open are let go of when nobody comes any more; then nothing wakes the process. */
START_TEST(test_timer_lets_go_of_files)
{
	uint64_t at = now_coarse_ms();
	struct file_cache cache;
	struct file_entry *e;

	wait_for_tick();
	ck_assert_uint_eq(net->timer_ms, 0);
	ck_assert_int_eq(file_cache_init(&cache, folder), 0);
	ck_assert_int_eq(file_cache_get(&cache, "big", 3, at, &e), 0);
	wait_for_tick();
	ck_assert_uint_eq(file_cache_n_fds(), 1);
	ck_assert_uint_gt(net->timer_ms, WHEEL_TICK_MS);
	e->checked_ms = at - FILE_IDLE_MS;
	file_cache_sweep(at - FILE_IDLE_MS); /* as if the last look were long ago */
	wait_for_tick();
	ck_assert_uint_eq(file_cache_n_fds(), 0);
	ck_assert_uint_eq(net->timer_ms, 0);
	file_cache_clear(&cache);
}
END_TEST

START_TEST(test_head)
{
	ask("HEAD /big HTTP/1.1\r\nHost: a\r\n\r\nHEAD /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 2);
	ck_assert_uint_eq(count("Content-Length: 6291456\r\n"), 1);
	ck_assert_uint_eq(count("Content-Length: 5\r\n"), 1);
	ck_assert_str_eq(reply + reply_len - 4, "\r\n\r\n");
	ck_assert_uint_lt(reply_len, 1000);
}
END_TEST

/* Big ones and small ones pipelined: in order, every byte. */
START_TEST(test_big_pipelined)
{
	static const char requests[] =
		"GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
		"GET /sub/ HTTP/1.1\r\nHost: a\r\n\r\n";
	const char *body;

	ask(requests);
	body = strstr(reply, "\r\n\r\n") + 4;
	ck_assert_mem_eq(body, big, BIG);
	ck_assert_ptr_eq(strstr(body + BIG, "HTTP/1.1 200 OK"), body + BIG);
	ck_assert_uint_eq(count("\r\n\r\nstart"), 1);
	ck_assert_uint_eq(count("\r\n\r\nbelow"), 1);
}
END_TEST

/* Starts a client on /big and lets the server fill the socket. */
static int start_big(void)
{
	static const char request[] = "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
	int fd = client_new();

	client_send(fd, request, sizeof(request) - 1);
	for (int i = 0; i < 20; i++)
		turn();
	ck_assert_int_eq(LIST_FIRST(&net->open)->writing, true);
	return fd;
}

START_TEST(test_truncated_while_sent)
{
	int fd = start_big();

	ck_assert_int_eq(truncate(in_folder("big"), 1 << 20), 0);
	settle(fd);
	ck_assert(reply_eof);
	ck_assert_uint_lt(reply_len, BIG); /* never padded */
	ck_assert_uint_eq(net_server_connections(net), 0);
	close(fd);
}
END_TEST

START_TEST(test_replaced_while_sent)
{
	int fd = start_big();
	char to[256];

	write_file("new", "new", 3);
	strcpy(to, in_folder("big"));
	ck_assert_int_eq(rename(in_folder("new"), to), 0);
	settle(fd);
	ck_assert(reply_eof);
	ck_assert_mem_eq(strstr(reply, "\r\n\r\n") + 4, big, BIG);
	close(fd);
}
END_TEST

START_TEST(test_gone_while_sent)
{
	int fd = start_big();

	close(fd);
	turn();
	turn();
	ck_assert_uint_eq(net_server_connections(net), 0);
}
END_TEST

/* A client over TCP. small: of buffers, so that little is on its way at a time. */
static int tcp_client(bool small)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = 4096, accepted;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (small) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&sa, &len);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_eq(
		net_server_accept(net, http_server_protocol(server), router, accepted, NULL), 0);
	close(listener);
	reply_len = 0;
	reply_eof = false;
	return fd;
}

START_TEST(test_over_tcp)
{
	static const char requests[] =
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /big HTTP/1.1\r\nHost: a\r\n\r\n"
		"GET /sub/ HTTP/1.1\r\nHost: a\r\n\r\n";
	int fd = tcp_client(false);
	const char *body;

	for (int round = 0; round < 2; round++) {
		client_send(fd, requests, sizeof(requests) - 1);
		reply_len = 0;
		while (!strstr(reply_len > BIG ? reply + reply_len - 5 : "", "below")) {
			turn();
			while (client_receive(fd))
				;
		}
		body = strstr(strstr(reply, "start"), "\r\n\r\n") + 4;
		ck_assert_mem_eq(body, big, BIG);
		ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 3);
	}
	close(fd);
}
END_TEST

/* Many at once, none of which reads: each gets its turn, nothing is buffered. */
START_TEST(test_many_at_once)
{
	int fds[8];

	for (int i = 0; i < 8; i++)
		fds[i] = start_big();
	for (int i = 0; i < 8; i++) {
		reply_len = 0;
		reply_eof = false;
		settle(fds[i]);
		ck_assert(reply_eof);
		ck_assert_mem_eq(strstr(reply, "\r\n\r\n") + 4, big, BIG);
		close(fds[i]);
	}
}
END_TEST

static const char get_warm[] = "GET /warm HTTP/1.1\r\nHost: a\r\n\r\n";

/* Asks for a file of medium size until it is hot. Returns false where none can be. */
static bool make_hot(void)
{
	struct hot_files probe = {.support = HOT_UNKNOWN};

	if (!hot_files_possible(&probe))
		return false;
	write_file("warm", big, WARM);
	ahead_s = 10; /* what was modified just now never is hot */
	for (int i = 1; i <= FILE_HOT_AFTER; i++) {
		ck_assert_int_eq(net->splice.in, -1);
		get("/warm", i % 2 ? "If-None-Match: *\r\n" : "");
		ask("HEAD /warm HTTP/1.1\r\nHost: a\r\n\r\n");
		get("/warm", "");
		ck_assert_mem_eq(strstr(reply, "\r\n\r\n") + 4, big, WARM);
		if (net->splice.in >= 0)
			break;
	}
	ck_assert_int_ge(net->splice.in, 0);
	return true;
}

START_TEST(test_hot_pipelined)
{
	static const char requests[] = "GET /warm HTTP/1.1\r\nHost: a\r\n\r\n"
				       "GET /warm HTTP/1.1\r\nHost: a\r\n\r\n"
				       "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
				       "HEAD /warm HTTP/1.1\r\nHost: a\r\n\r\n"
				       "GET /warm HTTP/1.1\r\nHost: a\r\n\r\n"
				       "GET /sub/ HTTP/1.1\r\nHost: a\r\n\r\n";
	const char *p;

	NEEDS(make_hot());
	p = ask(requests);
	for (int i = 0; i < 6; i++) {
		size_t len = i < 2 || i == 4 ? WARM : i == 3 ? 0 : 5;

		ck_assert_int_eq(memcmp(p, "HTTP/1.1 200 OK", 15), 0);
		p = strstr(p, "\r\n\r\n") + 4;
		ck_assert_mem_eq(p, len == WARM ? big : i == 2 ? "start" : "below", len);
		p += len;
	}
	ck_assert_ptr_eq(p, reply + reply_len);
}
END_TEST

/* One of several clients at once, each with what it has received. */
struct slow {
	int fd;
	size_t len;
	char data[2 * WARM + 2000];
};

static struct slow slow[3];

static void slow_start(bool small)
{
	for (int i = 0; i < 3; i++) {
		slow[i].fd = tcp_client(small);
		slow[i].len = 0;
		client_send(slow[i].fd, get_warm, sizeof(get_warm) - 1);
		client_send(slow[i].fd, get_warm, sizeof(get_warm) - 1);
		turn();
	}
}

/* Reads a little. Returns whether both answers are there. */
static bool slow_read(struct slow *s, size_t n)
{
	ssize_t r = recv(s->fd, s->data + s->len, n, 0);

	if (r > 0)
		s->len += (size_t)r;
	s->data[s->len] = '\0';
	return s->len > (size_t)2 * WARM &&
		s->len >= 2 * (size_t)(strstr(s->data, "\r\n\r\n") + 4 - s->data + WARM);
}

static void slow_check(const struct slow *s)
{
	const char *body = strstr(s->data, "\r\n\r\n") + 4;

	ck_assert_mem_eq(body, big, WARM);
	body = strstr(body + WARM, "\r\n\r\n") + 4;
	ck_assert_mem_eq(body, big, WARM);
	ck_assert_ptr_eq(body + WARM, s->data + s->len);
}

static void slow_finish(int from)
{
	for (int i = from; i < 3; i++) {
		while (!slow_read(&slow[i], 5000))
			turn();
		slow_check(&slow[i]);
		close(slow[i].fd);
	}
}

/* Slow and fast ones at once: none gets what was left over of another. */
START_TEST(test_hot_slow_readers)
{
	bool done[3] = {false};

	NEEDS(make_hot());
	slow_start(true);
	ck_assert_int_eq(LIST_FIRST(&net->open)->writing, true);
	for (unsigned i = 0; !done[0] || !done[1] || !done[2]; i++) {
		done[i % 3] = done[i % 3] || slow_read(&slow[i % 3], 1000 + 700 * (i % 3));
		turn();
		if (i % 64 == 0) {
			get("/warm", "");
			ck_assert_mem_eq(strstr(reply, "\r\n\r\n") + 4, big, WARM);
		}
	}
	for (int i = 0; i < 3; i++) {
		slow_check(&slow[i]);
		close(slow[i].fd);
	}
}
END_TEST

START_TEST(test_hot_client_goes)
{
	NEEDS(make_hot());
	slow_start(true);
	close(slow[0].fd);
	turn();
	get("/warm", "");
	ck_assert_mem_eq(strstr(reply, "\r\n\r\n") + 4, big, WARM);
	slow_finish(1);
}
END_TEST

/* In place and shorter: what has begun is sent to its end, from memory. */
START_TEST(test_hot_cut_off_while_sent)
{
	NEEDS(make_hot());
	slow_start(true);
	slow[0].len = 0;
	ck_assert_int_eq(truncate(in_folder("warm"), 1000), 0);
	while (slow[0].len < WARM + 100) {
		slow_read(&slow[0], 5000);
		turn();
	}
	ck_assert_mem_eq(strstr(slow[0].data, "\r\n\r\n") + 4, big, WARM - 1000);
	for (int i = 0; i < 3; i++)
		close(slow[i].fd);
}
END_TEST

/* The folder goes, then the server, with transfers under way; Valgrind and ASan watch. */
START_TEST(test_hot_ends_under_transfers)
{
	NEEDS(make_hot());
	slow_start(true);
	files = files_free(files);
	if (_i == 0)
		net_server_abort(net);
	for (int i = 0; i < 3; i++)
		close(slow[i].fd);
}
END_TEST

START_TEST(test_hot_drained)
{
	NEEDS(make_hot());
	slow_start(true);
	net_server_drain(net, 0);
	for (int i = 0; i < 3; i++) {
		while (slow[i].len < WARM + 100 && !slow_read(&slow[i], 5000))
			turn();
		ck_assert_mem_eq(strstr(slow[i].data, "\r\n\r\n") + 4, big, WARM - 1000);
		close(slow[i].fd);
	}
}
END_TEST

/* No pipe any more: what has begun is copied, what begins is sent with sendfile(2). */
START_TEST(test_hot_refused)
{
	NEEDS(make_hot());
	slow_start(true);
	net->splice.refused = true;
	splice_close(&net->splice);
	slow_finish(0);
	get("/warm", "");
	ck_assert_mem_eq(strstr(reply, "\r\n\r\n") + 4, big, WARM);
	ck_assert_int_eq(net->splice.in, -1);
}
END_TEST

static void add(TCase *t)
{
	signal(SIGPIPE, SIG_IGN); /* as every role does; sendfile(2) has no MSG_NOSIGNAL */
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, test_answers, 0, sizeof(answers) / sizeof(answers[0]));
	tcase_add_test(t, test_location_is_safe);
	tcase_add_test(t, test_conditional);
	tcase_add_test(t, test_modified_in_the_future);
	tcase_add_test(t, test_many_files_take_turns);
	tcase_add_test(t, test_timer_lets_go_of_files);
	tcase_add_test(t, test_head);
	tcase_add_test(t, test_big_pipelined);
	tcase_add_test(t, test_truncated_while_sent);
	tcase_add_test(t, test_replaced_while_sent);
	tcase_add_test(t, test_gone_while_sent);
	tcase_add_test(t, test_over_tcp);
	tcase_add_test(t, test_many_at_once);
	tcase_add_test(t, test_hot_pipelined);
	tcase_add_test(t, test_hot_slow_readers);
	tcase_add_test(t, test_hot_client_goes);
	tcase_add_test(t, test_hot_cut_off_while_sent);
	tcase_add_loop_test(t, test_hot_ends_under_transfers, 0, 2);
	tcase_add_test(t, test_hot_drained);
	tcase_add_test(t, test_hot_refused);
}

int main(void)
{
	options.root = "/";
	if (files_new(&options, &files) == -ENOSYS)
		return SKIPPED;
	files = files_free(files);
	return run_tests("files", add);
}
