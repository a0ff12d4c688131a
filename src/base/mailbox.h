/* The way to an event loop from any thread: messages that a loop takes in one go, however many there are. */
#pragma once

#include <event2/event_struct.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct event_base;

/* A message. Lies in a structure of the caller's, zeroed before its first use. */
struct mail {
	void (*fn)(struct mail *m); /* on the loop's thread; may free it or post it again */

	/* of the mailbox */
	struct mail *next;
	atomic_bool on_its_way;
};

struct mailbox {
	struct event wake; /* the loop's alone, as are these */
	bool attended;     /* whoever runs the loop calls mailbox_end_turn() */
	uint64_t n_taken;  /* messages so far */
	uint64_t n_masses; /* times that there were many at once */

	/* written by all */
	_Atomic(struct mail *) mails; /* the newest in front */
	int wake_fd;
};

int mailbox_open(struct mailbox *b, struct event_base *base);
void mailbox_close(struct mailbox *b);
int mailbox_post(struct mailbox *b, struct mail *m);
void mailbox_put(struct mailbox *b, struct mail *m);
bool mailbox_run(struct mailbox *b);
void mailbox_attend(struct mailbox *b);
void mailbox_stay_awake(struct mailbox *b);
bool mailbox_end_turn(struct mailbox *b);
bool mailbox_may_sleep(struct mailbox *b);
