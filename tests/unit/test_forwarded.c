/* Unit test of http/forwarded.c: the first address from the right that is no trusted proxy's. */
#include <string.h>

#include "http/forwarded.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))
#define XFF          "X-Forwarded-For"

/* Trusted: 10.0.0.0/8, 127.0.0.1, fd00::/8 and Unix sockets. */
static const struct {
	enum client_header field;
	const char *peer;
	const char *name, *values[3];
	const char *client;
} cases[] = {
	/* no field; not trusted */
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {NULL}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {""}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "192.0.2.1", XFF, {"203.0.113.9"}, "192.0.2.1"},
	/* the walk */
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", "x-FORWARDED-for", {"203.0.113.9"},
		"203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "unix", XFF, {"203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"6.6.6.6, 203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"6.6.6.6,203.0.113.9 ,10.0.0.2"},
		"203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF,
		{"203.0.113.9, 10.0.0.3, fd00::1, 127.0.0.1"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF,
		{"6.6.6.6, 203.0.113.9, 10.0.0.3, 10.0.0.2"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9,,", ""}, "203.0.113.9"},
	/* several lines are one list */
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"6.6.6.6", "203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"6.6.6.6", "203.0.113.9", "10.0.0.2"},
		"203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9", "", "10.0.0.2"},
		"203.0.113.9"},
	/* forms */
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9:4711"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"2001:db8::1"}, "2001:db8::1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"[2001:db8::1]"}, "2001:db8::1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"[2001:db8::1]:80"}, "2001:db8::1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"::ffff:203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9, ::ffff:10.0.0.2"},
		"203.0.113.9"},
	/* malformed: the last good one */
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"unknown"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9, unknown"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9, ?, 10.0.0.3, 10.0.0.2"},
		"10.0.0.3"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"?, 203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9:"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9:123456"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9:8o"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"[203.0.113.9]"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"[2001:db8::1"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"[2001:db8::1]80"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"[]"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"203.0.113.9 10.0.0.2"}, "10.0.0.1"},
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", XFF, {"\"203.0.113.9\""}, "10.0.0.1"},
	/* the other field is not believed */
	{CLIENT_HEADER_X_FORWARDED_FOR, "10.0.0.1", "Forwarded", {"for=203.0.113.9"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", XFF, {"203.0.113.9"}, "10.0.0.1"},

	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "forwarded", {"For=\"203.0.113.9\""}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"FOR=\"203.0.113.9:4711\""},
		"203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=\"[2001:db8:cafe::17]:4711\""},
		"2001:db8:cafe::17"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=\"[2001:db8::1]\""},
		"2001:db8::1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded",
		{"for=203.0.113.9;proto=http;by=203.0.113.43"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded",
		{"proto=https; host=\"a,for=6.6.6.6\" ;for=203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded",
		{"for=6.6.6.6, for=203.0.113.9,for=10.0.0.3;proto=https"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded",
		{"for=6.6.6.6", "for=203.0.113.9", "for=10.0.0.9"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded",
		{"host=\"\\\",for=6.6.6.6\";for=203.0.113.9"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {" , for=203.0.113.9,,"}, "203.0.113.9"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=203.0.113.9, for=unknown"},
		"10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=_hidden, for=10.0.0.2"},
		"10.0.0.2"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=203.0.113.9, for=_hidden"},
		"10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=203.0.113.9, proto=http"},
		"10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=203.0.113.9;for=6.6.6.6"},
		"10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=2001:db8::1"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=\"2001:db8::1\""}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=\"203.0.113.9"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=\"203.0.113.9\\"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for =203.0.113.9"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for=203.0.113.9;"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"for="}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"203.0.113.9"}, "10.0.0.1"},
	{CLIENT_HEADER_FORWARDED, "10.0.0.1", "Forwarded", {"host=\"", "for=203.0.113.9"},
		"203.0.113.9"},
};

START_TEST(test_client)
{
	struct http_field fields[4];
	struct http_head h = {.fields = fields};
	struct netmask_list trusted;
	char why[NETMASK_WHY_MAX], text[PEER_TEXT_MAX];
	struct peer p = {.family = AF_UNIX};

	ck_assert_int_eq(
		netmask_list_parse("10.0.0.0/8, 127.0.0.1, fd00::/8, unix", &trusted, why), 0);
	if (strcmp(cases[_i].peer, "unix") != 0)
		ck_assert(peer_parse(cases[_i].peer, strlen(cases[_i].peer), &p));
	h.n_fields = 0;
	h.fields[h.n_fields++] = (struct http_field){{"Host", 4}, {"6.6.6.6", 7}};
	for (int i = 0; i < 3 && cases[_i].values[i]; i++)
		h.fields[h.n_fields++] =
			(struct http_field){{cases[_i].name, strlen(cases[_i].name)},
				{cases[_i].values[i], strlen(cases[_i].values[i])}};
	forwarded_client(&h, cases[_i].field, &trusted, &p);
	peer_text(&p, text);
	ck_assert_msg(strcmp(text, cases[_i].client) == 0, "%s: %s: %s, not %s", cases[_i].name,
		cases[_i].values[0], text, cases[_i].client);
	netmask_list_clear(&trusted);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_client, 0, N_ROWS(cases));
}

int main(void)
{
	return run_tests("forwarded", add);
}
