/*
 * Streams of zlib. On the loop's thread, but for on_run().
 *
 * What is written waits in `pieces`. One job of a stream is on its way at a time; it is given all of them (`taken`), and goes on until they
 * are used up or `out` is full. Its output is handed on before the next job begins, so that order needs no care, and a
 * receiver that pauses holds up the writer by the queue's bound.
 */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/sized.h"
#include "base/turn.h"
#include "runtime/module.h"
#include "runtime/work.h"
#include "runtime/work_op.h"
#include "runtime/work_zlib.h"

#define FLUSH_ROOM 6    /* with less room a flush might write its marker twice: zlib.h, deflate() */
#define RETRY_US   1000 /* until the pool is asked again when it had no room */

struct piece {
	STAILQ_ENTRY(piece) link;
	size_t len, at;
	int flush; /* zlib's */
	unsigned char data[];
};

STAILQ_HEAD(pieces, piece);

struct tine_zlib_stream {
	struct tine_work work; /* first */
	struct pool *pool;
	struct tine_zlib_options o;
	struct pieces pieces;
	size_t n_queued; /* bytes of all pieces, with what they cost */
	uint64_t n_out;
	struct event again;   /* paused no more, or the pool was full */
	bool working;         /* a job is on its way: what is below is the thread's */
	bool ready;           /* a job is done, and its output not yet handed on */
	bool ending, closed;  /* nothing more is written; nothing more is called */
	bool calling;         /* nothing is freed meanwhile */
	bool paused, awaited; /* awaited: a writer waits for room, or should */

	/* the job's */
	struct pieces taken;
	struct zcoder coder;
	size_t n_used; /* as in n_queued */
	size_t n;      /* bytes of out */
	int status;
	bool finished; /* all is out */
	unsigned char out[TINE_ZLIB_PIECE];
};

/* --- on a thread --- */

static size_t cost(const struct piece *p)
{
	return sizeof(*p) + p->len;
}

/* Returns whether all of the piece is through. */
static bool run_piece(struct tine_zlib_stream *s, struct piece *p)
{
	z_stream *z = &s->coder.z;

	z->next_in = p->data + p->at;
	z->avail_in = (unsigned)(p->len - p->at);
	s->status = zcoder_run(&s->coder, p->flush);
	p->at = p->len - z->avail_in;
	return s->status == 0 && z->avail_out > 0;
}

static void on_run(struct tine_work *w)
{
	struct tine_zlib_stream *s = (struct tine_zlib_stream *)w;
	z_stream *z = &s->coder.z;
	struct piece *p;

	z->next_out = s->out;
	z->avail_out = sizeof(s->out);
	while ((p = STAILQ_FIRST(&s->taken)) && z->avail_out > FLUSH_ROOM) {
		if (!run_piece(s, p) || work_stopped(w))
			break;
		s->finished = p->flush == Z_FINISH;
		s->n_used += cost(p);
		STAILQ_REMOVE_HEAD(&s->taken, link);
		free(p);
	}
	s->n = sizeof(s->out) - z->avail_out;
}

/* --- on the loop --- */

static void free_pieces(struct pieces *pieces)
{
	struct piece *p;

	while ((p = STAILQ_FIRST(pieces))) {
		STAILQ_REMOVE_HEAD(pieces, link);
		free(p);
	}
}

static void stream_free(struct tine_zlib_stream *s)
{
	event_del(&s->again);
	free_pieces(&s->taken);
	free_pieces(&s->pieces);
	zcoder_close(&s->coder);
	free(s);
}

static void later(struct tine_zlib_stream *s, unsigned us)
{
	struct timeval tv = {.tv_usec = us};

	event_add(&s->again, &tv);
}

static void on_done(struct tine_work *w, int status);

/* Gives the pool what there is to do. */
static void kick(struct tine_zlib_stream *s)
{
	if (s->working || s->ready || s->paused)
		return;
	STAILQ_CONCAT(&s->taken, &s->pieces);
	if (STAILQ_EMPTY(&s->taken))
		return;
	s->n = s->n_used = 0;
	memset(&s->work, 0, sizeof(s->work));
	s->work.run = on_run;
	s->work.done = on_done;
	s->work.job.lane = POOL_CPU;
	s->working = work_submit(s->pool, &s->work, 0) == 0;
	if (!s->working)
		later(s, RETRY_US);
}

static void finish(struct tine_zlib_stream *s, int status, const char *why)
{
	char text[WORK_TEXT_MAX] = "";

	if (status < 0)
		snprintf(text, sizeof(text), "%s: %s", s->o.inflate ? "inflate" : "deflate",
			why ? why : work_why(status));
	s->closed = true;
	s->o.on_end(status, text, s->o.arg);
}

static void tell_room(struct tine_zlib_stream *s)
{
	if (!s->awaited || s->ending || s->n_queued > s->o.queue_max / 2)
		return;
	s->awaited = false;
	if (s->o.on_writable)
		s->o.on_writable(s, s->o.arg);
}

/* Hands on what the job has left. Any of the callbacks may close the stream. */
static void hand_on(struct tine_zlib_stream *s)
{
	int r = 0;

	if (s->o.max > 0 && s->n_out > s->o.max)
		return finish(s, TINE_E_TOO_LARGE, "more comes out than may");
	if (s->n > 0)
		r = s->o.on_data(s, s->out, s->n, s->o.arg);
	if (s->closed)
		return;
	if (r == TINE_E_FULL) {
		s->paused = true;
		return;
	}
	s->ready = false;
	if (r < 0)
		return finish(s, r, NULL);
	if (s->status < 0 || s->finished)
		return finish(s, s->status, zcoder_message(&s->coder, s->status));
	tell_room(s);
	if (!s->closed)
		kick(s);
}

static void go_on(struct tine_zlib_stream *s)
{
	s->calling = true;
	if (s->ready && !s->paused)
		hand_on(s);
	else
		kick(s);
	s->calling = false;
	if (s->closed && !s->working)
		stream_free(s);
}

static void on_done(struct tine_work *w, int status)
{
	struct tine_zlib_stream *s = (struct tine_zlib_stream *)w;

	s->working = false;
	if (s->closed)
		return stream_free(s);
	s->ready = true;
	s->n_queued -= s->n_used;
	s->n_out += s->n;
	if (status < 0) { /* the worker is about to exit: a receiver that has paused is told, too */
		s->status = status;
		s->n = 0;
		s->paused = false;
	}
	go_on(s);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	go_on(arg);
}

static bool is_sound(const struct tine_worker *worker, const struct tine_zlib_options *o)
{
	return worker->pool && worker->base && o->on_data && o->on_end &&
		o->queue_max <= TINE_ZLIB_BYTES_MAX &&
		zcoder_is_sound(o->inflate, o->format, o->level);
}

int zlib_stream_open(struct tine_worker *worker, const struct tine_zlib_options *given,
	struct tine_zlib_stream **ret)
{
	struct tine_zlib_options o;
	struct tine_zlib_stream *s;
	int r = SIZED_TAKE(&o, given, arg);

	if (r < 0)
		return r;
	if (!is_sound(worker, &o))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = zcoder_open(&s->coder, o.inflate, o.format, o.level);
	if (r < 0) {
		free(s);
		return r;
	}
	s->pool = worker->pool;
	s->o = o;
	s->o.queue_max = o.queue_max ? o.queue_max : TINE_ZLIB_QUEUE;
	STAILQ_INIT(&s->pieces);
	STAILQ_INIT(&s->taken);
	evtimer_assign(&s->again, worker->base, on_again, s);
	*ret = s;
	return 0;
}

static int append(struct tine_zlib_stream *s, const void *data, size_t len, int flush)
{
	struct piece *p = malloc(sizeof(*p) + len);

	if (!p)
		return -ENOMEM;
	p->len = len;
	p->at = 0;
	p->flush = flush;
	if (len > 0)
		memcpy(p->data, data, len);
	STAILQ_INSERT_TAIL(&s->pieces, p, link);
	s->n_queued += cost(p);
	s->awaited |= s->n_queued > s->o.queue_max / 2;
	if (!s->calling)
		kick(s);
	return 0;
}

size_t zlib_stream_room(const struct tine_zlib_stream *s)
{
	size_t used = s->n_queued + sizeof(struct piece);

	return s->ending || s->closed || used >= s->o.queue_max ? 0 : s->o.queue_max - used;
}

int zlib_stream_write(struct tine_zlib_stream *s, const void *data, size_t len, bool flush)
{
	if (s->ending || s->closed)
		return TINE_E_CLOSED;
	if (len == 0 && !flush)
		return 0;
	if (s->n_queued > 0 && len > zlib_stream_room(s)) {
		s->awaited = true;
		return TINE_E_FULL;
	}
	return append(s, data, len, flush ? Z_SYNC_FLUSH : Z_NO_FLUSH);
}

int zlib_stream_end(struct tine_zlib_stream *s)
{
	int r;

	if (s->ending || s->closed)
		return TINE_E_CLOSED;
	r = append(s, NULL, 0, Z_FINISH);
	s->ending = r == 0;
	return r;
}

/* Going on is left to the loop: nothing is called from within the caller's call. */
void zlib_stream_pause(struct tine_zlib_stream *s, bool on)
{
	if (s->closed || s->paused == on)
		return;
	s->paused = on;
	if (!on && !s->calling)
		later(s, 0);
}

void zlib_stream_close(struct tine_zlib_stream *s)
{
	if (s->closed)
		return;
	s->closed = true;
	event_del(&s->again);
	if (s->working)
		work_cancel(&s->work);
	else if (!s->calling)
		stream_free(s);
}
