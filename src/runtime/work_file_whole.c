/*
 * Whole files: load, save, copy. On a thread of the pool. What is made is written under a name of its own in the same folder and then
 * renamed, so that at the path there is always a whole file or none.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fd.h"
#include "runtime/work_file.h"

#define LOAD_FIRST \
	4096 /* bytes of room for a file that says that it is empty, as those of /proc do */
#define COPY_PIECE  ((size_t)8 << 20) /* of copy_file_range(2) */
#define NAME_TRIES  8
#define SUFFIX_SIZE sizeof(".0123456789abcdef.tmp")

/* --- load --- */

static int not_regular(struct file_op *o)
{
	return work_op_say(&o->op, -EINVAL, "not a regular file");
}

/* Without O_NONBLOCK a FIFO would keep the thread; of regular files it means nothing. ENXIO is what sockets say. */
static int open_regular(struct file_op *o, int *ret_fd, struct stat *ret_stat)
{
	CLEANUP(closep) int fd = open(o->f.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && errno == ENXIO)
		return not_regular(o);
	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return -errno;
	if (S_ISDIR(ret_stat->st_mode))
		return -EISDIR;
	if (!S_ISREG(ret_stat->st_mode))
		return not_regular(o);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int too_large(struct file_op *o)
{
	return work_op_say(&o->op, TINE_E_TOO_LARGE, "more than %zu bytes", o->f.max);
}

/* At least one byte more than there is, up to one more than may be; that one tells what is too large from what just fits. */
static int load_grow(struct file_op *o, size_t *room)
{
	size_t want = *room ? *room * 2 : LOAD_FIRST;
	void *p;

	if (want > o->f.max + 1)
		want = o->f.max + 1;
	p = realloc(o->result.data, want + 1);
	if (!p)
		return -ENOMEM;
	o->result.data = p;
	*room = want;
	return 0;
}

static int load_from(struct file_op *o, int fd, size_t room)
{
	size_t len = 0;
	ssize_t n = 1;
	int r = 0;

	while (n != 0) {
		if (len == room && (r = load_grow(o, &room)) < 0)
			return r;
		n = room - len < WORK_PIECE ? (ssize_t)(room - len) : (ssize_t)WORK_PIECE;
		n = read(fd, (char *)o->result.data + len, (size_t)n);
		if (n < 0 && errno != EINTR)
			return -errno;
		len += n > 0 ? (size_t)n : 0;
		if (len > o->f.max)
			return too_large(o);
		r = work_op_stopped(&o->op);
		if (r < 0)
			return r;
	}
	((char *)o->result.data)[len] = '\0';
	o->result.len = len;
	return 0;
}

int file_load(struct file_op *o)
{
	CLEANUP(closep) int fd = -1;
	struct stat st;
	size_t room = 0;
	int r = open_regular(o, &fd, &st);

	if (r < 0)
		return r;
	if ((uint64_t)st.st_size > o->f.max)
		return too_large(o);
	if (st.st_size > 0) {
		room = (size_t)st.st_size + 1; /* the byte beyond is where the end is found */
		o->result.data = malloc(room + 1);
		if (!o->result.data)
			return -ENOMEM;
	}
	return load_from(o, fd, room);
}

/* --- what takes the place of a file --- */

struct draft {
	int fd;
	char name[PATH_MAX + SUFFIX_SIZE + 2];
	size_t folder_len; /* of it, up to the last slash */
};

static int draft_name(struct draft *d, const char *path)
{
	const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
	uint64_t random;
	int n;

	if (!*last)
		return -EISDIR;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	d->folder_len = (size_t)(last - path);
	n = snprintf(d->name, sizeof(d->name), "%.*s.%.200s.%016" PRIx64 ".tmp", (int)d->folder_len,
		path, last, random);
	return n < 0 || (size_t)n >= sizeof(d->name) ? -ENAMETOOLONG : 0;
}

static int draft_open(struct draft *d, const char *path, mode_t mode)
{
	int r = -EEXIST;

	for (int i = 0; i < NAME_TRIES && r == -EEXIST; i++) {
		r = draft_name(d, path);
		if (r < 0)
			return r;
		d->fd = open(d->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
		r = d->fd < 0 ? -errno : 0;
	}
	return r;
}

/* Always the last of it: under its path from now on, if all went well, or removed. Returns r or why it could not be renamed. */
static int draft_finish(struct draft *d, const char *path, unsigned flags, int r)
{
	if (close(d->fd) < 0 && r == 0 && errno != EINTR)
		r = -errno; /* a file system over the network may say here that it is full */
	if (r == 0 && renameat2(AT_FDCWD, d->name, AT_FDCWD, path, flags) < 0)
		r = -errno;
	if (r < 0)
		unlink(d->name);
	return r;
}

/* So that the new name outlives a loss of power. */
static int sync_folder(struct draft *d)
{
	CLEANUP(closep) int fd = -1;

	d->name[d->folder_len] = '\0';
	fd = open(d->folder_len ? d->name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int file_save(struct file_op *o)
{
	struct draft d;
	int r = draft_open(&d, o->f.path, o->f.mode ? o->f.mode : 0666);

	if (r < 0)
		return r;
	r = file_write_all(o, d.fd, o->f.data, o->f.len);
	if (r == 0 && fsync(d.fd) < 0)
		r = -errno;
	if (r == 0)
		r = work_op_stopped(&o->op);
	r = draft_finish(&d, o->f.path, 0, r);
	return r < 0 ? r : sync_folder(&d);
}

/* --- copy --- */

/* Both descriptors stand where the copy has come to, which is result.len. */
struct copying {
	struct file_op *o;
	int from, to;
	char *buf; /* through memory, where the kernel cannot do it; NULL: it can, or has not been asked */
};

/*
 * What copy_file_range(2) says where it cannot do its work, among it 0 bytes for files of /proc, which have no size, and
 * EPERM where a filter of system calls does not know it.
 */
static bool is_by_hand(ssize_t n, int error)
{
	static const int cannot[] = {
		ENOSYS, EXDEV, EINVAL, EOPNOTSUPP, EPERM, EBADF, ETXTBSY, EOVERFLOW};

	for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++) {
		if (n < 0 && error == cannot[i])
			return true;
	}
	return n == 0;
}

static uint64_t up_to(uint64_t n, uint64_t max)
{
	return n < max ? n : max;
}

/* Copies up to len bytes. Returns 1, 0 at the end of the file, or a negative errno. */
static int copy_by_hand(struct copying *c, uint64_t len)
{
	ssize_t n = read(c->from, c->buf, up_to(len, WORK_PIECE));
	int r;

	if (n <= 0)
		return n < 0 && errno != EINTR ? -errno : n < 0;
	r = file_write_all(c->o, c->to, c->buf, (size_t)n);
	return r < 0 ? r : 1;
}

static int copy_some(struct copying *c, uint64_t len)
{
	ssize_t n;

	if (c->buf)
		return copy_by_hand(c, len);
	n = copy_file_range(c->from, NULL, c->to, NULL, up_to(len, COPY_PIECE), 0);
	if (is_by_hand(n, errno)) {
		c->buf = malloc(WORK_PIECE);
		return c->buf ? copy_by_hand(c, len) : -ENOMEM;
	}
	if (n < 0 && errno != EINTR)
		return -errno;
	c->o->result.len += n > 0 ? (uint64_t)n : 0;
	return 1;
}

/* Returns 1 when all until then is copied, 0 at the end of the file, or a negative errno. */
static int copy_data(struct copying *c, uint64_t end)
{
	int r = 1;

	while (r > 0 && c->o->result.len < end) {
		r = work_op_stopped(&c->o->op);
		if (r == 0)
			r = copy_some(c, end - c->o->result.len);
	}
	return r;
}

/* Goes over what is a hole up to there, which stays one. Returns 0 or -errno. */
static int skip_to(struct copying *c, uint64_t to)
{
	if (to > c->o->result.len && ftruncate(c->to, (off_t)to) < 0)
		return -errno;
	if (lseek(c->from, (off_t)to, SEEK_SET) < 0 || lseek(c->to, (off_t)to, SEEK_SET) < 0)
		return -errno;
	c->o->result.len = to;
	return 0;
}

/*
 * Goes over a hole. Returns 1 with the end of the data behind it, 0 when there is none, or -errno. A file that cannot tell, or that
 * says it is empty, as those of /proc do, is data until it ends. The size is asked for first: what is appended after
 * that is data to be found, and never taken for a hole at the end.
 */
static int next_data(struct copying *c, uint64_t *ret_end)
{
	uint64_t at = c->o->result.len;
	struct stat st;
	off_t data, hole;
	int r;

	*ret_end = UINT64_MAX;
	if (fstat(c->from, &st) < 0)
		return -errno;
	data = lseek(c->from, (off_t)at, SEEK_DATA);
	if (data < 0 && (errno != ENXIO || st.st_size == 0))
		return 1;
	if (data < 0)
		return (uint64_t)st.st_size > at ? skip_to(c, (uint64_t)st.st_size) : 0;
	hole = lseek(c->from, data, SEEK_HOLE);
	r = skip_to(c, (uint64_t)data);
	if (r == 0 && hole >= 0)
		*ret_end = (uint64_t)hole;
	return r < 0 ? r : 1;
}

static int copy_bytes(struct file_op *o, int from, int to)
{
	struct copying c = {.o = o, .from = from, .to = to};
	uint64_t end;
	int r;

	do {
		r = next_data(&c, &end);
		if (r > 0)
			r = copy_data(&c, end);
	} while (r > 0);
	free(c.buf);
	return r;
}

int file_copy(struct file_op *o)
{
	CLEANUP(closep) int from = -1;
	struct draft d;
	struct stat st;
	int r = open_regular(o, &from, &st);

	if (r < 0)
		return r;
	r = draft_open(&d, o->f.to, 0600);
	if (r < 0)
		return work_op_say(&o->op, r, "cannot create: %s", strerror(-r));
	r = copy_bytes(o, from, d.fd);
	if (r == 0)
		r = work_op_stopped(&o->op);
	if (r == 0 && fchmod(d.fd, st.st_mode & 0777) < 0)
		r = -errno;
	return draft_finish(&d, o->f.to, o->f.flags & O_EXCL ? RENAME_NOREPLACE : 0, r);
}
