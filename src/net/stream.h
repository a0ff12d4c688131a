/* Plain streams (tine/stream.h): the protocol of listeners with protocol = tcp. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/stream.h>

#include "net/net.h"

struct conf_http;

#define STREAM_INPUT_MAX (64u << 10) /* bytes a service may leave unused; net_options.input_max */
#define STREAM_WRITE_MAX (1u << 20)

/* There is nothing to it but a connection with the protocol below. */
struct tine_stream {
	struct connection connection;
};

/* What is served on one listener; all its connections' `service`. */
struct stream_service {
	struct tine_stream_service calls;
	uint64_t idle_ms;
	size_t max_input;
	const struct connection *offered_to; /* on_data is being called; NULL: it is not */
	struct tine_text offered;            /* with this */
};

extern const struct protocol stream_protocol;

int stream_service_new(const struct tine_stream_service *calls, const struct conf_http *defaults,
	struct stream_service **ret);
struct stream_service *stream_service_free(struct stream_service *s);

int stream_write(struct connection *c, const void *data, size_t len);
void stream_pause(struct connection *c, bool pause);
void stream_close(struct connection *c);
void stream_abort(struct connection *c);
size_t stream_waiting(const struct connection *c);
struct tine_text stream_unused(const struct connection *c);
int stream_detach(struct connection *c);
