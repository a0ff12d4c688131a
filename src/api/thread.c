/*
 * tine/thread.h: checks what modules hand in and calls down. Runs in the worker: on the loop's thread, and on its threads.
 */
#include <stdarg.h>
#include <string.h>

#include <tine/thread.h>

#include "base/sized.h"
#include "runtime/module.h"
#include "runtime/thread.h"
#include "runtime/thread_buffer.h"
#include "runtime/thread_pool.h"
#include "runtime/thread_self.h"

#define STACK_MIN (64u << 10)
#define TASKS_MAX 1024 /* at a thread */

/* --- shared buffers --- */

int tine_buffer_new(size_t size, struct tine_buffer **ret)
{
	return size == 0 || !ret ? -EINVAL : buffer_new(size, ret);
}

void *tine_buffer_data(struct tine_buffer *buffer)
{
	return buffer->data;
}

size_t tine_buffer_size(const struct tine_buffer *buffer)
{
	return buffer->size;
}

struct tine_buffer *tine_buffer_ref(struct tine_buffer *buffer)
{
	return buffer_ref(buffer);
}

void tine_buffer_unref(struct tine_buffer *buffer)
{
	buffer_unref(buffer);
}

/* --- messages --- */

static int take_send(struct tine_thread_send *ret, const struct tine_thread_send *send)
{
	int r = SIZED_TAKE(ret, send, buffer);

	if (r < 0)
		return r;
	if (ret->buffer)
		return ret->data || ret->len > 0 || ret->release ? -EINVAL : 0;
	return !ret->data && ret->len > 0 ? -EINVAL : 0;
}

/* --- on the thread --- */

int tine_thread_listen(struct tine_thread_self *self, const struct tine_thread_handlers *handlers)
{
	struct tine_thread_handlers h;
	int r = self ? SIZED_TAKE(&h, handlers, arg) : -EINVAL;

	if (r == 0)
		self->handlers = h;
	return r;
}

struct event_base *tine_thread_base(struct tine_thread_self *self)
{
	return self->base;
}

uint64_t tine_thread_self_id(const struct tine_thread_self *self)
{
	return self->thread->id;
}

bool tine_thread_stopping(const struct tine_thread_self *self)
{
	return atomic_load_explicit(&self->thread->stop, memory_order_relaxed);
}

void tine_thread_exit(struct tine_thread_self *self, int code)
{
	self_exit(self, code);
}

void tine_thread_fail(struct tine_thread_self *self, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	self_fail(self, error < 0 ? error : -EINVAL, fmt, ap);
	va_end(ap);
}

int tine_parent_post(struct tine_thread_self *self, const void *data, size_t len)
{
	struct tine_thread_send s = {.data = data, .len = len};

	return !self || (!data && len > 0) ? -EINVAL : self_send(self, &s);
}

int tine_parent_send(struct tine_thread_self *self, const struct tine_thread_send *send)
{
	struct tine_thread_send s;
	int r = self ? take_send(&s, send) : -EINVAL;

	return r < 0 ? r : self_send(self, &s);
}

int tine_parent_answer(struct tine_thread_self *self, uint64_t task, int status,
	const struct tine_thread_send *send)
{
	struct tine_thread_send s = {0};
	int r = self && status <= 0 ? 0 : -EINVAL;

	if (r == 0 && send)
		r = take_send(&s, send);
	return r < 0 ? r : self_answer(self, task, status, &s);
}

/* --- on the worker's loop --- */

static bool is_start_sound(const void *data, size_t len, size_t stack_size)
{
	return (data || len == 0) && (stack_size == 0 || stack_size >= STACK_MIN);
}

int tine_thread_start(struct tine_worker *worker, const struct tine_thread_options *options,
	struct tine_thread **ret)
{
	struct tine_thread_options o;
	int r = worker && worker->threads && ret ? SIZED_TAKE(&o, options, arg) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.main || !is_start_sound(o.data, o.len, o.stack_size))
		return -EINVAL;
	return thread_start(worker->threads, worker, &o, ret);
}

uint64_t tine_thread_id(const struct tine_thread *thread)
{
	return thread->id;
}

int tine_thread_post(struct tine_thread *thread, const void *data, size_t len)
{
	struct tine_thread_send s = {.data = data, .len = len};

	return !thread || (!data && len > 0) ? -EINVAL : thread_send(thread, &s, 0);
}

int tine_thread_send(struct tine_thread *thread, const struct tine_thread_send *send)
{
	struct tine_thread_send s;
	int r = thread ? take_send(&s, send) : -EINVAL;

	return r < 0 ? r : thread_send(thread, &s, 0);
}

void tine_thread_terminate(struct tine_thread *thread, uint64_t timeout_us)
{
	if (thread)
		thread_terminate(thread, timeout_us);
}

/* --- pools --- */

int tine_thread_pool_start(struct tine_worker *worker,
	const struct tine_thread_pool_options *options, struct tine_thread_pool **ret)
{
	struct tine_thread_pool_options o;
	int r = worker && worker->threads && ret ? SIZED_TAKE(&o, options, arg) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.main || o.n_threads == 0 || o.n_tasks > TASKS_MAX ||
		(o.max_bytes > 0 && o.max_bytes < PORT_OVERHEAD) ||
		!is_start_sound(o.data, o.len, o.stack_size))
		return -EINVAL;
	return thread_pool_start(worker->threads, worker, &o, ret);
}

int tine_thread_pool_submit(struct tine_thread_pool *pool, const struct tine_thread_send *task,
	tine_thread_result_fn on_result, void *arg)
{
	struct tine_thread_send s;
	int r = pool ? take_send(&s, task) : -EINVAL;

	return r < 0 ? r : thread_pool_submit(pool, &s, on_result, arg);
}

void tine_thread_pool_stop(struct tine_thread_pool *pool, uint64_t timeout_us)
{
	if (pool)
		thread_pool_stop(pool, timeout_us);
}
