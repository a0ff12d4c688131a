/* What messages look like on their way to clients. Worker only. */
#include <inttypes.h>
#include <stdio.h>

#include "modules/hub/hub.h"

static void put_lines(struct text *t, struct tine_text data)
{
	const char *p = data.data, *end = p + data.len;

	for (;;) {
		const char *stop = p;

		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		text_put(t, "data: ", 6);
		text_put(t, p, (size_t)(stop - p));
		text_put(t, "\n", 1);
		if (stop == end)
			return;
		p = stop + (*stop == '\r' && stop + 1 < end && stop[1] == '\n' ? 2 : 1);
	}
}

static void put_object(struct text *t, const struct ring_record *m, const char *id)
{
	text_print(t, "{\"id\":\"%s\",\"time\":%" PRIu64 ",\"subject\":", id, m->time_ms);
	text_put_json(t, m->subject);
	text_put(t, ",\"data\":", 8);
	text_put_json(t, m->data);
	text_put(t, "}", 1);
}

static void put_events(struct text *t, const struct ring_record *m, const char *id)
{
	text_print(t, "id: %s\n", id);
	put_lines(t, m->data);
	text_put(t, "\n", 1);
}

static void put_events_json(struct text *t, const struct ring_record *m, const char *id)
{
	text_print(t, "id: %s\ndata: ", id);
	put_object(t, m, id);
	text_put(t, "\n\n", 2);
}

static void put_text(struct text *t, const struct ring_record *m, const char *id)
{
	text_put(t, m->data.data, m->data.len);
}

static void (*const formats[FORMATS])(
	struct text *t, const struct ring_record *m, const char *id) = {
	[FORMAT_EVENTS] = put_events,
	[FORMAT_EVENTS_JSON] = put_events_json,
	[FORMAT_TEXT] = put_text,
	[FORMAT_JSON] = put_object,
};

/* Adds a message as clients get it. id: what it is known by. */
void format_put(enum hub_format format, struct text *t, const struct ring_record *m, const char *id)
{
	formats[format](t, m, id);
}

/*
 * Where a client is, for when it comes back: as an event without data, of which browsers note the id and which they do
 * not dispatch; with has_gap as one that says that messages before it may be missing. Returns the length; 0 where there
 * is no form for it.
 */
size_t format_place(enum hub_format format, const char *id, bool has_gap, char to[FORMAT_PLACE_MAX])
{
	static const char gap[] = "event: gap\ndata: messages may be missing\nid: ";
	static const struct {
		const char *before, *before_gap, *after;
	} forms[FORMATS] = {
		[FORMAT_EVENTS] = {"id: ", gap, "\n\n"},
		[FORMAT_EVENTS_JSON] = {"id: ", gap, "\n\n"},
		[FORMAT_JSON] = {"{\"id\":\"", "{\"gap\":true,\"id\":\"", "\"}"},
	};
	const char *before = has_gap ? forms[format].before_gap : forms[format].before;

	if (!before)
		return 0;
	return (size_t)snprintf(to, FORMAT_PLACE_MAX, "%s%s%s", before, id, forms[format].after);
}
