/*
 * What a request looks like in the access log: the combined format as nginx and Apache write it, or
 * a JSON object. The worker, for each request; the primary, for those a crash cut short.
 *
 * Always: one line, however hostile the request. In combined every byte but printable ASCII, and '"'
 * and '\', is \xHH; in JSON what is not UTF-8 becomes U+FFFD. This runs for every request: no
 * stdio, and text is copied eight bytes at a time as long as nothing in it needs a second look.
 */
#include "shared/access_line.h"

#include <stdbool.h>
#include <string.h>

#include "base/put.h"

/* What is kept of each field, in bytes of the line; together with the rest they fit ACCESS_LINE_MAX. */
#define REQUEST_MAX    2048
#define REFERER_MAX    768
#define USER_AGENT_MAX 512
#define HOST_MAX       256
_Static_assert(REQUEST_MAX + REFERER_MAX + USER_AGENT_MAX + HOST_MAX + 400 < ACCESS_LINE_MAX,
	"a line may not fit");

/* Writes the first byte or character of `t` in a form that is safe. Returns how many bytes of it that were, 0: no room. */
typedef size_t (*escape_fn)(struct tine_text t, char **p, const char *end);

/* Exactly `width` digits. */
static char *put_digits(char *p, unsigned n, int width)
{
	for (int i = width - 1; i >= 0; i--, n /= 10)
		p[i] = (char)('0' + n % 10);
	return p + width;
}

/* --- text --- */

static inline bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The same of eight bytes at once; may say no of bytes that are. */
static inline bool are_plain(uint64_t w)
{
	const uint64_t ones = UINT64_MAX / 255, high = ones * 0x80;
	uint64_t quotes = w ^ (ones * '"'), slashes = w ^ (ones * '\\'), dels = w ^ (ones * 0x7f);

	/* In each byte's highest bit: is it below 0x20, is it equal to one of the others, is it above 0x7f. */
	return (((w - ones * 0x20) | (quotes - ones) | (slashes - ones) | (dels - ones) | w) &
		       high) == 0;
}

/* Copies what needs no escaping. Returns how many bytes that were. */
static size_t put_plain(char *p, const char *end, struct tine_text t)
{
	size_t n = 0, most = (size_t)(end - p) < t.len ? (size_t)(end - p) : t.len;
	uint64_t w;

	for (; n + sizeof(w) <= most; n += sizeof(w)) {
		memcpy(&w, t.data + n, sizeof(w));
		if (!are_plain(w))
			break;
		memcpy(p + n, &w, sizeof(w));
	}
	for (; n < most && is_plain((unsigned char)t.data[n]); n++)
		p[n] = t.data[n];
	return n;
}

static char *put_text(char *p, size_t room, struct tine_text t, escape_fn escape)
{
	const char *end = p + room;
	size_t n;

	while (t.len > 0) {
		n = put_plain(p, end, t);
		p += n;
		if (n == 0) {
			n = escape(t, &p, end);
			if (n == 0)
				break;
		}
		t.data += n;
		t.len -= n;
	}
	return p;
}

static size_t escape_combined(struct tine_text t, char **p, const char *end)
{
	static const char hex[] = "0123456789ABCDEF";
	unsigned char c = (unsigned char)*t.data;

	if (end - *p < 4)
		return 0;
	*p = put(*p, (const char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
	return 1;
}

/* Length of the character UTF-8 text begins with; 0: it is not UTF-8. */
static size_t utf8_length(struct tine_text t)
{
	const unsigned char *s = (const unsigned char *)t.data;
	/* by the first byte: the length, and what the second may be (RFC 3629) */
	static const struct {
		unsigned char first, last, len, low, high;
	} forms[] = {{0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf},
		{0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f},
		{0xee, 0xef, 3, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x90, 0xbf},
		{0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f}};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t n = forms[i].len;

		if (*s < forms[i].first || *s > forms[i].last)
			continue;
		if (t.len < n || s[1] < forms[i].low || s[1] > forms[i].high)
			return 0;
		for (size_t j = 2; j < n; j++)
			if ((s[j] & 0xc0) != 0x80)
				return 0;
		return n;
	}
	return 0;
}

static size_t escape_json(struct tine_text t, char **p, const char *end)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char c = (unsigned char)*t.data;
	size_t n = c < 0x80 ? 0 : utf8_length(t);

	if (end - *p < 6)
		return 0;
	if (c == '"' || c == '\\')
		*p = put(*p, (const char[]){'\\', (char)c}, 2);
	else if (c < 0x80)
		*p = put(*p, (const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
	else if (n > 0)
		*p = put(*p, t.data, n);
	else
		*p = PUT(*p, "\\ufffd");
	return n > 0 ? n : 1;
}

/* --- time --- */

static const char months[][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static char *put_time_combined(char *p, time_t second)
{
	struct tm tm;
	unsigned zone;

	localtime_r(&second, &tm);
	zone = (unsigned)(tm.tm_gmtoff < 0 ? -tm.tm_gmtoff : tm.tm_gmtoff) / 60;
	*p++ = '[';
	p = put_digits(p, (unsigned)tm.tm_mday, 2);
	*p++ = '/';
	p = put(p, months[tm.tm_mon], 3);
	*p++ = '/';
	p = put_digits(p, (unsigned)tm.tm_year + 1900, 4);
	*p++ = ':';
	p = put_digits(p, (unsigned)tm.tm_hour, 2);
	*p++ = ':';
	p = put_digits(p, (unsigned)tm.tm_min, 2);
	*p++ = ':';
	p = put_digits(p, (unsigned)tm.tm_sec, 2);
	p = put(p, tm.tm_gmtoff < 0 ? " -" : " +", 2);
	p = put_digits(p, zone / 60 * 100 + zone % 60, 4);
	*p++ = ']';
	return p;
}

static char *put_time_json(char *p, time_t second)
{
	struct tm tm;

	gmtime_r(&second, &tm);
	p = put_digits(p, (unsigned)tm.tm_year + 1900, 4);
	*p++ = '-';
	p = put_digits(p, (unsigned)tm.tm_mon + 1, 2);
	*p++ = '-';
	p = put_digits(p, (unsigned)tm.tm_mday, 2);
	*p++ = 'T';
	p = put_digits(p, (unsigned)tm.tm_hour, 2);
	*p++ = ':';
	p = put_digits(p, (unsigned)tm.tm_min, 2);
	*p++ = ':';
	return put_digits(p, (unsigned)tm.tm_sec, 2);
}

/* --- lines --- */

static char *put_combined(char *p, const struct access_clock *clock, const struct access_record *r)
{
	static const struct tine_text none = {"-", 1};

	p += peer_text(r->client, p);
	p = PUT(p, " - - ");
	p = put(p, clock->text, clock->len);
	p = PUT(p, " \"");
	p = put_text(p, REQUEST_MAX, r->line.len ? r->line : none, escape_combined);
	p = PUT(p, "\" ");
	p = put_digits(p, r->status, 3);
	*p++ = ' ';
	p = put_u64(p, r->body_bytes);
	p = PUT(p, " \"");
	p = put_text(p, REFERER_MAX, r->referer.len ? r->referer : none, escape_combined);
	p = PUT(p, "\" \"");
	p = put_text(p, USER_AGENT_MAX, r->user_agent.len ? r->user_agent : none, escape_combined);
	return PUT(p, "\"\n");
}

/* The parts of a request line; of what is none, all is the target. */
static void split_line(struct tine_text line, struct tine_text *ret_method,
	struct tine_text *ret_target, struct tine_text *ret_protocol)
{
	const char *end = line.data + line.len;
	const char *first = line.len ? memchr(line.data, ' ', line.len) : NULL;
	const char *last = line.len ? memrchr(line.data, ' ', line.len) : NULL;

	if (first == last) {
		*ret_method = *ret_protocol = (struct tine_text){NULL, 0};
		*ret_target = line;
		return;
	}
	*ret_method = (struct tine_text){line.data, (size_t)(first - line.data)};
	*ret_target = (struct tine_text){first + 1, (size_t)(last - first - 1)};
	*ret_protocol = (struct tine_text){last + 1, (size_t)(end - last - 1)};
}

static char *put_json(char *p, const struct access_clock *clock, const struct access_record *r)
{
	struct tine_text method, target, protocol;

	split_line(r->line, &method, &target, &protocol);
	p = PUT(p, "{\"time\":\"");
	p = put(p, clock->text, clock->len);
	*p++ = '.';
	p = put_digits(p, (unsigned)(r->time.tv_nsec / 1000000), 3);
	p = PUT(p, "Z\",\"client\":\"");
	p += peer_text(r->client, p);
	p = PUT(p, "\",\"host\":\"");
	p = put_text(p, HOST_MAX, r->host, escape_json);
	p = PUT(p, "\",\"method\":\"");
	p = put_text(p, 64, method, escape_json);
	p = PUT(p, "\",\"target\":\"");
	p = put_text(p, REQUEST_MAX - 64 - 16, target, escape_json);
	p = PUT(p, "\",\"protocol\":\"");
	p = put_text(p, 16, protocol, escape_json);
	p = PUT(p, "\",\"status\":");
	p = put_u64(p, r->status);
	if (r->status == 0)
		p = PUT(p, ",\"crash\":true");
	p = PUT(p, ",\"bytes\":");
	p = put_u64(p, r->body_bytes);
	p = PUT(p, ",\"referer\":\"");
	p = put_text(p, REFERER_MAX, r->referer, escape_json);
	p = PUT(p, "\",\"user_agent\":\"");
	p = put_text(p, USER_AGENT_MAX, r->user_agent, escape_json);
	p = PUT(p, "\",\"duration_us\":");
	p = put_u64(p, r->duration_us);
	p = PUT(p, ",\"worker\":");
	p = put_u64(p, r->worker);
	return PUT(p, "}\n");
}

/*
 * Writes the line of a request, with its newline and without NUL. `clock` is kept between calls, for
 * one format. Returns its length, ACCESS_LINE_MAX at most.
 */
size_t access_line_format(enum access_format format, struct access_clock *clock,
	const struct access_record *r, char out[ACCESS_LINE_MAX])
{
	static const struct {
		char *(*put_time)(char *p, time_t second);
		char *(*put_line)(
			char *p, const struct access_clock *clock, const struct access_record *r);
	} formats[] = {
		[ACCESS_COMBINED] = {put_time_combined, put_combined},
		[ACCESS_JSON] = {put_time_json, put_json},
	};

	if (clock->len == 0 || clock->second != r->time.tv_sec) {
		clock->second = r->time.tv_sec;
		clock->len = (size_t)(formats[format].put_time(clock->text, r->time.tv_sec) -
			clock->text);
	}
	return (size_t)(formats[format].put_line(out, clock, r) - out);
}
