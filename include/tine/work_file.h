/*
 * tine/work_file.h - files, without blocking the loop: done on a thread of the worker's pool, lane `io`.
 *
 *	static void on_loaded(struct tine_file_result *r, void *arg)
 *	{
 *		if (r->status < 0)
 *			tine_log(TINE_LOG_WARNING, "%s", r->text); // "load: /srv/motd: No such file or directory"
 *		else
 *			use(r->data, r->len);
 *	}
 *	...
 *	r = tine_file_load(worker, &(struct tine_file){.size = sizeof(struct tine_file),
 *		.path = "/srv/motd", .max = 65536, .on_done = on_loaded}, NULL);
 *
 * Each function takes the fields of `struct tine_file` that it names, ignores the others, and copies what they point to.
 * It returns 0, and then on_done is called exactly once, later, on the loop's thread; or an error, and then nothing
 * was begun:
 *	-EINVAL		an argument is missing, malformed, or beyond its bound
 *	-ENOMEM
 *	TINE_E_FULL	too much work waits for a thread
 *	TINE_E_CLOSED	the worker is about to exit
 *
 * *ret, if ret is not NULL, is a handle for tine_work_cancel(), valid until on_done is called. Work that is cancelled
 * before a thread has begun with it does nothing. What runs stops at its next piece, if it has pieces (read, write, copy,
 * load, save, list), else it is done and its result is freed: a file that was opened is closed again. In either case on_done gets
 * TINE_E_CANCELED, and TINE_E_TIMEOUT if it was timeout_us. What the work had changed until then stays changed, but for copy
 * and save, which change all or nothing.
 *
 * Operations that use the same descriptor may run at the same time and in any order: wait for one before the next if
 * the order matters, and close only what no operation uses.
 *
 * All functions: loop thread only, from worker_start on. When the worker ends, what waits is cancelled and what runs is told to stop;
 * every on_done comes before worker_stop is called, and nothing is taken from then on (see work.h).
 */
#ifndef TINE_WORK_FILE_H
#define TINE_WORK_FILE_H

#include <stdbool.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct statx; /* <sys/stat.h>, statx(2) */
struct tine_work;

#define TINE_FILE_BYTES_MAX   ((size_t)1 << 30)  /* of one read, write, load or save */
#define TINE_FILE_LOAD_MAX    ((size_t)16 << 20) /* of load, when max is 0 */
#define TINE_FILE_ENTRIES_MAX ((size_t)1 << 20)  /* of list, at most */
#define TINE_FILE_LIST_MAX    ((size_t)10000)    /* of list, when max is 0 */

struct tine_file_entry {
	const char *name;
	uint64_t inode;
	unsigned char
		type; /* DT_REG, DT_DIR, ...: readdir(3); DT_UNKNOWN where the file system does not say */
};

/*
 * How an operation ended. Everything in it is valid until the callback returns, but for the descriptor, which is the callback's.
 * The structure may grow at its end.
 */
struct tine_file_result {
	int status; /* 0 or a negative errno */
	/*
	 * What went wrong, with the name of the operation and of the file, or the number of the descriptor; long paths without their
	 * beginning. "" when nothing did.
	 */
	const char *text;
	int fd; /* open: close-on-exec, to be closed by whoever was called back; else -1 */
	/*
	 * read, pread, load: the bytes, with a 0 behind them that does not count. To keep them, set data to NULL; free(3) them then.
	 */
	void *data;
	uint64_t
		len; /* bytes read; bytes written or copied, also when status is an error; entries */
	const struct statx *stat;
	const struct tine_file_entry *entries; /* in the order of their names' bytes */
};

typedef void (*tine_file_fn)(struct tine_file_result *result, void *arg);

/* What an operation is given. */
struct tine_file {
	size_t size; /* sizeof(struct tine_file) */
	/* Up to PATH_MAX bytes. Relative: to the folder of the process, which is not the module's to know. */
	const char *path;
	const char *to; /* copy, rename: the new path */
	int fd;         /* where no path is used; stays the caller's */
	int flags;
	unsigned mode;    /* of what is made, less the umask; 0: 0666, folders 0777 */
	uint64_t offset;  /* pread, pwrite: bytes from the beginning */
	const void *data; /* write, pwrite, save */
	size_t len;       /* bytes of data, or wanted */
	size_t max;       /* load: bytes; list: entries; more is TINE_E_TOO_LARGE */
	bool lent; /* data is not copied: it stays as it is until on_done is called, also after a cancellation */
	uint64_t timeout_us; /* from now to the end of the work; 0: none */
	tine_file_fn on_done;
	void *arg; /* handed to it */
};

/* open(2): path, flags, mode. O_CLOEXEC is added. A FIFO without O_NONBLOCK keeps a thread until its other end is opened. */
TINE_EXPORT int tine_file_open(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* close(2): fd, which is closed in any case, also when this is cancelled. */
TINE_EXPORT int tine_file_close(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);

/*
 * read(2), once: fd, len. Fewer bytes than were wanted, as there are; 0 at the end. Not for pipes and sockets, which belong to the
 * loop: a thread that waits for them cannot be told to stop, and holds up the worker's end.
 */
TINE_EXPORT int tine_file_read(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* pread(2): fd, len, offset. Fewer bytes than were wanted only at the end of the file. */
TINE_EXPORT int tine_file_pread(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* write(2), until all is written: fd, data, len. After an error result->len says how far it came. */
TINE_EXPORT int tine_file_write(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* pwrite(2), likewise: fd, data, len, offset. */
TINE_EXPORT int tine_file_pwrite(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* fsync(2): fd. */
TINE_EXPORT int tine_file_sync(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);

/* statx(2) with STATX_BASIC_STATS and STATX_BTIME: path, or fd if path is NULL. flags: 0 or AT_SYMLINK_NOFOLLOW. */
TINE_EXPORT int tine_file_stat(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* All entries of a folder but "." and "..": path, max. */
TINE_EXPORT int tine_file_list(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* renameat2(2): path, to. flags: 0 or RENAME_NOREPLACE, RENAME_EXCHANGE. */
TINE_EXPORT int tine_file_rename(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* unlinkat(2): path. flags: 0, or AT_REMOVEDIR for an empty folder. */
TINE_EXPORT int tine_file_unlink(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/* mkdir(2): path, mode. */
TINE_EXPORT int tine_file_mkdir(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);

/* All bytes of a regular file: path, max. What is none is -EISDIR or -EINVAL, here and for copy. */
TINE_EXPORT int tine_file_load(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/*
 * Makes a file of data, all or nothing: path, data, len, mode. Written beside the path, under a name that begins with a dot
 * and ends in ".tmp", synced, renamed to it, and the folder synced: whoever opens the path gets the old file or the new one, also after
 * a loss of power. On failure what was written is removed; of a process that is killed meanwhile it stays.
 * A symbolic link at path is replaced, not followed.
 */
TINE_EXPORT int tine_file_save(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);
/*
 * Copies a regular file: path, to, with its permission bits (0777), not its owner and times. By copy_file_range(2)
 * where the file systems can, which some do without moving a byte. Holes stay holes: they cost no time and no room, and count in len.
 * Of a file that is written to meanwhile each part is copied as it is when its turn comes. Appears at `to` as save does, but is
 * not synced. flags: 0, or O_EXCL: -EEXIST when there is something at `to`.
 */
TINE_EXPORT int tine_file_copy(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);

#ifdef __cplusplus
}
#endif
#endif
