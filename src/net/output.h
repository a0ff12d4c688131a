/*
 * From a protocol to the socket: one send for a burst, what the socket did not take, files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "runtime/pool.h"

struct connection;

#define OUTPUT_SIZE       (64u << 10)  /* what is said is collected up to here before it is sent */
#define OUTPUT_INLINE_MAX (16u << 10)  /* longer bodies are sent from where they lie, not copied */
#define OUTPUT_PACKET     (60u << 10)  /* what goes through the kernel as one packet, at least */
#define OUTPUT_FILE_TURN  (2u << 20)   /* bytes of a file sent before others get their turn */
#define OUTPUT_COLD_TURN  (512u << 10) /* the same of one that a thread has to read from the disk */
#define OUTPUT_KNOWN      (4u << 20) /* bytes of a file that are looked for in the page cache at once */
#define OUTPUT_KNOWN_MS   100        /* what was in memory is taken to be there for so long */
#define OUTPUT_COLD_MAX   32 /* pieces in the hands of the pool; others wait for their turn */

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
	bool *cold; /* the owner's: part of the file is not in memory, threads are to send it */
	int64_t off;
	uint64_t left;
	void (*release)(void *owner); /* called once, when it is needed no more */
	void *owner;

	/* of output.c */
	int64_t known_to;  /* up to here it was in memory... */
	uint64_t known_ms; /* ...then */
	struct pool_job job;
	TAILQ_ENTRY(sending) waiting; /* for the pool */
	struct connection *connection;
	ssize_t result; /* of the job: as sendfile(2), or a negative errno */
};

TAILQ_HEAD(sending_queue, sending);

char *output_reserve(struct connection *c, size_t n);
void output_commit(struct connection *c, size_t n);
void output_body(struct connection *c, const void *data, size_t len);
void output_write(struct connection *c, const void *data, size_t len);
void output_piece(struct connection *c, const struct sending *piece, bool more);
void output_flush(struct connection *c);
void output_resume(struct connection *c);
void output_drop(struct connection *c);
