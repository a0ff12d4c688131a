/*
 * tine/work_file.h: files off the loop, for modules. Runs in the worker, on the loop's thread; what each operation may be given is
 * checked by the table of runtime/work_file.c.
 */
#include "runtime/work_file.h"

#define OPERATION(name, kind)                                                                  \
	int tine_file_##name(                                                                  \
		struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret) \
	{                                                                                      \
		return work_file_submit(worker, kind, f, ret);                                 \
	}

OPERATION(open, FILE_OPEN)
OPERATION(close, FILE_CLOSE)
OPERATION(read, FILE_READ)
OPERATION(pread, FILE_PREAD)
OPERATION(write, FILE_WRITE)
OPERATION(pwrite, FILE_PWRITE)
OPERATION(sync, FILE_SYNC)
OPERATION(stat, FILE_STAT)
OPERATION(list, FILE_LIST)
OPERATION(rename, FILE_RENAME)
OPERATION(unlink, FILE_UNLINK)
OPERATION(mkdir, FILE_MKDIR)
OPERATION(load, FILE_LOAD)
OPERATION(save, FILE_SAVE)
OPERATION(copy, FILE_COPY)
