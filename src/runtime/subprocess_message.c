/*
 * The frames of message channels. The bytes come from programs that nobody has checked. Any process, any thread.
 */
#include "runtime/subprocess_message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MIN 4096

static int reserve(struct message_reader *m, size_t len)
{
	size_t size = m->size ? m->size : SIZE_MIN;
	char *data;

	while (size - m->used < len)
		size *= 2;
	if (size == m->size)
		return 0;
	data = realloc(m->data, size);
	if (!data)
		return -ENOMEM;
	m->data = data;
	m->size = size;
	return 0;
}

/* Takes what has been handled off the front. Large buffers are given back when they are empty. */
static void consume(struct message_reader *m, size_t n)
{
	m->used -= n;
	if (m->used > 0 && n > 0)
		memmove(m->data, m->data + n, m->used);
	if (m->used == 0 && m->size > SIZE_MIN)
		message_reader_reset(m);
}

/*
 * Takes bytes as they have come and calls fn for each message that is complete, for as long as it wants more; what is left is kept,
 * and handled by the next call, which may come without data. Keeps no more than one message of `max`, and what is read with it. fn must not
 * reset the reader. Returns 0; -EMSGSIZE at a message that is larger than `max`; -ENOMEM.
 */
int message_reader_feed(
	struct message_reader *m, const void *data, size_t len, message_fn fn, void *arg)
{
	size_t done = 0;
	uint32_t head;
	bool more = true;
	int r = len > 0 ? reserve(m, len) : 0;

	if (r < 0)
		return r;
	if (len > 0)
		memcpy(m->data + m->used, data, len);
	m->used += len;
	while (more && m->used - done >= MESSAGE_HEAD) {
		memcpy(&head, m->data + done, sizeof(head));
		if (head > m->max) {
			r = -EMSGSIZE;
			break;
		}
		if (m->used - done - MESSAGE_HEAD < head)
			break;
		more = fn(m->data + done + MESSAGE_HEAD, head, arg);
		done += MESSAGE_HEAD + head;
	}
	consume(m, done);
	return r;
}

/* Forgets what has come. */
void message_reader_reset(struct message_reader *m)
{
	free(m->data);
	m->data = NULL;
	m->used = m->size = 0;
}
