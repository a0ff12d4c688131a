/* Unit test of shared/clients.c: counts per address over slots and processes, full buckets, clearing. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/clients.h"
#include "run.h"

static struct clients clients;

static uint64_t key_of(const char *text)
{
	struct peer p;

	ck_assert(peer_parse(text, strlen(text), &p));
	return clients_key(&clients, &p);
}

static uint64_t count(const char *text)
{
	return clients_count(&clients, key_of(text), clients.n_slots);
}

START_TEST(test_count)
{
	uint64_t a, b;

	ck_assert_int_eq(clients_new(3, 100, &clients), 0);
	a = key_of("192.0.2.1");
	b = key_of("192.0.2.2");
	ck_assert_uint_ne(a, b);
	ck_assert_uint_eq(count("192.0.2.1"), 0);
	ck_assert(clients_add(&clients, 0, a));
	ck_assert(clients_add(&clients, 0, a));
	ck_assert(clients_add(&clients, 2, a));
	ck_assert(clients_add(&clients, 2, b));
	ck_assert_uint_eq(count("192.0.2.1"), 3);
	ck_assert_uint_eq(count("192.0.2.2"), 1);
	ck_assert_uint_eq(clients_count(&clients, a, 2), 2); /* of the first two slots */
	clients_remove(&clients, 0, a);
	clients_remove(&clients, 2, b);
	ck_assert_uint_eq(count("192.0.2.1"), 2);
	ck_assert_uint_eq(count("192.0.2.2"), 0);
	/* removing what is not there changes nothing */
	clients_remove(&clients, 2, b);
	clients_remove(&clients, 1, a);
	ck_assert_uint_eq(count("192.0.2.1"), 2);
	clients_clear(&clients, 0);
	ck_assert_uint_eq(count("192.0.2.1"), 1);
	clients_clear(&clients, 2);
	ck_assert_uint_eq(count("192.0.2.1"), 0);
	clients_free(&clients);
	clients_free(&clients);
}
END_TEST

START_TEST(test_keys)
{
	const struct peer over_unix = {.family = AF_UNIX}, unknown = {.family = AF_UNSPEC};
	struct clients other;
	uint64_t mine;

	ck_assert_int_eq(clients_new(1, 100, &clients), 0);
	ck_assert_uint_eq(key_of("2001:db8:1:2::1"), key_of("2001:db8:1:2:ffff::"));
	ck_assert_uint_ne(key_of("2001:db8:1:2::1"), key_of("2001:db8:1:3::1"));
	ck_assert_uint_eq(key_of("::ffff:192.0.2.1"), key_of("192.0.2.1"));
	ck_assert_uint_ne(key_of("::"), key_of("0.0.0.0"));
	ck_assert_uint_eq(clients_key(&clients, &over_unix), 0);
	ck_assert_uint_eq(clients_key(&clients, &unknown), 0);
	ck_assert(!clients_add(&clients, 0, 0));
	ck_assert_uint_eq(clients_count(&clients, 0, 1), 0);
	mine = key_of("192.0.2.1");
	other = clients;
	ck_assert_int_eq(clients_new(1, 100, &clients), 0);
	ck_assert_uint_ne(mine, key_of("192.0.2.1")); /* nobody can know them in advance */
	clients_free(&clients);
	clients_free(&other);
	ck_assert_uint_eq(key_of("192.0.2.1"), 0); /* not mapped: nothing is counted */
}
END_TEST

/* As many addresses as there may be connections: nearly all are counted, and all that are go again. */
START_TEST(test_many)
{
	static uint64_t keys[10000];
	unsigned n_counted = 0;
	char text[32];

	ck_assert_int_eq(clients_new(2, 10000, &clients), 0);
	for (unsigned i = 0; i < 10000; i++) {
		snprintf(text, sizeof(text), "10.0.%u.%u", i / 256, i % 256);
		keys[i] = key_of(text);
		if (clients_add(&clients, 1, keys[i]))
			n_counted++;
		else
			keys[i] = 0;
	}
	ck_assert_uint_gt(n_counted, 9900);
	for (unsigned i = 0; i < 10000; i++)
		if (keys[i] != 0)
			ck_assert_uint_ge(clients_count(&clients, keys[i], 2), 1);
	for (unsigned i = 0; i < 10000; i++)
		if (keys[i] != 0)
			clients_remove(&clients, 1, keys[i]);
	for (unsigned i = 0; i < 10000; i++)
		ck_assert_uint_eq(clients_count(&clients, keys[i], 2), 0);
	clients_free(&clients);
}
END_TEST

START_TEST(test_one_address_too_often)
{
	uint64_t key;

	ck_assert_int_eq(clients_new(1, 1, &clients), 0);
	key = key_of("192.0.2.1");
	for (unsigned i = 0; i < 65535; i++)
		ck_assert(clients_add(&clients, 0, key));
	ck_assert(!clients_add(&clients, 0, key));
	ck_assert_uint_eq(clients_count(&clients, key, 1), 65535);
	clients_remove(&clients, 0, key);
	ck_assert_uint_eq(clients_count(&clients, key, 1), 65534);
	clients_free(&clients);
}
END_TEST

START_TEST(test_other_processes_see_it)
{
	uint64_t key;
	int status;
	pid_t pid;

	ck_assert_int_eq(clients_new(2, 100, &clients), 0);
	key = key_of("192.0.2.1");
	pid = fork();
	if (pid == 0) {
		clients_add(&clients, 1, key_of("192.0.2.1"));
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_uint_eq(clients_count(&clients, key, 2), 1);
	clients_free(&clients);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_count);
	tcase_add_test(tc, test_keys);
	tcase_add_test(tc, test_many);
	tcase_add_test(tc, test_one_address_too_often);
	tcase_add_test(tc, test_other_processes_see_it);
}

int main(void)
{
	return run_tests("clients", add);
}
