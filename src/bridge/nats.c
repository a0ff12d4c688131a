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
#include <uthash.h>

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
};

struct nats {
	struct nats_options o;
	natsOptions *options;
	natsConnection *connection;
	struct nats_sub *subs;
	_Atomic bool closed; /* libnats has given it up */
	_Atomic bool
		slow; /* our thread did not keep up with what came, so libnats has dropped some of it */
};

/* --- callbacks of libnats --- */

static void say(struct nats *n, enum nats_state state, const char *text)
{
	n->o.on_state(state, text, n->o.arg);
}

static void on_connected(natsConnection *nc, void *arg)
{
	char url[256] = "";

	natsConnection_GetConnectedUrl(nc, url, sizeof(url));
	say(arg, NATS_STATE_CONNECTED, url);
}

static void on_disconnected(natsConnection *nc, void *arg)
{
	const char *why = NULL;

	natsConnection_GetLastError(nc, &why);
	say(arg, NATS_STATE_AWAY, why && *why ? why : "the connection ended");
}

static void on_closed(natsConnection *nc, void *arg)
{
	struct nats *n = arg;
	const char *why = NULL;

	natsConnection_GetLastError(nc, &why);
	say(n, NATS_STATE_AWAY, why && *why ? why : "the connection was given up");
	n->closed = true;
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *arg)
{
	struct nats *n = arg;
	const char *why = NULL;

	if (s == NATS_SLOW_CONSUMER) {
		n->slow = true;
		return;
	}
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
		s = natsOptions_SetReconnectWait(options, RECONNECT_WAIT_MS);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectJitter(
			options, RECONNECT_JITTER_MS, RECONNECT_JITTER_MS);
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
		s = natsOptions_SetRetryOnFailedConnect(options, true, on_connected, n);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectedCB(options, on_connected, n);
	if (s == NATS_OK)
		s = natsOptions_SetDisconnectedCB(options, on_disconnected, n);
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(options, on_closed, n);
	return s == NATS_OK ? natsOptions_SetErrorHandler(options, on_error, n) : s;
}

/* *ret_file: the one that is at fault if this fails. */
static natsStatus set_files(struct nats *n, const char **ret_file)
{
	const struct nats_options *o = &n->o;
	natsStatus s = NATS_OK;

	if (strstr(o->urls, "tls://") || o->tls_ca || o->tls_cert)
		s = natsOptions_SetSecure(n->options, true);
	if (s == NATS_OK && o->tls_ca) {
		*ret_file = o->tls_ca;
		s = natsOptions_LoadCATrustedCertificates(n->options, o->tls_ca);
	}
	if (s == NATS_OK && o->tls_cert) {
		*ret_file = o->tls_cert;
		s = natsOptions_LoadCertificatesChain(n->options, o->tls_cert, o->tls_key);
	}
	if (s == NATS_OK && o->credentials) {
		*ret_file = o->credentials;
		s = natsOptions_SetUserCredentialsFromFiles(n->options, o->credentials, NULL);
	}
	return s;
}

/* libnats reads it when it connects; whether it can is to be known before. */
static int check_credentials(const char *path, char *error, size_t size)
{
	static char text[64 << 10];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f) {
		int r = -errno;

		snprintf(error, size, "%s: %s", path, strerror(-r));
		return r;
	}
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	if (strstr(text, "-----BEGIN NATS USER JWT-----") && strstr(text, "SEED-----"))
		n = 0;
	else
		snprintf(error, size,
			"%s: no credentials of a NATS user, which have a JWT and a seed", path);
	explicit_bzero(text, sizeof(text));
	return n == 0 ? 0 : -EINVAL;
}

static int nats_open(const struct nats_options *o, struct nats **ret, char *error, size_t size)
{
	const char *file = NULL, *why;
	struct nats *n = calloc(1, sizeof(*n));
	natsStatus s;
	int r = o->credentials ? check_credentials(o->credentials, error, size) : 0;

	if (!n || r < 0) {
		free(n);
		return r < 0 ? r : -ENOMEM;
	}
	n->o = *o;
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
	why = nats_GetLastError(NULL);
	snprintf(error, size, "%s%s%s", file ? file : "", file ? ": " : "",
		why && *why ? why : natsStatus_GetText(s));
	natsOptions_Destroy(n->options);
	free(n);
	return -EINVAL;
}

/* --- subscriptions --- */

static int sub_activate(struct nats_sub *sub)
{
	struct nats *n = sub->nats;
	natsStatus s;

	if (!n->connection)
		return 0;
	s = sub->group ? natsConnection_QueueSubscribe(&sub->handle, n->connection, sub->subject,
				 sub->group, on_message, sub)
		       : natsConnection_Subscribe(
				 &sub->handle, n->connection, sub->subject, on_message, sub);
	if (s == NATS_OK) /* bytes count, not how many they are */
		s = natsSubscription_SetPendingLimits(sub->handle, -1, (int)n->o.buffer);
	if (s == NATS_OK)
		return 0;
	sub->handle = NULL;
	say(n, NATS_STATE_TROUBLE, natsStatus_GetText(s));
	return -EIO;
}

/* Called by libnats when no message of it is on its way to us any more. */
static void sub_free(void *arg)
{
	struct nats_sub *sub = arg;

	free(sub->subject);
	free(sub->group);
	free(sub);
}

static int nats_subscribe(struct nats *n, uint64_t key, const char *subject, const char *group)
{
	struct nats_sub *sub = calloc(1, sizeof(*sub));

	if (!sub)
		return -ENOMEM;
	*sub = (struct nats_sub){.nats = n,
		.key = key,
		.subject = strdup(subject),
		.group = group ? strdup(group) : NULL};
	if (!sub->subject || (group && !sub->group)) {
		sub_free(sub);
		return -ENOMEM;
	}
	HASH_ADD(hh, n->subs, key, sizeof(sub->key), sub);
	return sub_activate(sub);
}

static void nats_unsubscribe(struct nats *n, uint64_t key)
{
	natsSubscription *handle;
	struct nats_sub *sub;

	HASH_FIND(hh, n->subs, &key, sizeof(key), sub);
	if (!sub)
		return;
	HASH_DEL(n->subs, sub);
	handle = sub->handle;
	if (!handle || natsSubscription_SetOnCompleteCB(handle, sub_free, sub) != NATS_OK) {
		sub_free(sub);
		return;
	}
	natsSubscription_Unsubscribe(handle);
	natsSubscription_Destroy(handle);
}

/* --- the connection --- */

static void drop_connection(struct nats *n)
{
	struct nats_sub *sub, *next;

	HASH_ITER(hh, n->subs, sub, next)
	{
		natsSubscription_Destroy(sub->handle);
		sub->handle = NULL;
		sub->n_dropped = 0;
	}
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

static void nats_tend(struct nats *n)
{
	struct nats_sub *sub, *next;
	natsStatus s;

	count_dropped(n);
	if (n->connection && !n->closed)
		return;
	drop_connection(n);
	n->closed = false;
	s = natsConnection_Connect(&n->connection, n->options);
	if (s == NATS_OK)
		on_connected(n->connection, n);
	else
		say(n, NATS_STATE_AWAY,
			nats_GetLastError(NULL) ? nats_GetLastError(NULL) : natsStatus_GetText(s));
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
