/*
 * Messages to a loop are pushed onto a list without a lock, and the loop takes all of it in one go. The head of that list also says
 * whether the loop has to be woken:
 *
 *   NULL       nothing is there and the loop is not looking: the next one to push writes the eventfd
 *   &looking   nothing is there, but the loop is going to look again before it sleeps
 *   other      something is there, and the loop knows
 *
 * so that a burst costs one wake-up, and messages to a loop that works cost none. The eventfd is watched for edges and never read.
 *
 * A mailbox looks after itself: it takes what has come when the eventfd says so, and then promises nothing. Who runs the loop turn by
 * turn can do better (mailbox_attend()): he looks at the end of each turn, and says when the loop is about to sleep; between its
 * waking up and that the head is &looking, from the first callback of ours in the turn on (base/turn.h).
 */
#include "base/mailbox.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/turn.h"

#define ROUNDS 4 /* of looking before others in the loop get their turn */
#define FEW    4 /* messages taken at once */

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

/* The same for a message that is known not to be on its way. */
void mailbox_put(struct mailbox *b, struct mail *m)
{
	push(b, m);
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
	unsigned n = 0;

	for (; m; m = next, n++) {
		next = m->next;
		atomic_store_explicit(&m->on_its_way, false, memory_order_release);
		m->fn(m);
	}
	b->n_taken += n;
	b->n_masses += n > FEW;
	return n > 0;
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
	if (b->attended)
		return; /* at the end of the turn */
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
	b->attended = false;
	b->n_taken = b->n_masses = 0;
	atomic_init(&b->mails, NULL);
	event_assign(&b->wake, base, b->wake_fd, EV_READ | EV_PERSIST | EV_ET, on_wake, b);
	if (event_add(&b->wake, NULL) == 0)
		return 0;
	close(b->wake_fd);
	return -ENOMEM;
}

/*
 * From now on whoever runs the loop calls mailbox_end_turn() at the end of each turn, and mailbox_may_sleep() before one that may wait.
 * To be called once for a thread, from the loop's.
 */
void mailbox_attend(struct mailbox *b)
{
	b->attended = true;
	turn.mailbox = b;
	mailbox_stay_awake(b);
}

/* The loop is awake and will look before it sleeps: nobody has to wake it. */
void mailbox_stay_awake(struct mailbox *b)
{
	struct mail *nothing = NULL;

	if (atomic_load_explicit(&b->mails, memory_order_relaxed))
		return;
	atomic_compare_exchange_strong_explicit(
		&b->mails, &nothing, &looking, memory_order_acq_rel, memory_order_relaxed);
}

static bool has_come(const struct mailbox *b)
{
	struct mail *head = atomic_load_explicit(&b->mails, memory_order_acquire);

	return head && head != &looking;
}

/* Calls what has come. Returns whether more is there: others in the loop get their turn before it. */
bool mailbox_end_turn(struct mailbox *b)
{
	for (int i = 0; i < ROUNDS && has_come(b); i++) {
		turn_mark();
		mailbox_run(b);
	}
	return has_come(b);
}

/* Whether there is nothing more, so that the next message wakes the loop. */
bool mailbox_may_sleep(struct mailbox *b)
{
	return !atomic_load_explicit(&b->mails, memory_order_relaxed) || rest(b);
}

/* Nobody posts any more, and what was posted has been run. */
void mailbox_close(struct mailbox *b)
{
	if (turn.mailbox == b)
		turn.mailbox = NULL;
	event_del(&b->wake);
	close(b->wake_fd);
}
