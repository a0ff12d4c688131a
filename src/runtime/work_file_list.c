/* The entries of a folder, sorted by name. On a thread of the pool. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "runtime/work_file.h"

#define N_FIRST    64  /* entries that there is room for at first */
#define LOOK_EVERY 256 /* entries between two looks at whether to stop */

struct listing {
	struct tine_file_entry *entries; /* their names are offsets until all are there */
	size_t n, room;
	char *names;
	size_t used, size;
};

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static int grow(void **ret, size_t *room, size_t needed, size_t unit)
{
	size_t n = *room ? *room : N_FIRST;
	void *p;

	if (needed <= *room)
		return 0;
	while (n < needed)
		n *= 2;
	p = realloc(*ret, n * unit);
	if (!p)
		return -ENOMEM;
	*ret = p;
	*room = n;
	return 0;
}

static int add(struct listing *l, const struct dirent *d)
{
	size_t len = strlen(d->d_name) + 1;
	int r = grow((void **)&l->entries, &l->room, l->n + 1, sizeof(*l->entries));

	if (r == 0)
		r = grow((void **)&l->names, &l->size, l->used + len, 1);
	if (r < 0)
		return r;
	memcpy(l->names + l->used, d->d_name, len);
	l->entries[l->n++] = (struct tine_file_entry){
		.name = (const char *)l->used, .inode = d->d_ino, .type = d->d_type};
	l->used += len;
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int read_all(struct file_op *o, DIR *dir, struct listing *l)
{
	struct dirent *d;
	int r = 0;

	while (r == 0 && (errno = 0, d = readdir(dir))) {
		if (is_dots(d->d_name))
			continue;
		if (l->n >= o->f.max)
			return work_op_say(
				&o->op, TINE_E_TOO_LARGE, "more than %zu entries", o->f.max);
		r = add(l, d);
		if (r == 0 && l->n % LOOK_EVERY == 0)
			r = work_op_stopped(&o->op);
	}
	return r < 0 ? r : -errno;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tine_file_entry *)a)->name,
		((const struct tine_file_entry *)b)->name);
}

int file_list(struct file_op *o)
{
	CLEANUP(closedirp) DIR *dir = opendir(o->f.path); /* close-on-exec */
	struct listing l = {0};
	int r;

	if (!dir)
		return -errno;
	r = read_all(o, dir, &l);
	o->result.entries = l.entries;
	o->names = l.names;
	if (r < 0)
		return r;
	for (size_t i = 0; i < l.n; i++)
		l.entries[i].name = l.names + (size_t)l.entries[i].name;
	if (l.n > 0)
		qsort(l.entries, l.n, sizeof(*l.entries), by_name);
	o->result.len = l.n;
	return 0;
}
