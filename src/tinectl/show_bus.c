/*
 * Messages and the figures of the bus. What is in a message comes from whoever published it: nothing of it may be taken for a
 * command by a terminal, or change how the line reads.
 */
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "tinectl/show.h"

#define COLUMNS_MAX 8
#define CELL_MAX    64

/* --- one message --- */

/* What turns the direction of text around, or is not seen. */
static bool is_invisible(wint_t c)
{
	static const struct {
		wint_t first, last;
	} ranges[] = {{0x80, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x180e, 0x180e},
		{0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfe00, 0xfe0f},
		{0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xe0000, 0xe0fff}};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	}
	return false;
}

/* The bytes of one character that may be shown as it is; 0: there is none here. */
static size_t shown_as_is(const char *text, size_t len)
{
	mbstate_t state = {0};
	wchar_t c;
	size_t n;

	if (*text >= 0x20 && *text <= 0x7e)
		return *text != '\\';
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		return 0;
	n = mbrtowc(&c, text, len, &state);
	if (n == 0 || n > len || !iswprint((wint_t)c) || wcwidth(c) < 1 || is_invisible((wint_t)c))
		return 0;
	return n;
}

/* Text as it is; what might not be harmless as \xHH, a backslash doubled: the same that "pub" takes. */
static void put_escaped(const char *text, size_t len, FILE *out)
{
	for (size_t i = 0; i < len;) {
		size_t n = shown_as_is(text + i, len - i);

		if (n > 0)
			fwrite(text + i, 1, n, out);
		else if (text[i] == '\\')
			fputs("\\\\", out);
		else
			fprintf(out, "\\x%02x", (unsigned char)text[i]);
		i += n > 0 ? n : 1;
	}
}

static void put_hex(const char *hex, size_t len, FILE *out)
{
	char byte[3] = "";

	for (size_t i = 0; i + 1 < len; i += 2) {
		memcpy(byte, hex + i, 2);
		byte[0] = (char)strtoul(byte, NULL, 16);
		put_escaped(byte, 1, out);
	}
}

void show_message(const json_t *m, FILE *out)
{
	const json_t *data = show_member(m, "data");
	const char *text = show_text(m, "data");

	if (show_number(m, "missed") > 0)
		fprintf(out, "(%.0f more, not shown)\n", show_number(m, "missed"));
	put_escaped(show_text(m, "subject"), strlen(show_text(m, "subject")), out);
	fputs("  ", out);
	if (strcmp(show_text(m, "form"), "hex") == 0)
		put_hex(text, json_string_length(data), out);
	else
		put_escaped(text, json_string_length(data), out);
	if (show_is(m, "cut"))
		fprintf(out, " ... (%.0f bytes)", show_number(m, "size"));
	fputc('\n', out);
}

/* --- figures --- */

static const char *const counters[] = {
	"sent", "received", "failed", "dropped", "messages", "delivered", "refused"};

static bool is_same(const json_t *a, const json_t *b)
{
	return strcmp(show_text(a, "type"), show_text(b, "type")) == 0 &&
		show_number(a, "slot") == show_number(b, "slot") &&
		show_number(a, "pid") == show_number(b, "pid") &&
		strcmp(show_text(a, "pattern"), show_text(b, "pattern")) == 0;
}

static const json_t *find_same(const json_t *list, const json_t *record)
{
	const json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
	{
		if (is_same(o, record))
			return o;
	}
	return NULL;
}

/* Adds KEY_per_s for what has grown since. */
void show_add_rates(const json_t *before, json_t *now, double seconds)
{
	json_t *o;
	size_t i;

	json_array_foreach(now, i, o)
	{
		const json_t *old = find_same(before, o);

		for (size_t c = 0; c < sizeof(counters) / sizeof(*counters); c++) {
			double n = show_number(o, counters[c]) - show_number(old, counters[c]);
			char key[32];

			if (!show_member(o, counters[c]))
				continue;
			snprintf(key, sizeof(key), "%s_per_s", counters[c]);
			json_object_set_new(o, key, json_real(old && n > 0 ? n / seconds : 0));
		}
	}
}

struct bus_column {
	const char *title, *key;
	const char *(*show)(double n, char *buf, size_t size); /* NULL: it is text */
};

static const char *show_whole(double n, char *buf, size_t size)
{
	snprintf(buf, size, "%.0f", n);
	return buf;
}

static const struct bus_column process_columns[COLUMNS_MAX] = {{"SLOT", "slot", show_whole},
	{"ROLE", "role", NULL}, {"SENT/s", "sent_per_s", show_count},
	{"RECEIVED/s", "received_per_s", show_count}, {"FAILED", "failed", show_count},
	{"DROPPED", "dropped", show_count}, {"QUEUED", "queued", show_bytes},
	{"SUBSCRIPTIONS", "subscriptions", show_count}};

static const struct bus_column subject_columns[COLUMNS_MAX] = {{"SUBJECT", "pattern", NULL},
	{"SUBSCRIPTIONS", "subscriptions", show_count}, {"MESSAGES", "messages", show_count},
	{"MESSAGES/s", "messages_per_s", show_count},
	{"DELIVERED/s", "delivered_per_s", show_count}, {"DROPPED", "dropped", show_count},
	{"REFUSED", "refused", show_count}};

static const char *cell(const struct bus_column *c, const json_t *o, char buf[CELL_MAX])
{
	return c->show ? c->show(show_number(o, c->key), buf, CELL_MAX) : show_text(o, c->key);
}

static void put_row(const struct bus_column *columns, const int *width, const json_t *o, FILE *out)
{
	char buf[CELL_MAX];

	for (size_t c = 0; c < COLUMNS_MAX && columns[c].title; c++) {
		const char *text = o ? cell(&columns[c], o, buf) : columns[c].title;

		fprintf(out, "%*s", columns[c].show ? width[c] - (int)strlen(text) : 0, "");
		put_escaped(text, strlen(text), out);
		fprintf(out, "%*s", columns[c].show ? 0 : width[c] - (int)strlen(text), "");
		fputs(c + 1 < COLUMNS_MAX && columns[c + 1].title ? "  " : "\n", out);
	}
}

static void put_table(
	const json_t *list, const char *type, const struct bus_column *columns, FILE *out)
{
	int width[COLUMNS_MAX] = {0};
	char buf[CELL_MAX];
	const json_t *o;
	size_t i;

	for (size_t c = 0; c < COLUMNS_MAX && columns[c].title; c++) {
		width[c] = (int)strlen(columns[c].title);
		json_array_foreach(list, i, o)
		{
			int n = (int)strlen(cell(&columns[c], o, buf));

			width[c] = n > width[c] && strcmp(show_text(o, "type"), type) == 0
				? n
				: width[c];
		}
	}
	put_row(columns, width, NULL, out);
	json_array_foreach(list, i, o)
	{
		if (strcmp(show_text(o, "type"), type) == 0)
			put_row(columns, width, o, out);
	}
}

void show_bus(const json_t *list, FILE *out)
{
	const json_t *o;
	size_t i;

	put_table(list, "bus_process", process_columns, out);
	fputc('\n', out);
	put_table(list, "bus_subject", subject_columns, out);
	json_array_foreach(list, i, o)
	{
		if (strcmp(show_text(o, "type"), "bus") == 0 &&
			show_number(o, "patterns") > show_number(o, "shown"))
			fprintf(out, "(and %.0f more)\n",
				show_number(o, "patterns") - show_number(o, "shown"));
	}
}
