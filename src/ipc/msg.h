/*
 * Every message that travels on a lane, declared once: number, lane, payload, legal senders, descriptors.
 * Both sides check what arrives against this table before a handler sees it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum msg_lane { LANE_CONTROL, LANE_BUS };

/* Who may send it: a set. */
enum msg_role {
	ROLE_PRIMARY = 1,
	ROLE_WORKER = 2,
	ROLE_TASK = 4,
	ROLE_ADMIN = 8,
	ROLE_BRIDGE = 16
};
#define ROLE_CHILDREN (ROLE_WORKER | ROLE_TASK | ROLE_ADMIN | ROLE_BRIDGE)
#define ROLE_BUS      ROLE_WORKER /* who sends messages on the bus */

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

/* --- the bus --- */

/* frame.flags, where the table allows them */
#define FRAME_FD 1u /* a descriptor comes along */
#define FRAME_LARGE \
	2u /* and it is the payload: a sealed memfd; struct msg_large stands in its place */
#define FRAME_SYNC     4u  /* the sender wants to know at once what became of it */
#define FRAME_ERROR    8u  /* an answer that says why there is none: struct msg_error */
#define FRAME_ANSWERED 16u /* its sender waits for an ANSWER */

/*
 * A process's address: its slot, and how often that had been filled before it (modulo 2^20, never the last value), so that
 * nothing reaches the next one in the slot. 0 is nobody's: births count from 1.
 */
#define ADDRESS_SLOT_BITS 12
#define ADDRESS_SLOT(a)   ((a) & ((1u << ADDRESS_SLOT_BITS) - 1))
#define ADDRESS_BIRTH_MAX ((1u << (32 - ADDRESS_SLOT_BITS)) - 2)

/* frame.dst, of SEND; of PUBLISH, ALL or OTHERS: whether the sender's own subscriptions count */
#define ADDRESS_ALL    UINT32_MAX       /* everybody */
#define ADDRESS_OTHERS (UINT32_MAX - 1) /* but the sender */
#define ADDRESS_ANY    (UINT32_MAX - 2) /* the other worker that has least to do */

#define SUBJECT_MAX       255u /* bytes */
#define SUBJECT_TOKENS    16u
#define SUBJECT_WILDCARDS 4u  /* `*` in a pattern: each doubles the ways through the tree */
#define SUBJECT_GROUP_MAX 63u /* bytes of a queue group's name */

/*
 * What precedes the body of PUBLISH: this, and the subject, with zeros up to a multiple of 8. On its way to a subscriber
 * frame.dst is the number that it gave its subscription.
 */
struct msg_publish {
	uint16_t subject; /* bytes */
	uint16_t reserved[3];
};

/* Bytes of PUBLISH before the body. */
static inline size_t publish_head(size_t subject_len)
{
	return sizeof(struct msg_publish) + ((subject_len + 7) & ~(size_t)7);
}

struct msg_large {
	uint64_t size; /* of the memfd */
};

struct msg_error {
	int32_t error; /* negative errno */
	uint32_t reserved;
};

/* What happens to a message when its subscriber's queue is full. The numbers are those of tine/bus.h. */
enum msg_policy {
	POLICY_REFUSE,
	POLICY_DROP_OLDEST,
	POLICY_DROP_NEWEST,
	POLICY_DISCONNECT,
	POLICIES
};

/* SUBSCRIBE: this, the pattern, the name of the queue group. */
struct msg_subscribe {
	uint32_t
		number; /* the subscriber's own: an index below [bus] subscriptions, and 16 bits that tell it from the last */
	uint8_t policy, pattern, group; /* bytes of the texts; group 0: none */
	uint8_t reserved;
};
#define SUBSCRIPTION_INDEX(number) ((number)&0xffffu)
#define SUBSCRIPTIONS_MAX          65536u

/* UNSUBSCRIBE, by the subscriber; ENDED, by the primary: it took the subscription away. */
struct msg_unsubscribe {
	uint32_t number;
	int32_t error; /* negative errno, of ENDED */
};

/* ACK: what a process has sent so far, all frames, is dealt with; what failed was said before. */
struct msg_ack {
	uint64_t n, bytes; /* frames, and their bytes */
};

/* NAK: these of the frames it sent, counted from 0, came to nothing (or not to everybody who was to have them). */
struct msg_nak {
	uint64_t first, n;
	int64_t error; /* negative errno */
};

/* PAUSE: a receiver's queue grows long; do not send to it. RESUME: go on. One RESUME for each PAUSE. */
struct msg_pause {
	uint64_t key; /* the receiver's address, subject_key() of a publication, or KEY_SUBJECTS */
};
#define KEY_SUBJECTS (1ull << 62) /* all subjects; above it is one, below it an address */

/* What the primary publishes when a process has joined the bus, or has left it: a struct tine_peer of tine/bus.h. */
struct msg_peer {
	uint32_t address, slot;
	uint64_t generation;
};

/*
 * INTEREST, to the bridge: somebody here subscribes to this, or nobody any more. This, the pattern, the queue group. What the
 * bridge publishes has the number for its frame.dst: it is for those subscribers.
 */
struct msg_interest {
	uint32_t number;
	uint8_t wanted, pattern, group; /* bytes of the texts; group 0: none */
	uint8_t reserved;
};

/* SERVED, to the bridge: what is known of the publication that comes next. This, and the groups that have had it, each with a NUL. */
struct msg_served {
	uint32_t here; /* 1: somebody here has had it */
	uint32_t reserved;
};
#define MSG_SERVED_MAX (3u << 10) /* bytes of the groups */

/* Which tasks of a farm come first. The numbers are those of tine/farm.h. */
enum msg_priority { PRIORITY_NORMAL, PRIORITY_HIGH, PRIORITY_LOW, PRIORITIES };

/*
 * TASK: this, the name of the function with zeros up to a multiple of 8, the argument. From a worker, which numbers its tasks in
 * frame.id; then to a task process, with a number of the primary's.
 */
struct msg_task {
	uint32_t farm;              /* index into the farms of the sender's configuration */
	uint8_t function, priority; /* bytes of the name; enum msg_priority */
	uint16_t tries;             /* how often it was begun before; 0 from a worker */
	uint64_t timeout_us;        /* it may run that long; 0: as the farm says */
};
#define TASK_FUNCTION_MAX 63u /* bytes */

/* Bytes of TASK before the argument. */
static inline size_t task_head(size_t function_len)
{
	return sizeof(struct msg_task) + ((function_len + 7) & ~(size_t)7);
}

/* TASK_DONE: what became of the task frame.id: this, and its result, or a text that says why there is none. */
struct msg_task_done {
	int32_t status; /* 0 or negative errno */
	uint32_t tries; /* how often it was begun */
};

/* TASK_CANCEL: its sender has no use for the task frame.id any more; TASK_DONE comes nevertheless. */

/* LAST, to the bridge: nothing comes after this; another one goes on when it has ended. */

/*
 * How many bytes a process may have sent of which it does not know what became of them: so much may still come to a queue after
 * its senders were told to wait. The primary acknowledges each quarter of it.
 */
static inline uint64_t msg_window(uint64_t queue_high, uint64_t queue_low)
{
	uint64_t n = (queue_high - queue_low) / 4;

	return n < 16u << 10 ? 16u << 10 : n > 1u << 20 ? 1u << 20 : n;
}

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
	X(REPLY,     16, LANE_CONTROL, ROLE_PRIMARY,  0, MSG_UPTO,  MSG_REPLY_MAX)                 \
	X(SEND,      17, LANE_BUS,     ROLE_BUS | ROLE_PRIMARY, 0, MSG_UPTO,  MSG_PAYLOAD_MAX)      \
	X(PUBLISH,   18, LANE_BUS,     ROLE_BUS | ROLE_BRIDGE | ROLE_PRIMARY, 0, MSG_UPTO,                       \
		sizeof(struct msg_publish) + SUBJECT_MAX + 1 + MSG_PAYLOAD_MAX)                    \
	X(ANSWER,    19, LANE_BUS,     ROLE_BUS | ROLE_BRIDGE | ROLE_PRIMARY, 0, MSG_UPTO,  MSG_PAYLOAD_MAX)      \
	X(SUBSCRIBE, 20, LANE_BUS,     ROLE_BUS,      0, MSG_UPTO,                                 \
		sizeof(struct msg_subscribe) + SUBJECT_MAX + SUBJECT_GROUP_MAX)                    \
	X(UNSUBSCRIBE, 21, LANE_BUS,   ROLE_BUS,      0, MSG_EXACT, sizeof(struct msg_unsubscribe)) \
	X(COUNT,     22, LANE_BUS,     ROLE_BUS,      0, MSG_UPTO,  SUBJECT_MAX)                   \
	X(SYNC,      23, LANE_BUS,     ROLE_BUS | ROLE_BRIDGE, 0, MSG_EXACT, 0)                             \
	X(ACK,       24, LANE_BUS,     ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_ack))        \
	X(NAK,       25, LANE_BUS,     ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_nak))        \
	X(PAUSE,     26, LANE_BUS,     ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_pause))      \
	X(RESUME,    27, LANE_BUS,     ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_pause))      \
	X(ENDED,     28, LANE_BUS,     ROLE_PRIMARY,  0, MSG_EXACT, sizeof(struct msg_unsubscribe)) \
	X(INTEREST,  29, LANE_BUS,     ROLE_PRIMARY,  0, MSG_UPTO,                                 \
		sizeof(struct msg_interest) + SUBJECT_MAX + SUBJECT_GROUP_MAX)                     \
	X(SERVED,    30, LANE_BUS,     ROLE_PRIMARY,  0, MSG_UPTO,                                 \
		sizeof(struct msg_served) + MSG_SERVED_MAX)                                        \
	X(LAST,      31, LANE_BUS,     ROLE_PRIMARY,  0, MSG_EXACT, 0)                             \
	X(TASK,      32, LANE_BUS,     ROLE_WORKER | ROLE_PRIMARY, 0, MSG_UPTO,                    \
		sizeof(struct msg_task) + TASK_FUNCTION_MAX + 1 + MSG_PAYLOAD_MAX)                 \
	X(TASK_DONE, 33, LANE_BUS,     ROLE_TASK | ROLE_PRIMARY, 0, MSG_UPTO,                      \
		sizeof(struct msg_task_done) + MSG_PAYLOAD_MAX)                                    \
	X(TASK_CANCEL, 34, LANE_BUS,   ROLE_WORKER,   0, MSG_EXACT, 0)
/* clang-format on */

/* Which flags a message may have; none, where nothing is said. */
#define MSG_FLAGS_TABLE(X)                                               \
	X(SEND, FRAME_FD | FRAME_LARGE | FRAME_SYNC | FRAME_ANSWERED)    \
	X(PUBLISH, FRAME_FD | FRAME_LARGE | FRAME_SYNC | FRAME_ANSWERED) \
	X(ANSWER, FRAME_FD | FRAME_LARGE | FRAME_SYNC | FRAME_ERROR)     \
	X(SUBSCRIBE, FRAME_SYNC)                                         \
	X(TASK, FRAME_FD | FRAME_LARGE | FRAME_SYNC)                     \
	X(TASK_DONE, FRAME_FD | FRAME_LARGE)

enum msg_type {
#define X(name, no, ...) MSG_##name = (no),
	MSG_TABLE(X)
#undef X
		MSG_TYPE_END
};

#define MSG_PAYLOAD_MAX (64u << 10) /* of what a module sends; larger ones travel as a memfd */
/* of any message: a subject may precede the module's bytes */
#define MSG_LENGTH_MAX (sizeof(struct msg_publish) + SUBJECT_MAX + 1 + MSG_PAYLOAD_MAX)

/*
 * What precedes every payload, in the machine's own byte order: both ends are on it. Behind the payload there are bytes of
 * no meaning up to a multiple of 8, so that every frame and payload is aligned.
 */
struct frame {
	uint32_t length;   /* bytes of payload that follow */
	uint16_t type;     /* enum msg_type */
	uint16_t flags;    /* FRAME_* */
	uint32_t src, dst; /* addresses; 0 on the control lane */
	uint64_t id;       /* ties an answer to what it answers */
};

_Static_assert(sizeof(struct frame) == 24, "the frame's layout is fixed");

/* Bytes of a frame with a payload of this length. */
static inline size_t frame_space(size_t length)
{
	return sizeof(struct frame) + ((length + 7) & ~(size_t)7);
}

struct msg_rule {
	const char *name; /* NULL: no such message */
	enum msg_lane lane;
	unsigned senders;
	unsigned n_fds; /* always */
	enum msg_size size;
	uint32_t payload;
};

extern const struct msg_rule msg_rules[MSG_TYPE_END];

/* Returns NULL for a number that stands for no message. */
static inline const struct msg_rule *msg_rule(unsigned type)
{
	return type < MSG_TYPE_END && msg_rules[type].name ? &msg_rules[type] : NULL;
}

/* Whether a descriptor belongs to the message, which is valid. */
static inline bool msg_has_fd(const struct frame *f)
{
	return (f->flags & FRAME_FD) || msg_rules[f->type].n_fds > 0;
}

/* Whether the descriptor that belongs to the message was lost on its way in: this process had no room for it. */
static inline bool msg_lost_fd(const struct frame *f, int fd)
{
	return fd < 0 && msg_has_fd(f);
}

const char *msg_name(unsigned type);
int msg_validate(
	const struct frame *f, enum msg_lane lane, enum msg_role sender, const char **ret_why);
