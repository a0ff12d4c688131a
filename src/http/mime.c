/*
 * Content types from the system's table, /etc/mime.types: "type ext ext ...". Worker only, one
 * thread. A short list of what the web is made of stands in where there is no such file.
 */
#include "http/mime.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fd.h"
#include "http/parser.h"

#define MIME_FILE_MAX (1u << 20) /* what lies beyond is not read */
#define MIME_EXT_MAX  15

static const char fallback[] = "text/html html htm\n"
			       "text/css css\n"
			       "text/javascript js mjs\n"
			       "text/plain txt text log\n"
			       "text/markdown md\n"
			       "text/csv csv\n"
			       "text/xml xml\n"
			       "application/json json\n"
			       "application/pdf pdf\n"
			       "application/wasm wasm\n"
			       "application/gzip gz\n"
			       "application/zip zip\n"
			       "image/png png\n"
			       "image/jpeg jpg jpeg\n"
			       "image/gif gif\n"
			       "image/webp webp\n"
			       "image/avif avif\n"
			       "image/svg+xml svg\n"
			       "image/vnd.microsoft.icon ico\n"
			       "font/woff woff\n"
			       "font/woff2 woff2\n"
			       "audio/mpeg mp3\n"
			       "video/mp4 mp4\n"
			       "video/webm webm\n";

struct mime_row {
	char ext[MIME_EXT_MAX + 1]; /* lower case */
	uint32_t type; /* offset into text; also the order in the file: the first row wins */
};

static struct {
	unsigned refs;
	char *text; /* the file, types terminated in place */
	struct mime_row *rows;
	size_t n_rows, cap;
} mime;

static int row_compare(const void *a, const void *b)
{
	const struct mime_row *x = a, *y = b;
	int r = strcmp(x->ext, y->ext);

	return r != 0 ? r : (x->type > y->type) - (x->type < y->type);
}

static int mime_add(const char *ext, uint32_t type)
{
	struct mime_row *row;
	size_t n = strlen(ext);

	if (n > MIME_EXT_MAX)
		return 0;
	if (mime.n_rows == mime.cap) {
		size_t cap = mime.cap ? mime.cap * 2 : 128;

		row = reallocarray(mime.rows, cap, sizeof(*row));
		if (!row)
			return -ENOMEM;
		mime.rows = row;
		mime.cap = cap;
	}
	row = &mime.rows[mime.n_rows++];
	for (size_t i = 0; i <= n; i++)
		row->ext[i] = (char)tolower((unsigned char)ext[i]);
	row->type = type;
	return 0;
}

static int mime_parse_line(char *line)
{
	static const char space[] = " \t\r";
	char *at, *type = strtok_r(line, space, &at), *ext;
	int r = 0;

	if (!type || type[0] == '#' || !strchr(type, '/') || strlen(type) > MIME_TYPE_MAX / 2)
		return 0;
	while (r == 0 && (ext = strtok_r(NULL, space, &at)))
		r = mime_add(ext, (uint32_t)(type - mime.text));
	return r;
}

static int mime_parse(void)
{
	char *at, *line;
	int r = 0;

	for (line = strtok_r(mime.text, "\n", &at); line && r == 0;
		line = strtok_r(NULL, "\n", &at))
		r = mime_parse_line(line);
	if (mime.n_rows > 0)
		qsort(mime.rows, mime.n_rows, sizeof(*mime.rows), row_compare);
	return r;
}

static int mime_read(const char *path)
{
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CLEANUP(freep) char *buf = NULL;
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n;

	if (size <= 0) {
		mime.text = strdup(fallback);
		return mime.text ? 0 : -ENOMEM;
	}
	if (size > (off_t)MIME_FILE_MAX)
		size = MIME_FILE_MAX;
	buf = malloc((size_t)size + 1);
	if (!buf)
		return -ENOMEM;
	n = pread(fd, buf, (size_t)size, 0);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	mime.text = take_ptr(buf);
	return 0;
}

static void mime_clear(void)
{
	free(mime.text);
	free(mime.rows);
	memset(&mime, 0, sizeof(mime));
}

/*
 * Loads the table on first use. Returns 0 or a negative errno; each success needs a mime_unref().
 */
int mime_ref(const char *path)
{
	int r;

	if (mime.refs == 0) {
		r = mime_read(path);
		if (r == 0)
			r = mime_parse();
		if (r < 0) {
			mime_clear();
			return r;
		}
	}
	mime.refs++;
	return 0;
}

void mime_unref(void)
{
	if (--mime.refs == 0)
		mime_clear();
}

/* The first row of that extension, or NULL. */
static const struct mime_row *mime_find(const char *ext)
{
	size_t low = 0, high = mime.n_rows;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(mime.rows[mid].ext, ext) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < mime.n_rows && strcmp(mime.rows[low].ext, ext) == 0 ? &mime.rows[low] : NULL;
}

/*
 * Writes the Content-Type for a file name (or path), with charset=utf-8 for text, and returns its
 * length; application/octet-stream when nothing is known.
 */
size_t mime_type(struct tine_text name, char buf[MIME_TYPE_MAX])
{
	const char *dot = memrchr(name.data, '.', name.len), *type;
	size_t n = dot ? (size_t)(name.data + name.len - dot - 1) : 0;
	const struct mime_row *row = NULL;
	char ext[MIME_EXT_MAX + 1];

	if (n > 0 && n <= MIME_EXT_MAX) {
		for (size_t i = 0; i < n; i++)
			ext[i] = (char)tolower((unsigned char)dot[1 + i]);
		ext[n] = '\0';
		row = mime_find(ext);
	}
	type = row ? mime.text + row->type : "application/octet-stream";
	if (!http_is_value(type, strlen(type)))
		type = "application/octet-stream";
	return (size_t)snprintf(buf, MIME_TYPE_MAX, "%s%s", type,
		strncmp(type, "text/", 5) == 0 ? "; charset=utf-8" : "");
}
