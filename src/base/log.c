/*
 * The log of one process: formats a line once and hands it to the sink. Writes are whole lines in one
 * system call, so lines of several processes never mix. Never fails its caller and never waits: a full disk, or a pipe
 * that nobody empties, loses lines, not service.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

#define LINE_MAX_BYTES 2048

_Atomic(enum log_level) log_max_level = LOG_LVL_INFO;

static const struct sockaddr_un journal = {
	.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};

static struct {
	enum log_sink sink;
	int fd; /* stderr, the file, or a socket for the journal */
	char *path;
	char name[32];
	char fields[128];   /* of every entry in the journal; empty or "NAME=value\n" for each */
	int journal_fd;     /* when journald reads our stderr; -1: it does not */
	atomic_uint n_lost; /* lines there was no room for */
	bool to_journal_stream; /* stderr is read by journald: mark priorities, leave out the time */
} log_state = {
	.fd = STDERR_FILENO, .name = "tined", .fields = "TINE_ROLE=primary\n", .journal_fd = -1};

static const struct {
	const char *name;
	int priority; /* syslog(3) */
} levels[] = {
	[LOG_LVL_ERROR] = {"error", 3},
	[LOG_LVL_WARNING] = {"warning", 4},
	[LOG_LVL_INFO] = {"info", 6},
	[LOG_LVL_DEBUG] = {"debug", 7},
};

static int open_file(const char *path)
{
	int fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

	return fd < 0 ? -errno : fd;
}

/*
 * A socket of our own: libsystemd's keeps its number in a place we cannot see, where it outlives the close_range(2)
 * of a new child, and it blocks when journald is stuck.
 */
static int open_journal(void)
{
	int fd;

	if (access(journal.sun_path, F_OK) < 0)
		return -errno;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

/*
 * The descriptor of a sink, close-on-exec; that of stderr is STDERR_FILENO itself. path: for LOG_SINK_FILE.
 * Returns it or -errno.
 */
int log_open_sink(enum log_sink sink, const char *path)
{
	if (sink == LOG_SINK_STDERR)
		return STDERR_FILENO;
	return sink == LOG_SINK_FILE ? open_file(path) : open_journal();
}

/*
 * Sends one line, without its newline, to the journal; fd: from log_open_sink(). fields: NULL, or "NAME=value\n" for
 * each (systemd.journal-fields(7)), besides those of this process. Never waits. Returns 0 or -errno: the line is lost.
 */
int log_send_journal(int fd, enum log_level level, const char *fields, const char *text, size_t len)
{
	char head[64];
	struct iovec parts[] = {
		{head, 0},
		{log_state.fields, strlen(log_state.fields)},
		{(void *)fields, fields ? strlen(fields) : 0},
		{(void *)"MESSAGE=", strlen("MESSAGE=")},
		{(void *)text, len},
		{(void *)"\n", 1},
	};
	struct msghdr m = {.msg_name = (void *)&journal,
		.msg_namelen = sizeof(journal),
		.msg_iov = parts,
		.msg_iovlen = sizeof(parts) / sizeof(*parts)};

	parts[0].iov_len = (size_t)snprintf(head, sizeof(head),
		"PRIORITY=%d\nSYSLOG_IDENTIFIER=tined\n", levels[level].priority);
	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Whether stderr is read by journald: sd-daemon(3), $JOURNAL_STREAM. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
		fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* Chooses the sink. path: for LOG_SINK_FILE. Returns 0 or -errno; the old sink stays after an error. */
int log_open(enum log_sink sink, const char *path)
{
	CLEANUP(freep) char *copy = path ? strdup(path) : NULL;
	int fd;

	if (path && !copy)
		return -ENOMEM;
	fd = log_open_sink(sink, path);
	if (fd < 0)
		return fd;
	if (log_state.fd != STDERR_FILENO)
		close(log_state.fd);
	if (log_state.journal_fd >= 0)
		close(log_state.journal_fd);
	free(log_state.path);
	log_state.sink = sink;
	log_state.fd = fd;
	log_state.path = take_ptr(copy);
	log_state.to_journal_stream = sink == LOG_SINK_STDERR && stderr_is_journal();
	/* There, entries can have fields. When that fails, lines do: as journald wants them from a stream. */
	log_state.journal_fd = log_state.to_journal_stream ? open_journal() : -1;
	return 0;
}

/*
 * Takes over an open log file, which the primary reopened for us. Ignored (closed) when we log elsewhere. It gets the number of the old
 * one: another thread may be about to write there, and must not find somebody else's file.
 */
void log_set_fd(int fd)
{
	if (log_state.sink == LOG_SINK_FILE)
		dup3(fd, log_state.fd, O_CLOEXEC);
	close(fd);
}

/* The descriptor of the log file, or -1 when we do not log to one. */
int log_fd(void)
{
	return log_state.sink == LOG_SINK_FILE ? log_state.fd : -1;
}

/* The descriptor a new child must keep to be able to log; -1: none beyond stderr. */
int log_keep_fd(void)
{
	return log_state.fd == STDERR_FILENO ? log_state.journal_fd : log_state.fd;
}

/* Opens the log file anew, after it was rotated away. Returns 0 or -errno; the old file stays after an error. */
int log_reopen(void)
{
	int fd;

	if (log_state.sink != LOG_SINK_FILE)
		return 0;
	fd = open_file(log_state.path);
	if (fd < 0)
		return fd;
	log_set_fd(fd);
	return 0;
}

void log_set_level(enum log_level level)
{
	log_max_level = level;
}

/* Who speaks from now on. slot < 0: the role has but one process. */
void log_set_name(const char *role, int slot)
{
	if (slot < 0)
		snprintf(log_state.name, sizeof(log_state.name), "%s", role);
	else
		snprintf(log_state.name, sizeof(log_state.name), "%s[%d]", role, slot);
}

/* What the journal shall say of every entry of this process: "NAME=value\n" for each. At most 127 bytes. */
void log_set_fields(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(log_state.fields, sizeof(log_state.fields), fmt, ap);
	va_end(ap);
}

/* Copies text, everything but printable ASCII as \xNN; cuts what does not fit. Returns the bytes written. */
static size_t escape(char *out, size_t size, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p && n + 5 < size; p++) {
		if (*p >= 0x20 && *p < 0x7f) {
			out[n++] = (char)*p;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[*p >> 4];
		out[n++] = hex[*p & 15];
	}
	return n;
}

static size_t prefix(char *out, size_t size, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	char when[40];

	if (log_state.to_journal_stream)
		return (size_t)snprintf(
			out, size, "<%d>%s: ", levels[level].priority, log_state.name);
	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	return (size_t)snprintf(out, size, "%s.%03ld %s %s: ", when, ts.tv_nsec / 1000000,
		levels[level].name, log_state.name);
}

/* Room for a line of at most PIPE_BUF bytes, as far as poll(2) can tell; regular files always have it. */
static bool has_room(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void write_line(const char *line, size_t n)
{
	char lost[96];
	unsigned n_lost;
	int len;

	if (!has_room(log_state.fd)) {
		log_state.n_lost++;
		return;
	}
	n_lost = log_state.n_lost > 0 ? atomic_exchange(&log_state.n_lost, 0) : 0;
	if (n_lost > 0) {
		len = snprintf(lost, sizeof(lost), "%s: %u lines of the log were lost\n",
			log_state.name, n_lost);
		if (write(log_state.fd, lost, (size_t)len) < 0 || !has_room(log_state.fd))
			return;
	}
	if (write(log_state.fd, line, n) < 0)
		log_state.n_lost++;
}

/* Returns 0 or -errno. */
static int send_line(int fd, enum log_level level, const char *fields, const char *text)
{
	char line[LINE_MAX_BYTES];
	size_t n = (size_t)snprintf(line, sizeof(line), "%s: ", log_state.name);

	n += escape(line + n, sizeof(line) - n, text);
	return log_send_journal(fd, level, fields, line, n);
}

static void print_line(enum log_level level, const char *text)
{
	char line[LINE_MAX_BYTES];
	size_t n = prefix(line, sizeof(line), level);

	n += escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';
	write_line(line, n);
}

/* fields: NULL, or for the journal, as log_send_journal() takes them. */
void log_vline(enum log_level level, const char *fields, const char *fmt, va_list ap)
{
	char text[LINE_MAX_BYTES];
	int saved_errno = errno;

	vsnprintf(text, sizeof(text), fmt, ap);
	if (log_state.sink == LOG_SINK_JOURNAL)
		log_state.n_lost += send_line(log_state.fd, level, fields, text) < 0;
	else if (log_state.journal_fd < 0 ||
		send_line(log_state.journal_fd, level, fields, text) < 0)
		print_line(level, text);
	errno = saved_errno;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline(level, NULL, fmt, ap);
	va_end(ap);
}
