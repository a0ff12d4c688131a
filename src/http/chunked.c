/*
 * Decoder of chunked request bodies. Worker and admin; pure functions.
 *
 * Each error is decided at a fixed byte, whatever the pieces the body comes in. Stricter than RFC
 * 9112 allows it to be: sizes have 16 digits at most, and fields that a recipient might merge into
 * the head to mean something there are refused. Extensions mean nothing here, but are read by their
 * grammar, so that nobody can find another end of their line than we do.
 */
#include "http/chunked.h"

#include <stdbool.h>

#define TOO_MUCH 400 /* extensions or trailer beyond their limit: nobody sends that in good faith */

enum chunked_state {
	STATE_SIZE, /* in the hexadecimal digits */
	/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) */
	STATE_SPACE,     /* white space in front of a semicolon */
	STATE_SEMICOLON, /* behind one */
	STATE_NAME,
	STATE_NAME_SPACE, /* white space behind a name */
	STATE_EQUALS,
	STATE_VALUE,
	STATE_QUOTED,
	STATE_ESCAPE, /* behind a backslash */
	STATE_CLOSED, /* behind the closing quote */
	STATE_SIZE_LF,
	STATE_DATA,
	STATE_DATA_CR,
	STATE_DATA_LF,
	STATE_TRAILER, /* at the beginning of a line */
	STATE_END,
};

/* What a byte can be in an extension. */
enum byte_class { BAD, OTHER, TCHAR, BLANK, SEMICOLON, EQUALS, QUOTE, BACKSLASH, CR, N_CLASSES };

/* From state to state by the class of a byte; STATE_SIZE (0) is none: refused. */
static const uint8_t next_state[][N_CLASSES] = {
	[STATE_SPACE] = {[BLANK] = STATE_SPACE, [SEMICOLON] = STATE_SEMICOLON},
	[STATE_SEMICOLON] = {[BLANK] = STATE_SEMICOLON, [TCHAR] = STATE_NAME},
	[STATE_NAME] = {[TCHAR] = STATE_NAME,
		[BLANK] = STATE_NAME_SPACE,
		[SEMICOLON] = STATE_SEMICOLON,
		[EQUALS] = STATE_EQUALS,
		[CR] = STATE_SIZE_LF},
	[STATE_NAME_SPACE] = {[BLANK] = STATE_NAME_SPACE,
		[SEMICOLON] = STATE_SEMICOLON,
		[EQUALS] = STATE_EQUALS},
	[STATE_EQUALS] = {[BLANK] = STATE_EQUALS, [TCHAR] = STATE_VALUE, [QUOTE] = STATE_QUOTED},
	[STATE_VALUE] = {[TCHAR] = STATE_VALUE,
		[BLANK] = STATE_SPACE,
		[SEMICOLON] = STATE_SEMICOLON,
		[CR] = STATE_SIZE_LF},
	[STATE_QUOTED] = {[OTHER... EQUALS] = STATE_QUOTED,
		[QUOTE] = STATE_CLOSED,
		[BACKSLASH] = STATE_ESCAPE},
	[STATE_ESCAPE] = {[OTHER... BACKSLASH] = STATE_QUOTED},
	[STATE_CLOSED] =
		{[BLANK] = STATE_SPACE, [SEMICOLON] = STATE_SEMICOLON, [CR] = STATE_SIZE_LF},
};

/* RFC 9110 section 6.5.1: framing, routing, request modifiers, authentication, content format. */
static const struct tine_text forbidden[] = {
#define F(name)                        \
	{                              \
		name, sizeof(name) - 1 \
	}
	F("authorization"),
	F("cache-control"),
	F("connection"),
	F("content-encoding"),
	F("content-length"),
	F("content-range"),
	F("content-type"),
	F("cookie"),
	F("expect"),
	F("forwarded"),
	F("host"),
	F("if-match"),
	F("if-modified-since"),
	F("if-none-match"),
	F("if-range"),
	F("if-unmodified-since"),
	F("keep-alive"),
	F("max-forwards"),
	F("pragma"),
	F("proxy-authorization"),
	F("proxy-connection"),
	F("range"),
	F("te"),
	F("trailer"),
	F("transfer-encoding"),
	F("upgrade"),
	F("x-forwarded-for"),
	F("x-forwarded-host"),
	F("x-forwarded-proto"),
#undef F
};

static int hex(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum byte_class class_of(unsigned char c)
{
	static const enum byte_class special[] = {['\t'] = BLANK,
		['\r'] = CR,
		[' '] = BLANK,
		['"'] = QUOTE,
		[';'] = SEMICOLON,
		['='] = EQUALS,
		['\\'] = BACKSLASH};

	if (c < sizeof(special) / sizeof(special[0]) && special[c] != BAD)
		return special[c];
	if (http_is_token((const char *)&c, 1))
		return TCHAR;
	return c < ' ' || c == 0x7f ? BAD : OTHER;
}

/* The functions for states return 0 or the status to refuse with. */
static int on_extension(struct chunked *d, unsigned char c)
{
	d->state = next_state[d->state][class_of(c)];
	if (d->state == STATE_SIZE)
		return 400;
	return c != '\r' && ++d->extensions > CHUNKED_EXTENSIONS_MAX ? TOO_MUCH : 0;
}

static int on_size(struct chunked *d, unsigned char c)
{
	int digit = hex(c);

	if (digit < 0) {
		if (d->n_digits == 0)
			return 400;
		d->state = STATE_CLOSED; /* what may follow is the same */
		return on_extension(d, c);
	}
	if (d->n_digits == 16 || d->left > (uint64_t)INT64_MAX >> 4)
		return 400;
	d->n_digits++;
	d->left = d->left << 4 | (unsigned)digit;
	return 0;
}

static int on_size_lf(struct chunked *d, unsigned char c)
{
	d->n_digits = 0;
	d->state = d->left > 0 ? STATE_DATA : STATE_TRAILER;
	return c == '\n' ? 0 : 400;
}

static int on_data_cr(struct chunked *d, unsigned char c)
{
	d->state = STATE_DATA_LF;
	return c == '\r' ? 0 : 400;
}

static int on_data_lf(struct chunked *d, unsigned char c)
{
	d->state = STATE_SIZE;
	return c == '\n' ? 0 : 400;
}

/* States that take one byte after the other; the others have NULL. */
static int (*const on_byte[])(struct chunked *d, unsigned char c) = {
	[STATE_SIZE] = on_size,
	[STATE_SPACE... STATE_CLOSED] = on_extension,
	[STATE_SIZE_LF] = on_size_lf,
	[STATE_DATA_CR] = on_data_cr,
	[STATE_DATA_LF] = on_data_lf,
	[STATE_END] = NULL,
};

/* Whether a field may not stand in a trailer, of a request or of an answer. */
bool chunked_is_forbidden(struct tine_text name)
{
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
		if (http_text_is(name, forbidden[i].data, forbidden[i].len))
			return true;
	return false;
}

/* One line of the trailer, or the empty one behind it. */
static int decode_trailer(
	struct chunked *d, const char *p, size_t len, struct http_field *ret, size_t *ret_used)
{
	int r;

	*ret_used = 0;
	if (len == 0)
		return CHUNKED_MORE;
	if (*p == '\r') {
		if (len < 2)
			return CHUNKED_MORE;
		if (p[1] != '\n')
			return 400;
		d->state = STATE_END;
		*ret_used = 2;
		return CHUNKED_END;
	}
	if (d->n_fields == CHUNKED_FIELDS_MAX)
		return TOO_MUCH;
	r = http_parse_field(p, len, CHUNKED_TRAILER_MAX - d->trailer, ret, ret_used);
	if (r != 0)
		return r == 431 ? TOO_MUCH : r;
	d->trailer += (uint16_t)*ret_used;
	d->n_fields++;
	return chunked_is_forbidden(ret->name) ? 400 : CHUNKED_TRAILER;
}

/*
 * Decodes from data up to the next thing to tell of, and says in *ret_used how many bytes that
 * took. Returns
 *   CHUNKED_DATA     ret->value is a part of the body, of at least one byte, within data
 *   CHUNKED_TRAILER  ret is a field of the trailer, within data
 *   CHUNKED_MORE     all that can be taken was. Bytes may be left, of a trailer line that is not
 *                    complete (less than CHUNKED_TRAILER_MAX): they are to be given again with more
 *   CHUNKED_END      the body is over; the next request begins behind the bytes used
 *   400              the status to refuse the request with; d is not to be used again.
 * After the first two there may be more to come in data. The size of the body is the caller's to
 * limit.
 */
int chunked_decode(
	struct chunked *d, const char *data, size_t len, struct http_field *ret, size_t *ret_used)
{
	const char *p = data, *end = data + len;
	size_t n = 0;
	int r = 0;

	while (r == 0 && p < end && on_byte[d->state])
		r = on_byte[d->state](d, (unsigned char)*p++);
	if (r == 0 && d->state == STATE_DATA && p < end) {
		n = (size_t)(end - p) < d->left ? (size_t)(end - p) : (size_t)d->left;
		*ret = (struct http_field){.value = {p, n}};
		d->left -= n;
		d->state = d->left > 0 ? STATE_DATA : STATE_DATA_CR;
		r = CHUNKED_DATA;
	} else if (r == 0 && d->state == STATE_TRAILER) {
		r = decode_trailer(d, p, (size_t)(end - p), ret, &n);
	} else if (r == 0 && d->state != STATE_END) {
		r = CHUNKED_MORE;
	}
	*ret_used = (size_t)(p - data) + n;
	return r;
}
