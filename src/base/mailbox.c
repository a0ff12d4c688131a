/*
 * Messages to a loop are pushed onto a list without a lock, and the loop takes all of it in one go. The head of that list also says
 * whether the loop has to be woken:
 *
 *   NULL       nothing is there and the loop is not looking: the next one to push writes the eventfd
 *   &looking   nothing is there, but the loop is going to look again before it sleeps
 *   other      something is there, and the loop knows
 *
 * so that a burst costs one wake-up. The eventfd is watched for edges and never read.
 */
#include "base/mailbox.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/turn.h"

#define ROUNDS 4 /* of looking before others in the loop get their turn */

static struct mail looking; /* its address alone means something */

static void wake(struct mailbox *b)
{
	uint64_t one = 1;
	ssize_t n;

	do {
		n = write(b->wake_fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

static void push(struct mailbox *b, struct mail *m)
{
	struct mail *head = atomic_load_explicit(&b->mails, memory_order_relaxed);

	do {
		m->next = head;
	} while (!atomic_compare_exchange_weak_explicit(
		&b->mails, &head, m, memory_order_acq_rel, memory_order_relaxed));
	if (!head)
		wake(b);
}

/*
 * Has m->fn called on the loop's thread, from any thread; in the order of posting as far as one thread is concerned. Returns 0, or
 * -EALREADY when it is on its way already and will be called once.
 */
int mailbox_post(struct mailbox *b, struct mail *m)
{
	if (atomic_exchange_explicit(&m->on_its_way, true, memory_order_acq_rel))
		return -EALREADY;
	push(b, m);
	return 0;
}

/* Takes all messages, the oldest in front, and promises to look again. */
static struct mail *take(struct mailbox *b)
{
	struct mail *m, *next, *first = NULL;

	m = atomic_exchange_explicit(&b->mails, &looking, memory_order_acq_rel);
	for (; m && m != &looking; m = next) {
		next = m->next;
		m->next = first;
		first = m;
	}
	return first;
}

/* Calls what has come, on the loop's thread. Returns whether there was a message. */
bool mailbox_run(struct mailbox *b)
{
	struct mail *m = take(b), *next;
	bool any = m;

	for (; m; m = next) {
		next = m->next;
		atomic_store_explicit(&m->on_its_way, false, memory_order_release);
		m->fn(m);
	}
	return any;
}

/* Whether there is nothing more, so that the next message wakes the loop. */
static bool rest(struct mailbox *b)
{
	struct mail *expected = &looking;

	return atomic_compare_exchange_strong_explicit(
		&b->mails, &expected, NULL, memory_order_acq_rel, memory_order_relaxed);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct mailbox *b = arg;

	turn_mark();
	for (int i = 0; i < ROUNDS; i++) {
		mailbox_run(b);
		if (rest(b))
			return;
	}
	wake(b); /* go on in the next turn; nobody else will wake us */
}

/* Returns 0 or a negative errno, with nothing left open: -ENOTSUP when the loop's method knows no edges. */
int mailbox_open(struct mailbox *b, struct event_base *base)
{
	if (!(event_base_get_features(base) & EV_FEATURE_ET))
		return -ENOTSUP;
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake_fd < 0)
		return -errno;
	atomic_init(&b->mails, NULL);
	event_assign(&b->wake, base, b->wake_fd, EV_READ | EV_PERSIST | EV_ET, on_wake, b);
	if (event_add(&b->wake, NULL) == 0)
		return 0;
	close(b->wake_fd);
	return -ENOMEM;
}

/* Nobody posts any more, and what was posted has been run. */
void mailbox_close(struct mailbox *b)
{
	event_del(&b->wake);
	close(b->wake_fd);
}
