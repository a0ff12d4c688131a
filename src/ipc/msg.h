/*
 * Every message that travels on a lane, declared once: number, lane, payload, legal senders, descriptors.
 * Both sides check what arrives against this table before a handler sees it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum msg_lane { LANE_CONTROL, LANE_BUS };

/* Who may send it: a set. */
enum msg_role { ROLE_PRIMARY = 1, ROLE_WORKER = 2, ROLE_TASK = 4, ROLE_ADMIN = 8 };
#define ROLE_CHILDREN (ROLE_WORKER | ROLE_TASK | ROLE_ADMIN)

enum msg_size { MSG_EXACT, MSG_UPTO }; /* how the payload's size is meant */

#define MSG_FAIL_MAX    1024        /* bytes of the text in FAILED */
#define MSG_COMMAND_MAX 256         /* bytes of a command that the admin process passes on */
#define MSG_REPLY_MAX   (16u << 10) /* bytes of its answer, a line of JSON; frame.id says to which */

struct msg_drain {
	uint64_t timeout_us; /* what is not finished by then is cut off */
};

struct msg_log_level {
	uint32_t level; /* enum log_level */
};

/* SERVE: the trial is over, accept connections (a child that is not on trial does so by itself). */
/* LISTEN: take connections from one more socket of a listener, which comes along; UNLISTEN: no longer. */
struct msg_listen {
	uint32_t listener; /* index into the configuration's listeners */
	uint32_t socket;   /* index into that listener's sockets */
};

/* clang-format off */
/*   name        no  lane          senders        fds  size    payload, bytes */
#define MSG_TABLE(X)                                                                               \
	X(READY,      1, LANE_CONTROL, ROLE_CHILDREN, 0, MSG_EXACT, 0)                             \
	X(FAILED,     2, LANE_CONTROL, ROLE_CHILDREN, 0, MSG_UPTO,  MSG_FAIL_MAX)                  \
	X(PING,       3, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_EXACT, 0)                             \
	X(PONG,       4, LANE_CONTROL, ROLE_CHILDREN, 0, MSG_EXACT, 0)                             \
	X(DRAIN,      5, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_drain))      \
	X(DRAINED,    6, LANE_CONTROL, ROLE_CHILDREN, 0, MSG_EXACT, 0)                             \
	X(QUIT,       7, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_EXACT, 0)                             \
	X(LOG_LEVEL,  8, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_log_level))  \
	X(LOG_REOPEN, 9, LANE_CONTROL, ROLE_PRIMARY,  1, MSG_EXACT, 0)                             \
	X(LISTEN,    10, LANE_CONTROL, ROLE_PRIMARY,  1, MSG_EXACT, sizeof(struct msg_listen))     \
	X(UNLISTEN,  11, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_listen))     \
	X(LEAVING,   12, LANE_CONTROL, ROLE_CHILDREN, 0, MSG_EXACT, 0)                             \
	X(ACCESS_REOPEN, 13, LANE_CONTROL, ROLE_PRIMARY, 1, MSG_EXACT, 0)                          \
	X(SERVE,     14, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_EXACT, 0)                             \
	X(COMMAND,   15, LANE_CONTROL, ROLE_ADMIN,    0, MSG_UPTO,  MSG_COMMAND_MAX)               \
	X(REPLY,     16, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_UPTO,  MSG_REPLY_MAX)
/* clang-format on */

enum msg_type {
#define X(name, no, ...) MSG_##name = (no),
	MSG_TABLE(X)
#undef X
		MSG_TYPE_END
};

#define MSG_PAYLOAD_MAX (64u << 10) /* of any message; larger ones travel as a memfd */

/* What precedes every payload, in the machine's own byte order: both ends are on it. */
struct frame {
	uint32_t length;   /* bytes of payload that follow */
	uint16_t type;     /* enum msg_type */
	uint16_t flags;    /* none defined: 0 */
	uint32_t src, dst; /* slots; 0 on the control lane */
	uint64_t id;       /* ties an answer to what it answers */
};

_Static_assert(sizeof(struct frame) == 24, "the frame's layout is fixed");

struct msg_rule {
	const char *name; /* NULL: no such message */
	enum msg_lane lane;
	unsigned senders;
	unsigned n_fds;
	enum msg_size size;
	uint32_t payload;
};

const struct msg_rule *msg_rule(unsigned type);
const char *msg_name(unsigned type);
int msg_validate(
	const struct frame *f, enum msg_lane lane, enum msg_role sender, const char **ret_why);
