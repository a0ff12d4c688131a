/* tine/work_zlib.h: there and back in each format, files of gzip(1), broken and oversized input, streams from end to end. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

#include <tine/work_zlib.h>

#include "run.h"
#include "work_harness.h"

#define LARGE ((size_t)3 << 20)

typedef int (*zlib_fn)(
	struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret);

/* The last result. */
static struct {
	int status;
	char text[256];
	unsigned char *data;
	size_t len;
} last;

static unsigned char *large; /* neither all the same nor all random */

static void on_done(struct tine_zlib_result *r, void *arg)
{
	ck_assert_ptr_eq(arg, &last);
	free(last.data);
	last.status = r->status;
	last.data = r->data;
	last.len = r->len;
	r->data = NULL;
	ck_assert_int_eq(r->status == 0, last.data != NULL);
	snprintf(last.text, sizeof(last.text), "%s", r->text);
	ck_assert_int_eq(r->status < 0, *r->text != '\0');
	n_done++;
}

static int submit(zlib_fn fn, struct tine_zlib z, struct tine_work **ret)
{
	z.size = sizeof(z);
	z.on_done = on_done;
	z.arg = &last;
	return fn(&worker, &z, ret);
}

static int run(zlib_fn fn, struct tine_zlib z)
{
	unsigned n = n_done;

	ck_assert_int_eq(submit(fn, z, NULL), 0);
	run_until(n + 1);
	return last.status;
}

#define RUN(name, ...) run(tine_zlib_##name, (struct tine_zlib){__VA_ARGS__})

static void setup(void)
{
	uint32_t x = 1;

	work_setup();
	memset(&last, 0, sizeof(last));
	large = malloc(LARGE);
	for (size_t i = 0; i < LARGE; i++) {
		x = x * 1664525 + 1013904223;
		large[i] = i / 4096 % 2 ? (unsigned char)(x >> 24) : (unsigned char)(i % 97);
	}
}

static void teardown(void)
{
	work_teardown();
	free(last.data);
	free(large);
}

/* The result moved out of the way of the next. */
static unsigned char *take(size_t *ret_len)
{
	unsigned char *data = last.data;

	*ret_len = last.len;
	last.data = NULL;
	return data;
}

static void check_there_and_back(enum tine_zlib_format format, int level, size_t len)
{
	unsigned char *packed;
	size_t n;

	ck_assert_int_eq(RUN(deflate, .format = format, .level = level, .data = large, .len = len,
				 .lent = len % 2),
		0);
	packed = take(&n);
	ck_assert_int_eq(RUN(inflate, .format = format, .data = packed, .len = n), 0);
	ck_assert_uint_eq(last.len, len);
	ck_assert_mem_eq(last.data, large, len);
	if (format != TINE_ZLIB_RAW)
		ck_assert_int_eq(
			RUN(inflate, .format = TINE_ZLIB_ANY, .data = packed, .len = n), 0);
	ck_assert_uint_eq(last.len, len);
	ck_assert_int_eq(RUN(inflate, .format = format, .data = packed, .len = n - 1), -EBADMSG);
	ck_assert_str_eq(last.text, "inflate: cut off before the end");
	free(packed);
}

START_TEST(test_there_and_back)
{
	static const size_t sizes[] = {0, 1, 1000, 16 << 10, (1 << 20) - 1, 1 << 20, LARGE};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int format = TINE_ZLIB_GZIP; format <= TINE_ZLIB_RAW; format++)
			check_there_and_back((enum tine_zlib_format)format, 0, sizes[i]);
	}
	check_there_and_back(TINE_ZLIB_GZIP, 1, 100000);
	check_there_and_back(TINE_ZLIB_GZIP, 9, 100000);
}
END_TEST

/* What a command makes of `input`; both in memory. */
static unsigned char *pipe_through(
	const char *command, const void *input, size_t len, size_t *ret_len)
{
	char path[] = "/tmp/test-work-zlib-XXXXXX", line[256];
	unsigned char *out = malloc(LARGE + 65536);
	int fd = mkstemp(path);
	FILE *f;

	ck_assert_int_eq((int)write(fd, input, len), (int)len);
	snprintf(line, sizeof(line), "%s <%s", command, path);
	f = popen(line, "r");
	*ret_len = fread(out, 1, LARGE + 65536, f);
	ck_assert_int_eq(pclose(f), 0);
	close(fd);
	unlink(path);
	return out;
}

/* gzip(1) reads ours, and we read its, two files in one too. */
START_TEST(test_gzip_program)
{
	unsigned char *other;
	size_t n;

	ck_assert_int_eq(RUN(deflate, .format = TINE_ZLIB_GZIP, .data = large, .len = LARGE), 0);
	other = pipe_through("gzip -dc", last.data, last.len, &n);
	ck_assert_uint_eq(n, LARGE);
	ck_assert_mem_eq(other, large, LARGE);
	free(other);
	other = pipe_through("gzip -9c", large, LARGE, &n);
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_GZIP, .data = other, .len = n), 0);
	ck_assert_uint_eq(last.len, LARGE);
	ck_assert_mem_eq(last.data, large, LARGE);
	free(other);
	other = pipe_through("sh -c '(gzip -c; printf \" and more\" | gzip -c)'", "one", 3, &n);
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_ANY, .data = other, .len = n), 0);
	ck_assert_uint_eq(last.len, 12);
	ck_assert_mem_eq(last.data, "one and more", 12);
	free(other);
}
END_TEST

/* A bomb: a kilobyte for a megabyte. Not a byte more than the bound is let out; the bound itself is. */
START_TEST(test_bomb)
{
	size_t len = 1 << 20, n;
	unsigned char *zeros = calloc(1, len), *packed;

	ck_assert_int_eq(RUN(deflate, .format = TINE_ZLIB_GZIP, .data = zeros, .len = len), 0);
	packed = take(&n);
	ck_assert_uint_lt(n, 2048);
	ck_assert_int_eq(
		RUN(inflate, .format = TINE_ZLIB_GZIP, .data = packed, .len = n, .max = len), 0);
	ck_assert_uint_eq(last.len, len);
	ck_assert_int_eq(
		RUN(inflate, .format = TINE_ZLIB_GZIP, .data = packed, .len = n, .max = len - 1),
		TINE_E_TOO_LARGE);
	ck_assert_str_eq(last.text, "inflate: more than 1048575 bytes come out");
	ck_assert_int_eq(
		RUN(deflate, .format = TINE_ZLIB_GZIP, .data = large, .len = 10, .max = 20),
		TINE_E_TOO_LARGE);
	free(zeros);
	free(packed);
}
END_TEST

START_TEST(test_broken)
{
	unsigned char *packed;
	size_t n;

	ck_assert_int_eq(
		RUN(inflate, .format = TINE_ZLIB_GZIP, .data = "hello", .len = 5), -EBADMSG);
	ck_assert_str_eq(last.text, "inflate: incorrect header check");
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_GZIP), -EBADMSG);
	ck_assert_int_eq(RUN(deflate, .format = TINE_ZLIB_GZIP, .data = large, .len = 1000), 0);
	packed = take(&n);
	packed = realloc(packed, n + 1);
	packed[n] = 'x';
	ck_assert_int_eq(
		RUN(inflate, .format = TINE_ZLIB_GZIP, .data = packed, .len = n + 1), -EBADMSG);
	ck_assert_str_eq(last.text, "inflate: something follows the end");
	packed[n] = 0x1f; /* as the next member begins */
	ck_assert_int_eq(
		RUN(inflate, .format = TINE_ZLIB_GZIP, .data = packed, .len = n + 1), -EBADMSG);
	packed[n - 8] ^= 1;
	ck_assert_int_eq(
		RUN(inflate, .format = TINE_ZLIB_GZIP, .data = packed, .len = n), -EBADMSG);
	ck_assert_str_eq(last.text, "inflate: incorrect data check");
	free(packed);
	/* RFC 1950 with FDICT set. */
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_DEFLATE, .data = "\x78\xbb\1\2\3\4zzzz",
				 .len = 10),
		-EBADMSG);
	ck_assert_str_eq(last.text, "inflate: needs a dictionary");
}
END_TEST

static void refuse(zlib_fn fn, struct tine_zlib z)
{
	z.size = sizeof(z);
	z.on_done = on_done;
	ck_assert_int_eq(fn(&worker, &z, NULL), -EINVAL);
}

#define REFUSE(name, ...) refuse(tine_zlib_##name, (struct tine_zlib){__VA_ARGS__})

START_TEST(test_bad_input)
{
	struct tine_zlib none = {.size = sizeof(none), .format = TINE_ZLIB_GZIP};

	REFUSE(deflate, .data = "x", .len = 1);
	REFUSE(deflate, .format = TINE_ZLIB_ANY, .data = "x", .len = 1);
	REFUSE(inflate, .format = (enum tine_zlib_format)5, .data = "x", .len = 1);
	REFUSE(inflate, .format = (enum tine_zlib_format) - 1, .data = "x", .len = 1);
	REFUSE(deflate, .format = TINE_ZLIB_GZIP, .level = 10);
	REFUSE(deflate, .format = TINE_ZLIB_GZIP, .level = -1);
	REFUSE(deflate, .format = TINE_ZLIB_GZIP, .len = 1);
	REFUSE(deflate, .format = TINE_ZLIB_GZIP, .data = "x", .len = SIZE_MAX);
	REFUSE(inflate, .format = TINE_ZLIB_GZIP, .data = "x", .len = 1, .max = SIZE_MAX);
	ck_assert_int_eq(tine_zlib_deflate(&worker, &none, NULL), -EINVAL);
	ck_assert_int_eq(tine_zlib_deflate(&worker, NULL, NULL), -EINVAL);
	none.on_done = on_done;
	ck_assert_int_eq(tine_zlib_inflate(NULL, &none, NULL), -EINVAL);
	none.size = 0;
	ck_assert_int_eq(tine_zlib_inflate(&worker, &none, NULL), -EINVAL);
	run_idle();
}
END_TEST

START_TEST(test_cancel)
{
	struct tine_zlib z = {.format = TINE_ZLIB_GZIP, .data = large, .len = LARGE};
	struct tine_work *w[2];
	struct hold h;

	ck_assert_int_eq(submit(tine_zlib_deflate, z, &w[0]), 0);
	hold_begin(&h, POOL_CPU);
	ck_assert_int_eq(submit(tine_zlib_deflate, z, &w[1]), 0);
	work_cancel(w[0]); /* done */
	work_cancel(w[1]); /* waits */
	run_until(2);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	hold_end(&h);
}
END_TEST

/* --- streams --- */

struct sink {
	struct tine_zlib_stream *stream;
	unsigned char *data;
	size_t len;
	unsigned n_data, n_end, n_writable;
	int status;
	char text[256];
	struct sink *next;       /* what comes out goes there */
	bool close_it, pause_it; /* from within on_data */
	int refuse;              /* every second piece, once: with that */
	bool refused;
	const unsigned char *left; /* to be written when there is room */
	size_t n_left;
};

static void feed(struct sink *s);

static int on_data(struct tine_zlib_stream *stream, const void *data, size_t len, void *arg)
{
	struct sink *s = arg;

	ck_assert_ptr_eq(stream, s->stream);
	ck_assert_uint_gt(len, 0);
	ck_assert_uint_le(len, TINE_ZLIB_PIECE);
	ck_assert_uint_eq(s->n_end, 0);
	if (s->refuse != 0 && s->n_data % 2 == 1 && !s->refused) {
		s->refused = true;
		return s->refuse;
	}
	s->refused = false;
	s->n_data++;
	s->data = realloc(s->data, s->len + len);
	memcpy(s->data + s->len, data, len);
	s->len += len;
	if (s->next)
		ck_assert_int_eq(tine_zlib_write(s->next->stream, data, len, false), 0);
	if (s->pause_it)
		tine_zlib_pause(stream, true);
	if (s->close_it)
		tine_zlib_close(stream);
	return 0;
}

static void on_end(int status, const char *text, void *arg)
{
	struct sink *s = arg;

	ck_assert_int_eq(status < 0, *text != '\0');
	s->n_end++;
	s->status = status;
	snprintf(s->text, sizeof(s->text), "%s", text);
	s->stream = NULL;
	if (s->next)
		ck_assert_int_eq(tine_zlib_end(s->next->stream), 0);
	n_done++;
}

static void on_writable(struct tine_zlib_stream *stream, void *arg)
{
	struct sink *s = arg;

	s->n_writable++;
	feed(s);
}

/* As much as is taken, in pieces; the end after the last. */
static void feed(struct sink *s)
{
	while (s->n_left > 0) {
		size_t n = s->n_left < 10007 ? s->n_left : 10007;
		int r = tine_zlib_write(s->stream, s->left, n, false);

		if (r == TINE_E_FULL)
			return;
		ck_assert_int_eq(r, 0);
		s->left += n;
		s->n_left -= n;
	}
	ck_assert_int_eq(tine_zlib_end(s->stream), 0);
}

static void open_stream(struct sink *s, struct tine_zlib_options o)
{
	o.size = sizeof(o);
	o.format = o.format ? o.format : TINE_ZLIB_GZIP;
	o.on_data = on_data;
	o.on_end = on_end;
	o.on_writable = on_writable;
	o.arg = s;
	ck_assert_int_eq(tine_zlib_open(&worker, &o, &s->stream), 0);
}

#define OPEN(s, ...) open_stream(s, (struct tine_zlib_options){__VA_ARGS__})

static void turn(void)
{
	ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
}

/* Through deflate and inflate at once, with a queue that is often full. */
START_TEST(test_stream)
{
	struct sink in = {.left = large, .n_left = LARGE}, out = {0};

	OPEN(&out, .inflate = true, .queue_max = TINE_ZLIB_BYTES_MAX);
	OPEN(&in, .queue_max = 100000);
	in.next = &out;
	feed(&in);
	ck_assert_uint_gt(in.n_left, 0);
	ck_assert_uint_eq(in.n_data, 0);
	run_until(2);
	ck_assert_int_eq(in.status, 0);
	ck_assert_int_eq(out.status, 0);
	ck_assert_uint_gt(in.n_writable, 5);
	ck_assert_uint_lt(in.len, LARGE);
	ck_assert_uint_eq(out.len, LARGE);
	ck_assert_mem_eq(out.data, large, LARGE);
	free(in.data);
	free(out.data);
}
END_TEST

/* One byte after the other, two members, into an inflating stream. */
START_TEST(test_stream_bytes)
{
	struct sink out = {0};
	unsigned char *packed;
	size_t n;

	ck_assert_int_eq(RUN(deflate, .format = TINE_ZLIB_GZIP, .data = large, .len = 300), 0);
	packed = take(&n);
	OPEN(&out, .inflate = true, .format = TINE_ZLIB_ANY);
	for (size_t i = 0; i < 2 * n; i++)
		ck_assert_int_eq(tine_zlib_write(out.stream, packed + i % n, 1, false), 0);
	ck_assert_int_eq(tine_zlib_end(out.stream), 0);
	ck_assert_int_eq(tine_zlib_end(out.stream), TINE_E_CLOSED);
	ck_assert_int_eq(tine_zlib_write(out.stream, "x", 1, false), TINE_E_CLOSED);
	run_until(2);
	ck_assert_int_eq(out.status, 0);
	ck_assert_uint_eq(out.len, 600);
	ck_assert_mem_eq(out.data, large, 300);
	ck_assert_mem_eq(out.data + 300, large, 300);
	free(packed);
	free(out.data);
}
END_TEST

/* What was flushed can be inflated before anything follows. */
START_TEST(test_stream_flush)
{
	struct sink in = {0}, out = {0};

	OPEN(&in, .level = 9);
	OPEN(&out, .inflate = true);
	in.next = &out;
	for (size_t i = 1; i <= 5; i++) {
		ck_assert_int_eq(tine_zlib_write(in.stream, "event", 5, true), 0);
		while (out.len < 5 * i)
			turn();
	}
	ck_assert_int_eq(tine_zlib_write(in.stream, "more", 4, false), 0);
	ck_assert_int_eq(tine_zlib_write(in.stream, NULL, 0, false), 0);
	ck_assert_int_eq(tine_zlib_write(in.stream, NULL, 0, true), 0);
	while (out.len < 29)
		turn();
	ck_assert_mem_eq(out.data, "eventeventeventeventeventmore", 29);
	ck_assert_int_eq(tine_zlib_end(in.stream), 0);
	run_until(2);
	ck_assert_int_eq(out.status, 0);
	free(in.data);
	free(out.data);
}
END_TEST

/* Nothing but an end is a file, too. */
START_TEST(test_stream_empty)
{
	struct sink in = {0}, out = {0};

	OPEN(&in, .format = TINE_ZLIB_RAW);
	OPEN(&out, .inflate = true, .format = TINE_ZLIB_RAW);
	in.next = &out;
	ck_assert_int_eq(tine_zlib_end(in.stream), 0);
	run_until(2);
	ck_assert_int_eq(out.status, 0);
	ck_assert_uint_gt(in.len, 0);
	ck_assert_uint_eq(out.len, 0);
	free(in.data);
}
END_TEST

/* What was there before the fault comes out, then the end. */
START_TEST(test_stream_broken)
{
	struct sink out = {0}, cut = {0};
	unsigned char *packed;
	size_t n;

	ck_assert_int_eq(RUN(deflate, .format = TINE_ZLIB_GZIP, .data = large, .len = 300), 0);
	packed = take(&n);
	OPEN(&cut, .inflate = true);
	ck_assert_int_eq(tine_zlib_write(cut.stream, packed, n - 1, false), 0);
	ck_assert_int_eq(tine_zlib_end(cut.stream), 0);
	run_until(2);
	ck_assert_int_eq(cut.status, -EBADMSG);
	ck_assert_str_eq(cut.text, "inflate: cut off before the end");
	ck_assert_uint_eq(cut.len, 300);
	packed[n - 5] ^= 1;
	OPEN(&out, .inflate = true);
	ck_assert_int_eq(tine_zlib_write(out.stream, packed, n, false), 0);
	run_until(3);
	ck_assert_int_eq(out.status, -EBADMSG);
	ck_assert_str_eq(out.text, "inflate: incorrect data check");
	ck_assert_uint_eq(out.len, 300);
	free(packed);
	free(cut.data);
	free(out.data);
}
END_TEST

START_TEST(test_stream_bomb)
{
	size_t len = 1 << 20, n;
	unsigned char *zeros = calloc(1, len), *packed;
	struct sink out = {0}, exact = {0};

	ck_assert_int_eq(RUN(deflate, .format = TINE_ZLIB_GZIP, .data = zeros, .len = len), 0);
	packed = take(&n);
	OPEN(&out, .inflate = true, .max = len - 1);
	ck_assert_int_eq(tine_zlib_write(out.stream, packed, n, false), 0);
	run_until(2);
	ck_assert_int_eq(out.status, TINE_E_TOO_LARGE);
	ck_assert_uint_lt(out.len, len);
	OPEN(&exact, .inflate = true, .max = len);
	ck_assert_int_eq(tine_zlib_write(exact.stream, packed, n, false), 0);
	ck_assert_int_eq(tine_zlib_end(exact.stream), 0);
	run_until(3);
	ck_assert_int_eq(exact.status, 0);
	ck_assert_uint_eq(exact.len, len);
	free(zeros);
	free(packed);
	free(out.data);
	free(exact.data);
}
END_TEST

/* A receiver that stops: no output until it goes on, and the writer is held up. */
START_TEST(test_stream_pause)
{
	struct sink in = {.left = large, .n_left = LARGE, .pause_it = true};
	struct hold h;
	unsigned n;

	OPEN(&in, .level = 1, .queue_max = 200000);
	feed(&in);
	while (in.n_data == 0)
		turn();
	hold_begin(&h, POOL_CPU); /* whatever the stream has asked for is done */
	hold_end(&h);
	run_idle();
	ck_assert_uint_eq(in.n_data, 1);
	ck_assert_uint_gt(in.n_left, 0);
	while (in.n_end == 0) {
		n = in.n_data;
		tine_zlib_pause(in.stream, false);
		ck_assert_uint_eq(in.n_data, n);
		while (in.n_data == n && in.n_end == 0)
			turn();
	}
	ck_assert_int_eq(in.status, 0);
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_GZIP, .data = in.data, .len = in.len), 0);
	ck_assert_uint_eq(last.len, LARGE);
	ck_assert_mem_eq(last.data, large, LARGE);
	free(in.data);
}
END_TEST

/* What was not taken is offered again; another error ends the stream. */
START_TEST(test_stream_refused)
{
	struct sink in = {.left = large, .n_left = LARGE, .refuse = TINE_E_FULL};
	struct sink broken = {.refuse = -ECANCELED};
	unsigned n = 0;

	OPEN(&in, .level = 1, .queue_max = 200000);
	feed(&in);
	while (in.n_end == 0) {
		turn();
		if (!in.refused)
			continue;
		run_idle();
		ck_assert(in.refused);
		n++;
		tine_zlib_pause(in.stream, false);
	}
	ck_assert_uint_gt(n, 5);
	ck_assert_int_eq(in.status, 0);
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_GZIP, .data = in.data, .len = in.len), 0);
	ck_assert_uint_eq(last.len, LARGE);
	ck_assert_mem_eq(last.data, large, LARGE);
	OPEN(&broken, .level = 1);
	ck_assert_int_eq(tine_zlib_write(broken.stream, large, LARGE, false), 0);
	run_until(3);
	ck_assert_uint_eq(broken.n_data, 1);
	ck_assert_int_eq(broken.status, -ECANCELED);
	free(in.data);
	free(broken.data);
}
END_TEST

/* Who stops in time is never refused. */
START_TEST(test_stream_room)
{
	struct sink in = {0};
	size_t room;

	OPEN(&in, .level = 1, .queue_max = 100000);
	room = tine_zlib_room(in.stream);
	ck_assert_uint_lt(room, 100000);
	ck_assert_uint_gt(room, 99900);
	ck_assert_int_eq(tine_zlib_write(in.stream, large, room, false), 0);
	ck_assert_uint_eq(tine_zlib_room(in.stream), 0);
	ck_assert_int_eq(tine_zlib_write(in.stream, large, 1, false), TINE_E_FULL);
	ck_assert_uint_eq(in.n_writable, 0);
	while (in.n_writable == 0) /* where nothing is left to be written it ends the stream */
		turn();
	ck_assert_uint_eq(tine_zlib_room(in.stream), 0);
	ck_assert_uint_eq(tine_zlib_room(NULL), 0);
	run_until(1);
	free(in.data);
}
END_TEST

/* Dropped before, while and after its job runs, while paused, and by its own callback. */
START_TEST(test_stream_close)
{
	struct sink s = {0}, own = {.close_it = true}, paused = {0};
	struct hold h;

	tine_zlib_close(NULL);
	OPEN(&s, .level = 1);
	tine_zlib_close(s.stream);
	hold_begin(&h, POOL_CPU);
	OPEN(&s, .level = 1);
	ck_assert_int_eq(tine_zlib_write(s.stream, large, 1000, true), 0);
	tine_zlib_close(s.stream); /* it waits */
	hold_end(&h);
	OPEN(&s, .level = 1);
	ck_assert_int_eq(tine_zlib_write(s.stream, large, LARGE, true), 0);
	ck_assert_int_eq(tine_zlib_write(s.stream, large, 1000, true), TINE_E_FULL);
	hold_begin(&h, POOL_CPU);
	tine_zlib_close(s.stream); /* it is done */
	hold_end(&h);
	OPEN(&paused, .level = 1);
	tine_zlib_pause(paused.stream, true);
	ck_assert_int_eq(tine_zlib_write(paused.stream, large, 1000, true), 0);
	tine_zlib_pause(paused.stream, false);
	tine_zlib_close(paused.stream); /* it is about to go on */
	OPEN(&own, .level = 1);
	ck_assert_int_eq(tine_zlib_write(own.stream, large, LARGE, true), 0);
	while (own.n_data == 0)
		turn();
	run_idle();
	ck_assert_uint_eq(own.n_data, 1);
	ck_assert_uint_eq(s.n_data + s.n_end + own.n_end + paused.n_data, 0);
	free(own.data);
}
END_TEST

/* The pool has no room for a while: the stream waits for it, and loses nothing. */
START_TEST(test_stream_full)
{
	struct tine_zlib z = {.format = TINE_ZLIB_GZIP};
	struct sink in = {0};
	unsigned n = 0;
	struct hold h;

	hold_begin(&h, POOL_CPU);
	while (submit(tine_zlib_deflate, z, NULL) == 0)
		n++;
	ck_assert_int_eq(submit(tine_zlib_deflate, z, NULL), TINE_E_FULL);
	OPEN(&in, .level = 1);
	ck_assert_int_eq(tine_zlib_write(in.stream, large, 1000, false), 0);
	ck_assert_int_eq(tine_zlib_end(in.stream), 0);
	run_idle();
	hold_end(&h);
	run_until(n + 1);
	ck_assert_int_eq(in.status, 0);
	ck_assert_int_eq(RUN(inflate, .format = TINE_ZLIB_GZIP, .data = in.data, .len = in.len), 0);
	ck_assert_uint_eq(last.len, 1000);
	free(in.data);
}
END_TEST

/* The process ends while a job waits: its stream ends, too, even if it is paused. */
START_TEST(test_stream_end)
{
	struct sink s = {0}, idle = {0};
	struct hold h;

	OPEN(&idle, .level = 1);
	hold_begin(&h, POOL_CPU);
	OPEN(&s, .level = 1);
	ck_assert_int_eq(tine_zlib_write(s.stream, large, 1000, true), 0);
	tine_zlib_pause(s.stream, true);
	sem_post(&h.go);
	worker.pool = pool_free(worker.pool);
	ck_assert(h.over);
	ck_assert_uint_eq(idle.n_end, 0);
	tine_zlib_close(idle.stream);
	if (s.n_end == 0) /* its job was done before the end came */
		tine_zlib_close(s.stream);
	else
		ck_assert_int_eq(s.status, TINE_E_CANCELED);
	free(s.data);
}
END_TEST

START_TEST(test_stream_bad_input)
{
	struct tine_zlib_options good = {.size = sizeof(good),
					 .format = TINE_ZLIB_GZIP,
					 .on_data = on_data,
					 .on_end = on_end},
				 bad = good;
	struct tine_zlib_stream *s = NULL;
	struct sink in = {0};

	ck_assert_int_eq(tine_zlib_open(NULL, &good, &s), -EINVAL);
	ck_assert_int_eq(tine_zlib_open(&worker, NULL, &s), -EINVAL);
	ck_assert_int_eq(tine_zlib_open(&worker, &good, NULL), -EINVAL);
	bad.on_data = NULL;
	ck_assert_int_eq(tine_zlib_open(&worker, &bad, &s), -EINVAL);
	bad = good;
	bad.on_end = NULL;
	ck_assert_int_eq(tine_zlib_open(&worker, &bad, &s), -EINVAL);
	bad = good;
	bad.format = TINE_ZLIB_ANY;
	ck_assert_int_eq(tine_zlib_open(&worker, &bad, &s), -EINVAL);
	bad = good;
	bad.level = 10;
	ck_assert_int_eq(tine_zlib_open(&worker, &bad, &s), -EINVAL);
	bad = good;
	bad.queue_max = SIZE_MAX;
	ck_assert_int_eq(tine_zlib_open(&worker, &bad, &s), -EINVAL);
	ck_assert_ptr_null(s);
	OPEN(&in, .level = 1);
	ck_assert_int_eq(tine_zlib_write(in.stream, NULL, 1, false), -EINVAL);
	ck_assert_int_eq(tine_zlib_write(in.stream, "x", SIZE_MAX, false), -EINVAL);
	ck_assert_int_eq(tine_zlib_write(NULL, "x", 1, false), -EINVAL);
	ck_assert_int_eq(tine_zlib_end(NULL), -EINVAL);
	tine_zlib_close(in.stream);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_there_and_back);
	tcase_add_test(tc, test_gzip_program);
	tcase_add_test(tc, test_bomb);
	tcase_add_test(tc, test_broken);
	tcase_add_test(tc, test_bad_input);
	tcase_add_test(tc, test_cancel);
	tcase_add_test(tc, test_stream);
	tcase_add_test(tc, test_stream_bytes);
	tcase_add_test(tc, test_stream_flush);
	tcase_add_test(tc, test_stream_empty);
	tcase_add_test(tc, test_stream_broken);
	tcase_add_test(tc, test_stream_bomb);
	tcase_add_test(tc, test_stream_pause);
	tcase_add_test(tc, test_stream_refused);
	tcase_add_test(tc, test_stream_room);
	tcase_add_test(tc, test_stream_close);
	tcase_add_test(tc, test_stream_full);
	tcase_add_test(tc, test_stream_end);
	tcase_add_test(tc, test_stream_bad_input);
}

int main(void)
{
	return run_tests("work_zlib", add);
}
