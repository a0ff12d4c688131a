/*
 * Ready-made work on files: one row per operation, which says what it needs, and one function, which runs on a thread. Whole files
 * are work_file_whole.c's, folders work_file_list.c's.
 */
#include "runtime/work_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sized.h"
#include "runtime/module.h"

enum file_needs {
	NEEDS_PATH = 1 << 0,
	NEEDS_TO = 1 << 1,
	NEEDS_FD = 1 << 2, /* if there is no path */
	NEEDS_DATA = 1 << 3,
	NEEDS_LEN = 1 << 4,
	NEEDS_OFFSET = 1 << 5,
};

struct file_row {
	struct work_op_kind kind; /* first */
	unsigned needs;
	int flags; /* that it knows; -1: the kernel decides */
	size_t max, max_default;
	int (*run)(struct file_op *o);
};

static int run_open(struct file_op *o)
{
	mode_t mode = o->f.mode ? o->f.mode : 0666;
	int fd;

	do {
		fd = open(o->f.path, o->f.flags | O_CLOEXEC, mode);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	o->result.fd = fd;
	return 0;
}

/* Linux lets go of the descriptor whatever close(2) says; EINTR is no news. */
static int run_close(struct file_op *o)
{
	o->closed = true;
	return close(o->f.fd) < 0 && errno != EINTR ? -errno : 0;
}

static int room_for(struct file_op *o)
{
	o->result.data = malloc(o->f.len + 1);
	return o->result.data ? 0 : -ENOMEM;
}

static int read_done(struct file_op *o)
{
	((char *)o->result.data)[o->result.len] = '\0';
	return 0;
}

static int run_read(struct file_op *o)
{
	int r = room_for(o);
	ssize_t n;

	if (r < 0)
		return r;
	do {
		n = read(o->f.fd, o->result.data, o->f.len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	o->result.len = (uint64_t)n;
	return read_done(o);
}

static size_t piece(size_t left)
{
	return left < WORK_PIECE ? left : WORK_PIECE;
}

static int run_pread(struct file_op *o)
{
	int r = room_for(o);
	ssize_t n = 1;

	while (r == 0 && n > 0 && o->result.len < o->f.len) {
		n = pread(o->f.fd, (char *)o->result.data + o->result.len,
			piece(o->f.len - o->result.len), (off_t)(o->f.offset + o->result.len));
		if (n < 0 && errno != EINTR)
			return -errno;
		o->result.len += n > 0 ? (uint64_t)n : 0;
		n = n < 0 ? 1 : n;
		r = work_op_stopped(&o->op);
	}
	return r < 0 ? r : read_done(o);
}

/* write(2) to the end, piece by piece. Counts what it has written in the result. */
int file_write_all(struct file_op *o, int fd, const void *data, size_t len)
{
	const char *p = data;
	int r = 0;

	while (len > 0 && (r = work_op_stopped(&o->op)) == 0) {
		ssize_t n = write(fd, p, piece(len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
		o->result.len += (uint64_t)n;
	}
	return r;
}

static int run_write(struct file_op *o)
{
	return file_write_all(o, o->f.fd, o->f.data, o->f.len);
}

static int run_pwrite(struct file_op *o)
{
	int r = 0;

	while (o->result.len < o->f.len && (r = work_op_stopped(&o->op)) == 0) {
		ssize_t n = pwrite(o->f.fd, (const char *)o->f.data + o->result.len,
			piece(o->f.len - o->result.len), (off_t)(o->f.offset + o->result.len));

		if (n < 0 && errno != EINTR)
			return -errno;
		o->result.len += n > 0 ? (uint64_t)n : 0;
	}
	return r;
}

static int run_sync(struct file_op *o)
{
	return fsync(o->f.fd) < 0 ? -errno : 0;
}

static int run_stat(struct file_op *o)
{
	int fd = o->f.path ? AT_FDCWD : o->f.fd;
	int flags = o->f.path ? o->f.flags : AT_EMPTY_PATH;

	if (statx(fd, o->f.path ? o->f.path : "", flags, STATX_BASIC_STATS | STATX_BTIME,
		    &o->stat) < 0)
		return -errno;
	o->result.stat = &o->stat;
	return 0;
}

static int run_rename(struct file_op *o)
{
	int r = renameat2(AT_FDCWD, o->f.path, AT_FDCWD, o->f.to, (unsigned)o->f.flags);

	return r < 0 ? -errno : 0;
}

static int run_unlink(struct file_op *o)
{
	return unlinkat(AT_FDCWD, o->f.path, o->f.flags) < 0 ? -errno : 0;
}

static int run_mkdir(struct file_op *o)
{
	return mkdir(o->f.path, o->f.mode ? o->f.mode : 0777) < 0 ? -errno : 0;
}

/* --- what they have in common --- */

static int on_run(struct work_op *op)
{
	return ((const struct file_row *)op->kind)->run((struct file_op *)op);
}

/* Paths are cut at their beginning: it is in their ends that they differ. */
static int put_path(char *ret, size_t size, const char *path, size_t max)
{
	size_t len = strlen(path);

	return len > max ? snprintf(ret, size, "...%s", path + len - max)
			 : snprintf(ret, size, "%s", path);
}

static void describe(const struct work_op *op, char *ret, size_t size)
{
	const struct tine_file *f = &((const struct file_op *)op)->f;
	size_t max = f->to ? size / 2 - sizeof("... -> ") : size - sizeof("...");
	int n;

	if (!f->path) {
		snprintf(ret, size, "descriptor %d", f->fd);
		return;
	}
	n = put_path(ret, size, f->path, max);
	if (!f->to)
		return;
	n += snprintf(ret + n, size - (size_t)n, " -> ");
	put_path(ret + n, size - (size_t)n, f->to, max);
}

static void deliver(struct work_op *op)
{
	struct file_op *o = (struct file_op *)op;

	o->result.status = op->status;
	o->result.text = op->text;
	o->f.on_done(&o->result, o->f.arg);
	o->result.fd = -1;
}

/* What was counted stays: it says how far the operation came. */
static void drop(struct work_op *op)
{
	struct file_op *o = (struct file_op *)op;

	if (o->result.fd >= 0)
		close(o->result.fd);
	free(o->result.data);
	free((void *)(uintptr_t)o->result.entries);
	free(o->names);
	o->result.fd = -1;
	o->result.data = NULL;
	o->result.entries = NULL;
	o->result.stat = NULL;
	o->names = NULL;
}

static void drop_close(struct work_op *op)
{
	struct file_op *o = (struct file_op *)op;

	if (!o->closed)
		run_close(o);
}

#define ROW(name, fn, dropped) {name, POOL_IO, on_run, deliver, dropped, describe}, .run = fn

static const struct file_row rows[FILE_KINDS] = {
	[FILE_OPEN] = {ROW("open", run_open, drop), .needs = NEEDS_PATH, .flags = -1},
	[FILE_CLOSE] = {ROW("close", run_close, drop_close), .needs = NEEDS_FD},
	[FILE_READ] = {ROW("read", run_read, drop), .needs = NEEDS_FD | NEEDS_LEN},
	[FILE_PREAD] = {ROW("pread", run_pread, drop),
		.needs = NEEDS_FD | NEEDS_LEN | NEEDS_OFFSET},
	[FILE_WRITE] = {ROW("write", run_write, drop), .needs = NEEDS_FD | NEEDS_DATA},
	[FILE_PWRITE] = {ROW("pwrite", run_pwrite, drop),
		.needs = NEEDS_FD | NEEDS_DATA | NEEDS_OFFSET},
	[FILE_SYNC] = {ROW("sync", run_sync, drop), .needs = NEEDS_FD},
	[FILE_STAT] = {ROW("stat", run_stat, drop), .needs = NEEDS_PATH | NEEDS_FD,
		.flags = AT_SYMLINK_NOFOLLOW},
	[FILE_LIST] = {ROW("list", file_list, drop), .needs = NEEDS_PATH,
		.max = TINE_FILE_ENTRIES_MAX, .max_default = TINE_FILE_LIST_MAX},
	[FILE_RENAME] = {ROW("rename", run_rename, drop), .needs = NEEDS_PATH | NEEDS_TO,
		.flags = RENAME_NOREPLACE | RENAME_EXCHANGE},
	[FILE_UNLINK] = {ROW("unlink", run_unlink, drop), .needs = NEEDS_PATH,
		.flags = AT_REMOVEDIR},
	[FILE_MKDIR] = {ROW("mkdir", run_mkdir, drop), .needs = NEEDS_PATH},
	[FILE_LOAD] = {ROW("load", file_load, drop), .needs = NEEDS_PATH,
		.max = TINE_FILE_BYTES_MAX, .max_default = TINE_FILE_LOAD_MAX},
	[FILE_SAVE] = {ROW("save", file_save, drop), .needs = NEEDS_PATH | NEEDS_DATA},
	[FILE_COPY] = {ROW("copy", file_copy, drop), .needs = NEEDS_PATH | NEEDS_TO,
		.flags = O_EXCL},
};

/* --- checks --- */

static bool is_path(const char *path)
{
	return path && *path && strnlen(path, PATH_MAX) < PATH_MAX;
}

static bool has_place(const struct tine_file *f, unsigned needs)
{
	if (needs & NEEDS_PATH && (f->path || !(needs & NEEDS_FD)))
		return is_path(f->path) && (!(needs & NEEDS_TO) || is_path(f->to));
	return f->fd >= 0;
}

static bool is_sound(const struct file_row *row, const struct tine_file *f)
{
	if (!f->on_done || f->mode & ~07777u || f->max > row->max)
		return false;
	if (row->flags != -1 && f->flags & ~row->flags)
		return false;
	if (row->needs & NEEDS_DATA && !f->data && f->len > 0)
		return false;
	if (f->len > TINE_FILE_BYTES_MAX || (row->needs & NEEDS_LEN && f->len == 0))
		return false;
	if (row->needs & NEEDS_OFFSET && f->offset > (uint64_t)INT64_MAX - f->len)
		return false;
	return has_place(f, row->needs);
}

/* What the operation does not use is as if it were not there. */
static void forget_unused(const struct file_row *row, struct tine_file *f)
{
	if (!(row->needs & NEEDS_PATH))
		f->path = NULL;
	if (!(row->needs & NEEDS_TO))
		f->to = NULL;
	if (!(row->needs & NEEDS_DATA))
		f->data = NULL;
	if (!(row->needs & (NEEDS_DATA | NEEDS_LEN)))
		f->len = 0;
	if (row->max == 0)
		f->max = 0;
}

static struct file_op *op_new(const struct file_row *row, const struct tine_file *f)
{
	size_t n_data = f->lent || !f->data ? 0 : f->len;
	size_t n = work_op_text_size(f->path) + work_op_text_size(f->to) + n_data;
	struct file_op *o = (struct file_op *)work_op_new(&row->kind, sizeof(*o), n);

	if (!o)
		return NULL;
	o->f = *f;
	o->f.path = work_op_copy_text(&o->op, f->path);
	o->f.to = work_op_copy_text(&o->op, f->to);
	if (!f->lent)
		o->f.data = work_op_copy(&o->op, f->data, n_data);
	o->f.max = f->max ? f->max : row->max_default;
	o->result.fd = -1;
	return o;
}

int work_file_submit(struct tine_worker *worker, enum file_kind kind, const struct tine_file *given,
	struct tine_work **ret)
{
	const struct file_row *row = &rows[kind];
	struct tine_file f;
	struct file_op *o;
	int r = worker && worker->pool ? SIZED_TAKE(&f, given, arg) : -EINVAL;

	if (r < 0)
		return r;
	forget_unused(row, &f);
	if (!is_sound(row, &f))
		return -EINVAL;
	o = op_new(row, &f);
	if (!o)
		return -ENOMEM;
	return work_op_submit(worker, &o->op, f.timeout_us, ret);
}
