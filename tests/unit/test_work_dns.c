/* tine/work_dns.h: what /etc/hosts and plain numbers answer, the resolver's errors, cancelling. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include <tine/work_dns.h>

#include "run.h"
#include "work_harness.h"

typedef int (*dns_fn)(struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret);

/* The last result. */
static struct {
	int status, eai;
	unsigned n;
	char text[256], host[NI_MAXHOST], service[NI_MAXSERV];
	char address[INET6_ADDRSTRLEN]; /* the first */
	unsigned port;
} last;

static void on_done(struct tine_dns_result *r, void *arg)
{
	ck_assert_ptr_eq(arg, &last);
	memset(&last, 0, sizeof(last));
	last.status = r->status;
	last.eai = r->eai;
	snprintf(last.text, sizeof(last.text), "%s", r->text);
	ck_assert_int_eq(r->status < 0, *r->text != '\0');
	snprintf(last.host, sizeof(last.host), "%s", r->host ? r->host : "");
	snprintf(last.service, sizeof(last.service), "%s", r->service ? r->service : "");
	for (const struct addrinfo *a = r->addresses; a; a = a->ai_next)
		last.n++;
	if (r->addresses && r->addresses->ai_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)r->addresses->ai_addr;

		inet_ntop(AF_INET, &in->sin_addr, last.address, sizeof(last.address));
		last.port = ntohs(in->sin_port);
	}
	n_done++;
}

static int submit(dns_fn fn, struct tine_dns d, struct tine_work **ret)
{
	d.size = sizeof(d);
	d.on_done = on_done;
	d.arg = &last;
	return fn(&worker, &d, ret);
}

static int run(dns_fn fn, struct tine_dns d)
{
	unsigned n = n_done;

	ck_assert_int_eq(submit(fn, d, NULL), 0);
	run_until(n + 1);
	return last.status;
}

#define RUN(name, ...) run(tine_dns_##name, (struct tine_dns){__VA_ARGS__})

START_TEST(test_lookup)
{
	ck_assert_int_eq(RUN(lookup, .host = "localhost", .service = "80", .family = AF_INET,
				 .socktype = SOCK_STREAM),
		0);
	ck_assert_uint_ge(last.n, 1);
	ck_assert_str_eq(last.address, "127.0.0.1");
	ck_assert_uint_eq(last.port, 80);
	ck_assert_int_eq(
		RUN(lookup, .host = "192.0.2.7", .flags = AI_NUMERICHOST, .socktype = SOCK_DGRAM),
		0);
	ck_assert_uint_eq(last.n, 1);
	ck_assert_str_eq(last.address, "192.0.2.7");
	ck_assert_int_eq(RUN(lookup, .service = "8080", .family = AF_INET, .socktype = SOCK_STREAM,
				 .flags = AI_PASSIVE),
		0);
	ck_assert_str_eq(last.address, "0.0.0.0");
	ck_assert_uint_eq(last.port, 8080);
}
END_TEST

START_TEST(test_errors)
{
	ck_assert_int_eq(RUN(lookup, .host = "no address", .flags = AI_NUMERICHOST), -ENOENT);
	ck_assert_int_eq(last.eai, EAI_NONAME);
	ck_assert_str_eq(last.text, "lookup: no address: Name or service not known");
	ck_assert_uint_eq(last.n, 0);
	ck_assert_int_eq(RUN(lookup, .host = "127.0.0.1", .family = 12345), -EINVAL);
	ck_assert_int_eq(last.eai, EAI_FAMILY);
	ck_assert_int_eq(RUN(lookup, .host = "127.0.0.1", .socktype = 12345), -EINVAL);
	ck_assert_int_eq(last.eai, EAI_SOCKTYPE);
	ck_assert_int_eq(RUN(lookup, .host = "127.0.0.1", .flags = 1 << 30), -EINVAL);
	ck_assert_int_eq(last.eai, EAI_BADFLAGS);
	ck_assert_int_eq(RUN(lookup, .host = "127.0.0.1", .service = "no such service",
				 .socktype = SOCK_STREAM),
		-EINVAL);
	ck_assert_int_eq(last.eai, EAI_SERVICE);
	ck_assert_str_eq(last.text,
		"lookup: 127.0.0.1 no such service: Servname not supported for ai_socktype");
}
END_TEST

START_TEST(test_reverse)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(8080)};
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(1), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	char moved[sizeof(in) + 1]; /* it need not be aligned */

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memcpy(moved + 1, &in, sizeof(in));
	ck_assert_int_eq(RUN(reverse, .address = moved + 1, .address_len = sizeof(in),
				 .flags = NI_NUMERICSERV),
		0);
	ck_assert_str_eq(last.host, "localhost");
	ck_assert_str_eq(last.service, "8080");
	ck_assert_int_eq(RUN(reverse, .address = &in6, .address_len = sizeof(in6),
				 .flags = NI_NUMERICHOST | NI_NUMERICSERV),
		0);
	ck_assert_str_eq(last.host, "::1");
	in6.sin6_addr = (struct in6_addr){.s6_addr = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}};
	ck_assert_int_eq(
		RUN(reverse, .address = &in6, .address_len = sizeof(in6), .flags = 1 << 30),
		-EINVAL);
	ck_assert_str_eq(last.text, "reverse: 2001:db8::1 1: Bad value for ai_flags");
	in.sin_family = 12345;
	ck_assert_int_eq(RUN(reverse, .address = &in, .address_len = sizeof(in)), -EINVAL);
	ck_assert_int_eq(last.eai, EAI_FAMILY);
	ck_assert_str_eq(last.text, "reverse: address of family 12345: ai_family not supported");
	ck_assert_str_eq(last.host, "");
}
END_TEST

static void refuse(dns_fn fn, struct tine_dns d)
{
	d.size = sizeof(d);
	d.on_done = on_done;
	ck_assert_int_eq(fn(&worker, &d, NULL), -EINVAL);
}

#define REFUSE(name, ...) refuse(tine_dns_##name, (struct tine_dns){__VA_ARGS__})

START_TEST(test_bad_input)
{
	char name[NI_MAXHOST + 1];
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct tine_dns none = {.size = sizeof(none), .host = "x"},
			d = {.size = sizeof(d), .host = "x", .on_done = on_done};

	memset(name, 'x', sizeof(name));
	name[NI_MAXHOST] = '\0';
	REFUSE(lookup, .family = AF_INET);
	REFUSE(lookup, .host = "");
	REFUSE(lookup, .host = name);
	REFUSE(lookup, .host = "x", .service = "");
	REFUSE(lookup, .host = "x", .service = name);
	REFUSE(reverse, .host = "x");
	REFUSE(reverse, .address = &in, .address_len = 1);
	REFUSE(reverse, .address = &in, .address_len = SIZE_MAX);
	ck_assert_int_eq(tine_dns_lookup(&worker, &none, NULL), -EINVAL);
	ck_assert_int_eq(tine_dns_lookup(&worker, NULL, NULL), -EINVAL);
	ck_assert_int_eq(tine_dns_lookup(NULL, &d, NULL), -EINVAL);
	ck_assert_int_eq(tine_dns_reverse(&worker, NULL, NULL), -EINVAL);
	d.size = 0;
	ck_assert_int_eq(tine_dns_lookup(&worker, &d, NULL), -EINVAL);
	run_idle();
}
END_TEST

/* What was found is freed, although nobody hears of it. */
START_TEST(test_cancel)
{
	struct tine_dns d = {.host = "127.0.0.1"};
	struct tine_work *w[2];
	struct hold h;

	ck_assert_int_eq(submit(tine_dns_lookup, d, &w[0]), 0);
	hold_begin(&h, POOL_DNS);
	ck_assert_int_eq(submit(tine_dns_lookup, d, &w[1]), 0);
	work_cancel(w[0]); /* done */
	work_cancel(w[1]); /* waits */
	run_until(2);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	ck_assert_str_eq(last.text, "lookup: 127.0.0.1: canceled");
	ck_assert_int_eq(last.eai, 0);
	ck_assert_uint_eq(last.n, 0);
	hold_end(&h);
}
END_TEST

/* What waits longer than it may. */
START_TEST(test_timeout)
{
	struct hold h;

	hold_begin(&h, POOL_DNS);
	ck_assert_int_eq(RUN(lookup, .host = "127.0.0.1", .timeout_us = 1), TINE_E_TIMEOUT);
	ck_assert_int_eq(last.eai, 0);
	ck_assert_str_eq(last.text, "lookup: 127.0.0.1: timed out");
	hold_end(&h);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, work_setup, work_teardown);
	tcase_add_test(tc, test_lookup);
	tcase_add_test(tc, test_errors);
	tcase_add_test(tc, test_reverse);
	tcase_add_test(tc, test_bad_input);
	tcase_add_test(tc, test_cancel);
	tcase_add_test(tc, test_timeout);
}

int main(void)
{
	return run_tests("work_dns", add);
}
