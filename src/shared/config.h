/*
 * The configuration of one generation: what the INI file said, checked, with the defaults filled in.
 * Made by the primary (or --check), inherited by its children over fork(2); never changed after parsing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/address.h"
#include "base/log.h"
#include "base/netmask.h"
#include "base/parse.h"

struct option_row;

#define CONFIG_NAME_MAX 63 /* bytes in the NAME of [listener:NAME] and the like: [A-Za-z0-9_.-] */

enum listener_protocol { PROTOCOL_HTTP, PROTOCOL_TCP };
enum listener_accept { ACCEPT_SHARED, ACCEPT_REUSEPORT };
/* Which field is believed; never both: a proxy that writes one passes the client's other one on. */
enum client_header { CLIENT_HEADER_X_FORWARDED_FOR, CLIENT_HEADER_FORWARDED };
enum access_format { ACCESS_COMBINED, ACCESS_JSON };
enum cpu_affinity { AFFINITY_OFF, AFFINITY_AUTO };
enum worker_probe { PROBE_OFF, PROBE_ON };
/* What users beside the owner and the group may do on the control socket. */
enum control_others { CONTROL_NOTHING, CONTROL_READ };

/* stderr | journal | file:PATH, and "off" where the option allows it. */
struct conf_sink {
	bool off;
	enum log_sink sink;
	char *path; /* LOG_SINK_FILE only */
};

struct conf_tined {
	char *user; /* NULL: stay who we are */
	struct conf_sink log;
	unsigned log_level; /* enum log_level */
	char *control;
	unsigned control_line;   /* line of the key; 0: the default */
	char *control_group;     /* NULL: none */
	unsigned control_others; /* enum control_others */
	char *pid_file;          /* NULL: none */
};

struct conf_workers {
	uint64_t count; /* 0: auto */
	unsigned cpu_affinity;
	uint64_t threads;
	uint64_t start_timeout_us, hang_timeout_us, drain_timeout_us, probation_us;
	uint64_t max_requests, max_memory, max_memory_hard, max_lifetime_us; /* 0: never */
	uint64_t max_unavailable; /* workers replaced at the same time */
	uint64_t max_surge;       /* new workers that start at the same time; 0: all */
	unsigned probe;           /* enum worker_probe */
	uint64_t backoff_min_us, backoff_max_us;
	struct rate crash_limit;
	uint64_t max_connections; /* per worker */
	uint64_t shared_memory;   /* bytes */
};

struct conf_http {
	uint64_t header_timeout_us, body_timeout_us, idle_timeout_us;
	uint64_t max_header, max_body; /* bytes */
	uint64_t min_rate;             /* bytes per second; 0: none */
	uint64_t answer_timeout_us;
	uint64_t max_keepalive, max_per_client, max_total; /* 0: no limit */
	struct netmask_list trusted_proxies;
	unsigned client_header; /* enum client_header */
	char *error_pages;      /* NULL: none */
	uint64_t websocket_max_message;
	uint64_t websocket_ping_us; /* 0: never */
	struct conf_sink access_log;
	unsigned access_log_line; /* line of the key; 0: the default */
	unsigned access_format;
};

struct conf_bus {
	uint64_t queue_high, queue_low; /* bytes */
	uint64_t max_message;           /* bytes */
	uint64_t subscriptions;         /* of one process */
	uint64_t spin_us;
	char *nats; /* addresses of servers, with commas between them; NULL: there is no bridge */
	char *nats_subjects;  /* patterns with blanks between them */
	uint64_t nats_buffer; /* bytes */
	char *nats_credentials, *nats_tls_ca, *nats_tls_cert, *nats_tls_key; /* NULL: none */
};

/* The marks of the bridge's queue: it may be as long as what waits in the bridge. */
static inline uint64_t conf_bridge_high(const struct conf_bus *c)
{
	return c->nats_buffer > c->queue_high ? c->nats_buffer : c->queue_high;
}

static inline uint64_t conf_bridge_low(const struct conf_bus *c)
{
	return conf_bridge_high(c) / 4;
}

struct conf_admin {
	struct address listen;
	unsigned listen_line; /* line of the key; 0: the default */
	char *token_file;     /* NULL: no actions */
	unsigned token_file_line;
};

struct conf_listener {
	char name[CONFIG_NAME_MAX + 1]; /* empty: it is that of [admin] */
	unsigned line;                  /* of its section, for messages */
	struct address address;
	unsigned address_line; /* line of the address key; 0: the default */
	unsigned protocol, accept;
	uint64_t backlog;
	unsigned proxy_protocol; /* 1: on */
};

/* One "key = value" of a module's own options; the module declares and checks them in a child. */
struct conf_pair {
	char *key, *value;
	unsigned line;
};

struct conf_module {
	const char *kind; /* of its section: "module" or "farm" */
	char name[CONFIG_NAME_MAX + 1];
	unsigned line;
	char *path; /* "builtin:NAME" or the path of a .so; relative paths are taken from the file's folder */
	unsigned path_line;
	char *listener; /* name of a section [listener:NAME]; checked to exist */
	char *mount;    /* begins with '/', no trailing '/' unless it is "/" */
	struct conf_pair *pairs;
	size_t n_pairs;
};

struct conf_farm {
	char name[CONFIG_NAME_MAX + 1];
	unsigned line;
	char *module;         /* as conf_module's path */
	unsigned module_line; /* 0: the section's */
	uint64_t processes, min, idle_time_us;
	uint64_t queue_max, queue_memory; /* tasks that wait, and bytes of them */
	uint64_t max_result;              /* bytes */
	uint64_t timeout_us, retries, recycle_after;
	struct conf_pair *pairs; /* the module's own options */
	size_t n_pairs;
};

struct config {
	char *path; /* as given; "(built-in)" for the embedded default */
	char *folder; /* the absolute one it is in, for relative paths; NULL for the embedded default */
	struct conf_tined tined;
	struct conf_workers workers;
	struct conf_http http;
	struct conf_bus bus;
	bool has_admin; /* a section [admin] is there */
	struct conf_admin admin;
	struct conf_listener *listeners;
	size_t n_listeners;
	struct conf_module *modules;
	size_t n_modules;
	struct conf_farm *farms;
	size_t n_farms;
};

/* Gets each error as one whole line without newline: "FILE:LINE: section.key: what, what would be right". */
typedef void (*config_error_fn)(const char *line, void *arg);

int config_load(const char *path, config_error_fn on_error, void *arg, struct config **ret);
int config_load_text(const char *name, const char *folder, const char *text, size_t len,
	config_error_fn on_error, void *arg, struct config **ret);
int config_print(const struct config *c, FILE *out);
char *config_text(const struct config *c, const struct option_row *o);
struct config *config_free(struct config *c);
struct conf_module config_farm_module(const struct conf_farm *f);
const struct conf_farm *config_farm(const struct config *c, const char *name);
const struct conf_listener *config_listener(const struct config *c, const char *name);
