/* http/listing.c: what the page of a folder shows, and what it must not. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/listing.h"
#include "run.h"

static char folder[64];
static int folder_fd;
static char *page;
static size_t page_len;

static void make_file(const char *name, off_t size)
{
	int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	struct timespec times[2] = {{784111777, 0}, {784111777, 0}};

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(futimens(fd, times), 0);
	close(fd);
}

static void setup(void)
{
	strcpy(folder, "/tmp/test-listing-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(folder_fd, 0);
	page = NULL;
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	ck_assert_int_eq(system(command), 0);
	close(folder_fd);
	free(page);
}

static void make(const char *path)
{
	free(page);
	page = NULL;
	ck_assert_int_eq(
		listing_make(folder_fd, (struct tine_text){path, strlen(path)}, &page, &page_len),
		0);
	ck_assert_uint_eq(strlen(page), page_len);
}

/* Where it stands in the page; it must be there once. */
static const char *find(const char *text)
{
	const char *p = strstr(page, text);

	ck_assert_msg(p, "%s is not in %s", text, page);
	ck_assert_msg(!strstr(p + 1, text), "%s is twice in %s", text, page);
	return p;
}

static unsigned count(const char *text)
{
	unsigned n = 0;

	for (const char *p = page; (p = strstr(p, text)); p++)
		n++;
	return n;
}

START_TEST(test_entries)
{
	make_file("b.txt", 1000);
	make_file("a.bin", 1536);
	make_file("huge", (off_t)5 << 30);
	ck_assert_int_eq(mkdirat(folder_fd, "zoo", 0755), 0);
	make("/pub/");
	ck_assert_ptr_eq(strstr(page, "<!DOCTYPE html>"), page);
	ck_assert(find("./zoo/") < find("./a.bin") && find("./a.bin") < find("./b.txt"));
	find("<td class=\"n\">1000</td>");
	find("<td class=\"n\">1.5 KiB</td>");
	find("<td class=\"n\">5.0 GiB</td>");
	ck_assert_uint_eq(count("<td class=\"n\">1994-11-06 08:49</td>"), 3);
	find("<title>/pub/</title>");
	find("href=\"../\"");
	ck_assert(!strstr(page, "<script"));
	ck_assert(!strstr(page, "There are more"));
}
END_TEST

START_TEST(test_what_is_not_shown)
{
	make_file(".hidden", 1);
	make_file("shown", 1);
	ck_assert_int_eq(mkfifoat(folder_fd, "pipe", 0644), 0);
	ck_assert_int_eq(symlinkat("/etc/passwd", folder_fd, "link"), 0);
	make("/");
	find("./shown");
	find("./link\">link</a></td><td class=\"n\"></td><td class=\"n\"></td>");
	ck_assert(!strstr(page, "hidden"));
	ck_assert(!strstr(page, "pipe"));
	ck_assert(!strstr(page, "../"));
}
END_TEST

static const struct {
	const char *name, *link, *text;
} names[] = {
	{"a b", "./a%20b", "a b"},
	{"<i>&\"'", "./%3Ci%3E&amp;%22&#39;", "&lt;i&gt;&amp;&quot;&#39;"},
	{"javascript:alert(1)", "./javascript:alert(1)", "javascript:alert(1)"},
	{"100%?#", "./100%25%3F%23", "100%?#"},
	{"\xc3\xa4", "./%C3%A4", "\xc3\xa4"},
	{"\xff\n", "./%FF%0A", "\xff\n"},
};

START_TEST(test_names)
{
	char want[128];

	make_file(names[_i].name, 0);
	make("/");
	snprintf(want, sizeof(want), "<a href=\"%s\">%s</a>", names[_i].link, names[_i].text);
	find(want);
}
END_TEST

START_TEST(test_path_is_escaped)
{
	make("/<script>&/");
	ck_assert_uint_eq(count("/&lt;script&gt;&amp;/"), 2);
	ck_assert(!strstr(page, "<script"));
}
END_TEST

START_TEST(test_many)
{
	char name[32];

	for (int i = 0; i < LISTING_MAX + 10; i++) {
		snprintf(name, sizeof(name), "%05d", i);
		make_file(name, 0);
	}
	make("/");
	ck_assert_uint_eq(count("href="), LISTING_MAX);
	find("There are more");
	find(">00000<");
	make("/"); /* the descriptor's own position does not matter */
	ck_assert_uint_eq(count("href="), LISTING_MAX);
}
END_TEST

START_TEST(test_errors)
{
	make_file("file", 1);
	ck_assert_int_eq(listing_make(-1, (struct tine_text){"/", 1}, &page, &page_len), -EBADF);
	close(folder_fd);
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_ptr_null(page);
	make("/");
	find("./file");
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_entries);
	tcase_add_test(tc, test_what_is_not_shown);
	tcase_add_loop_test(tc, test_names, 0, sizeof(names) / sizeof(names[0]));
	tcase_add_test(tc, test_path_is_escaped);
	tcase_add_test(tc, test_many);
	tcase_add_test(tc, test_errors);
}

int main(void)
{
	return run_tests("listing", add);
}
