/*
 * NATS by libnats: tined-nats.so. Runs in the bridge process.
 *
 * libnats reconnects by itself, and keeps what is published meanwhile, up to a bound. What it gives up (a user who was refused
 * twice, say) we open anew. All messages come on one thread, so that their order is that of the connection.
 */
#include "bridge/nats.h"

#include <errno.h>
#include <nats/nats.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

#include "base/url.h"

#define RECONNECT_WAIT_MS   200
#define RECONNECT_JITTER_MS 100
#define CONNECT_TIMEOUT_MS  2000
#define WRITE_DEADLINE_MS   2000 /* to a server that takes nothing */
#define PING_INTERVAL_MS    5000
#define PINGS_OUT           2
#define SERVERS_MAX         16
#define MARK                "Tined" /* the header's name */

struct nats_sub {
	UT_hash_handle hh;
	struct nats *nats;
	uint64_t key;
	natsSubscription *handle; /* NULL: the connection is not there, or would not */
	int64_t n_dropped;        /* by libnats, that were told of */
	char *subject, *group;
	atomic_uint n_users; /* the table, and libnats for each handle that it had */
};

struct nats {
	struct nats_options o;
	natsOptions *options;
	natsConnection *connection;
	struct nats_sub *subs;
	char *servers;       /* for the log: without users and passwords */
	_Atomic bool closed; /* libnats has given it up */
	_Atomic bool
		slow; /* our thread did not keep up with what came, so libnats has dropped some of it */
};

/* --- callbacks of libnats --- */

static void say(struct nats *n, enum nats_state state, const char *text)
{
	n->o.on_state(state, text, n->o.arg);
}

/* libnats puts the place in its source in front: "(conn.c:1234): ...". */
static const char *without_place(const char *why)
{
	const char *end = why[0] == '(' ? strstr(why, "): ") : NULL;

	return end ? end + 3 : why;
}

/* Which servers, and what of them. */
static void say_why(struct nats *n, enum nats_state state, natsStatus s, const char *why)
{
	char text[512];

	if (s == NATS_NO_SERVER || s == NATS_TIMEOUT) /* refused as well, to libnats */
		why = "no NATS server answers there";
	else if (!why || !*why)
		why = s == NATS_OK ? "the connection ended" : natsStatus_GetText(s);
	snprintf(text, sizeof(text), "%s: %s", n->servers, without_place(why));
	say(n, state, text);
}

static void on_connected(natsConnection *nc, void *arg)
{
	char url[1024] = "";

	natsConnection_GetConnectedUrl(nc, url, sizeof(url));
	url_cut_users(url);
	say(arg, NATS_STATE_CONNECTED, url);
}

static void on_disconnected(natsConnection *nc, void *arg)
{
	const char *why = NULL;
	natsStatus s = natsConnection_GetLastError(nc, &why);

	say_why(arg, NATS_STATE_AWAY, s, why);
}

static void on_closed(natsConnection *nc, void *arg)
{
	struct nats *n = arg;

	on_disconnected(nc, n);
	n->closed = true;
}

/*
 * Before each round of attempts, on the thread that makes them: the last error that libnats has of this thread is why the
 * round before has failed. Returns how many ms to wait.
 */
static int64_t on_retry(natsConnection *nc, int attempts, void *arg)
{
	natsStatus s = NATS_OK;
	const char *why = nats_GetLastError(&s);

	if (s != NATS_OK)
		say_why(arg, NATS_STATE_UNREACHABLE, s, why);
	return RECONNECT_WAIT_MS + random() % RECONNECT_JITTER_MS;
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *arg)
{
	struct nats *n = arg;
	const char *why = NULL;

	if (s == NATS_SLOW_CONSUMER)
		n->slow = true;
	if (s == NATS_SLOW_CONSUMER ||
		s == NATS_CONNECTION_AUTH_FAILED) /* the connection ends with that */
		return;
	natsConnection_GetLastError(nc, &why);
	say(n, NATS_STATE_TROUBLE, why && *why ? why : natsStatus_GetText(s));
}

static void on_message(natsConnection *nc, natsSubscription *handle, natsMsg *msg, void *arg)
{
	const struct nats_sub *sub = arg;
	struct nats_incoming m = {.key = sub->key,
		.group = sub->group,
		.subject = natsMsg_GetSubject(msg),
		.reply = natsMsg_GetReply(msg),
		.data = natsMsg_GetData(msg),
		.len = (size_t)natsMsg_GetDataLength(msg),
		.nobody = natsMsg_IsNoResponders(msg)};

	if (natsMsgHeader_Get(msg, MARK, &m.mark) != NATS_OK)
		m.mark = NULL;
	sub->nats->o.on_message(&m, sub->nats->o.arg);
	natsMsg_Destroy(msg);
}

/* --- options --- */

static natsStatus set_servers(natsOptions *options, const char *urls)
{
	const char *servers[SERVERS_MAX];
	char *copy = strdup(urls), *rest = copy, *url;
	natsStatus s = copy ? NATS_OK : NATS_NO_MEMORY;
	int n = 0;

	while (s == NATS_OK && n < SERVERS_MAX && (url = strsep(&rest, ", "))) {
		if (*url)
			servers[n++] = url;
	}
	if (s == NATS_OK)
		s = natsOptions_SetServers(options, servers, n);
	free(copy);
	return s;
}

static natsStatus set_times(natsOptions *options)
{
	natsStatus s = natsOptions_SetTimeout(options, CONNECT_TIMEOUT_MS);

	if (s == NATS_OK)
		s = natsOptions_SetMaxReconnect(options, -1);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(options, WRITE_DEADLINE_MS);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(options, PING_INTERVAL_MS);
	return s == NATS_OK ? natsOptions_SetMaxPingsOut(options, PINGS_OUT) : s;
}

static natsStatus set_manners(struct nats *n)
{
	natsOptions *options = n->options;
	natsStatus s = natsOptions_SetName(options, n->o.name);

	if (s == NATS_OK)
		s = natsOptions_SetNoEcho(options, true);
	if (s == NATS_OK)
		s = natsOptions_UseGlobalMessageDelivery(options, true);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectBufSize(options, (int)n->o.buffer);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectedCB(options, on_connected, n);
	if (s == NATS_OK)
		s = natsOptions_SetCustomReconnectDelay(options, on_retry, n);
	if (s == NATS_OK)
		s = natsOptions_SetDisconnectedCB(options, on_disconnected, n);
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(options, on_closed, n);
	return s == NATS_OK ? natsOptions_SetErrorHandler(options, on_error, n) : s;
}

/* What a file is for, and its path. */
struct named_file {
	const char *key, *path;
};

/* *ret_file: the one that is at fault if this fails. */
static natsStatus set_files(struct nats *n, struct named_file *ret_file)
{
	const struct nats_options *o = &n->o;
	natsStatus s = NATS_OK;

	if (strstr(o->urls, "tls://") || o->tls_ca || o->tls_cert)
		s = natsOptions_SetSecure(n->options, true);
	if (s == NATS_OK && o->tls_ca) {
		*ret_file = (struct named_file){"nats_tls_ca", o->tls_ca};
		s = natsOptions_LoadCATrustedCertificates(n->options, o->tls_ca);
	}
	if (s == NATS_OK && o->tls_cert) {
		*ret_file = (struct named_file){"nats_tls_cert", o->tls_cert};
		s = natsOptions_LoadCertificatesChain(n->options, o->tls_cert, o->tls_key);
	}
	if (s == NATS_OK && o->credentials) {
		*ret_file = (struct named_file){"nats_credentials", o->credentials};
		s = access(o->credentials, R_OK) < 0 /* it is read when we connect */
			? NATS_ERR
			: natsOptions_SetUserCredentialsFromFiles(n->options, o->credentials, NULL);
	}
	return s;
}

/* What has gone wrong with a file; or, as libnats has it, with something else. */
static void describe(const struct named_file *file, natsStatus s, char *error, size_t size)
{
	const char *why = nats_GetLastError(NULL);

	if (file->path && access(file->path, R_OK) < 0)
		why = strerror(errno);
	snprintf(error, size, "bus.%s: %s%s%s", file->key, file->path ? file->path : "",
		file->path ? ": " : "", why && *why ? without_place(why) : natsStatus_GetText(s));
}

static int nats_open(const struct nats_options *o, struct nats **ret, char *error, size_t size)
{
	struct named_file file = {"nats", NULL};
	struct nats *n = calloc(1, sizeof(*n));
	natsStatus s;

	if (!n)
		return -ENOMEM;
	n->o = *o;
	n->servers = strdup(o->urls);
	if (!n->servers) {
		free(n);
		return -ENOMEM;
	}
	url_cut_users(n->servers);
	s = nats_Open(-1);
	if (s == NATS_OK)
		s = nats_SetMessageDeliveryPoolSize(1);
	if (s == NATS_OK)
		s = natsOptions_Create(&n->options);
	if (s == NATS_OK)
		s = set_servers(n->options, o->urls);
	if (s == NATS_OK)
		s = set_times(n->options);
	if (s == NATS_OK)
		s = set_manners(n);
	if (s == NATS_OK)
		s = set_files(n, &file);
	if (s == NATS_OK) {
		*ret = n;
		return 0;
	}
	describe(&file, s, error, size);
	natsOptions_Destroy(n->options);
	free(n->servers);
	free(n);
	return -EINVAL;
}

/* --- subscriptions --- */

/* Called by libnats, too, when no message of a handle is on its way to us any more. */
static void sub_release(void *arg)
{
	struct nats_sub *sub = arg;

	if (atomic_fetch_sub(&sub->n_users, 1) > 1)
		return;
	free(sub->subject);
	free(sub->group);
	free(sub);
}

/* If the connection ends in between, nobody tells when the last message has come: then it is never released. */
static natsStatus sub_ask(struct nats_sub *sub)
{
	struct nats *n = sub->nats;
	natsStatus s;

	atomic_fetch_add(&sub->n_users, 1);
	s = sub->group ? natsConnection_QueueSubscribe(&sub->handle, n->connection, sub->subject,
				 sub->group, on_message, sub)
		       : natsConnection_Subscribe(
				 &sub->handle, n->connection, sub->subject, on_message, sub);
	if (s != NATS_OK) {
		sub_release(sub);
		return s;
	}
	s = natsSubscription_SetOnCompleteCB(sub->handle, sub_release, sub);
	if (s == NATS_OK) /* bytes count, not how many they are */
		s = natsSubscription_SetPendingLimits(sub->handle, -1, (int)n->o.buffer);
	return s;
}

/* What had come by it may still be on its way to us. */
static void sub_deactivate(struct nats_sub *sub)
{
	natsSubscription_Destroy(sub->handle);
	sub->handle = NULL;
	sub->n_dropped = 0;
}

static int sub_activate(struct nats_sub *sub)
{
	natsStatus s;

	if (!sub->nats->connection)
		return 0;
	s = sub_ask(sub);
	if (s == NATS_OK)
		return 0;
	sub_deactivate(sub);
	if (s != NATS_CONNECTION_CLOSED &&
		s != NATS_INVALID_SUBSCRIPTION) /* it is opened anew, and they are made then */
		say(sub->nats, NATS_STATE_TROUBLE, natsStatus_GetText(s));
	return -EIO;
}

static int nats_subscribe(struct nats *n, uint64_t key, const char *subject, const char *group)
{
	struct nats_sub *sub = calloc(1, sizeof(*sub));

	if (!sub)
		return -ENOMEM;
	*sub = (struct nats_sub){.nats = n,
		.key = key,
		.subject = strdup(subject),
		.group = group ? strdup(group) : NULL,
		.n_users = 1};
	if (!sub->subject || (group && !sub->group)) {
		sub_release(sub);
		return -ENOMEM;
	}
	HASH_ADD(hh, n->subs, key, sizeof(sub->key), sub);
	return sub_activate(sub);
}

static void nats_unsubscribe(struct nats *n, uint64_t key)
{
	struct nats_sub *sub;

	HASH_FIND(hh, n->subs, &key, sizeof(key), sub);
	if (!sub)
		return;
	HASH_DEL(n->subs, sub);
	sub_deactivate(sub);
	sub_release(sub);
}

/* --- the connection --- */

static void drop_connection(struct nats *n)
{
	struct nats_sub *sub, *next;

	HASH_ITER(hh, n->subs, sub, next)
	sub_deactivate(sub);
	natsConnection_Destroy(n->connection);
	n->connection = NULL;
}

/* Tells how many libnats has dropped. */
static void count_dropped(struct nats *n)
{
	struct nats_sub *sub, *next;
	int64_t now;

	if (!n->slow)
		return;
	n->slow = false;
	HASH_ITER(hh, n->subs, sub, next)
	{
		if (!sub->handle || natsSubscription_GetDropped(sub->handle, &now) != NATS_OK)
			continue;
		n->o.on_dropped((uint64_t)(now - sub->n_dropped), n->o.arg);
		sub->n_dropped = now;
	}
}

/*
 * The first attempt says why it failed. Where nobody answers, libnats goes on by itself, and keeps what is published
 * meanwhile; with a server that does not want us it would give up at once, and not say why.
 */
static void open_connection(struct nats *n)
{
	natsStatus s = natsOptions_SetRetryOnFailedConnect(n->options, false, NULL, NULL);

	if (s == NATS_OK)
		s = natsConnection_Connect(&n->connection, n->options);
	if (s == NATS_OK)
		return on_connected(n->connection, n);
	if (s != NATS_NO_SERVER)
		return say_why(n, NATS_STATE_REFUSED, s, nats_GetLastError(NULL));
	s = natsOptions_SetRetryOnFailedConnect(n->options, true, on_connected, n);
	if (s == NATS_OK)
		s = natsConnection_Connect(&n->connection, n->options);
	if (s == NATS_OK)
		on_connected(n->connection, n);
	else if (s != NATS_NOT_YET_CONNECTED) /* else on_retry() says why */
		say_why(n, NATS_STATE_REFUSED, s, nats_GetLastError(NULL));
}

static void nats_tend(struct nats *n)
{
	struct nats_sub *sub, *next;

	count_dropped(n);
	if (n->connection && !n->closed)
		return;
	drop_connection(n);
	n->closed = false;
	open_connection(n);
	HASH_ITER(hh, n->subs, sub, next)
	sub_activate(sub);
}

static int error_of(natsStatus s)
{
	static const struct {
		natsStatus status;
		int error;
	} errors[] = {{NATS_OK, 0}, {NATS_INSUFFICIENT_BUFFER, -ENOBUFS},
		{NATS_MAX_PAYLOAD, -EMSGSIZE}, {NATS_NO_MEMORY, -ENOMEM},
		{NATS_TIMEOUT, -ETIMEDOUT}, {NATS_CONNECTION_CLOSED, -ENOTCONN},
		{NATS_CONNECTION_DISCONNECTED, -ENOTCONN}};

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (errors[i].status == s)
			return errors[i].error;
	}
	return -EIO;
}

static int nats_publish(struct nats *n, const struct nats_outgoing *m)
{
	natsMsg *msg = NULL;
	natsStatus s;

	if (!n->connection)
		return -ENOTCONN;
	s = natsMsg_Create(&msg, m->subject, m->reply, m->data, (int)m->len);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(msg, MARK, m->mark);
	if (s == NATS_OK)
		s = natsConnection_PublishMsg(n->connection, msg);
	natsMsg_Destroy(msg);
	return error_of(s);
}

static int nats_flush(struct nats *n, int64_t timeout_ms)
{
	return n->connection ? error_of(natsConnection_FlushTimeout(n->connection, timeout_ms))
			     : -ENOTCONN;
}

static void nats_finish(struct nats *n, int64_t timeout_ms)
{
	const struct timespec pause = {0, 1000000};

	if (!n->connection || natsConnection_DrainTimeout(n->connection, timeout_ms) != NATS_OK)
		return;
	for (int64_t i = 0; i < timeout_ms && !n->closed; i++)
		nanosleep(&pause, NULL);
}

__attribute__((visibility("default"))) const struct nats_driver tined_nats_driver = {
	.abi = NATS_DRIVER_ABI,
	.open = nats_open,
	.tend = nats_tend,
	.subscribe = nats_subscribe,
	.unsubscribe = nats_unsubscribe,
	.publish = nats_publish,
	.flush = nats_flush,
	.finish = nats_finish,
};
