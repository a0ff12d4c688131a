/*
 * Outlets. Runs in the primary. What is written here is bounded by queue_high, but for one message that is larger than that
 * by itself, and for a quarter of it that is kept beside, in twice as much memory.
 */
#include "primary/outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/lane.h"

#define KEEP_SHARE 4 /* of queue_high is the bound of what is kept */

/* The lane is set when there is one, and fds_left. */
void outlet_init(struct outlet *o, size_t high, size_t low, outlet_drop_fn on_drop, void *arg)
{
	memset(o, 0, sizeof(*o));
	o->high = high;
	o->low = low;
	o->mark = low + (high - low) / 2;
	o->on_drop = on_drop;
	o->arg = arg;
	STAILQ_INIT(&o->waiters);
}

/* Bytes that wait, those behind descriptors too. */
uint64_t outlet_load(const struct outlet *o)
{
	return lane_queued(o->lane) + o->large_bytes;
}

static void tell(struct lane *sender, enum msg_type type, uint64_t key)
{
	struct msg_pause m = {.key = key};

	if (lane_send(sender, type, 0, &m, sizeof(m)) == -ENOMEM)
		lane_reject(sender, "no memory for its answers");
}

static void end_waiting(struct outlet *o)
{
	struct outlet_waiter *w;

	o->latest = NULL;
	o->n_waiters = 0;
	while ((w = STAILQ_FIRST(&o->waiters))) {
		STAILQ_REMOVE_HEAD(&o->waiters, link);
		for (size_t i = 0; i < w->n_keys; i++)
			tell(w->sender, MSG_RESUME, w->keys[i]);
		free(w);
	}
}

/* The process is gone: whoever waits for it will be told so when he sends. Its lane is freed next. */
void outlet_clear(struct outlet *o)
{
	end_waiting(o);
	*o->fds_left += o->n_large;
	o->n_large = 0;
	free(o->kept);
	o->kept = NULL;
	o->kept_start = o->kept_end = o->kept_size = 0;
}

/*
 * Whether a message of n bytes could be put now. One that does not even fit between the mark and the end is taken as long as
 * nobody was told to wait: so one sender, who may have no more than that on its way, is refused nothing.
 */
bool outlet_has_room(const struct outlet *o, uint64_t n)
{
	uint64_t load = outlet_load(o) + o->reserved;

	return !o->full && lane_is_open(o->lane) &&
		lane_queued_fds(o->lane) + o->reserved_fds < OUTLET_FDS &&
		(load + n <= o->high || (load <= o->mark && n > o->high - o->mark));
}

/* Promises room to a message that will be put before others are looked at. */
void outlet_reserve(struct outlet *o, uint64_t n, bool with_fd)
{
	o->reserved += n;
	o->reserved_fds += with_fd;
}

void outlet_unreserve(struct outlet *o)
{
	o->reserved = o->reserved_fds = 0;
}

/* The same of a message that is about to be put; if it is not, the outlet is full from here on. */
bool outlet_takes(struct outlet *o, uint64_t n)
{
	if (outlet_has_room(o, n))
		return true;
	if (outlet_load(o) > 0)
		o->full = true;
	return false;
}

/* Queues frames for which there is room. Returns 0 or -errno. */
int outlet_append(struct outlet *o, const void *frames, size_t len)
{
	return lane_append(o->lane, frames, len);
}

/* Queues one frame with a descriptor, behind which there are `size` bytes. Returns 0, -EDQUOT or another -errno. */
int outlet_put_fd(
	struct outlet *o, const struct frame *f, const struct iovec *body, int fd, uint64_t size)
{
	int r;

	if (o->n_large == OUTLET_FDS || *o->fds_left == 0)
		return -EDQUOT;
	r = lane_put(o->lane, f, body, 1, fd);
	if (r < 0)
		return r == -EMFILE || r == -ENFILE ? -EDQUOT : r;
	--*o->fds_left;
	o->large[o->n_large++] = size;
	o->large_bytes += size;
	return 0;
}

/* Forgets the bytes behind descriptors that have been written. */
static void forget_large(struct outlet *o)
{
	size_t written = o->n_large - lane_queued_fds(o->lane);

	for (size_t i = 0; i < written; i++)
		o->large_bytes -= o->large[i];
	o->n_large -= written;
	*o->fds_left += written;
	memmove(o->large, o->large + written, o->n_large * sizeof(*o->large));
}

/* --- kept beside --- */

static size_t kept_first(const struct outlet *o)
{
	const struct frame *f = (const void *)(o->kept + o->kept_start);

	return frame_space(f->length);
}

static void drop_first(struct outlet *o)
{
	size_t n = kept_first(o);

	o->on_drop((const void *)(o->kept + o->kept_start), o->arg);
	o->kept_start += n;
}

/* Keeps a frame until the outlet is no longer full; the oldest go for it. */
void outlet_keep(struct outlet *o, const struct frame *f)
{
	size_t n = frame_space(f->length), max = o->high / KEEP_SHARE;

	while (o->kept_end > o->kept_start && o->kept_end - o->kept_start + n > max)
		drop_first(o);
	if (o->kept_start == o->kept_end)
		o->kept_start = o->kept_end = 0;
	if (!o->kept)
		o->kept = malloc(2 * max);
	if (!o->kept || n > max) {
		o->on_drop(f, o->arg);
		return;
	}
	if (o->kept_end + n > 2 * max) {
		memmove(o->kept, o->kept + o->kept_start, o->kept_end - o->kept_start);
		o->kept_end -= o->kept_start;
		o->kept_start = 0;
	}
	memcpy(o->kept + o->kept_end, f, n);
	o->kept_end += n;
}

/* Queues what was kept, as far as the mark. Returns whether that was all. */
static bool queue_kept(struct outlet *o)
{
	while (o->kept_start < o->kept_end && outlet_load(o) < o->mark) {
		size_t n = kept_first(o);

		if (lane_append(o->lane, o->kept + o->kept_start, n) < 0)
			return false;
		o->kept_start += n;
	}
	if (o->kept_start < o->kept_end)
		return false;
	free(o->kept);
	o->kept = NULL;
	o->kept_start = o->kept_end = 0;
	return true;
}

/* --- waiting --- */

/* NULL: out of memory. */
static struct outlet_waiter *waiter_for(struct outlet *o, struct lane *sender)
{
	struct outlet_waiter *w;

	if (o->latest && o->latest->sender == sender)
		return o->latest;
	STAILQ_FOREACH(w, &o->waiters, link)
	{
		if (w->sender == sender)
			break;
	}
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return NULL;
		w->sender = sender;
		STAILQ_INSERT_TAIL(&o->waiters, w, link);
		o->n_waiters++;
	}
	o->latest = w;
	return w;
}

static bool was_told(const struct outlet_waiter *w, uint64_t key)
{
	for (size_t i = 0; i < w->n_keys; i++) {
		if (w->keys[i] == key || (w->keys[i] == KEY_SUBJECTS && key > KEY_SUBJECTS))
			return true;
	}
	return false;
}

/*
 * Tells a sender to wait if the queue is long; what `key` stands for is the sender's business. Each has its own place here, which
 * nobody else can take, and no more than that.
 */
void outlet_make_wait(struct outlet *o, struct lane *sender, uint64_t key)
{
	struct outlet_waiter *w;

	if (!o->full && outlet_load(o) <= o->mark)
		return;
	w = waiter_for(o, sender);
	if (!w || was_told(w, key)) /* without memory it is refused, and tries again by itself */
		return;
	if (key > KEY_SUBJECTS && w->n_subjects++ == OUTLET_SUBJECTS)
		key = KEY_SUBJECTS;
	w->keys[w->n_keys++] = key;
	tell(sender, MSG_PAUSE, key);
}

/* A sender is gone. */
void outlet_forget(struct outlet *o, const struct lane *sender)
{
	struct outlet_waiter *w, *next;

	o->latest = NULL;
	for (w = STAILQ_FIRST(&o->waiters); w; w = next) {
		next = STAILQ_NEXT(w, link);
		if (w->sender != sender)
			continue;
		STAILQ_REMOVE(&o->waiters, w, outlet_waiter, link);
		o->n_waiters--;
		free(w);
	}
}

/* Some of the queue has been written. */
void outlet_on_written(struct outlet *o)
{
	forget_large(o);
	if (outlet_load(o) > o->low || !queue_kept(o))
		return;
	o->full = false;
	end_waiting(o);
}
