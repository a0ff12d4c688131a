/* Ready-made work on files: the operations of tine/work_file.h. */
#pragma once

#include <sys/stat.h>

#include <tine/work_file.h>

#include "runtime/work_op.h"

enum file_kind {
	FILE_OPEN,
	FILE_CLOSE,
	FILE_READ,
	FILE_PREAD,
	FILE_WRITE,
	FILE_PWRITE,
	FILE_SYNC,
	FILE_STAT,
	FILE_LIST,
	FILE_RENAME,
	FILE_UNLINK,
	FILE_MKDIR,
	FILE_LOAD,
	FILE_SAVE,
	FILE_COPY,
	FILE_KINDS,
};

struct file_op {
	struct work_op op; /* first */
	struct tine_file f;
	struct tine_file_result result;
	struct statx stat;
	bool closed; /* the descriptor it was given, to be closed */
	char *names; /* what the entries point into */
};

int work_file_submit(struct tine_worker *worker, enum file_kind kind, const struct tine_file *f,
	struct tine_work **ret);

/* On a thread: 0 or a negative errno. */
int file_list(struct file_op *o);
int file_load(struct file_op *o);
int file_save(struct file_op *o);
int file_copy(struct file_op *o);
int file_write_all(struct file_op *o, int fd, const void *data, size_t len);
