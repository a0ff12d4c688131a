/* tine/work_file.h: each operation on real files, what it refuses, what cancelling leaves. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <tine/work_file.h>

#include "run.h"
#include "runtime/work_file.h"
#include "work_harness.h"

#define MIB (1u << 20)

typedef int (*file_fn)(
	struct tine_worker *worker, const struct tine_file *f, struct tine_work **ret);

static const struct {
	const char *name;
	file_fn fn;
} operations[] = {
	{"open", tine_file_open},
	{"close", tine_file_close},
	{"read", tine_file_read},
	{"pread", tine_file_pread},
	{"write", tine_file_write},
	{"pwrite", tine_file_pwrite},
	{"sync", tine_file_sync},
	{"stat", tine_file_stat},
	{"list", tine_file_list},
	{"rename", tine_file_rename},
	{"unlink", tine_file_unlink},
	{"mkdir", tine_file_mkdir},
	{"load", tine_file_load},
	{"save", tine_file_save},
	{"copy", tine_file_copy},
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static char folder[] = "/tmp/test-work-file-XXXXXX";

static int grows_fd = -1; /* written to as soon as somebody is told that there is no more data */

/* Of the whole program, instead of the C library's. */
off_t lseek(int fd, off_t offset, int whence)
{
	off_t r = syscall(SYS_lseek, fd, offset, whence);

	if (r < 0 && whence == SEEK_DATA && grows_fd >= 0) {
		ck_assert_int_eq(write(grows_fd, "yyy", 3), 3);
		close(grows_fd);
		grows_fd = -1;
		errno = ENXIO;
	}
	return r;
}

/* The last result. */
static struct {
	int status, fd;
	char text[512];
	char *data;
	uint64_t len;
	struct statx stat;
	char names[4][32];
} last;

static void on_done(struct tine_file_result *r, void *arg)
{
	ck_assert_ptr_eq(arg, &last);
	free(last.data);
	last.status = r->status;
	last.fd = r->fd;
	last.len = r->len;
	last.data = r->data;
	r->data = NULL;
	snprintf(last.text, sizeof(last.text), "%s", r->text);
	ck_assert_int_eq(r->status < 0, *r->text != '\0');
	if (r->stat)
		last.stat = *r->stat;
	for (size_t i = 0; r->entries && i < r->len && i < 4; i++)
		snprintf(last.names[i], sizeof(last.names[i]), "%s", r->entries[i].name);
	n_done++;
}

static int submit(file_fn fn, struct tine_file f, struct tine_work **ret)
{
	f.size = sizeof(f);
	f.on_done = on_done;
	f.arg = &last;
	return fn(&worker, &f, ret);
}

/* Runs an operation to its end. Returns its status. */
static int run(file_fn fn, struct tine_file f)
{
	unsigned n = n_done;

	ck_assert_int_eq(submit(fn, f, NULL), 0);
	ck_assert_uint_eq(n_done, n);
	run_until(n + 1);
	return last.status;
}

#define RUN(name, ...) run(tine_file_##name, (struct tine_file){__VA_ARGS__})

static const char *at(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", folder, name);
	return path;
}

static void make(const char *path, size_t len, mode_t mode)
{
	FILE *f = fopen(path, "w");

	for (size_t i = 0; i < len; i++)
		putc((int)(i * 7 % 251), f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static void check_same(const char *path, const char *other)
{
	char command[2 * PATH_MAX + 16];

	snprintf(command, sizeof(command), "cmp %s %s", path, other);
	ck_assert_int_eq(system(command), 0);
}

static void setup(void)
{
	strcpy(folder, "/tmp/test-work-file-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	memset(&last, 0, sizeof(last));
	work_setup();
}

static void teardown(void)
{
	char command[sizeof(folder) + 16];

	work_teardown();
	free(last.data);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	ck_assert_int_eq(system(command), 0);
}

static int open_file(const char *path, int flags)
{
	ck_assert_int_eq(RUN(open, .path = path, .flags = flags, .mode = 0640), 0);
	ck_assert_int_ge(last.fd, 0);
	return last.fd;
}

START_TEST(test_descriptor)
{
	const char *path = at("f");
	unsigned n = count_descriptors();
	int fd = open_file(path, O_RDWR | O_CREAT);
	struct stat st;

	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777 & ~0640u, 0);
	ck_assert_int_eq(RUN(write, .fd = fd, .data = "hello, world", .len = 12), 0);
	ck_assert_uint_eq(last.len, 12);
	ck_assert_int_eq(RUN(pwrite, .fd = fd, .data = "HE", .len = 2, .offset = 0), 0);
	ck_assert_int_eq(RUN(pread, .fd = fd, .len = 100, .offset = 0), 0);
	ck_assert_uint_eq(last.len, 12);
	ck_assert_str_eq(last.data, "HEllo, world");
	ck_assert_int_eq(RUN(pread, .fd = fd, .len = 3, .offset = 7), 0);
	ck_assert_str_eq(last.data, "wor");
	ck_assert_int_eq(RUN(read, .fd = fd, .len = 100), 0); /* behind what was written */
	ck_assert_uint_eq(last.len, 0);
	ck_assert_int_eq(lseek(fd, 7, SEEK_SET), 7);
	ck_assert_int_eq(RUN(read, .fd = fd, .len = 100), 0);
	ck_assert_str_eq(last.data, "world");
	ck_assert_int_eq(RUN(sync, .fd = fd), 0);
	ck_assert_int_eq(RUN(stat, .fd = fd), 0);
	ck_assert_uint_eq(last.stat.stx_size, 12);
	ck_assert_int_eq(RUN(close, .fd = fd), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	ck_assert_uint_eq(count_descriptors(), n);
	ck_assert_int_eq(RUN(close, .fd = fd), -EBADF);
}
END_TEST

/* Ends of the text of the last result. */
static void says(const char *begin, const char *end)
{
	size_t len = strlen(last.text), n = strlen(end);

	ck_assert_msg(strncmp(last.text, begin, strlen(begin)) == 0, "%s", last.text);
	ck_assert_msg(len >= n && strcmp(last.text + len - n, end) == 0, "%s", last.text);
}

/* The operation, the file or the descriptor, and the reason, however long the path is. */
START_TEST(test_texts)
{
	struct sockaddr_un socket_at = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char path[1024];

	ck_assert_int_eq(RUN(read, .fd = 12345, .len = 1), -EBADF);
	ck_assert_str_eq(last.text, "read: descriptor 12345: Bad file descriptor");
	ck_assert_int_eq(RUN(close, .fd = 12345), -EBADF);
	ck_assert_str_eq(last.text, "close: descriptor 12345: Bad file descriptor");
	ck_assert_int_eq(RUN(stat, .fd = 12345), -EBADF);
	ck_assert_str_eq(last.text, "stat: descriptor 12345: Bad file descriptor");
	snprintf(socket_at.sun_path, sizeof(socket_at.sun_path), "%s/s", folder);
	ck_assert_int_eq(bind(s, (struct sockaddr *)&socket_at, sizeof(socket_at)), 0);
	close(s);
	ck_assert_int_eq(RUN(copy, .path = at("s"), .to = at("t")), -EINVAL);
	says("copy: /tmp/", "/t: not a regular file");
	make(at("f"), 10, 0600);
	ck_assert_int_eq(RUN(copy, .path = at("f"), .to = at("no/t")), -ENOENT);
	says("copy: /tmp/", "/no/t: cannot create: No such file or directory");
	for (size_t i = 0; i < sizeof(path) - 1; i++)
		path[i] = i % 100 == 0 ? '/' : 'x';
	path[sizeof(path) - 1] = '\0';
	memcpy(path + sizeof(path) - 5, "/end", 4);
	ck_assert_int_eq(RUN(load, .path = path), -ENOENT);
	says("load: ...xxx", "xx/end: No such file or directory");
	ck_assert_int_eq(RUN(rename, .path = path, .to = path), -ENOENT);
	says("rename: ...xxx", "xx/end: No such file or directory");
	ck_assert_ptr_nonnull(strstr(last.text, "xx/end -> ...xxx"));
}
END_TEST

/* More than one piece. */
START_TEST(test_large)
{
	size_t len = 3 * MIB + 17;
	char *data = malloc(len);
	int fd = open_file(at("f"), O_RDWR | O_CREAT);

	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i * 13 % 251);
	ck_assert_int_eq(RUN(write, .fd = fd, .data = data, .len = len, .lent = true), 0);
	ck_assert_uint_eq(last.len, len);
	ck_assert_int_eq(RUN(pread, .fd = fd, .len = len + 1), 0);
	ck_assert_uint_eq(last.len, len);
	ck_assert_mem_eq(last.data, data, len);
	ck_assert_int_eq(RUN(pwrite, .fd = fd, .data = data, .len = len, .offset = 1), 0);
	ck_assert_int_eq(RUN(load, .path = at("f")), 0);
	ck_assert_uint_eq(last.len, len + 1);
	ck_assert_mem_eq(last.data + 1, data, len);
	close(fd);
	free(data);
}
END_TEST

START_TEST(test_names)
{
	make(at("a"), 10, 0644);
	ck_assert_int_eq(RUN(stat, .path = at("a")), 0);
	ck_assert_uint_eq(last.stat.stx_size, 10);
	ck_assert_int_eq(RUN(rename, .path = at("a"), .to = at("b")), 0);
	ck_assert_int_eq(access(at("a"), F_OK), -1);
	make(at("a"), 10, 0644);
	ck_assert_int_eq(
		RUN(rename, .path = at("a"), .to = at("b"), .flags = RENAME_NOREPLACE), -EEXIST);
	ck_assert_ptr_nonnull(strstr(last.text, " -> "));
	ck_assert_int_eq(symlink("nowhere", at("link")), 0);
	ck_assert_int_eq(RUN(stat, .path = at("link")), -ENOENT);
	ck_assert_int_eq(RUN(stat, .path = at("link"), .flags = AT_SYMLINK_NOFOLLOW), 0);
	ck_assert(S_ISLNK(last.stat.stx_mode));
	ck_assert_int_eq(RUN(mkdir, .path = at("d"), .mode = 0700), 0);
	ck_assert_int_eq(RUN(mkdir, .path = at("d")), -EEXIST);
	ck_assert_int_eq(RUN(unlink, .path = at("d")), -EISDIR);
	ck_assert_int_eq(RUN(unlink, .path = at("d"), .flags = AT_REMOVEDIR), 0);
	ck_assert_int_eq(RUN(unlink, .path = at("a")), 0);
	ck_assert_int_eq(RUN(unlink, .path = at("a")), -ENOENT);
	ck_assert_ptr_nonnull(strstr(last.text, "unlink: /tmp/"));
	ck_assert_ptr_nonnull(strstr(last.text, "/a: No such file or directory"));
}
END_TEST

START_TEST(test_list)
{
	char name[32];

	ck_assert_int_eq(RUN(list, .path = folder), 0);
	ck_assert_uint_eq(last.len, 0);
	for (int i = 299; i >= 0; i--) {
		snprintf(name, sizeof(name), "entry-with-a-name-%03d", i);
		make(at(name), 0, 0600);
	}
	ck_assert_int_eq(RUN(list, .path = folder), 0);
	ck_assert_uint_eq(last.len, 300);
	ck_assert_str_eq(last.names[0], "entry-with-a-name-000");
	ck_assert_str_eq(last.names[3], "entry-with-a-name-003");
	ck_assert_int_eq(RUN(list, .path = folder, .max = 300), 0);
	ck_assert_int_eq(RUN(list, .path = folder, .max = 299), TINE_E_TOO_LARGE);
	ck_assert_int_eq(RUN(list, .path = at("nowhere")), -ENOENT);
	ck_assert_int_eq(RUN(list, .path = at("entry-with-a-name-000")), -ENOTDIR);
}
END_TEST

START_TEST(test_load)
{
	make(at("f"), 5000, 0600);
	ck_assert_int_eq(RUN(load, .path = at("f"), .max = 5000), 0);
	ck_assert_uint_eq(last.len, 5000);
	ck_assert_int_eq(last.data[5000], 0);
	ck_assert_int_eq(RUN(load, .path = at("f"), .max = 4999), TINE_E_TOO_LARGE);
	make(at("empty"), 0, 0600);
	ck_assert_int_eq(RUN(load, .path = at("empty")), 0);
	ck_assert_uint_eq(last.len, 0);
	ck_assert_str_eq(last.data, "");
	/* These say that they have no bytes. */
	ck_assert_int_eq(RUN(load, .path = "/proc/self/smaps"), 0);
	ck_assert_uint_gt(last.len, 4096);
	ck_assert_int_eq(RUN(load, .path = "/proc/self/smaps", .max = 4096), TINE_E_TOO_LARGE);
	ck_assert_int_eq(RUN(load, .path = "/proc/self/smaps", .max = 1), TINE_E_TOO_LARGE);
	ck_assert_int_eq(RUN(load, .path = folder), -EISDIR);
	ck_assert_int_eq(RUN(load, .path = at("nowhere")), -ENOENT);
	ck_assert_int_eq(RUN(load, .path = "/dev/zero"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(last.text, "not a regular file"));
	ck_assert_int_eq(mkfifo(at("fifo"), 0600), 0);
	ck_assert_int_eq(RUN(load, .path = at("fifo")), -EINVAL);
}
END_TEST

START_TEST(test_save)
{
	struct stat st;

	umask(022);
	ck_assert_int_eq(RUN(save, .path = at("f"), .data = "one", .len = 3), 0);
	ck_assert_int_eq(stat(at("f"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0644);
	ck_assert_int_eq(RUN(save, .path = at("f"), .data = "two2", .len = 4, .mode = 0600), 0);
	ck_assert_int_eq(stat(at("f"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(RUN(save, .path = at("empty")), 0);
	ck_assert_int_eq(RUN(load, .path = at("f")), 0);
	ck_assert_str_eq(last.data, "two2");
	ck_assert_int_eq(RUN(save, .path = at("no/f"), .data = "x", .len = 1), -ENOENT);
	ck_assert_int_eq(mkdir(at("d"), 0700), 0);
	ck_assert_int_eq(RUN(save, .path = at("d"), .data = "x", .len = 1), -EISDIR);
	ck_assert_int_eq(RUN(save, .path = at("d/"), .data = "x", .len = 1), -EISDIR);
	ck_assert_uint_eq(count_entries(folder), 3);
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(RUN(save, .path = "here", .data = "x", .len = 1), 0);
	ck_assert_int_eq(access(at("here"), F_OK), 0);
	ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(test_copy)
{
	struct stat st;

	make(at("f"), 3 * MIB + 1, 0640);
	ck_assert_int_eq(RUN(copy, .path = at("f"), .to = at("g")), 0);
	ck_assert_uint_eq(last.len, 3 * MIB + 1);
	check_same(at("f"), at("g"));
	ck_assert_int_eq(stat(at("g"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	ck_assert_int_eq(RUN(copy, .path = "/proc/version", .to = at("g")), 0);
	ck_assert_uint_gt(last.len, 0);
	check_same("/proc/version", at("g"));
	ck_assert_int_eq(RUN(copy, .path = at("f"), .to = at("g"), .flags = O_EXCL), -EEXIST);
	ck_assert_int_eq(RUN(copy, .path = folder, .to = at("h")), -EISDIR);
	ck_assert_int_eq(RUN(copy, .path = "/dev/zero", .to = at("h")), -EINVAL);
	ck_assert_int_eq(RUN(copy, .path = at("no"), .to = at("h")), -ENOENT);
	ck_assert_int_eq(RUN(copy, .path = at("f"), .to = at("no/h")), -ENOENT);
	ck_assert_uint_eq(count_entries(folder), 2);
}
END_TEST

/* A file of so many bytes, with a byte in each of the places and holes everywhere else. */
static int make_sparse(int fd, off_t size, const off_t *places, size_t n)
{
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(pwrite(fd, "x", 1, places[i]), 1);
	return fd;
}

/* The copy is the same, and takes no more room. */
static void check_sparse(int fd, const char *path, const char *copy)
{
	struct stat a, b;

	ck_assert_int_eq(RUN(copy, .path = path, .to = copy), 0);
	check_same(path, copy);
	ck_assert_int_eq(fstat(fd, &a), 0);
	ck_assert_int_eq(stat(copy, &b), 0);
	ck_assert_uint_eq(last.len, (uint64_t)a.st_size);
	ck_assert_int_eq(b.st_size, a.st_size);
	ck_assert_int_le(b.st_blocks * 512, 8 * 65536);
	close(fd);
}

START_TEST(test_copy_holes)
{
	const off_t size = 64 * MIB, places[] = {20 * MIB, 20 * MIB + 65536, size - 1};
	char memory[64];
	int fd;

	for (size_t n = 0; n <= 3; n++) {
		fd = open(at("f"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		check_sparse(make_sparse(fd, size, places, n), at("f"), at("g"));
	}
	/* From one file system to another, which is done by hand. */
	fd = make_sparse(memfd_create("f", MFD_CLOEXEC), size, places, 2);
	snprintf(memory, sizeof(memory), "/proc/%d/fd/%d", (int)getpid(), fd);
	check_sparse(fd, memory, at("g"));
}
END_TEST

/* What comes when the copy has just been told that there is no more data is in it or not, but is no hole. */
START_TEST(test_copy_grows)
{
	ck_assert_int_eq(RUN(save, .path = at("f"), .data = "xxx", .len = 3), 0);
	grows_fd = open(at("f"), O_WRONLY | O_APPEND | O_CLOEXEC);
	ck_assert_int_ge(grows_fd, 0);
	ck_assert_int_eq(RUN(copy, .path = at("f"), .to = at("g")), 0);
	ck_assert_int_eq(grows_fd, -1);
	ck_assert_int_eq(RUN(load, .path = at("g")), 0);
	ck_assert_str_eq(last.data, "xxx");
	ck_assert_uint_eq(last.len, 3);
}
END_TEST

/* A disk that is full half-way: nothing is left of the new file, and the old one is as it was. */
START_TEST(test_no_room)
{
	struct rlimit old, small;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	char *data = calloc(1, 3 * MIB);

	make(at("f"), 3 * MIB, 0600);
	make(at("g"), 10, 0600);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){.rlim_cur = MIB + MIB / 2, .rlim_max = old.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	ck_assert_int_eq(RUN(copy, .path = at("f"), .to = at("g")), -EFBIG);
	ck_assert_int_eq(RUN(save, .path = at("g"), .data = data, .len = 3 * MIB), -EFBIG);
	ck_assert_uint_eq(last.len, MIB + MIB / 2);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, handler);
	ck_assert_uint_eq(count_entries(folder), 2);
	ck_assert_int_eq(RUN(load, .path = at("g")), 0);
	ck_assert_uint_eq(last.len, 10);
	free(data);
}
END_TEST

static void refuse(file_fn fn, struct tine_file f)
{
	f.size = sizeof(f);
	f.on_done = f.on_done ? f.on_done : on_done;
	ck_assert_int_eq(fn(&worker, &f, NULL), -EINVAL);
}

#define REFUSE(name, ...) refuse(tine_file_##name, (struct tine_file){__VA_ARGS__})

/* What may be wrong with any of them. */
START_TEST(test_bad_input)
{
	struct tine_file f = {.size = sizeof(f),
		.path = "/x",
		.to = "/y",
		.fd = 0,
		.data = "x",
		.len = 1,
		.on_done = on_done};

	for (size_t i = 0; i < N_OPERATIONS; i++) {
		struct tine_file bad = f;

		ck_assert_int_eq(operations[i].fn(NULL, &f, NULL), -EINVAL);
		ck_assert_int_eq(operations[i].fn(&worker, NULL, NULL), -EINVAL);
		bad.on_done = NULL;
		ck_assert_int_eq(operations[i].fn(&worker, &bad, NULL), -EINVAL);
		bad = f;
		bad.size = 1;
		ck_assert_int_eq(operations[i].fn(&worker, &bad, NULL), -EINVAL);
		bad = f;
		bad.mode = 010000;
		ck_assert_int_eq(operations[i].fn(&worker, &bad, NULL), -EINVAL);
	}
	run_idle();
}
END_TEST

START_TEST(test_bad_fields)
{
	char *path = malloc(PATH_MAX + 1);

	memset(path, 'x', PATH_MAX);
	path[PATH_MAX] = '\0';
	REFUSE(open, .path = NULL);
	REFUSE(open, .path = "");
	REFUSE(open, .path = path);
	REFUSE(rename, .path = "/x");
	REFUSE(rename, .path = "/x", .to = "/y", .flags = 1 << 30);
	REFUSE(copy, .path = "/x", .to = "/y", .flags = O_TRUNC);
	REFUSE(stat, .path = "/x", .flags = O_TRUNC);
	REFUSE(stat, .fd = -1);
	REFUSE(unlink, .path = "/x", .flags = -1);
	REFUSE(close, .fd = -1);
	REFUSE(read, .fd = 0, .len = 0);
	REFUSE(read, .fd = 0, .len = SIZE_MAX);
	REFUSE(pread, .fd = 0, .len = 1, .offset = UINT64_MAX);
	REFUSE(pread, .fd = 0, .len = 1, .offset = INT64_MAX);
	REFUSE(write, .fd = 0, .len = 1);
	REFUSE(write, .fd = 0, .data = "x", .len = SIZE_MAX);
	REFUSE(save, .path = "/x", .data = "x", .len = TINE_FILE_BYTES_MAX + 1);
	REFUSE(load, .path = "/x", .max = SIZE_MAX);
	REFUSE(list, .path = "/", .max = SIZE_MAX);
	run_idle();
	free(path);
}
END_TEST

/* The structure of a module that was built before it grew, and one that was built after. */
START_TEST(test_sizes)
{
	struct {
		struct tine_file f;
		char more[64];
	} new = {.f = {.size = sizeof(new),
			 .path = "/",
			 .max = 1000,
			 .on_done = on_done,
			 .arg = &last}};

	ck_assert_int_eq(tine_file_list(&worker, &new.f, NULL), 0);
	run_until(1);
	ck_assert_int_eq(last.status, 0);
	new.more[0] = 1; /* and the module uses it */
	ck_assert_int_eq(tine_file_list(&worker, &new.f, NULL), -ENOTSUP);
	new.f.size = offsetof(struct tine_file, on_done); /* there never was one without */
	ck_assert_int_eq(tine_file_list(&worker, &new.f, NULL), -EINVAL);
}
END_TEST

/* What waits never runs. */
START_TEST(test_cancel_queued)
{
	struct hold h;
	struct tine_work *w[4];

	hold_begin(&h, POOL_IO);
	ck_assert_int_eq(submit(tine_file_mkdir, (struct tine_file){.path = at("d")}, &w[0]), 0);
	ck_assert_int_eq(submit(tine_file_save,
				 (struct tine_file){.path = at("f"), .data = "x", .len = 1}, &w[1]),
		0);
	work_cancel(w[0]);
	work_cancel(w[1]);
	ck_assert_uint_eq(n_done, 0);
	run_until(2);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	says("save: /tmp/", "/f: canceled");
	hold_end(&h);
	run_idle();
	ck_assert_uint_eq(count_entries(folder), 0);
}
END_TEST

/* What was done but not yet heard of: the descriptor and the memory have no owner, and go. */
START_TEST(test_cancel_done)
{
	unsigned n = count_descriptors();
	struct tine_work *w[3];
	struct hold h;

	make(at("f"), 100, 0600);
	ck_assert_int_eq(submit(tine_file_open, (struct tine_file){.path = at("f")}, &w[0]), 0);
	ck_assert_int_eq(submit(tine_file_load, (struct tine_file){.path = at("f")}, &w[1]), 0);
	ck_assert_int_eq(submit(tine_file_list, (struct tine_file){.path = folder}, &w[2]), 0);
	hold_begin(&h, POOL_IO);
	ck_assert_uint_eq(count_descriptors(), n + 1);
	for (int i = 0; i < 3; i++)
		work_cancel(w[i]);
	hold_end(&h);
	ck_assert_uint_eq(n_done, 3);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	ck_assert_int_eq(last.fd, -1);
	ck_assert_ptr_null(last.data);
	ck_assert_uint_eq(count_descriptors(), n);
}
END_TEST

/* A descriptor that was given to close() is closed, come what may; but not when it was not taken. */
START_TEST(test_cancel_close)
{
	struct tine_file f = {.fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
	struct tine_work *w;
	struct hold h;
	char text[64];

	snprintf(text, sizeof(text), "close: descriptor %d: canceled", f.fd);
	hold_begin(&h, POOL_IO);
	ck_assert_int_eq(submit(tine_file_close, f, &w), 0);
	work_cancel(w);
	run_until(1);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	ck_assert_str_eq(last.text, text);
	ck_assert_int_eq(fcntl(f.fd, F_GETFD), -1);
	hold_end(&h);
}
END_TEST

/* What waits longer than it may. */
START_TEST(test_timeout)
{
	struct hold h;

	hold_begin(&h, POOL_IO);
	ck_assert_int_eq(
		RUN(copy, .path = at("f"), .to = at("g"), .timeout_us = 1), TINE_E_TIMEOUT);
	says("copy: /tmp/", "/g: timed out");
	hold_end(&h);
}
END_TEST

START_TEST(test_full)
{
	struct tine_file f = {.fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
	unsigned n = 0;
	struct hold h;

	hold_begin(&h, POOL_IO);
	while (submit(tine_file_sync, f, NULL) == 0)
		n++;
	ck_assert_uint_gt(n, 0);
	ck_assert_int_eq(submit(tine_file_close, f, NULL), TINE_E_FULL);
	ck_assert_int_ge(fcntl(f.fd, F_GETFD), 0);
	hold_end(&h);
	run_until(n);
	close(f.fd);
}
END_TEST

/* A pipe that nobody reads keeps the write in its first piece; then it sees that it is to stop. */
START_TEST(test_cancel_running)
{
	char *data = calloc(1, 3 * MIB), buf[4096];
	struct tine_work *w;
	size_t n = 0;
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(
		submit(tine_file_write,
			(struct tine_file){.fd = fds[1], .data = data, .len = 3 * MIB}, &w),
		0);
	free(data); /* it was copied */
	ck_assert_int_eq(read(fds[0], buf, 1), 1);
	work_cancel(w);
	for (n = 1; n < MIB;) {
		ssize_t got = read(fds[0], buf, sizeof(buf));

		ck_assert_int_gt(got, 0);
		n += (size_t)got;
	}
	run_until(1);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	ck_assert_uint_eq(last.len, MIB);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* Stopped between two pieces. */
START_TEST(test_cancel_whole)
{
	struct file_op o = {.op.work.stop = -ECANCELED};

	make(at("f"), 100, 0600);
	o.f = (struct tine_file){.path = at("f"), .to = at("g"), .data = "x", .len = 1, .max = 100};
	ck_assert_int_eq(file_copy(&o), -ECANCELED);
	o.f.path = o.f.to;
	ck_assert_int_eq(file_save(&o), -ECANCELED);
	o.f.path = at("f");
	ck_assert_int_eq(file_load(&o), -ECANCELED);
	free(o.result.data);
	ck_assert_uint_eq(count_entries(folder), 1);
}
END_TEST

/* The process ends: what waits is given back, nothing is left open. */
START_TEST(test_end)
{
	struct tine_file f = {.path = "/dev/null"};

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(submit(tine_file_stat, f, NULL), 0);
	worker.pool = pool_free(worker.pool);
	ck_assert_uint_eq(n_done, 4);
	ck_assert_int_eq(submit(tine_file_stat, f, NULL), -EINVAL);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_descriptor);
	tcase_add_test(tc, test_texts);
	tcase_add_test(tc, test_large);
	tcase_add_test(tc, test_names);
	tcase_add_test(tc, test_list);
	tcase_add_test(tc, test_load);
	tcase_add_test(tc, test_save);
	tcase_add_test(tc, test_copy);
	tcase_add_test(tc, test_copy_holes);
	tcase_add_test(tc, test_copy_grows);
	tcase_add_test(tc, test_no_room);
	tcase_add_test(tc, test_bad_input);
	tcase_add_test(tc, test_bad_fields);
	tcase_add_test(tc, test_sizes);
	tcase_add_test(tc, test_cancel_queued);
	tcase_add_test(tc, test_cancel_done);
	tcase_add_test(tc, test_cancel_close);
	tcase_add_test(tc, test_timeout);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_cancel_running);
	tcase_add_test(tc, test_cancel_whole);
	tcase_add_test(tc, test_end);
}

int main(void)
{
	return run_tests("work_file", add);
}
