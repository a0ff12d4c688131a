/*
 * Parser of request heads. Worker and admin; pure functions.
 *
 * It reads strictly from left to right and decides each error at a fixed byte, so that the outcome
 * does not depend on how the bytes were split on their way: for every shorter prefix the answer is
 * PARSER_MORE, or the same error. A prefix is parsed anew when more of it has come; the caller sees
 * to it that this stays rare.
 *
 * Stricter than RFC 9112 allows it to be: bare LF and bare CR, obs-fold, repeated Content-Length
 * (even if equal), CL with TE, any Transfer-Encoding but one plain `chunked`, escapes in a host,
 * control bytes. Laxer in one point: a target may hold [ ] \ ^ ` { | }, which browsers send.
 */
#include "http/parser.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define TOKEN  1 /* tchar */
#define TARGET 2 /* may stand in a request target */
#define HOST   4 /* may stand in a registered name: unreserved, sub-delims */
#define VALUE  8 /* may stand in a field value */
#define ALL    (TOKEN | TARGET | HOST | VALUE)

static const uint8_t classes[256] = {
	['\t'] = VALUE,
	[' '] = VALUE,
	['!'] = ALL,
	['"'] = VALUE,
	['#'] = TOKEN | VALUE,
	['$'] = ALL,
	['%'] = TOKEN | TARGET | VALUE,
	['&' ... '\''] = ALL,
	['(' ... ')'] = TARGET | HOST | VALUE,
	['*' ... '+'] = ALL,
	[','] = TARGET | HOST | VALUE,
	['-' ... '.'] = ALL,
	['/'] = TARGET | VALUE,
	['0' ... '9'] = ALL,
	[':'] = TARGET | VALUE,
	[';'] = TARGET | HOST | VALUE,
	['<'] = VALUE,
	['='] = TARGET | HOST | VALUE,
	['>'] = VALUE,
	['?' ... '@'] = TARGET | VALUE,
	['A' ... 'Z'] = ALL,
	['[' ... ']'] = TARGET | VALUE,
	['^'] = TOKEN | TARGET | VALUE,
	['_'] = ALL,
	['`'] = TOKEN | TARGET | VALUE,
	['a' ... 'z'] = ALL,
	['{'] = TARGET | VALUE,
	['|'] = TOKEN | TARGET | VALUE,
	['}'] = TARGET | VALUE,
	['~'] = ALL,
	[0x80 ... 0xff] = VALUE,
};

/* The path of an absolute-form target without one: the only text of a head outside its bytes. */
static const char root[] = "/";

/* What is being read: at `end` the bytes run out, and `starved` says what that means. */
struct cursor {
	const char *p, *end;
	int starved; /* PARSER_MORE, or the status for a limit that was reached */
};

static inline bool is(char c, unsigned class)
{
	return classes[(unsigned char)c] & class;
}

static inline const char *scan(const char *p, const char *end, unsigned class)
{
	while (p < end && is(*p, class))
		p++;
	return p;
}

/* scan() for VALUE, which is long: 16 bytes at a time where the machine can. */
static const char *scan_value(const char *p, const char *end)
{
#ifdef __SSE2__
	while (end - p >= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)p);
		__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
		__m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
		unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(low, del));

		if (mask == 0) {
			p += 16;
			continue;
		}
		p += __builtin_ctz(mask);
		if (*p != '\t')
			return p;
		p++;
	}
#endif
	return scan(p, end, VALUE);
}

static inline struct tine_text text(const char *from, const char *to)
{
	return (struct tine_text){from, (size_t)(to - from)};
}

static inline char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Compares without regard to case; `want` is in lower case. */
bool http_text_is(struct tine_text t, const char *want, size_t len)
{
	if (t.len != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (lower(t.data[i]) != want[i])
			return false;
	return true;
}

#define TEXT_IS(t, literal) http_text_is((t), (literal), sizeof(literal) - 1)

bool http_is_token(const char *s, size_t len)
{
	return len > 0 && scan(s, s + len, TOKEN) == s + len;
}

/* A field value that may be written as it is: no control bytes, no white space at its ends. */
bool http_is_value(const char *s, size_t len)
{
	if (len == 0)
		return true;
	if (s[0] == ' ' || s[0] == '\t' || s[len - 1] == ' ' || s[len - 1] == '\t')
		return false;
	return scan_value(s, s + len) == s + len;
}

static struct tine_text trim(struct tine_text t)
{
	while (t.len > 0 && (t.data[0] == ' ' || t.data[0] == '\t')) {
		t.data++;
		t.len--;
	}
	while (t.len > 0 && (t.data[t.len - 1] == ' ' || t.data[t.len - 1] == '\t'))
		t.len--;
	return t;
}

/*
 * Takes the next element off a comma-separated list (RFC 9110 section 5.6.1), white space removed;
 * empty ones are passed over. Knows nothing of quoted strings. Returns false at the end.
 */
bool http_list_next(struct tine_text *list, struct tine_text *ret)
{
	while (list->len > 0) {
		const char *comma = memchr(list->data, ',', list->len);
		size_t len = comma ? (size_t)(comma - list->data) : list->len;
		struct tine_text item = trim((struct tine_text){list->data, len});

		list->data += comma ? len + 1 : len;
		list->len -= comma ? len + 1 : len;
		if (item.len > 0) {
			*ret = item;
			return true;
		}
	}
	return false;
}

/* [":" port] at the end of a host. */
static bool port_is_valid(const char *p, const char *end)
{
	unsigned port = 0;

	if (p == end)
		return true;
	if (*p++ != ':' || end - p > 5)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (unsigned)(*p - '0');
	}
	return port <= 65535;
}

/* "[" IPv6 address "]" [":" port] */
static bool host_is_valid_ipv6(struct tine_text host)
{
	const char *end = memchr(host.data, ']', host.len);
	char address[INET6_ADDRSTRLEN];
	struct in6_addr ignored;
	size_t n = end ? (size_t)(end - host.data) - 1 : 0;

	if (n == 0 || n >= sizeof(address))
		return false;
	memcpy(address, host.data + 1, n);
	address[n] = '\0';
	return inet_pton(AF_INET6, address, &ignored) == 1 &&
		port_is_valid(end + 1, host.data + host.len);
}

/* uri-host [":" port], or nothing at all. */
static bool host_is_valid(struct tine_text host)
{
	const char *end = host.data + host.len, *p;

	if (host.len == 0)
		return true;
	if (host.data[0] == '[')
		return host_is_valid_ipv6(host);
	p = scan(host.data, end, HOST);
	return p > host.data && port_is_valid(p, end);
}

/* uri-host ":" port, nothing of it empty: the target of CONNECT. */
static bool authority_is_valid(struct tine_text target)
{
	const char last = target.data[target.len - 1];

	return host_is_valid(target) && memchr(target.data, ':', target.len) && last >= '0' &&
		last <= '9';
}

static enum http_method parse_method(struct tine_text t)
{
	static const struct {
		char name[8];
		enum http_method method;
	} methods[] = {{"GET", METHOD_GET}, {"HEAD", METHOD_HEAD}, {"POST", METHOD_POST},
		{"PUT", METHOD_PUT}, {"DELETE", METHOD_DELETE}, {"CONNECT", METHOD_CONNECT},
		{"OPTIONS", METHOD_OPTIONS}, {"TRACE", METHOD_TRACE}, {"PATCH", METHOD_PATCH}};

	if (t.len == 3 && memcmp(t.data, "GET", 3) == 0)
		return METHOD_GET;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strlen(methods[i].name) == t.len && memcmp(methods[i].name, t.data, t.len) == 0)
			return methods[i].method;
	return METHOD_UNKNOWN;
}

static void split_query(struct http_head *h, struct tine_text target)
{
	const char *end = target.data + target.len;
	const char *mark = memchr(target.data, '?', target.len);

	h->path = text(target.data, mark ? mark : end);
	h->query = mark ? text(mark + 1, end) : (struct tine_text){NULL, 0};
}

/*
 * http://host[:port][/path][?query]; the host takes the place of the field Host (RFC 9112 section
 * 3.2.2).
 */
static int parse_absolute(struct http_head *h, struct tine_text target)
{
	const char *host = target.data + 7, *end = target.data + target.len, *p = host;

	while (p < end && *p != '/' && *p != '?')
		p++;
	h->host = text(host, p);
	if (h->host.len == 0 || !host_is_valid(h->host))
		return 400;
	split_query(h, text(p, end));
	if (h->path.len == 0)
		h->path = (struct tine_text){root, 1};
	return 0;
}

static int parse_target(struct http_head *h, struct tine_text target)
{
	static const struct tine_text none;

	h->host = none;
	if (h->method == METHOD_UNKNOWN)
		return 0; /* whatever its target means, the answer will be 501 */
	if (h->method == METHOD_CONNECT) {
		h->path = h->query = none;
		h->host = target;
		return authority_is_valid(target) ? 0 : 400;
	}
	if (target.data[0] == '/') {
		split_query(h, target);
		return 0;
	}
	if (target.len > 7 && TEXT_IS(text(target.data, target.data + 7), "http://"))
		return parse_absolute(h, target);
	if (target.len == 1 && target.data[0] == '*' && h->method == METHOD_OPTIONS) {
		h->path = target;
		h->query = none;
		return 0;
	}
	return 400;
}

/* "HTTP/" DIGIT "." DIGIT CRLF */
static int parse_version(struct cursor *c, struct http_head *h)
{
	static const char pattern[] = "HTTP/d.d\r\n";
	const char *version = c->p;

	if (c->end - c->p >= 10 && memcmp(c->p, "HTTP/1.1\r\n", 10) == 0) {
		c->p += 10;
		h->minor = 1;
		return 0;
	}
	for (size_t i = 0; i < sizeof(pattern) - 1; i++, c->p++) {
		if (c->p == c->end)
			return c->starved;
		if (pattern[i] == 'd' ? *c->p < '0' || *c->p > '9' : *c->p != pattern[i])
			return 400;
	}
	if (version[5] != '1' || version[7] > '1')
		return 505;
	h->minor = (uint8_t)(version[7] - '0');
	return 0;
}

static int parse_request_line(struct cursor *c, struct http_head *h)
{
	const char *method = c->p, *target;
	int r;

	c->p = scan(c->p, c->end, TOKEN);
	if (c->p == c->end)
		return c->starved;
	if (*c->p != ' ' || c->p == method)
		return 400;
	h->method = parse_method(text(method, c->p));

	target = ++c->p;
	c->p = scan(c->p, c->end, TARGET);
	if (c->p == c->end)
		return c->starved;
	if (*c->p != ' ' || c->p == target)
		return 400;
	r = parse_target(h, text(target, c->p));
	if (r != 0)
		return r;
	c->p++;
	r = parse_version(c, h);
	h->line = text(method, c->p - 2);
	return r;
}

static int parse_length(struct http_head *h, struct tine_text value)
{
	uint64_t n = 0;

	if (h->has_length || value.len == 0)
		return 400;
	for (size_t i = 0; i < value.len; i++) {
		unsigned digit = (unsigned)(value.data[i] - '0');

		if (digit > 9 || n > ((uint64_t)INT64_MAX - digit) / 10)
			return 400;
		n = n * 10 + digit;
	}
	h->has_length = true;
	h->content_length = n;
	return 0;
}

/* One field, one coding, of HTTP/1.1: nothing another recipient could read differently. */
static int parse_coding(struct http_head *h, struct tine_text value)
{
	if (h->chunked || h->minor == 0 || !TEXT_IS(value, "chunked"))
		return 400;
	h->chunked = true;
	return 0;
}

static int parse_host(struct http_head *h, struct tine_text value)
{
	if (h->has_host || !host_is_valid(value))
		return 400;
	h->has_host = true;
	if (!h->host.data)
		h->host = value;
	return 0;
}

static void parse_connection(struct http_head *h, struct tine_text value)
{
	struct tine_text token;

	while (http_list_next(&value, &token)) {
		if (TEXT_IS(token, "close"))
			h->close = true;
		else if (TEXT_IS(token, "keep-alive"))
			h->keep_alive = true;
		else if (TEXT_IS(token, "upgrade"))
			h->upgrade = true;
	}
}

/* What the server itself must know of a field. Returns 0 or the status to refuse with. */
static int note_field(struct http_head *h, const struct http_field *f)
{
	switch (f->name.len) {
	case 4:
		return TEXT_IS(f->name, "host") ? parse_host(h, f->value) : 0;
	case 6:
		if (TEXT_IS(f->name, "expect")) {
			if (TEXT_IS(f->value, "100-continue"))
				h->expect = true;
			else
				h->expect_unknown = true;
		}
		return 0;
	case 10:
		if (TEXT_IS(f->name, "connection"))
			parse_connection(h, f->value);
		return 0;
	case 14:
		return TEXT_IS(f->name, "content-length") ? parse_length(h, f->value) : 0;
	case 17:
		return TEXT_IS(f->name, "transfer-encoding") ? parse_coding(h, f->value) : 0;
	default:
		return 0;
	}
}

/* name ":" OWS value OWS CRLF */
static inline int parse_field(struct cursor *c, struct http_field *f)
{
	const char *start = c->p, *last;

	c->p = scan(c->p, c->end, TOKEN);
	if (c->p == c->end)
		return c->starved;
	if (*c->p != ':' || c->p == start)
		return 400;
	f->name = text(start, c->p++);

	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
	start = c->p;
	c->p = scan_value(c->p, c->end);
	if (c->p == c->end)
		return c->starved;
	if (*c->p != '\r')
		return 400;
	last = c->p++;
	if (c->p == c->end)
		return c->starved;
	if (*c->p++ != '\n')
		return 400;
	while (last > start && (last[-1] == ' ' || last[-1] == '\t'))
		last--;
	f->value = text(start, last);
	return 0;
}

/* CRLF. Returns 0 when it was one and has been passed. */
static int parse_empty_line(struct cursor *c)
{
	if (c->end - c->p < 2)
		return c->starved;
	if (c->p[1] != '\n')
		return 400;
	c->p += 2;
	return 0;
}

static int parse_fields(struct cursor *c, struct http_head *h)
{
	struct http_field *f = h->fields, *const end = f + HTTP_FIELDS_MAX;
	int r = 0;

	while (r == 0) {
		if (c->p == c->end)
			return c->starved;
		if (*c->p == '\r') {
			h->n_fields = (uint16_t)(f - h->fields);
			return parse_empty_line(c);
		}
		if (f == end)
			return 431;
		r = parse_field(c, f);
		if (r == 0)
			r = note_field(h, f++);
	}
	return r;
}

/* Methods whose meaning is in the body: HTTP/1.0 has no other way to say that there is none. */
#define WITH_BODY (METHOD_POST | METHOD_PUT | METHOD_PATCH)

/* What only the whole head can tell. */
static int check_head(const struct http_head *h)
{
	if (h->minor > 0 && !h->has_host)
		return 400;
	if (h->chunked && h->has_length)
		return 400;
	if (h->method == METHOD_UNKNOWN)
		return 501;
	if (h->minor == 0 && !h->has_length && (h->method & WITH_BODY))
		return 411;
	return 0;
}

static void cursor_limit(struct cursor *c, const char *data, size_t len, size_t max, int status)
{
	c->end = data + (len < max ? len : max);
	c->starved = len < max ? PARSER_MORE : status;
}

/*
 * Parses the head at the start of data; one empty line before it is passed over (RFC 9112 section
 * 2.2). Returns 0 when it is complete, PARSER_MORE, or the status to refuse the request with (400
 * to 505); *ret then holds what was understood before: method METHOD_UNKNOWN when not even that.
 * The fields are written to `fields`; *ret points there and into data.
 */
int http_parse_head(const char *data, size_t len, const struct http_limits *limits,
	struct http_field fields[HTTP_FIELDS_MAX], struct http_head *ret)
{
	struct cursor c = {.p = data};
	int r = 0;

	*ret = (struct http_head){.fields = fields};
	cursor_limit(&c, data, len, limits->max_line, 414);
	if (c.p < c.end && *c.p == '\r')
		r = parse_empty_line(&c);
	if (r == 0)
		r = parse_request_line(&c, ret);
	if (r != 0)
		return r;
	cursor_limit(&c, data, len, limits->max_head, 431);
	r = parse_fields(&c, ret);
	if (r != 0)
		return r;
	ret->size = (size_t)(c.p - data);
	return check_head(ret);
}

/*
 * Parses the one field line at the start of data, as those of a head. Returns 0 and how many bytes
 * it took, PARSER_MORE, 400, or 431 when it does not end within max bytes.
 */
int http_parse_field(
	const char *data, size_t len, size_t max, struct http_field *ret, size_t *ret_used)
{
	struct cursor c = {.p = data};
	int r;

	cursor_limit(&c, data, len, max, 431);
	r = parse_field(&c, ret);
	*ret_used = r == 0 ? (size_t)(c.p - data) : 0;
	return r;
}

static void rebase(struct tine_text *t, const char *from, const char *to)
{
	if (t->data && t->data != root)
		t->data = to + (t->data - from);
}

/*
 * Makes a parsed head refer to a copy of its bytes: `from` is the data it was parsed from, `to` has
 * the first h->size bytes of it. The fields are copied to `fields`, room for h->n_fields of them,
 * and may be there already.
 */
void http_head_move(
	struct http_head *h, const char *from, const char *to, struct http_field *fields)
{
	struct tine_text *const texts[] = {&h->line, &h->path, &h->query, &h->host};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		rebase(texts[i], from, to);
	for (unsigned i = 0; i < h->n_fields; i++) {
		fields[i] = h->fields[i];
		rebase(&fields[i].name, from, to);
		rebase(&fields[i].value, from, to);
	}
	h->fields = fields;
}

/* The value of the first field of that name (any case); data is NULL when there is none. */
struct tine_text http_head_field(const struct http_head *h, const char *name, size_t len)
{
	for (unsigned i = 0; i < h->n_fields; i++)
		if (h->fields[i].name.len == len &&
			strncasecmp(h->fields[i].name.data, name, len) == 0)
			return h->fields[i].value;
	return (struct tine_text){NULL, 0};
}
