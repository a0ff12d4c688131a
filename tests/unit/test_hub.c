/*
 * Unit test of modules/hub: the ring, alone and beside somebody who writes over it or dies; subjects; tokens; text.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "modules/hub/ring.h"
#include "modules/hub/text.h"
#include "modules/hub/token.h"
#include "modules/hub/topic.h"
#include "run.h"

#define SIZE 8192

static struct tine_text text_of(const char *s)
{
	return (struct tine_text){s, strlen(s)};
}

/* --- the ring --- */

static void *memory;

static void setup(void)
{
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(memory, MAP_FAILED);
}

static void teardown(void)
{
	munmap(memory, SIZE);
}

static struct ring opened(void)
{
	struct ring r;

	ck_assert_int_eq(ring_open(&r, memory, SIZE, 7), 0);
	return r;
}

/* Message number n, of a length of its own. */
static struct tine_text message(unsigned n, char to[1024])
{
	int len = snprintf(to, 1024, "%u ", n);
	size_t more = n * 37 % 900;

	memset(to + len, 'a' + (int)(n % 26), more);
	return (struct tine_text){to, (size_t)len + more};
}

static uint64_t append(struct ring *r, unsigned n)
{
	char text[1024];
	struct ring_id id;

	ck_assert_int_eq(ring_append(r, text_of("a.b"), message(n, text), n, 99, &id), 0);
	return id.position;
}

static void check_message(const struct ring_record *m, unsigned n)
{
	char text[1024];
	struct tine_text expected = message(n, text);

	ck_assert_uint_eq(m->time_ms, n);
	ck_assert_uint_eq(m->subject.len, 3);
	ck_assert_mem_eq(m->subject.data, "a.b", 3);
	ck_assert_uint_eq(m->data.len, expected.len);
	ck_assert_mem_eq(m->data.data, expected.data, expected.len);
}

START_TEST(test_ring)
{
	struct ring r = opened(), other = opened();
	struct ring_record m;
	uint64_t at = 0, end;

	ck_assert_int_eq(ring_read(&r, 0, &m), RING_END);
	for (unsigned i = 1; i < 1000; i++) {
		end = append(i % 2 ? &r : &other, i);
		ck_assert_int_eq(ring_peek(&other, at, &m), 0);
		ck_assert_uint_eq(m.end, end);
		ck_assert(m.subject.len == 3 && memcmp(m.subject.data, "a.b", 3) == 0);
		ck_assert_int_eq(ring_read(&other, at, &m), 0);
		ck_assert_uint_eq(m.end, end);
		check_message(&m, i);
		ck_assert_int_eq(ring_read(&other, end, &m), RING_END);
		ck_assert_int_eq(ring_peek(&other, end, &m), RING_END);
		at = end;
	}
	ring_close(&r);
	ring_close(&other);
}
END_TEST

/* All that is left is there, in order, and not less than what fits. */
START_TEST(test_ring_keeps_the_newest)
{
	struct ring r = opened();
	struct ring_record m;

	for (unsigned i = 1; i < 500; i++) {
		uint64_t at;
		unsigned n = 0, last = 0;

		append(&r, i);
		for (at = ring_tail(&r); ring_read(&r, at, &m) == 0; at = m.end, n++) {
			last = (unsigned)m.time_ms;
			ck_assert_uint_eq(last, i - (unsigned)(i - last));
			check_message(&m, last);
		}
		ck_assert_uint_eq(last, i);
		ck_assert_uint_ge(n, i < 7 ? i : 7);
		ck_assert_uint_le(ring_head(&r) - ring_tail(&r), SIZE);
	}
	ring_close(&r);
}
END_TEST

START_TEST(test_ring_positions_that_are_none)
{
	struct ring r = opened();
	struct ring_record m;
	uint64_t first = append(&r, 1), second = append(&r, 2);

	for (uint64_t at = 0; at < second + 100; at++) {
		int expected = RING_LOST;

		if (at == 0 || at == first)
			expected = 0;
		else if (at == second)
			expected = RING_END;
		ck_assert_int_eq(ring_read(&r, at, &m), expected);
	}
	ck_assert_int_eq(ring_read(&r, UINT64_MAX, &m), RING_LOST);
	while (ring_tail(&r) == 0)
		append(&r, 3);
	ck_assert_int_eq(ring_read(&r, 0, &m), RING_LOST);
	ring_close(&r);
}
END_TEST

START_TEST(test_ring_too_large)
{
	struct ring r = opened();
	size_t max = ring_message_max(&r);
	char *data = calloc(1, SIZE);
	struct ring_id id;

	ck_assert_int_eq(
		ring_append(&r, text_of("a"), (struct tine_text){data, max}, 1, 9, &id), -EMSGSIZE);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(
			ring_append(&r, text_of("a"), (struct tine_text){data, max - 1}, 1, 9, &id),
			0);
	ck_assert_int_eq(ring_open(&r, memory, RING_SIZE_MIN - 1, 1), -EINVAL);
	free(data);
}
END_TEST

/* A byte of a record is another one: it is not believed, and the one behind it is found. */
START_TEST(test_ring_torn)
{
	struct ring r = opened();
	struct ring_record m;
	uint64_t end = append(&r, 5);
	char *p;

	append(&r, 6);
	p = memmem(memory, SIZE, "5 f", 3);
	ck_assert_ptr_nonnull(p);
	p[2]++;
	ck_assert_int_eq(ring_read(&r, 0, &m), RING_TORN);
	ck_assert_uint_eq(m.end, end);
	ck_assert_int_eq(ring_read(&r, m.end, &m), 0);
	check_message(&m, 6);
	ring_close(&r);
}
END_TEST

/* Anything anywhere: readers and writers find their way, and never out of the memory. */
START_TEST(test_ring_garbage)
{
	struct ring r = opened();
	struct ring_record m;

	srandom(1);
	for (unsigned i = 1; i < 20000; i++) {
		uint64_t at = ring_tail(&r);
		uint64_t *words = memory;

		words[(size_t)random() % (i % 2 ? 32 : SIZE / 8)] =
			i % 3 ? (uint64_t)random() : UINT64_MAX - i;
		for (unsigned n = 0; n < 1000; n++) {
			int result = ring_read(&r, at, &m);

			if (result != 0 && result != RING_TORN)
				break;
			ck_assert_uint_gt(m.end, at);
			at = m.end;
		}
		append(&r, i);
		ring_follow(&r);
	}
	ring_close(&r);
}
END_TEST

START_TEST(test_ring_begins_anew)
{
	struct ring r = opened(), writer = opened();
	struct ring_record m;
	struct ring_id id, last;

	append(&writer, 1);
	memset(memory, 0xff, 256);
	ck_assert(!ring_is_sound(&r));
	ck_assert_int_eq(ring_append(&writer, text_of("a.b"), text_of("x"), 1, 99, &id), 0);
	ck_assert_uint_eq(id.epoch, 99);
	ck_assert(ring_is_sound(&r));
	ck_assert(!ring_is_same(&r) && !ring_is_same(&writer));
	last = ring_last_id(&r);
	ck_assert(last.epoch == id.epoch && last.position == id.position);
	ring_mend(&r, 100);
	ck_assert_uint_eq(ring_last_id(&r).epoch, 99);
	ck_assert_int_eq(ring_read(&r, 0, &m), RING_LOST);
	ring_follow(&r);
	ck_assert_uint_eq(r.epoch, 99);
	ck_assert_int_eq(ring_read(&r, 0, &m), 0);
	ck_assert_mem_eq(m.data.data, "x", 1);
	ring_close(&r);
	ring_close(&writer);
}
END_TEST

/* A writer is killed over and over, wherever it is; a reader meanwhile believes nothing that is not right, and misses nothing. */
START_TEST(test_ring_writer_killed)
{
	struct ring r = opened();
	struct ring_record m;
	uint64_t at = 0;
	unsigned n = 0, last = 0;

	for (int round = 0; round < 20; round++) {
		pid_t pid = fork();
		int status;

		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			for (unsigned i = last + 1;; i++)
				append(&r, i);
		}
		for (unsigned until = n + 100 + 7 * (unsigned)round; n < until;) {
			int result = ring_read(&r, at, &m);

			ck_assert_int_ne(result, RING_TORN);
			if (result == RING_LOST) {
				at = ring_tail(&r);
				last = 0;
			} else if (result == 0) {
				check_message(&m, (unsigned)m.time_ms);
				ck_assert(last == 0 || m.time_ms == last + 1);
				last = (unsigned)m.time_ms;
				at = m.end;
				n++;
			}
		}
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		for (at = ring_tail(&r), last = 0; ring_read(&r, at, &m) == 0; at = m.end) {
			check_message(&m, (unsigned)m.time_ms);
			last = (unsigned)m.time_ms;
		}
		ck_assert_int_eq(ring_read(&r, at, &m), RING_END);
	}
	ring_close(&r);
}
END_TEST

START_TEST(test_ring_ids)
{
	static const char *const wrong[] = {"", "0", "-", "1-", "-1", "1-1 ", " 1-1", "g-1", "1-a",
		"1--1", "1-1-1", "A-1", ":-1", "11111111111111111-1", "1-18446744073709551616"};
	char text[RING_ID_MAX];
	struct ring_id id;

	ck_assert_uint_eq(
		ring_write_id((struct ring_id){UINT64_MAX, UINT64_MAX}, text), strlen(text));
	ck_assert(ring_parse_id(text_of(text), &id));
	ck_assert(id.epoch == UINT64_MAX && id.position == UINT64_MAX);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(!ring_parse_id(text_of(wrong[i]), &id), "%s", wrong[i]);
}
END_TEST

/* --- subjects --- */

START_TEST(test_topics)
{
	static const struct {
		const char *wide, *narrow;
		bool covers;
	} rows[] = {
		{"a", "a", true},
		{"a.b", "a.b", true},
		{"a", "a.b", false},
		{"a.b", "a", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"*.b", "a.b", true},
		{">", "a", true},
		{">", "a.b.c", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{"a.>", "b.c", false},
		{"ab", "a", false},
		{">", "*", true},
		{">", ">", true},
		{"*", "*", true},
		{"a", "*", false},
		{"*", ">", false},
		{"a.*", "a.>", false},
		{"a.>", "a.*", true},
		{"a.>", "a.*.>", true},
		{"a.*.>", "a.>", false},
		{"*.*", "a.*", true},
		{"a.*", "*.*", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_msg(topic_covers(text_of(rows[i].wide), text_of(rows[i].narrow)) ==
				rows[i].covers,
			"%s %s", rows[i].wide, rows[i].narrow);
}
END_TEST

START_TEST(test_topics_that_are_none)
{
	static const char *const wrong[] = {"", ".", "a.", ".a", "a..b", ">.a", "a*", "*a", "a.b>",
		"a b", "a\tb", "\xc3\xbc", "$a", "a.\x7f", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q",
		"*.*.a.*.*.*"};
	static const char *const right[] = {"a", "a.b", "*", ">", "a.*.b.>", "a.$b", "a-b_c:d+e~f",
		"*.*.a.*.*.>", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p"};
	char longest[TOPIC_MAX + 2];
	struct topic t;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(topic_parse(text_of(wrong[i]), &t) == -EINVAL, "%s", wrong[i]);
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		ck_assert_msg(topic_parse(text_of(right[i]), &t) == 0, "%s", right[i]);
		ck_assert_str_eq(t.text, right[i]);
		ck_assert(t.is_pattern == (strpbrk(right[i], "*>") != NULL));
	}
	memset(longest, 'a', sizeof(longest));
	ck_assert_int_eq(topic_parse((struct tine_text){longest, TOPIC_MAX}, &t), 0);
	ck_assert_int_eq(topic_parse((struct tine_text){longest, TOPIC_MAX + 1}, &t), -EINVAL);
}
END_TEST

START_TEST(test_paths)
{
	static const struct {
		const char *path, *fault; /* some of its text */
	} wrong[] = {
		{"/", "empty segment"},
		{"/a/", "empty segment"},
		{"/a.", "empty segment"},
		{"/.a", "empty segment"},
		{"/a//b", "empty segment"},
		{"/a./b", "empty segment"},
		{"/$a/b", "`$`"},
		{"/a b", "blank"},
		{"/\xc3\xbc", "printable ASCII"},
		{"/>/a", "before the end"},
		{"/a*", "of its own"},
		{"/*/*/*/*/*", "4 `*`"},
		{"/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", "16 segments"},
	};
	char longest[TOPIC_MAX + 3];
	const char *fault;
	struct topic t;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ck_assert_int_eq(topic_from_path(text_of(wrong[i].path), &t, &fault), -EINVAL);
		ck_assert_msg(strstr(fault, wrong[i].fault), "%s: %s", wrong[i].path, fault);
	}
	memset(longest, 'a', sizeof(longest));
	longest[0] = '/';
	ck_assert_int_eq(
		topic_from_path((struct tine_text){longest, TOPIC_MAX + 1}, &t, &fault), 0);
	ck_assert_uint_eq(t.len, TOPIC_MAX);
	ck_assert_int_eq(
		topic_from_path((struct tine_text){longest, TOPIC_MAX + 2}, &t, &fault), -EINVAL);
	ck_assert_ptr_nonnull(strstr(fault, "255 bytes"));
	ck_assert_int_eq(topic_from_path(text_of("/a/b.c"), &t, &fault), 0);
	ck_assert_str_eq(t.text, "a.b.c");
	ck_assert(!t.is_pattern);
}
END_TEST

/* --- tokens --- */

static struct tine_text signed_token(const char *secret, const char *body, char to[512])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned md_len;
	int len = snprintf(to, 512, "%s.", body);

	HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)body, strlen(body),
		md, &md_len);
	for (unsigned i = 0; i < md_len; i++)
		len += snprintf(to + len, 512 - (size_t)len, "%02x", md[i]);
	return (struct tine_text){to, (size_t)len};
}

START_TEST(test_tokens)
{
	static const struct {
		const char *body;
		int r;
		unsigned rights;
	} rows[] = {
		{"1000.a.b.ps", 0, TOKEN_PUBLISH | TOKEN_SUBSCRIBE},
		{"1000.a.p", 0, TOKEN_PUBLISH},
		{"1000.>.s", 0, TOKEN_SUBSCRIBE},
		{"500.a.s", -EKEYEXPIRED, TOKEN_SUBSCRIBE},
		{"501.a.s", 0, TOKEN_SUBSCRIBE},
		{"1000.a.", -EBADMSG, 0},
		{"1000.a.x", -EBADMSG, 0},
		{"1000..s", -EBADMSG, 0},
		{"1000.s", -EBADMSG, 0},
		{".a.s", -EBADMSG, 0},
		{"-1.a.s", -EBADMSG, 0},
		{"1000000000000000000000.a.s", -EBADMSG, 0},
		{"1000", -EBADMSG, 0},
	};
	struct token_secrets s = {
		.n = 2, .secret = {{16, "aaaaaaaaaaaaaaaa"}, {16, "bbbbbbbbbbbbbbbb"}}};
	struct token token;
	char text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tine_text t = signed_token("bbbbbbbbbbbbbbbb", rows[i].body, text);

		ck_assert_msg(token_parse(&s, t, 500, &token) == rows[i].r, "%s", rows[i].body);
		if (rows[i].r == 0)
			ck_assert_uint_eq(token.rights, rows[i].rights);
		for (size_t k = 0; k < t.len; k++) { /* each byte counts */
			text[k] ^= 1;
			ck_assert_int_eq(token_parse(&s, t, 500, &token), -EBADMSG);
			text[k] ^= 1;
		}
		ck_assert_int_eq(
			token_parse(&s, signed_token("cccccccccccccccc", rows[i].body, text), 500,
				&token),
			-EBADMSG);
	}
	ck_assert_int_eq(token_parse(&s, (struct tine_text){NULL, 0}, 500, &token), -EBADMSG);
}
END_TEST

START_TEST(test_secrets)
{
	static const struct {
		const char *text;
		int r;
		unsigned n;
	} rows[] = {
		{"0123456789abcdef\n", 0, 1},
		{"0123456789abcdef", 0, 1},
		{"\n0123456789abcdef\r\n\n0123456789abcdeg\n", 0, 2},
		{"", -EINVAL, 0},
		{"\n\n", -EINVAL, 0},
		{"too short\n", -EINVAL, 0},
		{"0123456789abcdef\nx\n", -EINVAL, 0},
		{"0123456789abcdef\n0123456789abcdef\n0123456789abcdef\n0123456789abcdef\n012345678"
		 "9abcdef\n"
		 "0123456789abcdef\n0123456789abcdef\n0123456789abcdef\n0123456789abcdef\n",
			-ENOSPC, 0},
	};
	char path[] = "/tmp/tined-unit-XXXXXX";
	struct token_secrets s;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ssize_t len = (ssize_t)strlen(rows[i].text);

		ck_assert(ftruncate(fd, 0) == 0 && pwrite(fd, rows[i].text, (size_t)len, 0) == len);
		ck_assert_msg(token_read_secrets(path, &s) == rows[i].r, "%s", rows[i].text);
		if (rows[i].r == 0)
			ck_assert_uint_eq(s.n, rows[i].n);
	}
	ck_assert_int_eq(s.secret[0].len, 16);
	ck_assert(ftruncate(fd, 10000) == 0);
	ck_assert_int_eq(token_read_secrets(path, &s), -EFBIG);
	close(fd);
	unlink(path);
	ck_assert_int_eq(token_read_secrets(path, &s), -ENOENT);
	ck_assert_int_eq(token_read_secrets("/", &s), -EISDIR);
}
END_TEST

/* --- text --- */

START_TEST(test_query)
{
	static const struct {
		const char *query, *value; /* NULL: not there; "!": malformed */
	} rows[] = {
		{"", NULL},
		{"a=1", "1"},
		{"b=1", NULL},
		{"b=2&a=1", "1"},
		{"a=1&a=2", "1"},
		{"a=", ""},
		{"a", NULL},
		{"aa=1", NULL},
		{"a=%41+b", "A b"},
		{"a=%4", "!"},
		{"a=%zz", "!"},
		{"a=123456789", "!"},
		{"&&a=1", "1"},
		{"a=1=2", "1=2"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char to[8];
		size_t len = 0;
		bool found = text_query(text_of(rows[i].query), "a", to, sizeof(to), &len);

		ck_assert_msg(found == (rows[i].value != NULL), "%s", rows[i].query);
		if (found && rows[i].value[0] == '!')
			ck_assert_uint_eq(len, SIZE_MAX);
		else if (found)
			ck_assert(len == strlen(rows[i].value) &&
				memcmp(to, rows[i].value, len) == 0);
	}
}
END_TEST

/* Each process has its own; with every one keys that are alike spread. */
START_TEST(test_hash)
{
	unsigned fullest = 0, buckets[4096] = {0};
	char key[32];

	for (int i = 0; i < 10000; i++) {
		size_t len = (size_t)snprintf(key, sizeof(key), "a.b.%d", i);
		unsigned *bucket = &buckets[text_hash(key, len) % 4096];

		fullest = ++*bucket > fullest ? *bucket : fullest;
	}
	ck_assert_uint_lt(fullest, 64);
}
END_TEST

START_TEST(test_utf8)
{
	static const char *const right[] = {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
		"\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
	static const char *const wrong[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41",
		"\xe0\x9f\xbf", "\xed\xa0\x80", "\xe1\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80", "\xff"};

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		ck_assert_msg(text_is_utf8(text_of(right[i])), "%zu", i);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(!text_is_utf8(text_of(wrong[i])), "%zu", i);
}
END_TEST

START_TEST(test_json_and_lists)
{
	struct text t = {0};

	text_put_json(&t, (struct tine_text){"\"\\\n\t\0\x1f\x7fü", 9});
	ck_assert_uint_eq(t.len, 2 + 2 * 4 + 6 * 2 + 1 + 2);
	ck_assert_mem_eq(t.data, "\"\\\"\\\\\\n\\t\\u0000\\u001f\x7fü\"", t.len);
	text_free(&t);
	ck_assert(text_has_token(text_of("text/html, TEXT/event-stream;q=1"), "text/event-stream"));
	ck_assert(!text_has_token(text_of("a/b;q=0"), "a/b"));
	ck_assert(!text_has_token(text_of("a/b ; x=1; Q=0.00 , c"), "a/b"));
	ck_assert(text_has_token(text_of("a/b;q=0.01"), "a/b"));
	ck_assert(text_has_token(text_of("a/b;q=1, c;q=0"), "a/b"));
	ck_assert(text_has_token(text_of("websocket"), "websocket"));
	ck_assert(!text_has_token(text_of("websockets"), "websocket"));
	ck_assert(!text_has_token(text_of("a websocket"), "websocket"));
	ck_assert(!text_has_token((struct tine_text){NULL, 0}, "websocket"));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_ring);
	tcase_add_test(tc, test_ring_keeps_the_newest);
	tcase_add_test(tc, test_ring_positions_that_are_none);
	tcase_add_test(tc, test_ring_too_large);
	tcase_add_test(tc, test_ring_torn);
	tcase_add_test(tc, test_ring_garbage);
	tcase_add_test(tc, test_ring_begins_anew);
	tcase_add_test(tc, test_ring_writer_killed);
	tcase_add_test(tc, test_ring_ids);
	tcase_add_test(tc, test_topics);
	tcase_add_test(tc, test_topics_that_are_none);
	tcase_add_test(tc, test_paths);
	tcase_add_test(tc, test_tokens);
	tcase_add_test(tc, test_secrets);
	tcase_add_test(tc, test_query);
	tcase_add_test(tc, test_hash);
	tcase_add_test(tc, test_utf8);
	tcase_add_test(tc, test_json_and_lists);
}

int main(void)
{
	return run_tests("hub", add);
}
