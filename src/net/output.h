/*
 * From a protocol to the socket: one send for a burst, what the socket did not take, files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;

#define OUTPUT_SIZE       (64u << 10) /* what is said is collected up to here before it is sent */
#define OUTPUT_INLINE_MAX (16u << 10) /* longer bodies are sent from where they lie, not copied */
#define OUTPUT_PACKET     (60u << 10) /* what goes through the kernel as one packet, at least */
#define OUTPUT_FILE_TURN  (2u << 20)  /* bytes of a file sent before others get their turn */

enum sending_kind {
	SENDING_FILE,  /* from `fd` */
	SENDING_PAGES, /* from `data`, whole pages never written again, without copying */
	SENDING_BYTES, /* from `data` */
};

/* A piece on its way to a client. */
struct sending {
	struct sending *next;
	enum sending_kind kind;
	int fd;           /* the owner's file */
	const char *data; /* the owner's memory */
	int64_t off;
	uint64_t left;
	void (*release)(void *owner); /* called once, when it is needed no more */
	void *owner;
};

char *output_reserve(struct connection *c, size_t n);
void output_commit(struct connection *c, size_t n);
void output_body(struct connection *c, const void *data, size_t len);
void output_write(struct connection *c, const void *data, size_t len);
void output_piece(struct connection *c, const struct sending *piece, bool more);
void output_flush(struct connection *c);
void output_resume(struct connection *c);
void output_drop(struct connection *c);
