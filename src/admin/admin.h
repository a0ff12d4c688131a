/*
 * The admin process: metrics, health checks, status and the dashboard. It reads shared memory, and works while every worker
 * hangs. What its files share.
 */
#pragma once

#include <event2/event_struct.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "shared/histogram.h"

struct child;
struct http_router;
struct http_server;
struct lifeline;
struct net_server;
struct tine_request;

#define ADMIN_HISTORY     300 /* seconds that the plots show */
#define ADMIN_CONNECTIONS 256
#define ADMIN_STREAMS     64 /* pages that are open at the same time */
#define ADMIN_ACTIONS     8  /* commands under way */
#define ADMIN_GUESSERS    256
#define ADMIN_TOKEN_MIN   16
#define ADMIN_TOKEN_MAX   256

/* A second of the whole service. */
struct admin_sample {
	uint64_t realtime_ms;
	double requests, errors; /* per second */
	uint64_t p50_us, p99_us; /* of the answers in that second; 0: there were none */
	uint64_t connections, restarts, crashes;
	double busy; /* mean of the workers', 0 to 1 */
};

/* What a slot said a second ago. */
struct admin_slot {
	uint32_t pid;
	uint64_t requests, busy_us;
	struct histogram loop_lag;
};

struct admin_stream {
	LIST_ENTRY(admin_stream) link;
	struct tine_request *request;
	uint64_t n_events;      /* number of the newest it was sent */
	uint64_t crash_version; /* of the list of crashes that it was sent */
	unsigned n_skipped;     /* seconds in a row it did not take */
	unsigned step;          /* of telling it the news of a second */
	json_int_t from;        /* the slot with which the next piece of the processes begins */
	struct admin *admin;
};

struct admin_action {
	uint64_t id; /* 0: unused */
	struct tine_request *request;
	struct event ev_deadline;
	struct admin *admin;
};

struct admin {
	const struct child *child;
	struct event_base *base;
	struct lifeline *lifeline;
	struct net_server *net;
	struct http_server *http;
	struct http_router *router;
	struct event *ev_accept; /* one for each socket */
	size_t n_sockets;
	struct event ev_deadline, ev_second;
	const void *arena; /* the memory that workers share, to be looked at only */
	uint64_t arena_size;
	bool serving, full, draining, done;
	int exit_status;

	/* samples.c */
	struct admin_sample samples[ADMIN_HISTORY];
	size_t n_samples, first_sample;
	struct admin_slot *slots;
	size_t n_slots;
	uint64_t sampled_us, total_requests, total_errors, total_restarts, total_crashes;
	struct histogram total_latency;
	json_t *status, *processes; /* as report_status(); as report_process(), with rates */
	char *crashes;              /* the list as JSON; NULL: not made yet */
	uint64_t crash_version,
		crash_events; /* which one it is, and the event after which it was looked at */
	LIST_HEAD(, admin_stream) streams;
	unsigned n_streams;

	/* actions.c */
	char token[ADMIN_TOKEN_MAX + 1]; /* empty: no actions */
	struct admin_action actions[ADMIN_ACTIONS];
	uint64_t last_action;
	uint64_t guess_us[ADMIN_GUESSERS]; /* when the next token may be tried from there */
	uint64_t guess_seed;
};

int admin_main(const struct child *c);

/* samples.c */
int samples_start(struct admin *a);
void samples_stop(struct admin *a);

/* status.c, metrics.c, page.c, actions.c: they serve */
int status_routes(struct admin *a);
int metrics_routes(struct admin *a);
int page_routes(struct admin *a);
int actions_routes(struct admin *a);
int samples_routes(struct admin *a);

/* actions.c */
int actions_read_token(struct admin *a, char *error, size_t size);
void actions_on_reply(struct admin *a, uint64_t id, const char *text, size_t len);

/* admin.c */
void admin_resume_accepting(struct admin *a);

/* admin.c, for all that answer */
void admin_note_look(const struct admin *a);
int admin_route(struct admin *a, unsigned methods, const char *path,
	void (*fn)(struct tine_request *request, void *arg));
void admin_answer_json(struct tine_request *request, int status, json_t *o);
