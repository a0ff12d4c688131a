/*
 * What the dashboard may have done, with the operator's token: passed on to the primary as a command, answered with its
 * verdict. Without token_file there is nothing here to be done.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tine/http.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/peer.h"
#include "runtime/lifeline.h"
#include "shared/child.h"
#include "shared/config.h"

#define GUESS_US     (500 * US_PER_MS) /* between two wrong tokens from one place */
#define ARGUMENT_MAX 16

static const struct timeval deadline = {300, 0};

/* --- the token --- */

static int refuse_token(const struct config *c, const char *why, char *error, size_t size)
{
	snprintf(error, size, "%s:%u: admin.token_file: %s: %s", c->path, c->admin.token_file_line,
		c->admin.token_file, why);
	return -EINVAL;
}

/* Reads the first line of the file. Returns 0, or -errno and what is wrong; 0 without a file, too. */
int actions_read_token(struct admin *a, char *error, size_t size)
{
	const struct config *c = a->child->config;
	const char *path = c->admin.token_file;
	CLEANUP(closep) int fd = -1;
	char text[ADMIN_TOKEN_MAX + 3] = ""; /* with the end of the line */
	struct stat st;
	size_t len;
	ssize_t n;

	if (!path || !*path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse_token(c, strerror(errno), error, size);
	if (!S_ISREG(st.st_mode))
		return refuse_token(c, "not a regular file", error, size);
	if (st.st_mode & (S_IROTH | S_IWOTH))
		return refuse_token(c,
			st.st_mode & S_IROTH ? "everybody may read it; chmod o-r it"
					     : "everybody may write it; chmod o-w it",
			error, size);
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return refuse_token(c, strerror(errno), error, size);
	len = strcspn(text, "\r\n");
	if (len < ADMIN_TOKEN_MIN || len > ADMIN_TOKEN_MAX)
		return refuse_token(c,
			len < ADMIN_TOKEN_MIN ? "the token is too short; it takes 16 to 256 "
						"characters in the first line"
					      : "the token is too long; it takes 16 to 256 "
						"characters in the first line",
			error, size);
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= 0x20 || text[i] > 0x7e)
			return refuse_token(c,
				"the token is to be of visible ASCII characters, without blanks",
				error, size);
	}
	if (RAND_bytes((unsigned char *)&a->guess_seed, sizeof(a->guess_seed)) != 1)
		return refuse_token(c, "there is no randomness", error, size);
	memcpy(a->token, text, len);
	OPENSSL_cleanse(text, sizeof(text));
	return 0;
}

static bool is_token(const struct admin *a, struct tine_text given)
{
	static const char scheme[] = "Bearer ";
	const size_t skip = sizeof(scheme) - 1, len = strlen(a->token);

	return given.len == skip + len && strncasecmp(given.data, scheme, skip) == 0 &&
		CRYPTO_memcmp(given.data + skip, a->token, len) == 0;
}

static void answer_error(struct tine_request *request, int status, const char *error)
{
	admin_answer_json(request, status, json_pack("{s:b,s:s}", "ok", 0, "error", error));
}

/*
 * Where wrong tokens from this client are remembered. As few as there are, the attempts of a whole botnet are bounded; whoever
 * guesses keeps others out only if they share his place, and cannot know who does. A network of 64 bits counts as one client.
 */
static uint64_t *guess_place(struct admin *a, const struct tine_request *request)
{
	struct tine_text who = tine_request_client(request);
	uint64_t hash = a->guess_seed;
	struct peer peer;
	const uint8_t *bytes = (const uint8_t *)who.data;
	size_t n = who.len;

	if (peer_parse(who.data, who.len, &peer)) {
		bytes = peer.addr;
		n = peer.family == AF_INET ? 4 : 8;
	}
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3; /* FNV-1a */
	return &a->guess_us[(hash ^ hash >> 32) % ADMIN_GUESSERS];
}

/* Answers itself when it returns false. */
static bool may_act(struct admin *a, struct tine_request *request)
{
	struct tine_text given = tine_request_header(request, "Authorization");
	uint64_t now = now_us(), *guess_us = guess_place(a, request);

	if (!*a->token) {
		answer_error(
			request, 403, "no [admin] token_file is configured: this page only shows");
		return false;
	}
	if (given.data && now < *guess_us) {
		tine_respond_header(request, "Retry-After", "1");
		answer_error(request, 429,
			"a wrong token was just given from there; try again in a second");
		return false;
	}
	if (given.data && is_token(a, given))
		return true;
	if (given.data) /* another page can have a browser send this without any, and is not to keep the operator out */
		*guess_us = now + GUESS_US;
	tine_respond_header(request, "WWW-Authenticate", "Bearer");
	answer_error(request, 401, "the token is wrong");
	return false;
}

/* --- commands under way --- */

static void action_end(struct admin_action *x)
{
	event_del(&x->ev_deadline);
	x->id = 0;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct admin_action *x = arg;

	answer_error(x->request, 504, "no verdict in five minutes; what was begun goes on");
	action_end(x);
}

/* The primary's verdict: the object that a client of the control socket gets last. */
void actions_on_reply(struct admin *a, uint64_t id, const char *text, size_t len)
{
	for (size_t i = 0; i < ADMIN_ACTIONS; i++) {
		struct admin_action *x = &a->actions[i];
		json_t *o;

		if (x->id != id || id == 0)
			continue;
		o = json_loadb(text, len, 0, NULL);
		admin_answer_json(
			x->request, json_is_true(json_object_get(o, "ok")) ? 200 : 409, o);
		action_end(x);
	}
}

static struct admin_action *find_unused(struct admin *a)
{
	for (size_t i = 0; i < ADMIN_ACTIONS; i++) {
		if (a->actions[i].id == 0)
			return &a->actions[i];
	}
	return NULL;
}

static void act(struct admin *a, struct tine_request *request, const char *command)
{
	struct admin_action *x = find_unused(a);

	if (!x || tine_defer(request) < 0) {
		answer_error(request, 503, "too much is under way; try again later");
		return;
	}
	x->admin = a;
	x->id = ++a->last_action;
	x->request = request;
	evtimer_assign(&x->ev_deadline, a->base, on_deadline, x);
	event_add(&x->ev_deadline, &deadline);
	if (lane_send(lifeline_lane(a->lifeline), MSG_COMMAND, x->id, command, strlen(command)) !=
		0) {
		answer_error(request, 503, "the primary cannot be told; try again later");
		action_end(x);
	}
}

/* The value of KEY in "KEY=VALUE"; false when that is not what the query is, or it has anything but letters and digits. */
static bool read_argument(struct tine_request *request, const char *key, char ret[ARGUMENT_MAX])
{
	static const char good[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	struct tine_text q = tine_request_query(request);
	size_t len = strlen(key);

	if (q.len <= len + 1 || q.len - len - 1 >= ARGUMENT_MAX || memcmp(q.data, key, len) != 0 ||
		q.data[len] != '=')
		return false;
	memcpy(ret, q.data + len + 1, q.len - len - 1);
	ret[q.len - len - 1] = '\0';
	return strspn(ret, good) == strlen(ret);
}

static void act_with(
	struct admin *a, struct tine_request *request, const char *name, const char *key)
{
	char argument[ARGUMENT_MAX], command[64];

	if (!may_act(a, request))
		return;
	if (!key) {
		act(a, request, name);
		return;
	}
	if (!read_argument(request, key, argument)) {
		snprintf(command, sizeof(command), "write ?%s=...", key);
		answer_error(request, 400, command);
		return;
	}
	snprintf(command, sizeof(command), "%s %s", name, argument);
	act(a, request, command);
}

static void serve_reload(struct tine_request *request, void *arg)
{
	act_with(arg, request, "reload", NULL);
}

static void serve_restart(struct tine_request *request, void *arg)
{
	act_with(arg, request, "restart", "slot");
}

static void serve_drain(struct tine_request *request, void *arg)
{
	act_with(arg, request, "drain", "slot");
}

static void serve_scale(struct tine_request *request, void *arg)
{
	act_with(arg, request, "scale", "workers");
}

int actions_routes(struct admin *a)
{
	static const struct {
		const char *path;
		void (*fn)(struct tine_request *request, void *arg);
	} routes[] = {{"/api/reload", serve_reload}, {"/api/restart", serve_restart},
		{"/api/drain", serve_drain}, {"/api/scale", serve_scale}};
	int r = 0;

	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes) && r == 0; i++)
		r = admin_route(a, TINE_POST, routes[i].path, routes[i].fn);
	return r;
}
