/*
 * Sealed memfds. Whoever gets one checks the seals before anything else: without them its sender could shorten it while it is
 * read, which is SIGBUS, or change it. A descriptor of another kind has no seals; so no call here waits for a foreign
 * file system.
 */
#include "ipc/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"

#define SEALS      (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define SEAL_TRIES 4

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int copy_and_seal(const void *data, size_t len, int *ret_fd)
{
	CLEANUP(closep) int fd = memfd_create("tined-message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? -errno : write_all(fd, data, len);

	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/*
 * Copies the bytes into a blob. Returns 0, or -errno (-EMFILE, -ENOMEM, ...). The kernel refuses to seal memory while it holds one of
 * its pages for purposes of its own, such as moving it (fcntl(2), F_ADD_SEALS, EBUSY): other pages will do.
 */
int blob_new(const void *data, size_t len, int *ret_fd)
{
	int r = -EBUSY;

	for (int i = 0; i < SEAL_TRIES && r == -EBUSY; i++)
		r = copy_and_seal(data, len, ret_fd);
	return r;
}

/* Returns 0 and the size of a blob; -EPROTO: it is none, or not sealed. */
int blob_check(int fd, uint64_t *ret_size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0)
		return -EPROTO;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* Maps a blob that was checked, for reading. Returns 0 or -errno. */
int blob_map(int fd, size_t size, const void **ret)
{
	void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

void blob_unmap(const void *data, size_t size)
{
	munmap((void *)(uintptr_t)data, size);
}
