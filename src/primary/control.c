/*
 * The control socket. Runs in the primary, on its loop.
 * Always holds: a client has sent at most one command; it is freed when its answer has gone out, when it is gone, or when
 * one of its deadlines or bounds is hit, and a command under way is told first (command_cancel()). Those who follow, for which
 * there is no deadline, leave room for others' commands.
 */
#include "primary/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/commands.h"
#include "primary/primary.h"
#include "shared/config.h"
#include "shared/history.h"
#include "shared/options.h"
#include "shared/report.h"

/* For those who may act there is always room, whoever else came before them, and however many follow. */
#define CLIENTS_MAX        32
#define READERS_MAX        24 /* clients before whom there is no room for one who may only read */
#define OF_ONE_USER        16 /* but for root */
#define FOLLOWERS_MAX      16 /* of all clients */
#define OF_ONE_USER_FOLLOW 8  /* but for root */
#define OUTPUT_MAX         (1u << 20) /* bytes that wait for a client to read them */
#define GROUPS_MAX         256        /* supplementary groups of a client that are looked at */
#define BACKLOG            64
#define PAUSE_US           (200 * US_PER_MS) /* after an accept(2) that failed for want of something */
#define LOOK_US            (250 * US_PER_MS) /* between two looks at who has left during his command */

static const struct timeval line_timeout = {5, 0};   /* for the whole command to come */
static const struct timeval write_timeout = {10, 0}; /* for some of the answer to be read */

struct client {
	LIST_ENTRY(client) link;
	struct control *control;
	struct bufferevent *io;
	struct event ev_gone; /* deferred end: nothing is freed inside its own callback */
	struct command_request request;
	uid_t uid;
	bool running; /* its command was taken */
	bool ending;  /* freed as soon as its output is gone */
	char who[64];
};

struct control {
	struct primary *primary;
	struct evconnlistener *listener;
	struct event ev_resume;
	struct event ev_look; /* while there are clients */
	char path[PATH_MAX];
	struct stat
		self; /* the socket file as we made it: another one in its place is not ours to remove */
	bool has_group;
	gid_t group;
	unsigned others; /* enum control_others */
	LIST_HEAD(, client) clients;
	unsigned n_clients;
};

/* --- who may do what --- */

static bool is_member(const struct control *c, int fd, const struct ucred *cred)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (!c->has_group)
		return false;
	if (cred->gid == c->group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(*groups); i++) {
		if (groups[i] == c->group)
			return true;
	}
	return false;
}

static enum command_permission permission(const struct control *c, int fd, const struct ucred *cred)
{
	if (cred->uid == 0 || cred->uid == geteuid() || is_member(c, fd, cred))
		return COMMAND_MAY_ACT;
	return c->others == CONTROL_READ ? COMMAND_MAY_READ : COMMAND_MAY_NOTHING;
}

/* --- clients --- */

static void client_free(struct client *cl)
{
	command_cancel(&cl->request);
	LIST_REMOVE(cl, link);
	cl->control->n_clients--;
	event_del(&cl->ev_gone);
	bufferevent_free(cl->io);
	free(cl);
}

static void on_gone(evutil_socket_t fd, short what, void *arg)
{
	client_free(arg);
}

/* Lets go of a client when nobody is in the middle of talking to it. */
static void client_end(struct client *cl)
{
	command_cancel(&cl->request);
	bufferevent_disable(cl->io, EV_READ | EV_WRITE);
	event_active(&cl->ev_gone, EV_TIMEOUT, 0);
}

static void end_when_sent(struct client *cl)
{
	cl->ending = true;
	if (evbuffer_get_length(bufferevent_get_output(cl->io)) == 0)
		client_end(cl);
}

static void send_text(struct client *cl, const char *text)
{
	struct evbuffer *out = bufferevent_get_output(cl->io);
	size_t len = strlen(text);

	if (cl->ending)
		return;
	if (evbuffer_get_length(out) + len + 1 > OUTPUT_MAX) {
		log_warning("control: %s does not read what it asked for; closing", cl->who);
		cl->ending = true;
		client_end(cl);
		return;
	}
	evbuffer_add(out, text, len);
	evbuffer_add(out, "\n", 1);
}

static void reply(struct command_request *r, json_t *object, bool last)
{
	struct client *cl = (struct client *)((char *)r - offsetof(struct client, request));
	CLEANUP(freep) char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	send_text(
		cl, text ? text : "{\"ok\":false,\"code\":\"failed\",\"error\":\"out of memory\"}");
	if (last && !cl->ending)
		end_when_sent(cl);
}

static const struct client *client_of(const struct command_request *r)
{
	return (const struct client *)((const char *)r - offsetof(struct client, request));
}

static bool has_room(const struct command_request *r)
{
	const struct client *cl = client_of(r);

	return !cl->ending && evbuffer_get_length(bufferevent_get_output(cl->io)) < OUTPUT_MAX / 4;
}

static void refuse(struct client *cl, const char *code, const char *error)
{
	reply(&cl->request, json_pack("{s:b,s:s,s:s}", "ok", 0, "code", code, "error", error),
		true);
}

static void on_read(struct bufferevent *io, void *arg)
{
	struct client *cl = arg;
	struct evbuffer *in = bufferevent_get_input(io);
	CLEANUP(freep) char *line = NULL;
	size_t len;

	if (cl->running)
		return;
	line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);
	if (!line && evbuffer_get_length(in) < COMMAND_MAX)
		return;
	cl->running = true;
	bufferevent_disable(io, EV_READ);
	if (!line || len >= COMMAND_MAX)
		refuse(cl, "usage", "the command is too long");
	else if (strlen(line) != len)
		refuse(cl, "usage", "a command is one line of printable ASCII");
	else
		command_run(&cl->request, line);
}

static void on_written(struct bufferevent *io, void *arg)
{
	struct client *cl = arg;

	if (cl->ending)
		client_end(cl);
}

/* A peer that only has nothing more to say still wants its answer; one that has closed altogether does not. */
static bool is_gone(struct bufferevent *io)
{
	struct pollfd p = {.fd = bufferevent_getfd(io)};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

static void on_event(struct bufferevent *io, short what, void *arg)
{
	struct client *cl = arg;

	if ((what & BEV_EVENT_TIMEOUT) && (what & BEV_EVENT_READING) && !cl->running) {
		cl->running = true;
		refuse(cl, "usage", "no command came in time");
	} else if ((what & BEV_EVENT_EOF) && cl->running && !is_gone(io)) {
		bufferevent_disable(io, EV_READ);
	} else if (!cl->ending || (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))) {
		cl->ending = true;
		client_end(cl);
	}
}

static unsigned n_of(const struct control *c, uid_t uid)
{
	const struct client *cl;
	unsigned n = 0;

	LIST_FOREACH (cl, &c->clients, link)
		n += cl->uid == uid;
	return n;
}

static bool is_full(const struct control *c, uid_t uid, enum command_permission permission)
{
	unsigned max = permission == COMMAND_MAY_ACT ? CLIENTS_MAX : READERS_MAX;

	return c->n_clients >= max || (uid != 0 && n_of(c, uid) >= OF_ONE_USER);
}

static bool may_follow(const struct command_request *r)
{
	const struct client *cl, *self = client_of(r);
	unsigned n = 0, n_of_user = 0;

	LIST_FOREACH (cl, &self->control->clients, link) {
		bool follows = (cl->request.follows || cl->request.bus) && !is_gone(cl->io);

		n += follows;
		n_of_user += follows && cl->uid == self->uid;
	}
	return n < FOLLOWERS_MAX && (self->uid == 0 || n_of_user < OF_ONE_USER_FOLLOW);
}

static void free_those_that_left(struct control *c)
{
	struct client *cl, *next;

	for (cl = LIST_FIRST(&c->clients); cl; cl = next) {
		next = LIST_NEXT(cl, link);
		if (is_gone(cl->io))
			client_free(cl);
	}
}

static void look_again(struct control *c)
{
	struct timeval tv = timeval_from_us(LOOK_US);

	if (c->n_clients > 0 && !event_pending(&c->ev_look, EV_TIMEOUT, NULL))
		event_add(&c->ev_look, &tv);
}

/*
 * While a command runs nothing is read, and its client may close its end unheard: of one that had closed the other half before,
 * or that left with some of its answer unread (EPOLLERR), libevent says nothing to those who wait for EV_CLOSED.
 */
static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	free_those_that_left(c);
	look_again(c);
}

static int client_new(
	struct control *c, int fd, const struct ucred *cred, enum command_permission may)
{
	struct client *cl = calloc(1, sizeof(*cl));

	if (!cl)
		return -ENOMEM;
	cl->io = bufferevent_socket_new(c->primary->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!cl->io) {
		free(cl);
		return -ENOMEM;
	}
	cl->control = c;
	cl->uid = cred->uid;
	snprintf(cl->who, sizeof(cl->who), "uid %u, pid %d", (unsigned)cred->uid, (int)cred->pid);
	cl->request = (struct command_request){.primary = c->primary,
		.permission = may,
		.who = cl->who,
		.reply = reply,
		.has_room = has_room,
		.may_follow = may_follow};
	event_assign(&cl->ev_gone, c->primary->base, -1, 0, on_gone, cl);
	LIST_INSERT_HEAD(&c->clients, cl, link);
	c->n_clients++;
	look_again(c);
	bufferevent_setcb(cl->io, on_read, on_written, on_event, cl);
	bufferevent_setwatermark(cl->io, EV_READ, 0, 2 * COMMAND_MAX);
	bufferevent_set_timeouts(cl->io, &line_timeout, &write_timeout);
	return bufferevent_enable(cl->io, EV_READ | EV_WRITE);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa,
	int len, void *arg)
{
	static const char busy[] =
		"{\"ok\":false,\"code\":\"busy\",\"error\":\"too many clients at a time\"}\n";
	struct control *c = arg;
	enum command_permission may;
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0) {
		close(fd);
		return;
	}
	may = permission(c, fd, &cred);
	if (is_full(c, cred.uid, may))
		free_those_that_left(c);
	if (!is_full(c, cred.uid, may)) {
		if (client_new(c, fd, &cred, may) == -ENOMEM)
			close(fd);
		return;
	}
	send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	evconnlistener_enable(c->listener);
}

/* Out of descriptors, say: the one that waits stays in the queue, and asking again at once would not help. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct control *c = arg;
	struct timeval tv = timeval_from_us(PAUSE_US);

	evconnlistener_disable(listener);
	event_add(&c->ev_resume, &tv);
}

/* Every event, for those who follow. */
static void on_history_event(struct primary *p, uint64_t number)
{
	struct history_event e;
	struct client *cl, *next;
	char *text = NULL;
	json_t *o;

	for (cl = LIST_FIRST(&p->control->clients); cl; cl = next) {
		next = LIST_NEXT(cl, link);
		if (!cl->request.follows)
			continue;
		if (!text && history_read_event(p->history, number, &e) && (o = report_event(&e))) {
			text = json_dumps(o, JSON_COMPACT);
			json_decref(o);
		}
		if (text)
			send_text(cl, text);
	}
	free(text);
}

/* --- the socket --- */

/* Whether somebody takes connections there. */
static bool is_answered(const struct sockaddr_un *sa)
{
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 &&
		(connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN);
}

static int find_group(struct control *c, const char *name, char *why, size_t size)
{
	struct group *g;

	if (!name || !*name)
		return 0;
	g = getgrnam(name);
	if (!g) {
		snprintf(why, size, "control_group: %s: no such group", name);
		return -EINVAL;
	}
	c->has_group = true;
	c->group = g->gr_gid;
	return 0;
}

/* Made beside its place and moved there: nobody finds it before its mode is right. */
static int bind_socket(struct control *c, int fd, const struct sockaddr_un *sa)
{
	struct sockaddr_un beside = *sa;
	mode_t mode = c->others == CONTROL_READ ? 0666 : c->has_group ? 0660 : 0600;
	int n = snprintf(
		beside.sun_path, sizeof(beside.sun_path), "%s.%d", c->path, (int)c->primary->pid);

	if (n < 0 || (size_t)n >= sizeof(beside.sun_path))
		return -ENAMETOOLONG;
	unlink(beside.sun_path);
	if (bind(fd, (const struct sockaddr *)&beside, sizeof(beside)) < 0)
		return -errno;
	if ((c->has_group && chown(beside.sun_path, (uid_t)-1, c->group) < 0) ||
		chmod(beside.sun_path, mode) < 0 || listen(fd, BACKLOG) < 0 ||
		lstat(beside.sun_path, &c->self) < 0 || rename(beside.sun_path, c->path) < 0) {
		int r = -errno;

		unlink(beside.sun_path);
		return r;
	}
	return 0;
}

/* Our socket takes the place of an old one, and of nothing else: not of a file that somebody named by mistake. */
static bool is_occupied(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode);
}

static int listen_there(struct control *c, char *why, size_t size)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = 0;

	if (fd < 0)
		r = -errno;
	else if (strlen(c->path) >= sizeof(sa.sun_path))
		r = -ENAMETOOLONG;
	if (r == 0) {
		memcpy(sa.sun_path, c->path, strlen(c->path) + 1);
		if (is_occupied(c->path)) {
			snprintf(why, size, "control: %s: there is something else than a socket",
				c->path);
			return -EEXIST;
		}
		if (!c->primary->succeeds && is_answered(&sa)) {
			snprintf(why, size, "control: %s: another tined answers there", c->path);
			return -EADDRINUSE;
		}
		r = bind_socket(c, fd, &sa);
	}
	if (r < 0) {
		snprintf(why, size, "control: %s: %s%s", c->path, strerror(-r),
			r == -ENOENT || r == -EACCES || r == -EROFS
				? "; its folder must be there, for us to write to"
				: "");
		return r;
	}
	c->listener = evconnlistener_new(c->primary->base, on_accept, c,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!c->listener)
		return -ENOMEM;
	take_fd(&fd);
	evconnlistener_set_error_cb(c->listener, on_accept_error);
	return 0;
}

/* Whether nobody chose the place. Written down, as by --print-config, the default is still no choice. */
static bool is_default(const struct config *conf)
{
	return strcmp(conf->tined.control, option_find(SECTION_TINED, "control")->def) == 0;
}

/*
 * Opens the socket. Returns 0, also when it is the default one and cannot be opened, which is only warned of; or -errno and
 * what is wrong.
 */
int control_open(struct primary *p, const struct config *conf, char *error, size_t size)
{
	struct control *c = calloc(1, sizeof(*c));
	char why[PATH_MAX + 128] = "control: out of memory";
	int r = c ? 0 : -ENOMEM;

	if (r == 0) {
		c->primary = p;
		c->others = conf->tined.control_others;
		LIST_INIT(&c->clients);
		evtimer_assign(&c->ev_resume, p->base, on_resume, c);
		evtimer_assign(&c->ev_look, p->base, on_look, c);
		snprintf(c->path, sizeof(c->path), "%s", conf->tined.control);
		r = find_group(c, conf->tined.control_group, why, sizeof(why));
	}
	if (r == 0)
		r = listen_there(c, why, sizeof(why));
	if (r == 0) {
		p->control = c;
		p->on_event = on_history_event;
		return 0;
	}
	free(c);
	if (is_default(conf) && r != -EINVAL && r != -ENOMEM) {
		log_warning("tined.%s; tinectl will not find this daemon", why);
		return 0;
	}
	snprintf(error, size, "%s:%u: tined.%s", conf->path, conf->tined.control_line, why);
	return r;
}

void control_close(struct primary *p)
{
	struct control *c = p->control;
	struct client *cl;
	struct stat st;

	if (!c)
		return;
	p->on_event = NULL;
	p->control = NULL;
	while ((cl = LIST_FIRST(&c->clients)))
		client_free(cl);
	if (lstat(c->path, &st) == 0 && st.st_dev == c->self.st_dev && st.st_ino == c->self.st_ino)
		unlink(c->path);
	event_del(&c->ev_resume);
	event_del(&c->ev_look);
	evconnlistener_free(c->listener);
	free(c);
}
