/* Networks, as an operator lists those he trusts. Pure functions apart from memory; any process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/peer.h"

#define NETMASK_TEXT_MAX (INET6_ADDRSTRLEN + 4) /* "/128" */
#define NETMASK_LIST_MAX 256                    /* networks in one list */
#define NETMASK_WHY_MAX  160

struct netmask {
	uint16_t family; /* AF_INET, AF_INET6; AF_UNIX: whoever comes over a Unix socket */
	uint16_t bits;
	uint8_t addr[16]; /* as in struct peer */
};

struct netmask_list {
	struct netmask *items;
	size_t n;
};

int netmask_list_parse(const char *s, struct netmask_list *ret, char why[NETMASK_WHY_MAX]);
void netmask_list_clear(struct netmask_list *l);
void netmask_text(const struct netmask *m, char buf[NETMASK_TEXT_MAX]);
bool netmask_list_has(const struct netmask_list *l, const struct peer *p);
