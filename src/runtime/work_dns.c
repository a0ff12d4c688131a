/* Ready-made work: getaddrinfo(3) and getnameinfo(3). */
#include "runtime/work_dns.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/sized.h"
#include "runtime/module.h"
#include "runtime/work_op.h"

#define SERVICE_MAX NI_MAXSERV /* with the 0 behind it */

struct dns_op {
	struct work_op op; /* first */
	struct tine_dns d;
	struct sockaddr_storage address;
	struct addrinfo *found;
	int eai;
	char host[NI_MAXHOST], service[NI_MAXSERV];
};

static const struct {
	int eai, status;
} errors[] = {
	{EAI_NONAME, -ENOENT},
	{EAI_NODATA, -ENOENT},
	{EAI_ADDRFAMILY, -ENOENT},
	{EAI_AGAIN, -EAGAIN},
	{EAI_BADFLAGS, -EINVAL},
	{EAI_FAMILY, -EINVAL},
	{EAI_SOCKTYPE, -EINVAL},
	{EAI_SERVICE, -EINVAL},
	{EAI_MEMORY, -ENOMEM},
	{EAI_OVERFLOW, TINE_E_TOO_LARGE},
};

static int status_of(int eai, int error)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (errors[i].eai == eai)
			return errors[i].status;
	}
	return eai == EAI_SYSTEM && error > 0 ? -error : -EIO;
}

/* Returns 0 or the errno for what the resolver said, with a text. */
static int dns_end(struct dns_op *o, int eai)
{
	int error = errno;

	o->eai = eai;
	if (eai == 0)
		return 0;
	return work_op_say(&o->op, status_of(eai, error), "%s",
		eai == EAI_SYSTEM ? strerror(error) : gai_strerror(eai));
}

static int run_lookup(struct work_op *op)
{
	struct dns_op *o = (struct dns_op *)op;
	struct addrinfo hints = {.ai_family = o->d.family,
		.ai_socktype = o->d.socktype,
		.ai_protocol = o->d.protocol,
		.ai_flags = o->d.flags};

	return dns_end(o, getaddrinfo(o->d.host, o->d.service, &hints, &o->found));
}

static int run_reverse(struct work_op *op)
{
	struct dns_op *o = (struct dns_op *)op;

	return dns_end(o,
		getnameinfo((struct sockaddr *)&o->address, (socklen_t)o->d.address_len, o->host,
			sizeof(o->host), o->service, sizeof(o->service), o->d.flags));
}

static void deliver(struct work_op *op)
{
	struct dns_op *o = (struct dns_op *)op;
	struct tine_dns_result result = {.status = op->status,
		.eai = op->dropped ? 0 : o->eai,
		.text = op->text,
		.addresses = o->found};

	if (op->status == 0 && o->d.address) {
		result.host = o->host;
		result.service = o->service;
	}
	o->d.on_done(&result, o->d.arg);
}

static void drop(struct work_op *op)
{
	struct dns_op *o = (struct dns_op *)op;

	if (o->found)
		freeaddrinfo(o->found);
	o->found = NULL;
}

/* What was asked for. */
static void describe_lookup(const struct work_op *op, char *ret, size_t size)
{
	const struct tine_dns *d = &((const struct dns_op *)op)->d;

	snprintf(ret, size, "%.100s%s%s", d->host ? d->host : "", d->host && d->service ? " " : "",
		d->service ? d->service : "");
}

static void describe_reverse(const struct work_op *op, char *ret, size_t size)
{
	const struct dns_op *o = (const struct dns_op *)op;
	const struct sockaddr *sa = (const struct sockaddr *)&o->address;
	char host[64], service[8]; /* numbers, and the name of an interface */

	if (getnameinfo(sa, (socklen_t)o->d.address_len, host, sizeof(host), service,
		    sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(ret, size, "%s %s", host, service);
	else
		snprintf(ret, size, "address of family %d", sa->sa_family);
}

static const struct work_op_kind lookup = {
	"lookup", POOL_DNS, run_lookup, deliver, drop, describe_lookup};
static const struct work_op_kind reverse = {
	"reverse", POOL_DNS, run_reverse, deliver, drop, describe_reverse};

static bool fits(const char *text, size_t size)
{
	return !text || (*text && strnlen(text, size) < size);
}

static int take(
	const struct tine_worker *worker, const struct tine_dns *given, struct tine_dns *ret)
{
	int r = worker && worker->pool ? SIZED_TAKE(ret, given, arg) : -EINVAL;

	return r < 0 || ret->on_done ? r : -EINVAL;
}

int work_dns_lookup(
	struct tine_worker *worker, const struct tine_dns *given, struct tine_work **ret)
{
	struct tine_dns d;
	struct dns_op *o;
	int r = take(worker, given, &d);

	if (r < 0)
		return r;
	if ((!d.host && !d.service) || !fits(d.host, NI_MAXHOST) || !fits(d.service, SERVICE_MAX))
		return -EINVAL;
	o = (struct dns_op *)work_op_new(
		&lookup, sizeof(*o), work_op_text_size(d.host) + work_op_text_size(d.service));
	if (!o)
		return -ENOMEM;
	o->d = d;
	o->d.host = work_op_copy_text(&o->op, d.host);
	o->d.service = work_op_copy_text(&o->op, d.service);
	o->d.address = NULL;
	return work_op_submit(worker, &o->op, d.timeout_us, ret);
}

int work_dns_reverse(
	struct tine_worker *worker, const struct tine_dns *given, struct tine_work **ret)
{
	struct tine_dns d;
	struct dns_op *o;
	int r = take(worker, given, &d);

	if (r < 0)
		return r;
	if (!d.address || d.address_len < sizeof(sa_family_t) || d.address_len > sizeof(o->address))
		return -EINVAL;
	o = (struct dns_op *)work_op_new(&reverse, sizeof(*o), 0);
	if (!o)
		return -ENOMEM;
	o->d = d;
	o->d.host = o->d.service = NULL;
	memcpy(&o->address, d.address, d.address_len);
	return work_op_submit(worker, &o->op, d.timeout_us, ret);
}
