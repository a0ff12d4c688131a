/* Threads of a process whose signals are its loop's business. */
#pragma once

#include <pthread.h>
#include <stddef.h>

int thread_spawn(
	pthread_t *ret, const char *name, size_t stack_size, void *(*fn)(void *arg), void *arg);
