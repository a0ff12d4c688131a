/*
 * From answers to the socket: coalescing in the server's buffer, what the socket did not take,
 * files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_connection;

#define OUTPUT_SIZE       (64u << 10) /* answers are collected up to here before they are sent */
#define OUTPUT_INLINE_MAX (16u << 10) /* longer bodies are sent from where they lie, not copied */
#define OUTPUT_PACKET     (60u << 10) /* what goes through the kernel as one packet, at least */
#define OUTPUT_FILE_TURN  (2u << 20)  /* bytes of a file sent before others get their turn */

/* A part of a file on its way to a client. */
struct http_sending {
	const char *data; /* the owner's memory, never written again; or NULL: */
	int fd;           /* the owner's file */
	int64_t off;
	uint64_t left;
	void (*release)(void *owner); /* called once, when neither is needed any more */
	void *owner;
};

char *output_reserve(struct http_connection *c, size_t n);
void output_commit(struct http_connection *c, size_t n);
void output_body(struct http_connection *c, const void *data, size_t len);
void output_file(struct http_connection *c, const struct http_sending *sending);
void output_flush(struct http_connection *c);
void output_resume(struct http_connection *c);
void output_drop(struct http_connection *c);
