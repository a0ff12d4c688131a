/*
 * tine/work_dns.h - names and addresses, by the C library's own resolver: /etc/hosts, DNS and whatever else nsswitch.conf(5)
 * names. Done on a thread of the worker's pool, lane `dns`, so that a name server that does not answer delays nothing but
 * other lookups.
 *
 *	static void on_found(struct tine_dns_result *r, void *arg)
 *	{
 *		if (r->status < 0)
 *			tine_log(TINE_LOG_WARNING, "%s", r->text); // "lookup: nowhere.invalid: Name or service not known"
 *		for (const struct addrinfo *a = r->addresses; a; a = a->ai_next)
 *			try_to_connect(a->ai_addr, a->ai_addrlen);
 *	}
 *	...
 *	r = tine_dns_lookup(worker, &(struct tine_dns){.size = sizeof(struct tine_dns), .host = "example.org",
 *		.service = "443", .socktype = SOCK_STREAM, .timeout_us = 5000000, .on_done = on_found}, NULL);
 *
 * What the functions return, when on_done is called, and what cancelling means is as in work_file.h. The resolver cannot be
 * interrupted: on_done of a lookup that is cancelled or comes too late while it runs is called when the resolver has given up, by
 * its own time-outs (resolv.conf(5)), and it keeps its thread until then; so does a worker that is to end, until drain_timeout.
 */
#ifndef TINE_WORK_DNS_H
#define TINE_WORK_DNS_H

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct addrinfo;
struct tine_work;

/* How a lookup ended. All of it is freed after the callback. The structure may grow at its end. */
struct tine_dns_result {
	/*
	 * 0 or a negative errno. Of getaddrinfo(3)'s errors: -ENOENT for EAI_NONAME and EAI_NODATA, -EAGAIN for EAI_AGAIN, -EINVAL for
	 * arguments it does not like, -ENOMEM, the errno of EAI_SYSTEM, TINE_E_TOO_LARGE for EAI_OVERFLOW, -EIO for EAI_FAIL and all else.
	 */
	int status;
	int eai; /* the resolver's own error, EAI_NONAME and so on: getaddrinfo(3); 0: it has none */
	const char *text; /* what went wrong, with what was asked; "" when nothing did */
	const struct addrinfo *addresses; /* lookup: in the order in which to try them (RFC 6724) */
	const char *host, *service;       /* reverse */
};

typedef void (*tine_dns_fn)(struct tine_dns_result *result, void *arg);

struct tine_dns {
	size_t size; /* sizeof(struct tine_dns) */
	/* lookup: one of them may be NULL */
	const char *host;               /* a name or a numeric address, up to 1,024 bytes */
	const char *service;            /* a name or a number, up to 31 bytes */
	int family, socktype, protocol; /* AF_..., SOCK_..., IPPROTO_...; 0: any */
	/* reverse */
	const void *address; /* a struct sockaddr_in or sockaddr_in6; any alignment */
	size_t address_len;
	int flags;           /* lookup: AI_...; reverse: NI_... */
	uint64_t timeout_us; /* from now on; 0: none */
	tine_dns_fn on_done;
	void *arg; /* handed to it */
};

/* getaddrinfo(3): host, service, family, socktype, protocol, flags. */
TINE_EXPORT int tine_dns_lookup(
	struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret);
/* getnameinfo(3): address, address_len, flags. */
TINE_EXPORT int tine_dns_reverse(
	struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret);

#ifdef __cplusplus
}
#endif
#endif
