/*
 * http/file_cache.c: what is opened, what is kept, when it is looked at anew. Time is a parameter.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "http/file_cache.h"
#include "needs.h"
#include "run.h"

#define SKIPPED 77 /* to Meson: no openat2(2) here, as under Valgrind before 3.21 */

static char folder[64];
static struct file_cache cache;
static uint64_t now = 100000; /* ms */

static void write_file(const char *name, const char *data, size_t len)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
	close(fd);
}

/* Makes a file look as if it had lain there for long. */
static void make_old(const char *name, time_t when)
{
	struct timespec times[2] = {{.tv_sec = when}, {.tv_sec = when}};
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int get(const char *path, struct file_entry **e)
{
	*e = NULL;
	return file_cache_get(&cache, path, strlen(path), now, e);
}

static void setup(void)
{
	strcpy(folder, "/tmp/tined-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(mime_ref("/etc/mime.types"), 0);
	ck_assert_int_eq(file_cache_init(&cache, folder), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	file_cache_clear(&cache);
	ck_assert_uint_eq(file_cache_n_fds(), 0);
	file_cache_set_budget(FILE_BUDGET);
	mime_unref();
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

START_TEST(test_small_is_kept_in_memory)
{
	struct file_entry *e, *again;

	write_file("a.html", "hello", 5);
	ck_assert_int_eq(get("a.html", &e), 0);
	ck_assert_uint_eq(e->size, 5);
	ck_assert_mem_eq(e->content, "hello", 5);
	ck_assert_int_eq(e->fd, -1);
	ck_assert_uint_eq(cache.n_content, 5);
	ck_assert_uint_eq(e->type.len, strlen("text/html; charset=utf-8"));
	ck_assert_mem_eq(e->type.data, "text/html; charset=utf-8", e->type.len);
	ck_assert(e->etag.data[0] == '"' && e->etag.data[e->etag.len - 1] == '"');
	ck_assert_int_eq(get("a.html", &again), 0);
	ck_assert_ptr_eq(e, again);
}
END_TEST

START_TEST(test_big_is_kept_open)
{
	static char data[FILE_CONTENT_MAX + 1];
	struct file_entry *e;

	write_file("big", data, sizeof(data));
	ck_assert_int_eq(get("big", &e), 0);
	ck_assert_ptr_null(e->content);
	ck_assert_int_ge(e->fd, 0);
	write_file("fits", data, sizeof(data) - 1);
	ck_assert_int_eq(get("fits", &e), 0);
	ck_assert_ptr_nonnull(e->content);
	write_file("empty", data, 0);
	ck_assert_int_eq(get("empty", &e), 0);
	ck_assert_ptr_nonnull(e->content);
	ck_assert_uint_eq(e->size, 0);
}
END_TEST

START_TEST(test_change_is_noticed)
{
	struct file_entry *e;

	write_file("a", "old", 3);
	make_old("a", 1000000000);
	ck_assert_int_eq(get("a", &e), 0);
	write_file("a", "newer", 5);
	now += FILE_CHECK_MS - 1;
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_mem_eq(e->content, "old", 3);
	now++;
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_mem_eq(e->content, "newer", 5);
}
END_TEST

/* Same size, same time: what was modified just before it was read is not trusted. */
START_TEST(test_change_at_once_is_noticed)
{
	struct timespec times[2] = {{.tv_sec = time(NULL)}, {.tv_sec = time(NULL)}};
	struct file_entry *e;
	char path[256];

	snprintf(path, sizeof(path), "%s/a", folder);
	write_file("a", "one", 3);
	utimensat(AT_FDCWD, path, times, 0);
	ck_assert_int_eq(get("a", &e), 0);
	write_file("a", "two", 3);
	utimensat(AT_FDCWD, path, times, 0);
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_mem_eq(e->content, "two", 3);
}
END_TEST

START_TEST(test_replaced_and_gone)
{
	struct file_entry *e;
	char from[256], to[256];

	write_file("a", "one", 3);
	write_file("b", "two", 3);
	make_old("a", 1000000000);
	make_old("b", 1000000000);
	ck_assert_int_eq(get("a", &e), 0);
	snprintf(from, sizeof(from), "%s/b", folder);
	snprintf(to, sizeof(to), "%s/a", folder);
	ck_assert_int_eq(rename(from, to), 0);
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_mem_eq(e->content, "two", 3);
	unlink(to);
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), -ENOENT);
	ck_assert_uint_eq(cache.n_entries, 0);
	ck_assert_uint_eq(cache.n_content, 0);
}
END_TEST

START_TEST(test_no_way_out)
{
	static const struct {
		const char *path;
		int want;
	} cases[] = {{"../x", -EXDEV}, {"sub/../../x", -EXDEV}, {"out", -EXDEV}, {"up", -EXDEV},
		{"root", -EXDEV}, {"via/passwd", -EXDEV}, {"/etc/passwd", -EXDEV},
		{"/proc/self/root", -EXDEV}, {"loop", -ELOOP}, {"in", 0}, {"sub/in", 0},
		{"sub", -EISDIR}, {".", -EISDIR}, {"none", -ENOENT}, {"a/b", -ENOTDIR},
		{"fifo", -EACCES}, {"dangling", -ENOENT}};
	struct file_entry *e;
	char path[256];
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	write_file("a", "x", 1);
	mkdirat(dir, "sub", 0755);
	symlinkat("/etc/passwd", dir, "out");
	symlinkat("../../etc/passwd", dir, "up");
	symlinkat("/", dir, "root");
	symlinkat("/etc", dir, "via");
	symlinkat("loop", dir, "loop");
	symlinkat("nowhere", dir, "dangling");
	symlinkat("a", dir, "in");
	symlinkat("../a", dir, "sub/in");
	snprintf(path, sizeof(path), "%s/fifo", folder);
	mkfifo(path, 0644);
	close(dir);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int r = get(cases[i].path, &e);

		ck_assert_msg(r == cases[i].want, "%s: %d", cases[i].path, r);
	}
}
END_TEST

START_TEST(test_bounded)
{
	struct file_entry *e, *held = NULL;
	char name[32];

	for (int i = 0; i < FILE_CACHE_ENTRIES + 50; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		write_file(name, name, strlen(name));
		ck_assert_int_eq(get(name, &e), 0);
		if (i == 0)
			held = file_entry_ref(e);
	}
	ck_assert_uint_eq(cache.n_entries, FILE_CACHE_ENTRIES);
	/* evicted, but whoever holds it can go on */
	HASH_FIND(hh, cache.entries, "f0", 2, e);
	ck_assert_ptr_null(e);
	ck_assert_mem_eq(held->content, "f0", 2);
	ck_assert_uint_eq(held->refs, 1);
	file_entry_unref(held);
}
END_TEST

START_TEST(test_content_is_bounded)
{
	static char data[FILE_CONTENT_MAX];
	unsigned n = FILE_CONTENT_TOTAL / FILE_CONTENT_MAX;
	struct file_entry *e;
	char name[32];

	for (unsigned i = 0; i <= n; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		write_file(name, data, sizeof(data));
		ck_assert_int_eq(get(name, &e), 0);
		ck_assert(i < n ? e->fd == -1 : e->fd >= 0);
	}
	ck_assert_uint_eq(cache.n_content, FILE_CONTENT_TOTAL);
}
END_TEST

START_TEST(test_descriptors_run_out)
{
	static char data[FILE_CONTENT_MAX + 1];
	struct rlimit old, few;
	struct file_entry *e;
	char name[32];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		write_file(name, data, sizeof(data));
	}
	getrlimit(RLIMIT_NOFILE, &old);
	few = old;
	few.rlim_cur = (rlim_t)cache.root + 20;
	setrlimit(RLIMIT_NOFILE, &few);
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ck_assert_int_eq(get(name, &e), 0);
	}
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_uint_lt(cache.n_entries, 40);
}
END_TEST

/* Writes n files that are kept open, named f0 and so on. */
static void write_big_files(int n)
{
	static char data[FILE_CONTENT_MAX + 1];
	char name[32];

	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		write_file(name, data, sizeof(data));
	}
}

static struct file_entry *get_nth(struct file_cache *c, int i)
{
	struct file_entry *e;
	char name[32];

	snprintf(name, sizeof(name), "f%d", i);
	ck_assert_int_eq(file_cache_get(c, name, strlen(name), now, &e), 0);
	return e;
}

static bool has_nth(struct file_cache *c, int i)
{
	struct file_entry *e;
	char name[32];

	snprintf(name, sizeof(name), "f%d", i);
	HASH_FIND(hh, c->entries, name, strlen(name), e);
	return e != NULL;
}

/* One budget for all folders: who was used longest ago goes, wherever it is from. */
START_TEST(test_budget_is_shared)
{
	struct file_entry *held;
	struct file_cache other;

	ck_assert_int_eq(file_cache_init(&other, folder), 0);
	file_cache_set_budget(8);
	write_big_files(10);
	held = file_entry_ref(get_nth(&cache, 0));
	for (int i = 1; i < 10; i++)
		get_nth(&cache, i);
	ck_assert_uint_eq(file_cache_n_fds(), 8);
	ck_assert(has_nth(&cache, 0)); /* in use */
	ck_assert(!has_nth(&cache, 1) && !has_nth(&cache, 2) && has_nth(&cache, 3));
	file_entry_unref(held);
	for (int i = 0; i < 7; i++)
		get_nth(&other, i);
	ck_assert_uint_eq(file_cache_n_fds(), 8);
	ck_assert_uint_eq(cache.n_entries, 1);
	ck_assert(has_nth(&cache, 0)); /* the one used last */
	file_cache_set_budget(3);
	ck_assert_uint_eq(cache.n_entries, 0);
	ck_assert_uint_eq(other.n_entries, 3);
	file_cache_clear(&other);
}
END_TEST

/* What is in use may exceed the budget, and what is small has none. */
START_TEST(test_budget_and_use)
{
	struct file_entry *held[4], *e;

	file_cache_set_budget((unsigned)_i);
	write_big_files(4);
	write_file("small", "x", 1);
	ck_assert_int_eq(get("small", &e), 0);
	for (int i = 0; i < 4; i++)
		held[i] = file_entry_ref(get_nth(&cache, i));
	ck_assert_uint_eq(file_cache_n_fds(), 4);
	ck_assert(!file_cache_release_some());
	for (int i = 0; i < 4; i++)
		file_entry_unref(held[i]);
	ck_assert_uint_eq(file_cache_n_fds(), (unsigned)_i);
	ck_assert_uint_eq(cache.n_entries, 1 + (unsigned)_i);
}
END_TEST

START_TEST(test_release_some)
{
	write_big_files(5);
	for (int i = 0; i < 5; i++)
		get_nth(&cache, i);
	ck_assert(file_cache_release_some());
	ck_assert_uint_eq(file_cache_n_fds(), 2);
	ck_assert(!has_nth(&cache, 2) && has_nth(&cache, 3) && has_nth(&cache, 4));
	ck_assert(file_cache_release_some());
	ck_assert(file_cache_release_some());
	ck_assert_uint_eq(file_cache_n_fds(), 0);
	ck_assert(!file_cache_release_some());
}
END_TEST

/* Not asked for in a minute: gone, with the space of a file that was deleted. */
START_TEST(test_idle_is_let_go)
{
	struct file_entry *held, *e;
	struct file_cache other;

	ck_assert_int_eq(file_cache_init(&other, folder), 0);
	write_big_files(3);
	write_file("small", "x", 1);
	ck_assert_int_eq(get("small", &e), 0);
	get_nth(&cache, 0);
	held = file_entry_ref(get_nth(&cache, 1));
	get_nth(&other, 0);
	now += FILE_IDLE_MS - 1;
	get_nth(&cache, 2);
	ck_assert_uint_eq(cache.n_entries, 4);
	now += FILE_CHECK_MS;
	get_nth(&cache, 2);
	ck_assert_uint_eq(cache.n_entries, 1);
	ck_assert_uint_eq(other.n_entries, 0);
	ck_assert_uint_eq(file_cache_n_fds(), 1);
	ck_assert_int_ge(fcntl(held->fd, F_GETFD), 0);
	file_entry_unref(held);
	ck_assert_uint_eq(file_cache_n_fds(), 1);
	now += FILE_IDLE_MS;
	file_cache_sweep(now);
	ck_assert_uint_eq(file_cache_n_fds(), 0);
	file_cache_clear(&other);
}
END_TEST

/* When descriptors run out, those of other folders are given up, too. */
START_TEST(test_descriptors_of_others)
{
	struct rlimit old, few;
	struct file_cache other;
	unsigned n;

	ck_assert_int_eq(file_cache_init(&other, folder), 0);
	write_big_files(40);
	getrlimit(RLIMIT_NOFILE, &old);
	few = old;
	few.rlim_cur = (rlim_t)other.root + 20;
	setrlimit(RLIMIT_NOFILE, &few);
	for (int i = 0; i < 40; i++)
		get_nth(&other, i);
	n = other.n_entries;
	get_nth(&cache, 0);
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_uint_eq(other.n_entries, n - 1);
	file_cache_clear(&other);
}
END_TEST

/* A file from the future was modified when we looked at it. */
START_TEST(test_modified_in_the_future)
{
	time_t future = time(NULL) + 1000;
	struct file_entry *e, *again;

	write_file("a", "x", 1);
	make_old("a", future);
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_int_eq(e->modified.tv_sec, future);
	ck_assert_int_le(e->last_modified, time(NULL));
	e->fresh = false;
	e->last_modified = 0;
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &again), 0);
	ck_assert_ptr_eq(e, again);
	ck_assert_int_ge(e->last_modified, future - 1000);
	ck_assert_int_le(e->last_modified, time(NULL));
}
END_TEST

/* Sent `n` times. What lay there for long is what can be hot. */
static void send_often(struct file_entry *e, unsigned n)
{
	e->fresh = false;
	while (n-- > 0)
		if (file_entry_count(e))
			file_cache_heat(&cache, e, now);
}

START_TEST(test_becomes_hot)
{
	static char data[100001] = "first";
	struct file_entry *e;

	NEEDS(hot_files_possible(&cache.hot));
	write_file("a", data, sizeof(data));
	ck_assert_int_eq(get("a", &e), 0);
	send_often(e, FILE_HOT_AFTER - 1);
	now += FILE_CHECK_MS; /* so often, but in more time */
	ck_assert_int_eq(get("a", &e), 0);
	send_often(e, FILE_HOT_AFTER - 1);
	ck_assert_ptr_null(e->hot.data);
	ck_assert_uint_eq(cache.hot.n_chunks, 0);
	send_often(e, 1);
	ck_assert_mem_eq(e->hot.data, data, sizeof(data));
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_ptr_nonnull(e->hot.data);
}
END_TEST

START_TEST(test_hot_one_changes)
{
	static char data[100001];
	struct file_entry *e, *held;

	NEEDS(hot_files_possible(&cache.hot));
	memset(data, 'a', sizeof(data));
	write_file("a", data, sizeof(data));
	ck_assert_int_eq(get("a", &e), 0);
	send_often(e, FILE_HOT_AFTER);
	held = file_entry_ref(e);
	memset(data, 'b', sizeof(data));
	write_file("a", data, sizeof(data));
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert_ptr_ne(e, held);
	ck_assert_ptr_null(e->hot.data);
	send_often(e, FILE_HOT_AFTER);
	ck_assert_mem_eq(e->hot.data, data, sizeof(data));
	ck_assert_int_eq(held->hot.data[sizeof(data) - 1], 'a');
	file_entry_unref(held);
	ck_assert_uint_eq(cache.hot.n_chunks, 1);
	unlinkat(cache.root, "a", 0);
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), -ENOENT);
	ck_assert_uint_eq(cache.hot.n_chunks, 0);
}
END_TEST

/* Changed since it was looked at, or perhaps so: no snapshot. */
START_TEST(test_not_hot_when_in_doubt)
{
	static char data[100001];
	struct file_entry *e;

	write_file("a", data, sizeof(data));
	ck_assert_int_eq(get("a", &e), 0);
	ck_assert(e->fresh);
	for (int i = 0; i < 2 * FILE_HOT_AFTER; i++)
		ck_assert(!file_entry_count(e));
	now += FILE_CHECK_MS;
	ck_assert_int_eq(get("a", &e), 0);
	make_old("a", 1000000000);
	send_often(e, FILE_HOT_AFTER);
	ck_assert_ptr_null(e->hot.data);
	ck_assert_uint_eq(cache.hot.n_chunks, 0);
}
END_TEST

START_TEST(test_not_hot_by_size)
{
	static char data[HOT_FILE_MAX + 1];
	static const size_t sizes[] = {0, FILE_CONTENT_MAX, HOT_FILE_MAX + 1};
	struct file_entry *e;

	write_file("a", data, sizes[_i]);
	ck_assert_int_eq(get("a", &e), 0);
	send_often(e, 2 * FILE_HOT_AFTER);
	ck_assert_ptr_null(e->hot.data);
}
END_TEST

START_TEST(test_not_hot_without_support)
{
	static char data[100001];
	struct file_entry *e;

	cache.hot.support = HOT_REFUSED;
	write_file("a", data, sizeof(data));
	ck_assert_int_eq(get("a", &e), 0);
	send_often(e, 2 * FILE_HOT_AFTER);
	ck_assert_ptr_null(e->hot.data);
}
END_TEST

START_TEST(test_root_is_none)
{
	struct file_cache other;
	char path[256];

	write_file("a", "x", 1);
	snprintf(path, sizeof(path), "%s/a", folder);
	ck_assert_int_eq(file_cache_init(&other, "/nowhere/at/all"), -ENOENT);
	ck_assert_int_eq(file_cache_init(&other, path), -ENOTDIR);
}
END_TEST

START_TEST(test_mime)
{
	static const struct {
		const char *name, *type;
	} cases[] = {{"a.html", "text/html; charset=utf-8"}, {"a/b.c/x.PNG", "image/png"},
		{"x.css", "text/css; charset=utf-8"}, {"x.js", "text/javascript; charset=utf-8"},
		{"x.json", "application/json"}, {"x.svg", "image/svg+xml"},
		{"x.woff2", "font/woff2"}, {"x.tar.gz", "application/gzip"},
		{"x.wasm", "application/wasm"}, {"noext", "application/octet-stream"},
		{"x.", "application/octet-stream"}, {"x.nosuchthing", "application/octet-stream"},
		{"x.averyveryverylongextension", "application/octet-stream"}};
	char buf[MIME_TYPE_MAX];

	/* the second round with the table that stands in when there is no file */
	mime_unref();
	ck_assert_int_eq(mime_ref(_i ? "/nowhere/mime.types" : "/etc/mime.types"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tine_text name = {cases[i].name, strlen(cases[i].name)};

		ck_assert_uint_eq(mime_type(name, buf), strlen(cases[i].type));
		ck_assert_str_eq(buf, cases[i].type);
	}
}
END_TEST

START_TEST(test_mime_file)
{
	static const char table[] =
		"# comment\nx/first foo Bar\r\n\n x/second foo\tbaz\nnoslash qux\n"
		"x/noext\nx/last end";
	char path[256], buf[MIME_TYPE_MAX];

	write_file("types", table, sizeof(table) - 1);
	snprintf(path, sizeof(path), "%s/types", folder);
	mime_unref();
	ck_assert_int_eq(mime_ref(path), 0);
	mime_type((struct tine_text){"a.foo", 5}, buf);
	ck_assert_str_eq(buf, "x/first");
	mime_type((struct tine_text){"a.bar", 5}, buf);
	ck_assert_str_eq(buf, "x/first");
	mime_type((struct tine_text){"a.baz", 5}, buf);
	ck_assert_str_eq(buf, "x/second");
	mime_type((struct tine_text){"a.end", 5}, buf);
	ck_assert_str_eq(buf, "x/last");
	mime_type((struct tine_text){"a.qux", 5}, buf);
	ck_assert_str_eq(buf, "application/octet-stream");
}
END_TEST

static void add(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_small_is_kept_in_memory);
	tcase_add_test(t, test_big_is_kept_open);
	tcase_add_test(t, test_change_is_noticed);
	tcase_add_test(t, test_change_at_once_is_noticed);
	tcase_add_test(t, test_replaced_and_gone);
	tcase_add_test(t, test_no_way_out);
	tcase_add_test(t, test_bounded);
	tcase_add_test(t, test_content_is_bounded);
	tcase_add_test(t, test_descriptors_run_out);
	tcase_add_test(t, test_budget_is_shared);
	tcase_add_loop_test(t, test_budget_and_use, 0, 3);
	tcase_add_test(t, test_release_some);
	tcase_add_test(t, test_idle_is_let_go);
	tcase_add_test(t, test_descriptors_of_others);
	tcase_add_test(t, test_modified_in_the_future);
	tcase_add_test(t, test_becomes_hot);
	tcase_add_test(t, test_hot_one_changes);
	tcase_add_test(t, test_not_hot_when_in_doubt);
	tcase_add_loop_test(t, test_not_hot_by_size, 0, 3);
	tcase_add_test(t, test_not_hot_without_support);
	tcase_add_test(t, test_root_is_none);
	tcase_add_loop_test(t, test_mime, 0, 2);
	tcase_add_test(t, test_mime_file);
}

int main(void)
{
	if (file_cache_init(&cache, "/") == -ENOSYS)
		return SKIPPED;
	file_cache_clear(&cache);
	return run_tests("file_cache", add);
}
