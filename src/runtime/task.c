/*
 * Tasks where they run. A small answer is copied into the task, a large one into a blob at once, so that it is copied once.
 */
#include "runtime/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/blob.h"

#define MAX_ERRNO 4095 /* of the kernel; the primary takes no other from us */

void task_init(struct tine_task *t, const struct tine_config *config, const char *farm,
	uint64_t max_result)
{
	t->config = config;
	t->farm = farm;
	t->max_result = max_result;
	t->blob = -1;
}

/* data must live until task_end(). */
void task_begin(struct tine_task *t, const void *data, size_t len, unsigned tries)
{
	t->data = data;
	t->len = len;
	t->tries = tries;
	t->answered = false;
	t->answer_len = t->text_len = 0;
	t->status = 0;
}

/* What it answered has been sent. */
void task_end(struct tine_task *t)
{
	if (t->blob >= 0)
		close(t->blob);
	t->blob = -1;
}

/* Replaces the text that says why the task fails. It is one line: control characters become blanks. */
void task_fail(struct tine_task *t, const char *fmt, va_list ap)
{
	int n = vsnprintf(t->text, sizeof(t->text), fmt, ap);

	t->text_len = n < 0 ? 0 : (size_t)n < TASK_TEXT_MAX ? (size_t)n : TASK_TEXT_MAX;
	for (size_t i = 0; i < t->text_len; i++) {
		if ((unsigned char)t->text[i] < ' ' || t->text[i] == '\177')
			t->text[i] = ' ';
	}
}

void task_say(struct tine_task *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	task_fail(t, fmt, ap);
	va_end(ap);
}

/* Runs the function. Returns 0, and there is an answer, or -errno, and there may be a text. */
int task_run(struct tine_task *t, const struct tine_task_function *function, void *state)
{
	int r = function->run(t, state);

	if (t->status < 0) /* and it has said so */
		return t->status;
	if (r > 0 || r < -MAX_ERRNO) {
		task_say(t,
			"farm:%s: the function %s returned %d, which is neither 0 nor a negative "
			"errno",
			t->farm, function->name, r);
		return -EINVAL;
	}
	return r;
}

static int put_answer(struct tine_task *t, const void *data, size_t len)
{
	int r;

	if (len <= sizeof(t->answer)) {
		memcpy(t->answer, data, len);
		return 0;
	}
	r = blob_new(data, len, &t->blob);
	return r == -EMFILE || r == -ENFILE ? TINE_E_QUOTA : r;
}

/* Returns 0 or an error of tine/farm.h. */
int task_answer(struct tine_task *t, const void *data, size_t len)
{
	int r = 0;

	if (t->answered)
		return -EALREADY;
	if (len > t->max_result) {
		task_say(t,
			"the result has %zu bytes, more than farm:%s.max_result, which is %" PRIu64,
			len, t->farm, t->max_result);
		t->status = TINE_E_TOO_LARGE;
		return TINE_E_TOO_LARGE;
	}
	if (len > 0)
		r = put_answer(t, data, len);
	if (r < 0)
		return r;
	t->answered = true;
	t->answer_len = len;
	return 0;
}
