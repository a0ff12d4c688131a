/*
 * The relay's side of the bridge: what other machines want to have from here, and what is wanted here from them. Runs in the
 * primary. One process at a time is the bridge; while there is none, what it would have got is counted as missed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct publication;
struct relay;
struct relay_peer;
struct remote;
struct subject_match;
struct subscription;

struct remote_figures {
	uint64_t missed;  /* published while there was no bridge */
	uint64_t dropped; /* for which its queue had no room */
	size_t n_interests;
};

int remote_new(struct relay *r, struct remote **ret);
struct remote *remote_free(struct remote *m);
uint64_t remote_machine(const struct remote *m);
int remote_set_exports(struct remote *m, const char *patterns);
void remote_activate(struct remote *m, struct relay_peer *p);
void remote_end(struct remote *m);
const struct relay_peer *remote_bridge(const struct remote *m);
void remote_deactivate(struct remote *m, const struct relay_peer *p);
void remote_go_on(struct remote *m, const struct relay_peer *p);
int remote_add(struct remote *m, const char *pattern, size_t len, const char *group,
	size_t group_len, struct subscription *sub);
void remote_remove(struct remote *m, struct subscription *sub);
bool remote_wants(const struct remote *m, const struct subject_match *match);
void remote_forward(struct remote *m, const struct publication *p,
	struct subscription *const *served, size_t n);
void remote_deliver(struct remote *m, const struct publication *p);
struct remote_figures remote_figures(const struct remote *m);
