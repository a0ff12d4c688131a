/*
 * One task, in the process that runs it: what its function sees of it, and what that answers. Runs in task processes.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/farm.h>

#include "ipc/msg.h"

#define TASK_TEXT_MAX 1024 /* bytes of the text that says why it failed */

/* The public opaque type of tine/module.h. One is used for all tasks of a process, one after the other. */
struct tine_task {
	const struct tine_config *config;
	const char *farm;    /* for messages */
	uint64_t max_result; /* bytes */
	const void *data;
	size_t len;
	unsigned tries; /* before this one */
	bool answered;
	size_t answer_len;
	int blob;   /* with the answer, when that is too large for `answer`; -1: none */
	int status; /* of what went wrong with the answer */
	size_t text_len;
	char text[TASK_TEXT_MAX + 1];
	char answer[MSG_PAYLOAD_MAX];
};

void task_init(struct tine_task *t, const struct tine_config *config, const char *farm,
	uint64_t max_result);
void task_begin(struct tine_task *t, const void *data, size_t len, unsigned tries);
void task_end(struct tine_task *t);
int task_run(struct tine_task *t, const struct tine_task_function *function, void *state);
int task_answer(struct tine_task *t, const void *data, size_t len);
void task_say(struct tine_task *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void task_fail(struct tine_task *t, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
