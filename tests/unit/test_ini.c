/*
 * Unit test of base/ini.c. Each text becomes a transcript, one line per event:
 * "1 [web]", "2 key=value", "3 ! what is wrong" (only the part that the row names).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ini.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))
#define TEN          "abcdefghij"
#define FORTY_NINE   TEN TEN TEN TEN "abcdefghi"

struct transcript {
	char text[65536];
	size_t n, n_errors;
	int stop_at; /* the event that returns -ENOENT; 0: none */
	int n_events;
};

static int on_section(const char *section, unsigned line, void *arg)
{
	struct transcript *t = arg;

	t->n += (size_t)snprintf(
		t->text + t->n, sizeof(t->text) - t->n, "%u [%s]\n", line, section);
	return ++t->n_events == t->stop_at ? -ENOENT : 0;
}

static int on_key(const char *key, const char *value, unsigned line, void *arg)
{
	struct transcript *t = arg;

	t->n += (size_t)snprintf(
		t->text + t->n, sizeof(t->text) - t->n, "%u %s=%s\n", line, key, value);
	return ++t->n_events == t->stop_at ? -ENOENT : 0;
}

static void on_error(unsigned line, const char *what, void *arg)
{
	struct transcript *t = arg;

	t->n_errors++;
	t->n += (size_t)snprintf(t->text + t->n, sizeof(t->text) - t->n, "%u ! %s\n", line, what);
}

static int read_text(struct transcript *t, const char *text, size_t len)
{
	const struct ini_events events = {on_section, on_key, on_error, t};
	/* A copy of the exact size, so that the address sanitizer sees a read beyond it. */
	char *copy = malloc(len ? len : 1);
	int r;

	memcpy(copy, text, len);
	r = ini_read_text(copy, len, &events);
	free(copy);
	return r;
}

static const struct {
	const char *text, *transcript;
} good[] = {
	{"", ""},
	{"\n\n\n", ""},
	{"   \t \n", ""},
	{"# a\n; b\n  # c\n\t; d\n", ""},
	{"[a]", "1 [a]\n"},
	{"[a]\n", "1 [a]\n"},
	{"[a]\n[b]\n", "1 [a]\n2 [b]\n"},
	{"[a]\n\n[a]\n", "1 [a]\n3 [a]\n"},
	{"[a]   \t\n", "1 [a]\n"},
	{"[a] ; x\n", "1 [a]\n"},
	{"[a:b]\nk=v", "1 [a:b]\n2 k=v\n"},
	{"[a]\nk = v\n", "1 [a]\n2 k=v\n"},
	{"[a]\nk=v\nk=w\n", "1 [a]\n2 k=v\n3 k=w\n"},
	{"[a]\nk   =\t  v w  \t\n", "1 [a]\n2 k=v w\n"},
	{"[a]\nk =\n", "1 [a]\n2 k=\n"},
	{"[a]\nk = ; comment\n", "1 [a]\n2 k=\n"},
	{"[a]\nk = v ; comment\n", "1 [a]\n2 k=v\n"},
	{"[a]\nk = v\t; comment\n", "1 [a]\n2 k=v\n"},
	{"[a]\nk = v;no comment\n", "1 [a]\n2 k=v;no comment\n"},
	{"[a]\nk = v # no comment\n", "1 [a]\n2 k=v # no comment\n"},
	{"[a]\nk = a=b:c\n", "1 [a]\n2 k=a=b:c\n"},
	{"[a]\nk == b\n", "1 [a]\n2 k== b\n"},
	{"[a]\nk = [b]\n", "1 [a]\n2 k=[b]\n"},
	{"[a]\nk = \"q\"\n", "1 [a]\n2 k=\"q\"\n"},
	{"[a]\nk = b\\\n", "1 [a]\n2 k=b\\\n"},
	{"[a]\nk.l-m_N0 = v\n", "1 [a]\n2 k.l-m_N0=v\n"},
	{"[a]\r\nk = v\r\n\r\n[b]\r\n", "1 [a]\n2 k=v\n4 [b]\n"},
	{"[a]\nk = v\r", "1 [a]\n2 k=v\n"},
	{"\xef\xbb\xbf[a]\nk = v\n", "1 [a]\n2 k=v\n"},
	{"\xef\xbb\xbf", ""},
	{"\xef\xbb\xbf# x\n[a]\n", "2 [a]\n"},
	{"[a]\nk = \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\n",
		"1 [a]\n2 k=\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\n"},
	{"[" FORTY_NINE "]\n" FORTY_NINE " = v\n", "1 [" FORTY_NINE "]\n2 " FORTY_NINE "=v\n"},
	/* A comment may be of any length; see test_long_line for lines that are not. */
	{"#" FORTY_NINE FORTY_NINE FORTY_NINE FORTY_NINE FORTY_NINE FORTY_NINE "\n[a]\n",
		"2 [a]\n"},
};

START_TEST(test_good)
{
	struct transcript t = {0};
	int r = read_text(&t, good[_i].text, strlen(good[_i].text));

	ck_assert_str_eq(t.text, good[_i].transcript);
	ck_assert_int_eq(r, 0);
}
END_TEST

/* The bad line, and a part of its message. */
static const struct {
	const char *line, *what;
} bad[] = {
	{"k", "no '='"},
	{"k v", "no '='"},
	{"k ; = v", "no '='"},
	{"k : v", "a.k: ':' after the key"},
	{"k: v", "a.k: ':' after the key"},
	{"k:v=w", "a.k: ':' after the key"},
	{"= v", "0 bytes"},
	{": v", "0 bytes"},
	{"k l = v", "letters, digits"},
	{"k\xc3\xa4 = v", "letters, digits"},
	{"\"k\" = v", "letters, digits"},
	{"]k = v", "letters, digits"},
	{FORTY_NINE "j = v", "50 bytes"},
	{"k =;v", "may not begin with ';'"},
	{"k=;v", "may not begin with ';'"},
	{" k = v", "begins with a blank"},
	{"\tk = v", "begins with a blank"},
	{"  more of the value above", "begins with a blank"},
	{" [b]", "begins with a blank"},
	{"k = \x01", "0x01 in column 5"},
	{"k = a\x7f", "0x7F in column 6"},
	{"k = a\rb", "0x0D in column 6"},
	{"k = a\r\r", "0x0D in column 6"},
	{"k = a\vb", "0x0B in column 6"},
	{"k = a\fb", "0x0C in column 6"},
	{"\x1b[0m", "0x1B in column 1"},
	{"# \x02", "0x02 in column 3"},
	/*
	 * Not UTF-8: Latin-1, a lone continuation, overlong, a surrogate, beyond U+10FFFF, cut
	 * short.
	 */
	{"k = \xe4", "0xE4 in column 5"},
	{"k = \xe4xy", "0xE4 in column 5"},
	{"k = \x80", "0x80 in column 5"},
	{"k = \xc0\xaf", "0xC0 in column 5"},
	{"k = \xc1\xbf", "0xC1 in column 5"},
	{"k = \xe0\x80\xaf", "0xE0 in column 5"},
	{"k = \xf0\x80\x80\xaf", "0xF0 in column 5"},
	{"k = \xed\xa0\x80", "0xED in column 5"},
	{"k = \xf4\x90\x80\x80", "0xF4 in column 5"},
	{"k = \xf5\x80\x80\x80", "0xF5 in column 5"},
	{"k = \xff\xfe", "0xFF in column 5"},
	{"k = \xe2\x82", "0xE2 in column 5"},
	{"k = \xf0\x9f\x98", "0xF0 in column 5"},
};

/*
 * A bad line is reported with its number, and the lines around it are read as if it were not there.
 */
START_TEST(test_bad)
{
	struct transcript t = {0};
	char text[512];
	int r;

	snprintf(text, sizeof(text), "[a]\nx = 1\n%s\ny = 2\n", bad[_i].line);
	r = read_text(&t, text, strlen(text));
	ck_assert_int_eq(r, -EINVAL);
	ck_assert_msg(strncmp(t.text, "1 [a]\n2 x=1\n3 ! ", 16) == 0, "%s", t.text);
	ck_assert_msg(strstr(t.text, bad[_i].what), "%s", t.text);
	ck_assert_msg(strstr(t.text, "\n4 y=2\n"), "%s", t.text);
	ck_assert_uint_eq(t.n_errors, 1);
}
END_TEST

static const struct {
	const char *line, *what;
} bad_sections[] = {
	{"[b", "']'"},
	{"[b ; ]", "']'"},
	{"[", "']'"},
	{"[]", "0 bytes"},
	{"[" FORTY_NINE "j]", "50 bytes"},
	{"[b] x", "text after"},
	{"[b]x", "text after"},
	{"[b];x", "text after"},
	{"[b] # x", "text after"},
	{"[b]]", "text after"},
	{"[b] k = v", "text after"},
	{"[ b]", "no blanks"},
	{"[b ]", "no blanks"},
	{"[b c]", "no blanks"},
	{"[[b]", "no blanks"},
};

/* The keys of a section that cannot be read must not be taken for keys of the one before it. */
START_TEST(test_bad_section)
{
	struct transcript t = {0};
	char text[512];
	int r;

	snprintf(text, sizeof(text), "[a]\nx = 1\n%s\ny = 2\n[c]\nz = 3\n", bad_sections[_i].line);
	r = read_text(&t, text, strlen(text));
	ck_assert_int_eq(r, -EINVAL);
	ck_assert_msg(strncmp(t.text, "1 [a]\n2 x=1\n3 ! ", 16) == 0, "%s", t.text);
	ck_assert_msg(strstr(t.text, bad_sections[_i].what), "%s", t.text);
	ck_assert_msg(strstr(t.text, "\n5 [c]\n6 z=3\n"), "%s", t.text);
	ck_assert_ptr_null(strstr(t.text, "y=2"));
	ck_assert_uint_eq(t.n_errors, 1);
}
END_TEST

START_TEST(test_key_before_section)
{
	struct transcript t = {0};

	ck_assert_int_eq(read_text(&t, "\nk = v\n[a]\nk = w\n", 17), -EINVAL);
	ck_assert_msg(strncmp(t.text, "2 ! a key before the first section", 34) == 0, "%s", t.text);
	ck_assert_msg(strstr(t.text, "\n3 [a]\n4 k=w\n"), "%s", t.text);
}
END_TEST

START_TEST(test_nul)
{
	static const char text[] = "[a]\nk = v\0w\nl = x\n\0";
	struct transcript t = {0};

	ck_assert_int_eq(read_text(&t, text, sizeof(text) - 1), -EINVAL);
	ck_assert_msg(strstr(t.text, "2 ! byte 0x00 in column 6 "), "%s", t.text);
	ck_assert_msg(strstr(t.text, "\n3 l=x\n4 ! byte 0x00 in column 1 "), "%s", t.text);
}
END_TEST

/* Where the limit is depends on how libinih was built. Around it: whole, or refused, never cut. */
START_TEST(test_long_line)
{
	static char text[20000];
	struct transcript t;
	size_t longest = 0, refused = 0;

	for (size_t n = 50; n < 9000; n += n < 150 || (n > 220 && n < 8100) ? 97 : 1) {
		size_t len = (size_t)sprintf(text, "[a]\nk = ");

		memset(text + len, 'v', n);
		len += n;
		len += (size_t)sprintf(text + len, "\nl = w\n");
		memset(&t, 0, sizeof(t));
		if (read_text(&t, text, len) == 0) {
			ck_assert_uint_eq(refused, 0);
			ck_assert_uint_eq(t.n, strlen("1 [a]\n2 k=\n3 l=w\n") + n);
			longest = n;
		} else {
			ck_assert_msg(strstr(t.text, "2 ! the line has "), "%s", t.text);
			refused++;
		}
		ck_assert_ptr_nonnull(strstr(t.text, "\n3 l=w\n"));
	}
	ck_assert_uint_ge(longest, 190);
	ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(test_callback_ends_it)
{
	for (int i = 1; i <= 4; i++) {
		struct transcript t = {.stop_at = i};

		ck_assert_int_eq(read_text(&t, "[a]\nk=1\n[b]\nk=2\n[c]\n", 20), -ENOENT);
		ck_assert_int_eq(t.n_events, i);
	}
}
END_TEST

START_TEST(test_too_large_text)
{
	struct transcript t = {0};
	char *text = malloc(INI_FILE_MAX + 1);

	memset(text, '\n', INI_FILE_MAX + 1);
	ck_assert_int_eq(read_text(&t, text, INI_FILE_MAX), 0);
	ck_assert_int_eq(read_text(&t, text, INI_FILE_MAX + 1), -EINVAL);
	ck_assert_str_eq(t.text, "0 ! the file is larger than 1 MiB\n");
	free(text);
}
END_TEST

/* Files: a folder of the test's own. */
static char dir[] = "/tmp/test_ini.XXXXXX";

static int read_named(struct transcript *t, const char *name)
{
	const struct ini_events events = {on_section, on_key, on_error, t};
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return ini_read_file(path, &events);
}

static void write_named(const char *name, size_t len)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs("[a]\nk = v\n", f);
	for (size_t i = 10; i < len; i++)
		fputc('\n', f);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(test_file)
{
	struct transcript t = {0};

	write_named("good", 10);
	ck_assert_int_eq(read_named(&t, "good"), 0);
	ck_assert_str_eq(t.text, "1 [a]\n2 k=v\n");

	t = (struct transcript){0};
	write_named("full", INI_FILE_MAX);
	ck_assert_int_eq(read_named(&t, "full"), 0);
	ck_assert_str_eq(t.text, "1 [a]\n2 k=v\n");

	t = (struct transcript){0};
	write_named("large", INI_FILE_MAX + 1);
	ck_assert_int_eq(read_named(&t, "large"), -EFBIG);
	ck_assert_str_eq(t.text, "0 ! the file is larger than 1 MiB\n");
}
END_TEST

START_TEST(test_no_file)
{
	struct transcript t = {0};
	char path[128];

	ck_assert_int_eq(read_named(&t, "missing"), -ENOENT);
	ck_assert_str_eq(t.text, "0 ! cannot read the file: No such file or directory\n");

	t = (struct transcript){0};
	ck_assert_int_eq(read_named(&t, "."), -EISDIR);
	ck_assert_str_eq(t.text, "0 ! cannot read the file: Is a directory\n");

	/* A FIFO nobody writes to would be waited for without end. */
	t = (struct transcript){0};
	snprintf(path, sizeof(path), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_lt(read_named(&t, "fifo"), 0);
	ck_assert_str_eq(t.text, "0 ! not a regular file\n");

	t = (struct transcript){0};
	write_named("secret", 10);
	snprintf(path, sizeof(path), "%s/secret", dir);
	ck_assert_int_eq(chmod(path, 0), 0);
	ck_assert_int_eq(chmod(dir, 0711), 0);
	if (getuid() == 0)
		ck_assert_int_eq(seteuid(65534), 0); /* root may read everything */
	ck_assert_int_eq(read_named(&t, "secret"), -EACCES);
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert_str_eq(t.text, "0 ! cannot read the file: Permission denied\n");
}
END_TEST

static const struct {
	const char *value;
	bool fits;
} values[] = {
	{"", true},
	{"/a b", true},
	{"a;b", true},
	{"\xc3\xa4", true},
	{"a ;b", false},
	{"a\t;b", false},
	{";a", false},
	{" a", false},
	{"a ", false},
	{"a\nb", false},
	{"a\x01", false},
	{"\xe4", false},
};

/* ini_value_fits() is right: the value is read back as it is exactly when it says so. */
START_TEST(test_value_fits)
{
	struct transcript t = {0};
	char text[64], wanted[64];
	int r;

	ck_assert_int_eq(ini_value_fits(values[_i].value), values[_i].fits);
	snprintf(text, sizeof(text), "[a]\nk = %s\n", values[_i].value);
	snprintf(wanted, sizeof(wanted), "1 [a]\n2 k=%s\n", values[_i].value);
	r = read_text(&t, text, strlen(text));
	ck_assert_int_eq(r == 0 && strcmp(t.text, wanted) == 0, values[_i].fits);
}
END_TEST

static void remove_dir(void)
{
	static const char *const names[] = {"good", "full", "large", "fifo", "secret"};
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_good, 0, N_ROWS(good));
	tcase_add_loop_test(tc, test_bad, 0, N_ROWS(bad));
	tcase_add_loop_test(tc, test_bad_section, 0, N_ROWS(bad_sections));
	tcase_add_test(tc, test_key_before_section);
	tcase_add_test(tc, test_nul);
	tcase_add_test(tc, test_long_line);
	tcase_add_test(tc, test_callback_ends_it);
	tcase_add_test(tc, test_too_large_text);
	tcase_add_test(tc, test_file);
	tcase_add_test(tc, test_no_file);
	tcase_add_loop_test(tc, test_value_fits, 0, N_ROWS(values));
}

int main(void)
{
	int status;

	if (!mkdtemp(dir))
		return EXIT_FAILURE;
	status = run_tests("ini", add);
	remove_dir();
	return status;
}
