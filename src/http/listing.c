/*
 * The page that shows what is in a folder: names, dates, sizes. Reading a folder may wait for the disk, so this
 * is made to run on a thread of the pool: it uses nothing but its arguments.
 *
 * Hidden files, and what is neither file, folder nor symbolic link, are left out. Of a symbolic link only its
 * name is shown: what it leads to may be outside of what is served. No name is ever written as it is.
 */
#include "http/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "http/path.h"

/* Read at most: a folder with a million files is not walked for a page that shows some thousands. */
#define SCAN_MAX (4 * LISTING_MAX)

struct entry {
	char *name;
	mode_t mode;
	uint64_t size;
	time_t modified;
};

struct entries {
	struct entry *list;
	size_t n, cap;
	bool more; /* than are here */
};

static const char page_head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n"
	"<meta name=\"color-scheme\" content=\"light dark\">\n<style>\n"
	"body { font: 1em/1.5 system-ui, sans-serif; max-width: 60em; "
	"margin: 2em auto; padding: 0 1em }\n"
	"table { border-collapse: collapse; width: 100% }\n"
	"th { text-align: left }\n"
	"td, th { padding: .15em .5em; border-bottom: 1px solid #8884 }\n"
	"td:first-child { overflow-wrap: anywhere }\n"
	".n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }\n"
	"</style>\n<title>";

static void entriesp(struct entries *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->list[i].name);
	free(e->list);
}

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Returns 0 or -ENOMEM. */
static int entries_add(struct entries *e, const char *name, const struct stat *st)
{
	struct entry *list = e->list;

	if (e->n == e->cap) {
		size_t cap = e->cap ? 2 * e->cap : 64;

		list = reallocarray(list, cap, sizeof(*list));
		if (!list)
			return -ENOMEM;
		e->list = list;
		e->cap = cap;
	}
	list[e->n] = (struct entry){strdup(name), st->st_mode,
		st->st_size > 0 ? (uint64_t)st->st_size : 0, st->st_mtim.tv_sec};
	if (!list[e->n].name)
		return -ENOMEM;
	e->n++;
	return 0;
}

/* Names that vanish while we look are passed over. */
static int entries_read(struct entries *e, DIR *dir)
{
	struct dirent *d;
	struct stat st;
	int r = 0;

	errno = 0;
	while (r == 0 && (d = readdir(dir))) {
		if (d->d_name[0] == '.' ||
			fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			(!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode)))
			continue;
		if (e->n == SCAN_MAX) {
			e->more = true;
			return 0;
		}
		r = entries_add(e, d->d_name, &st);
		errno = 0;
	}
	return r == 0 && errno != 0 ? -errno : r;
}

/* Folders first, then by name. */
static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (S_ISDIR(x->mode) != S_ISDIR(y->mode))
		return S_ISDIR(x->mode) ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void put_escaped(FILE *f, const char *s, size_t len)
{
	for (; len > 0; s++, len--) {
		switch (*s) {
		case '&':
			fputs("&amp;", f);
			break;
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '"':
			fputs("&quot;", f);
			break;
		case '\'':
			fputs("&#39;", f);
			break;
		default:
			putc(*s, f);
		}
	}
}

/* "./", so that a colon in a name makes no scheme of what is before it. */
static void put_link(FILE *f, const char *name, const char *end)
{
	char encoded[3 * NAME_MAX + 3];
	size_t n = path_encode((struct tine_text){name, strlen(name)}, encoded, sizeof(encoded));

	fputs("<a href=\"./", f);
	put_escaped(f, encoded, n);
	fprintf(f, "%s\">", end);
	put_escaped(f, name, strlen(name));
	fprintf(f, "%s</a>", end);
}

static void put_size(FILE *f, uint64_t size)
{
	static const char units[] = "KMGTPE";
	double value = (double)size;
	int unit = -1;

	for (; value >= 1024 && units[unit + 1] != '\0'; unit++)
		value /= 1024;
	if (unit < 0)
		fprintf(f, "%" PRIu64, size);
	else
		fprintf(f, "%.*f %ciB", value < 10 ? 1 : 0, value, units[unit]);
}

static void put_entry(FILE *f, const struct entry *e)
{
	struct tm tm;
	char date[32];

	fputs("<tr><td>", f);
	put_link(f, e->name, S_ISDIR(e->mode) ? "/" : "");
	fputs("</td><td class=\"n\">", f);
	if (!S_ISLNK(e->mode) && gmtime_r(&e->modified, &tm) &&
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm) > 0)
		fputs(date, f);
	fputs("</td><td class=\"n\">", f);
	if (S_ISREG(e->mode))
		put_size(f, e->size);
	fputs("</td></tr>\n", f);
}

static void put_page(FILE *f, const struct entries *e, struct tine_text path)
{
	size_t n = e->n < LISTING_MAX ? e->n : LISTING_MAX;

	fputs(page_head, f);
	put_escaped(f, path.data, path.len);
	fputs("</title>\n</head>\n<body>\n<h1>", f);
	put_escaped(f, path.data, path.len);
	fputs("</h1>\n<table>\n<tr><th>Name</th><th class=\"n\">Modified (UTC)</th>"
	      "<th class=\"n\">Size</th></tr>\n",
		f);
	if (path.len > 1)
		fputs("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n", f);
	for (size_t i = 0; i < n; i++)
		put_entry(f, &e->list[i]);
	fputs("</table>\n", f);
	if (e->more || n < e->n)
		fputs("<p>There are more than are shown here.</p>\n", f);
	fputs("</body>\n</html>\n", f);
}

/*
 * Makes the page of the folder that is open as `folder`, which stays open. path: what it is called, the path of the
 * request ("/" has no parent). Returns 0 and text the caller frees, of ret_len bytes; or a negative errno.
 */
int listing_make(int folder, struct tine_text path, char **ret_text, size_t *ret_len)
{
	CLEANUP(entriesp) struct entries entries = {0};
	CLEANUP(closep) int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(closedirp) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	CLEANUP(freep) char *text = NULL;
	FILE *f;
	int r;

	if (!dir)
		return -errno;
	fd = -1; /* the stream's now */
	r = entries_read(&entries, dir);
	if (r < 0)
		return r;
	if (entries.n > 0)
		qsort(entries.list, entries.n, sizeof(*entries.list), compare_entries);
	f = open_memstream(&text, ret_len);
	if (!f)
		return -ENOMEM;
	put_page(f, &entries, path);
	if (fclose(f) != 0)
		return -ENOMEM;
	*ret_text = take_ptr(text);
	return 0;
}
