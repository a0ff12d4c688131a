/*
 * A list of networks from text, and whether a host is in one of them. Any process.
 *
 * Always: an item has no bit beyond its mask, so each network has one text only.
 */
#include "base/netmask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

static int refuse(char *why, const char *item, const char *reason)
{
	snprintf(why, NETMASK_WHY_MAX, "\"%.50s\": %s", item, reason);
	return -EINVAL;
}

/* The number after '/'; without one it is a single host. */
static int parse_bits(const char *item, const char *slash, unsigned max, unsigned *ret, char *why)
{
	uint64_t bits = max;

	if (slash && (parse_u64(slash + 1, &bits) < 0 || bits > max))
		return refuse(why, item,
			max == 32 ? "after '/' comes a number from 0 to 32"
				  : "after '/' comes a number from 0 to 128");
	*ret = (unsigned)bits;
	return 0;
}

/* Clears the bits beyond the mask. Returns whether there were any. */
static bool clear_host_bits(struct netmask *m)
{
	static const uint8_t zero[16];
	uint8_t before[16];

	memcpy(before, m->addr, sizeof(before));
	if (m->bits % 8 != 0)
		m->addr[m->bits / 8] &= (uint8_t)(0xff << (8 - m->bits % 8));
	memcpy(m->addr + (m->bits + 7u) / 8, zero, 16 - (m->bits + 7u) / 8);
	return memcmp(before, m->addr, sizeof(before)) != 0;
}

static int netmask_parse(const char *item, struct netmask *ret, char *why)
{
	const char *slash = strchr(item, '/');
	size_t len = slash ? (size_t)(slash - item) : strlen(item);
	char text[NETMASK_TEXT_MAX];
	struct peer host;
	unsigned bits;
	bool mapped;
	int r;

	if (strcmp(item, "unix") == 0) {
		*ret = (struct netmask){.family = AF_UNIX};
		return 0;
	}
	if (!peer_parse(item, len, &host))
		return refuse(why, item,
			"not a network; write 10.0.0.0/8, 192.0.2.1, 2001:db8::/32 or unix");
	mapped = host.family == AF_INET && memchr(item, ':', len);
	r = parse_bits(item, slash, host.family == AF_INET && !mapped ? 32 : 128, &bits, why);
	if (r < 0)
		return r;
	if (mapped && bits < 96)
		return refuse(why, item, "half IPv4 and half IPv6; write the one that is meant");
	*ret = (struct netmask){
		.family = host.family, .bits = (uint16_t)(bits - (mapped ? 96 : 0))};
	memcpy(ret->addr, host.addr, sizeof(ret->addr));
	if (!clear_host_bits(ret))
		return 0;
	netmask_text(ret, text);
	snprintf(
		why, NETMASK_WHY_MAX, "\"%.50s\" is a host within a network; write %s", item, text);
	return -EINVAL;
}

/* Cuts the item before the next comma off *s, without blanks around it. Returns false when it does not fit. */
static bool next_item(const char **s, char *ret, size_t size)
{
	const char *p = *s + strspn(*s, " \t"), *end = strchrnul(p, ',');
	size_t len;

	*s = *end ? end + 1 : end;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	len = (size_t)(end - p);
	if (len >= size)
		len = size - 1;
	memcpy(ret, p, len);
	ret[len] = '\0';
	return len == (size_t)(end - p);
}

static int parse_items(const char *s, struct netmask_list *ret, char *why)
{
	char item[NETMASK_TEXT_MAX];
	bool more = *s != '\0';
	int r;

	while (more) {
		const char *begin = s;

		if (!next_item(&s, item, sizeof(item)))
			return refuse(why, item, "too long for a network");
		more = s > begin && s[-1] == ',';
		if (*item == '\0')
			return refuse(why, item, "a network is missing between two commas");
		if (ret->n == NETMASK_LIST_MAX)
			return refuse(why, item, "too many networks; 256 are possible");
		r = netmask_parse(item, &ret->items[ret->n], why);
		if (r < 0)
			return r;
		ret->n++;
	}
	return 0;
}

/*
 * Reads "10.0.0.0/8, 127.0.0.1, ::1, unix"; empty text is an empty list. Returns 0 with *ret for
 * netmask_list_clear(), -ENOMEM, or -EINVAL with `why` saying what is wrong and what would be right.
 */
int netmask_list_parse(const char *s, struct netmask_list *ret, char why[NETMASK_WHY_MAX])
{
	struct netmask_list l = {0};
	size_t most = 1;
	int r;

	for (const char *p = s; *p; p++)
		most += *p == ',';
	l.items = calloc(most < NETMASK_LIST_MAX ? most : NETMASK_LIST_MAX, sizeof(*l.items));
	if (!l.items)
		return -ENOMEM;
	r = parse_items(s, &l, why);
	if (r < 0 || l.n == 0)
		netmask_list_clear(&l);
	if (r == 0)
		*ret = l;
	return r;
}

void netmask_list_clear(struct netmask_list *l)
{
	free(l->items);
	*l = (struct netmask_list){0};
}

/* In the form netmask_list_parse() reads; a single host goes without its mask. */
void netmask_text(const struct netmask *m, char buf[NETMASK_TEXT_MAX])
{
	struct peer p = {.family = m->family};
	size_t n;

	if (m->family == AF_UNIX) {
		strcpy(buf, "unix");
		return;
	}
	memcpy(p.addr, m->addr, sizeof(p.addr));
	n = peer_text(&p, buf);
	if (m->bits < (m->family == AF_INET ? 32 : 128))
		snprintf(buf + n, NETMASK_TEXT_MAX - n, "/%u", m->bits);
}

/* Whether the host is in one of the networks. Nobody is in an empty list. */
bool netmask_list_has(const struct netmask_list *l, const struct peer *p)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->items[i].family == p->family &&
			same_bits(l->items[i].addr, p->addr, l->items[i].bits))
			return true;
	return false;
}
