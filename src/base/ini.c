/*
 * The reader between an INI file and libinih. Any process; the primary uses it at start and at
 * every reload.
 *
 * libinih is handed one line at a time, after the line has been checked here. It would cut lines,
 * section names and key names at its limits, take an indented line for the continuation of a value,
 * accept `key : value`, ignore what follows `]`, stop at a NUL byte and say nothing about sections
 * without keys. A line of which any of this is true is reported and libinih gets an empty one
 * instead, so both always agree on the line number.
 */
#include "base/ini.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <ini.h>

#include "base/fd.h"

#define INI_LINE_MAX \
	8192 /* bytes, where the library lets us choose: a path of PATH_MAX and its key fit */

/*
 * Debian's libinih has its limits in variables; others are compiled with 200 bytes and lack this
 * one.
 */
extern int ini_max_line __attribute__((weak));

struct ini_input {
	const char *next, *end;
	unsigned line;
	bool in_section, skip; /* skip: the section's own line was bad, its keys mean nothing */
	bool failed;           /* an error was reported */
	int r;                 /* what a callback returned */
	char section[INI_NAME_MAX + 1];
	const struct ini_events *events;
};

static void ini_error(struct ini_input *in, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void ini_error(struct ini_input *in, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	in->failed = true;
	in->events->on_error(in->line, what, in->events->arg);
}

/*
 * The length of the UTF-8 sequence at `s` of `n` bytes, or 0 when there is none (RFC 3629, table
 * 3-7 of Unicode).
 */
static size_t ini_utf8_length(const unsigned char *s, size_t n)
{
	size_t want = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	if (want == 0 || want > n)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return want;
}

/* The first byte that has no place in a text file, or NULL. */
static const char *ini_find_binary(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n;

	while (p < end) {
		size_t step = 1;

		if (*p >= 0x80)
			step = ini_utf8_length(p, (size_t)(end - p));
		else if ((*p < ' ' && *p != '\t') || *p == 0x7f)
			step = 0;
		if (step == 0)
			return (const char *)p;
		p += step;
	}
	return NULL;
}

/*
 * The first byte of `stop`, or the ';' of a comment (one after a blank), as libinih looks for it;
 * or the end.
 */
static const char *ini_find(const char *s, const char *end, const char *stop)
{
	bool blank = false;

	for (; s < end; s++) {
		if ((blank && *s == ';') || strchr(stop, *s))
			break;
		blank = isspace((unsigned char)*s);
	}
	return s;
}

static bool ini_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* [name], then nothing but blanks and a comment. Tells on_section, because libinih tells nobody. */
static bool ini_check_section(struct ini_input *in, const char *s, size_t n)
{
	const char *end = s + n, *close = ini_find(s + 1, end, "]"), *rest;
	size_t n_name = (size_t)(close - s - 1);

	in->in_section = true;
	in->skip = true;
	if (close == end || *close != ']') {
		ini_error(in, "the ']' of the section is missing; write [section]");
		return false;
	}
	for (rest = close + 1; rest < end && ini_blank(*rest); rest++)
		;
	if (rest < end && (*rest != ';' || rest == close + 1)) {
		ini_error(in,
			"text after the section; only a comment after a blank and ';' may stand "
			"there");
		return false;
	}
	if (n_name == 0 || n_name > INI_NAME_MAX) {
		ini_error(in, "the section's name has %zu bytes; write one of 1 to %d", n_name,
			INI_NAME_MAX);
		return false;
	}
	for (const char *p = s + 1; p < close; p++) {
		if (ini_blank(*p) || *p == '[') {
			ini_error(
				in, "a section's name has no blanks and brackets; write [section]");
			return false;
		}
	}
	memcpy(in->section, s + 1, n_name);
	in->section[n_name] = '\0';
	in->skip = false;
	in->r = in->events->on_section(in->section, in->line, in->events->arg);
	return in->r == 0;
}

static bool ini_check_key(struct ini_input *in, const char *s, size_t n)
{
	const char *end = s + n, *sign = ini_find(s, end, "=:"), *key_end = sign, *value;

	if (sign == end || (*sign != '=' && *sign != ':')) {
		ini_error(in, "no '=' in this line; write key = value");
		return false;
	}
	while (key_end > s && ini_blank(key_end[-1]))
		key_end--;
	if (key_end == s || key_end - s > INI_NAME_MAX) {
		ini_error(in, "the key has %zu bytes; write one of 1 to %d", (size_t)(key_end - s),
			INI_NAME_MAX);
		return false;
	}
	for (const char *p = s; p < key_end; p++) {
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p)) {
			ini_error(in,
				"a key is made of letters, digits and _ . -; write key = value");
			return false;
		}
	}
	if (!in->in_section) {
		ini_error(in, "a key before the first section; put [section] above it");
		return false;
	}
	if (*sign == ':') {
		ini_error(in, "%s.%.*s: ':' after the key; write %.*s = value", in->section,
			(int)(key_end - s), s, (int)(key_end - s), s);
		return false;
	}
	for (value = sign + 1; value < end && ini_blank(*value); value++)
		;
	/* "a =;b" has the value ";b", "a = ;b" is empty: too easily mistaken for each other. */
	if (value < end && *value == ';' && value == sign + 1) {
		ini_error(in,
			"a value may not begin with ';'; put a blank before it to begin a comment");
		return false;
	}
	return !in->skip;
}

/* Whether libinih is to see this line, without its newline. Reports what is wrong with it. */
static bool ini_check_line(struct ini_input *in, const char *s, size_t n, size_t max)
{
	const char *bad, *first = s;

	bad = ini_find_binary(s, n);
	if (bad) {
		ini_error(in, "byte 0x%02X in column %zu is not text; write the file as UTF-8",
			(unsigned char)*bad, (size_t)(bad - s) + 1);
		return false;
	}
	while (first < s + n && ini_blank(*first))
		first++;
	if (first == s + n || *first == ';' || *first == '#')
		return false;
	if (first > s) {
		ini_error(in,
			"the line begins with a blank, and values cannot go on over several lines; "
			"begin it "
			"in the first column");
		return false;
	}
	if (n > max) {
		ini_error(in, "the line has %zu bytes; %zu are possible", n, max);
		return false;
	}
	return *s == '[' ? ini_check_section(in, s, n) : ini_check_key(in, s, n);
}

/*
 * libinih's fgets(3): fills `buf` with the next line, or with an empty one in place of a bad one.
 */
static char *ini_next_line(char *buf, int size, void *arg)
{
	struct ini_input *in = arg;
	size_t max = (size_t)size - 2; /* bytes beside '\n' and '\0' */
	const char *s = in->next, *eol;
	size_t n;

	if (s == in->end || in->r < 0)
		return NULL;
	eol = memchr(s, '\n', (size_t)(in->end - s));
	n = (size_t)((eol ? eol : in->end) - s);
	in->next = eol ? eol + 1 : in->end;
	in->line++;
	if (n > 0 && s[n - 1] == '\r')
		n--;
	if (!ini_check_line(in, s, n, max))
		n = 0;
	memcpy(buf, s, n);
	buf[n] = '\n';
	buf[n + 1] = '\0';
	return buf;
}

/* libinih's handler: 1 is success there. */
static int ini_on_pair(void *arg, const char *section, const char *key, const char *value)
{
	struct ini_input *in = arg;

	if (strcmp(section, in->section) != 0) {
		ini_error(in, "the line could not be read (section \"%s\" for \"%s\")", section,
			in->section);
		return 0;
	}
	in->r = in->events->on_key(key, value, in->line, in->events->arg);
	return in->r == 0;
}

static int ini_file_error(const struct ini_events *events, int r, const char *what)
{
	events->on_error(0, what, events->arg);
	return r;
}

/*
 * Reads the INI text in `text`, `len` bytes. Returns 0 (all read), -EINVAL (on_error was told of
 * every bad line) or what a callback returned.
 */
int ini_read_text(const char *text, size_t len, const struct ini_events *events)
{
	struct ini_input in = {.next = text, .end = text + len, .events = events};
	int r;

	if (len > INI_FILE_MAX)
		return ini_file_error(events, -EINVAL, "the file is larger than 1 MiB");
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		in.next += 3;
	if (&ini_max_line)
		ini_max_line = INI_LINE_MAX;
	r = ini_parse_stream(ini_next_line, &in, ini_on_pair, &in);
	if (in.r < 0)
		return in.r;
	/*
	 * What libinih found and this reader did not would be a bug here; it must not pass as
	 * success.
	 */
	if (r != 0 && !in.failed)
		return ini_file_error(events, -EINVAL, "the file could not be read as INI");
	return in.failed ? -EINVAL : 0;
}

/*
 * Reads all of `fd` into memory the caller frees. Returns 0 or -errno; -EFBIG above INI_FILE_MAX.
 */
static int ini_slurp(int fd, char **ret, size_t *ret_len)
{
	CLEANUP(freep) char *buf = malloc(INI_FILE_MAX + 1);
	size_t len = 0;

	if (!buf)
		return -ENOMEM;
	while (len <= INI_FILE_MAX) {
		ssize_t n = read(fd, buf + len, INI_FILE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > INI_FILE_MAX)
		return -EFBIG;
	*ret = take_ptr(buf);
	*ret_len = len;
	return 0;
}

static int ini_open(const char *path, int *ret_fd)
{
	/* O_NONBLOCK: the open of a FIFO would wait for its writer. */
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -ENXIO;
	*ret_fd = take_fd(&fd);
	return 0;
}

/*
 * Reads the INI file at `path`. Returns 0, -EINVAL (on_error was told what is wrong), another
 * negative errno when the file could not be read (on_error was told so), or what a callback
 * returned.
 */
int ini_read_file(const char *path, const struct ini_events *events)
{
	CLEANUP(freep) char *text = NULL;
	CLEANUP(closep) int fd = -1;
	char what[128];
	size_t len = 0;
	int r = ini_open(path, &fd);

	if (r == 0)
		r = ini_slurp(fd, &text, &len);
	if (r == 0)
		return ini_read_text(text, len, events);
	if (r == -ENOMEM)
		return r;
	if (r == -EFBIG)
		return ini_file_error(events, r, "the file is larger than 1 MiB");
	if (r == -ENXIO)
		return ini_file_error(events, r, "not a regular file");
	snprintf(what, sizeof(what), "cannot read the file: %s", strerror(-r));
	return ini_file_error(events, r, what);
}

/*
 * Whether "key = value" with this value is read back as it is: nothing in it is cut, dropped or
 * refused.
 */
bool ini_value_fits(const char *value)
{
	size_t n = strlen(value);
	const char *end = value + n;

	if (n == 0)
		return true;
	if (*value == ';' || ini_blank(*value) || ini_blank(end[-1]))
		return false;
	return !ini_find_binary(value, n) && ini_find(value, end, "") == end &&
		n + INI_NAME_MAX + 3 <= INI_LINE_MAX - 2;
}
