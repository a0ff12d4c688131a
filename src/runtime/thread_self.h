/* The thread's own half of a worker thread. On the thread, but where it says otherwise. */
#pragma once

#include <stdarg.h>
#include <stdint.h>

struct tine_thread;
struct tine_thread_self;
struct tine_thread_send;

/* On the loop's thread, before it is started and after it has ended. */
int self_open(struct tine_thread_self *self, struct tine_thread *t);
void self_close(struct tine_thread_self *self);

void *self_main(void *arg);
void self_exit(struct tine_thread_self *self, int code);
void self_fail(struct tine_thread_self *self, int error, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
int self_send(struct tine_thread_self *self, const struct tine_thread_send *send);
int self_answer(struct tine_thread_self *self, uint64_t task, int status,
	const struct tine_thread_send *send);
