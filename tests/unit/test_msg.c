/* The message table: every row is whole, and what breaks it is refused. */
#include <errno.h>
#include <string.h>

#include "ipc/msg.h"
#include "run.h"

static const struct {
	struct frame f;
	enum msg_lane lane;
	enum msg_role sender;
	const char *why; /* NULL: it is fine */
} rows[] = {
	{{.type = MSG_READY}, LANE_CONTROL, ROLE_WORKER, NULL},
	{{.type = MSG_READY}, LANE_CONTROL, ROLE_TASK, NULL},
	{{.type = MSG_PING}, LANE_CONTROL, ROLE_PRIMARY, NULL},
	{{.type = MSG_FAILED, .length = 0}, LANE_CONTROL, ROLE_WORKER, NULL},
	{{.type = MSG_FAILED, .length = MSG_FAIL_MAX}, LANE_CONTROL, ROLE_WORKER, NULL},
	{{.type = MSG_DRAIN, .length = sizeof(struct msg_drain)}, LANE_CONTROL, ROLE_PRIMARY, NULL},
	{{.type = MSG_READY}, LANE_CONTROL, ROLE_PRIMARY, "message its sender may not send"},
	{{.type = MSG_PING}, LANE_CONTROL, ROLE_WORKER, "message its sender may not send"},
	{{.type = MSG_QUIT}, LANE_CONTROL, ROLE_ADMIN, "message its sender may not send"},
	{{.type = MSG_READY}, LANE_BUS, ROLE_WORKER, "message on the wrong lane"},
	{{.type = MSG_READY, .length = 1}, LANE_CONTROL, ROLE_WORKER, "wrong payload length"},
	{{.type = MSG_DRAIN, .length = 7}, LANE_CONTROL, ROLE_PRIMARY, "wrong payload length"},
	{{.type = MSG_FAILED, .length = MSG_FAIL_MAX + 1}, LANE_CONTROL, ROLE_WORKER,
		"wrong payload length"},
	{{.type = MSG_FAILED, .length = UINT32_MAX}, LANE_CONTROL, ROLE_WORKER,
		"wrong payload length"},
	{{.type = MSG_READY, .flags = 1}, LANE_CONTROL, ROLE_WORKER, "undefined flags"},
	{{.type = 0}, LANE_CONTROL, ROLE_WORKER, "unknown message number"},
	{{.type = MSG_TYPE_END}, LANE_CONTROL, ROLE_WORKER, "unknown message number"},
	{{.type = UINT16_MAX}, LANE_CONTROL, ROLE_WORKER, "unknown message number"},
};

START_TEST(test_validate)
{
	const char *why = NULL;
	int r = msg_validate(&rows[_i].f, rows[_i].lane, rows[_i].sender, &why);

	ck_assert_int_eq(r, rows[_i].why ? -EPROTO : 0);
	if (rows[_i].why)
		ck_assert_str_eq(why, rows[_i].why);
}
END_TEST

START_TEST(test_every_message_is_declared_whole)
{
	for (unsigned type = 1; type < MSG_TYPE_END; type++) {
		const struct msg_rule *r = msg_rule(type);

		ck_assert_ptr_nonnull(r);
		ck_assert_uint_ne(r->senders, 0);
		ck_assert_uint_le(r->payload, MSG_LENGTH_MAX);
		ck_assert_str_ne(msg_name(type), "unknown message");
	}
	ck_assert_ptr_null(msg_rule(0));
	ck_assert_ptr_null(msg_rule(MSG_TYPE_END));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_validate, 0, sizeof(rows) / sizeof(*rows));
	tcase_add_test(tc, test_every_message_is_declared_whole);
}

int main(void)
{
	return run_tests("msg", add);
}
