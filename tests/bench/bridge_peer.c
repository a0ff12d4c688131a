/*
 * The same by libnats alone: two connections to one server, without anything between program and library.
 *
 * usage: bridge_peer URL rate N SIZE | bridge_peer URL trip N
 * Prints "MESSAGES SECONDS", or "P50 P99" in microseconds.
 */
#include <nats/nats.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Atomic unsigned long n_got;
static double first;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void check(natsStatus s)
{
	if (s == NATS_OK)
		return;
	fprintf(stderr, "bridge_peer: %s\n", natsStatus_GetText(s));
	exit(EXIT_FAILURE);
}

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
	(void)sub;
	(void)arg;
	if (natsMsg_GetReply(msg))
		check(natsConnection_PublishString(nc, natsMsg_GetReply(msg), "x"));
	else if (n_got++ == 0)
		first = now();
	natsMsg_Destroy(msg);
}

static natsConnection *join(const char *url)
{
	natsConnection *nc;
	natsOptions *o;

	check(natsOptions_Create(&o));
	check(natsOptions_SetURL(o, url));
	check(natsOptions_SetMaxPendingMsgs(o, 10000000));
	check(natsConnection_Connect(&nc, o));
	return nc;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void rate(natsConnection *nc, unsigned long n, int size)
{
	const struct timespec pause = {0, 1000000};
	char *data = calloc(1, (size_t)size);

	for (unsigned long i = 0; i < n; i++)
		check(natsConnection_Publish(nc, "peer.rate", data, size));
	check(natsConnection_Flush(nc));
	while (n_got < n)
		nanosleep(&pause, NULL);
	printf("%lu %.6f\n", n, now() - first);
	free(data);
}

static void trip(natsConnection *nc, unsigned n)
{
	double *took = calloc(n, sizeof(*took));

	for (unsigned i = 0; i < n; i++) {
		double began = now();
		natsMsg *m;

		check(natsConnection_RequestString(&m, nc, "peer.trip", "x", 5000));
		natsMsg_Destroy(m);
		took[i] = now() - began;
	}
	qsort(took, n, sizeof(*took), compare);
	printf("%.2f %.2f\n", took[n / 2] * 1e6, took[n * 99 / 100] * 1e6);
	free(took);
}

int main(int argc, char **argv)
{
	natsConnection *a, *b;
	natsSubscription *sub;

	if (argc < 4)
		return EXIT_FAILURE;
	a = join(argv[1]);
	b = join(argv[1]);
	check(natsConnection_Subscribe(&sub, b, "peer.*", on_message, NULL));
	check(natsConnection_Flush(b));
	if (strcmp(argv[2], "rate") == 0 && argc == 5)
		rate(a, strtoul(argv[3], NULL, 10), atoi(argv[4]));
	else
		trip(a, (unsigned)strtoul(argv[3], NULL, 10));
	return EXIT_SUCCESS;
}
