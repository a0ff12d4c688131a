/*
 * tine/farm.h: checks what modules hand in and calls down. Runs in the worker, on the loop's thread; what is for task functions,
 * in a task process.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <tine/farm.h>

#include "base/clock.h"
#include "base/sized.h"
#include "ipc/msg.h"
#include "runtime/farm_client.h"
#include "runtime/module.h"
#include "runtime/task.h"

#define TIMEOUT_MAX_US (86400 * US_PER_S)

_Static_assert((int)TINE_FARM_NORMAL == (int)PRIORITY_NORMAL &&
		(int)TINE_FARM_HIGH == (int)PRIORITY_HIGH &&
		(int)TINE_FARM_LOW == (int)PRIORITY_LOW,
	"priorities travel as modules give them");

/* --- submitting --- */

static bool is_sound(const struct tine_farm_task *t)
{
	return t->farm && t->function && *t->function &&
		strnlen(t->function, TASK_FUNCTION_MAX + 1) <= TASK_FUNCTION_MAX &&
		(t->data || t->len == 0) && (unsigned)t->priority < PRIORITIES &&
		t->timeout_us <= TIMEOUT_MAX_US;
}

int tine_farm_submit(
	struct tine_worker *worker, const struct tine_farm_task *task, tine_task_id *ret)
{
	struct tine_farm_task t;
	int r = worker && worker->farms ? SIZED_TAKE(&t, task, arg) : -EINVAL;

	if (r < 0)
		return r;
	return is_sound(&t) ? farm_port_submit(worker->farms, &t, ret) : -EINVAL;
}

int tine_farm_cancel(struct tine_worker *worker, tine_task_id task)
{
	return worker && worker->farms ? farm_port_cancel(worker->farms, task) : -EINVAL;
}

void tine_farm_on_writable(struct tine_worker *worker, void (*on_writable)(void *arg), void *arg)
{
	if (worker && worker->farms)
		farm_port_watch(worker->farms, on_writable, arg);
}

/* --- running --- */

const void *tine_task_data(const struct tine_task *task, size_t *ret_len)
{
	*ret_len = task->len;
	return task->data;
}

int tine_task_answer(struct tine_task *task, const void *data, size_t len)
{
	return data || len == 0 ? task_answer(task, data, len) : -EINVAL;
}

int tine_task_fail(struct tine_task *task, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	task_fail(task, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

unsigned tine_task_tries(const struct tine_task *task)
{
	return task->tries;
}

const struct tine_config *tine_task_config(const struct tine_task *task)
{
	return task->config;
}
