/*
 * pub, sub and bus. Runs in the primary, on its loop.
 *
 * Always holds: what a follower costs is bounded, however much is published: so many messages a second are shown, each up to so many
 * bytes, and none while he does not read; what is left out is counted, and said with the next one.
 */
#include "primary/bus_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/parse.h"
#include "ipc/subject.h"
#include "primary/bus_figures.h"
#include "primary/commands.h"
#include "primary/primary.h"
#include "primary/relay.h"
#include "primary/remote.h"
#include "primary/subjects.h"
#include "shared/report.h"

#define SHOWN_PER_S 1000
#define SHOWN_BYTES 4096

/* --- following --- */

struct bus_follower {
	struct command_request *request;
	struct relay_tap *tap;
	uint64_t second_us; /* when the present second began */
	unsigned n_shown;   /* in it */
	uint64_t n_missed;  /* since the last one that was shown */
};

struct bus_follower *bus_follower_free(struct bus_follower *f)
{
	if (!f)
		return NULL;
	relay_tap_free(f->tap);
	free(f);
	return NULL;
}

/* Whether there is time and room for one more. */
static bool may_show(struct bus_follower *f)
{
	uint64_t now = now_us();

	if (now - f->second_us >= US_PER_S) {
		f->second_us = now;
		f->n_shown = 0;
	}
	return f->n_shown < SHOWN_PER_S && f->request->has_room(f->request);
}

/* As text if it is some, else as hexadecimal digits. */
static json_t *data_of(const void *body, size_t len, const char **ret_form)
{
	static const char digits[] = "0123456789abcdef";
	char hex[2 * SHOWN_BYTES];
	json_t *o = memchr(body, '\0', len) ? NULL : json_stringn(body, len);

	*ret_form = o ? "text" : "hex";
	if (o)
		return o;
	for (size_t i = 0; i < len; i++) {
		hex[2 * i] = digits[((const unsigned char *)body)[i] >> 4];
		hex[2 * i + 1] = digits[((const unsigned char *)body)[i] & 15];
	}
	return json_stringn(hex, 2 * len);
}

static void on_message(
	const char *subject, size_t subject_len, const void *body, uint64_t len, void *arg)
{
	struct bus_follower *f = arg;
	uint64_t n_shown = !body ? 0 : len < SHOWN_BYTES ? len : SHOWN_BYTES;
	const char *form;
	json_t *data;

	if (!may_show(f)) {
		f->n_missed++;
		return;
	}
	data = data_of(body ? body : "", n_shown, &form);
	f->request->reply(f->request,
		json_pack("{s:s,s:o,s:I,s:s,s:o,s:b,s:I}", "type", "message", "subject",
			json_stringn(subject, subject_len), "size", (json_int_t)len, "form", form,
			"data", data, "cut", n_shown < len, "missed", (json_int_t)f->n_missed),
		false);
	f->n_shown++;
	f->n_missed = 0;
}

void bus_do_follow(struct command_request *r, const char *argument)
{
	struct bus_follower *f;
	char text[160];
	const char *why;
	int e;

	if (subject_check(argument, strlen(argument), SUBJECT_PATTERN, &why) < 0) {
		snprintf(text, sizeof(text), "\"%.80s\" is no pattern: %s", argument, why);
		command_answer_error(r, "usage", text);
		return;
	}
	if (!command_may_follow(r))
		return;
	f = calloc(1, sizeof(*f));
	e = f ? relay_tap_new(r->primary->relay, argument, on_message, f, &f->tap) : -ENOMEM;
	if (e < 0) {
		free(f);
		command_answer_error(r, "failed", "out of memory");
		return;
	}
	f->request = r;
	r->bus = f;
}

/* --- publishing --- */

static int unhex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The data in a command: \\ is a backslash, \xHH a byte. In place. Returns how many bytes, or -EINVAL. */
static ssize_t unescape(char *text)
{
	char *to = text;

	for (const char *s = text; *s;) {
		if (*s != '\\') {
			*to++ = *s++;
		} else if (s[1] == '\\') {
			*to++ = '\\';
			s += 2;
		} else if (s[1] == 'x' && unhex(s[2]) >= 0 && unhex(s[3]) >= 0) {
			*to++ = (char)(unhex(s[2]) << 4 | unhex(s[3]));
			s += 4;
		} else {
			return -EINVAL;
		}
	}
	return to - text;
}

/* How many would get it here; *ret_far: whether other machines would. */
static size_t count_subscribers(
	const struct command_request *r, const char *subject, size_t len, bool *ret_far)
{
	const struct subject_match *m;

	*ret_far = false;
	if (subjects_match((struct subjects *)relay_subjects(r->primary->relay), subject, len, &m) <
		0)
		return 0;
	*ret_far = remote_wants(relay_remote(r->primary->relay), m);
	return m->n - *ret_far;
}

static void publish(struct command_request *r, const char *subject, const char *data, size_t len)
{
	bool far;
	size_t n = count_subscribers(r, subject, strlen(subject), &far);
	char text[160];

	if (n == 0 && !far) {
		command_answer_error(r, "failed", "nobody has subscribed to that");
		return;
	}
	if (relay_publish(r->primary->relay, subject, data, len) < 0) {
		command_answer_error(r, "failed", "out of memory");
		return;
	}
	snprintf(text, sizeof(text), "published: %zu subscription%s here%s", n, n == 1 ? "" : "s",
		far ? ", and other machines" : "");
	command_answer_ok(r, text);
}

void bus_do_publish(struct command_request *r, const char *argument)
{
	char line[COMMAND_MAX], text[160], *data;
	const char *why;
	ssize_t n;

	snprintf(line, sizeof(line), "%s", argument);
	data = strchr(line, ' ');
	*data++ = '\0';
	n = unescape(data);
	if (n < 0) {
		command_answer_error(
			r, "usage", "in the data a backslash is written \\\\, any byte \\xHH");
	} else if (subject_check(line, strlen(line), SUBJECT_PLAIN, &why) < 0) {
		snprintf(text, sizeof(text), "\"%.80s\" is no subject: %s", line, why);
		command_answer_error(r, "usage", text);
	} else if (subject_is_reserved(line, strlen(line))) {
		command_answer_error(r, "usage", "what begins with $ is tined's own");
	} else {
		publish(r, line, data, (size_t)n);
	}
}

/* --- figures --- */

void bus_do_show(struct command_request *r, const char *argument)
{
	struct primary *p = r->primary;

	bus_figures_refresh(p);
	command_answer_list(r, report_bus(&p->scoreboard, p->history));
}
