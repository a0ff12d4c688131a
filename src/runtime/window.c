/*
 * Windows. The primary counts the frames of a process as that does itself: an ACK says how many are dealt with, a NAK before
 * it which of them failed.
 */
#include "runtime/window.h"

#include <errno.h>
#include <stdlib.h>

#define PAUSES_MAX 1024 /* whoever is beyond that is sent to, and refuses it */

/* Sees to it that the fate of the next frame can be noted. Returns 0 or -ENOMEM. */
int window_reserve(struct window *w)
{
	size_t size = w->fates_size ? 2 * w->fates_size : 64;
	struct fate *grown;

	if (w->n_fates < w->fates_size)
		return 0;
	grown = malloc(size * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	for (size_t i = 0; i < w->n_fates; i++)
		grown[i] = w->fates[(w->first_fate + i) % w->fates_size];
	free(w->fates);
	w->fates = grown;
	w->fates_size = size;
	w->first_fate = 0;
	return 0;
}

/* The next frame has been sent. fate: NULL when nobody wants to know of it; else there is room for it. */
void window_note(struct window *w, uint64_t bytes, const struct fate *fate)
{
	if (fate) {
		struct fate *f = &w->fates[(w->first_fate + w->n_fates++) % w->fates_size];

		*f = *fate;
		f->frame = w->n_sent;
		w->n_fds += f->has_fd;
		w->large_bytes += f->large;
	}
	w->n_sent++;
	w->bytes_sent += bytes;
}

static uint64_t unheard(const struct window *w)
{
	return w->bytes_sent - w->bytes_acked + w->large_bytes;
}

/* Whether a message of so many bytes may be sent now. Any may when nothing is unheard of. */
bool window_has_room(const struct window *w, uint64_t bytes, bool has_fd)
{
	return unheard(w) == 0 ||
		(unheard(w) + bytes <= w->size && (!has_fd || w->n_fds < WINDOW_FDS));
}

bool window_is_half_empty(const struct window *w)
{
	return unheard(w) <= w->size / 2;
}

/* Frames before this one have come to this end. What is called may send more. */
static void settle(struct window *w, uint64_t before, int status)
{
	while (w->n_fates > 0 && w->fates[w->first_fate].frame < before) {
		struct fate f = w->fates[w->first_fate];

		w->first_fate = (w->first_fate + 1) % w->fates_size;
		w->n_fates--;
		w->n_fds -= f.has_fd;
		w->large_bytes -= f.large;
		w->on_fate(&f, status, w->arg);
	}
}

void window_ack(struct window *w, const struct msg_ack *m)
{
	w->bytes_acked = m->bytes;
	settle(w, m->n, 0);
}

/* Those before were delivered: of what had failed it was said earlier. */
void window_nak(struct window *w, const struct msg_nak *m)
{
	settle(w, m->first, 0);
	settle(w, m->first + m->n, (int)m->error);
}

/* Nothing will be heard any more. */
void window_end(struct window *w, int status)
{
	settle(w, UINT64_MAX, status);
}

/* --- whom to spare --- */

static struct window_pause *find(const struct window *w, uint64_t key)
{
	for (size_t i = 0; i < w->n_pauses; i++) {
		if (w->pauses[i].key == key)
			return &w->pauses[i];
	}
	return NULL;
}

void window_pause(struct window *w, uint64_t key)
{
	struct window_pause *p = find(w, key);

	if (!w->pauses)
		w->pauses = calloc(PAUSES_MAX, sizeof(*w->pauses));
	if (p)
		p->n++;
	else if (w->pauses && w->n_pauses < PAUSES_MAX)
		w->pauses[w->n_pauses++] = (struct window_pause){.key = key, .n = 1};
}

void window_resume(struct window *w, uint64_t key)
{
	struct window_pause *p = find(w, key);

	if (p && --p->n == 0)
		*p = w->pauses[--w->n_pauses];
}

bool window_is_paused(const struct window *w, uint64_t key)
{
	return w->n_pauses > 0 && (find(w, key) || (key > KEY_SUBJECTS && find(w, KEY_SUBJECTS)));
}

void window_release(struct window *w)
{
	free(w->fates);
	free(w->pauses);
	*w = (struct window){0};
}
