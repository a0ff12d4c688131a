/*
 * HTTP dates: written and read without the C library's locale. Any process, any thread (not on one
 * object).
 */
#include "http/date.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static const char day_names[] = "SunMonTueWedThuFriSat";
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static char *put_number(char *p, int n, int digits)
{
	for (int i = digits - 1; i >= 0; i--, n /= 10)
		p[i] = (char)('0' + n % 10);
	return p + digits;
}

static char *put_text(char *p, const char *s, size_t n)
{
	memcpy(p, s, n);
	return p + n;
}

/*
 * Writes exactly HTTP_DATE_LEN bytes, without NUL. Years outside 0 to 9999 come out as the epoch.
 */
void http_date_format(time_t t, char buf[HTTP_DATE_LEN])
{
	struct tm tm;
	char *p = buf;

	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099) {
		t = 0;
		gmtime_r(&t, &tm);
	}
	p = put_text(p, day_names + 3 * tm.tm_wday, 3);
	p = put_text(p, ", ", 2);
	p = put_number(p, tm.tm_mday, 2);
	*p++ = ' ';
	p = put_text(p, month_names + 3 * tm.tm_mon, 3);
	*p++ = ' ';
	p = put_number(p, tm.tm_year + 1900, 4);
	*p++ = ' ';
	p = put_number(p, tm.tm_hour, 2);
	*p++ = ':';
	p = put_number(p, tm.tm_min, 2);
	*p++ = ':';
	p = put_number(p, tm.tm_sec, 2);
	put_text(p, " GMT", 4);
}

static int find_month(const char *name)
{
	for (int i = 0; i < 12; i++)
		if (memcmp(month_names + 3 * i, name, 3) == 0)
			return i;
	return -1;
}

/*
 * Follows a pattern: d day (its first digit may be a blank), m month's name, y year, h i s the
 * time, ? any byte; everything else stands for itself. Returns 0 or -EINVAL.
 */
static int follow(const char *s, const char *pattern, struct tm *tm, char month[3])
{
	int *numbers[128] = {['d'] = &tm->tm_mday,
		['y'] = &tm->tm_year,
		['h'] = &tm->tm_hour,
		['i'] = &tm->tm_min,
		['s'] = &tm->tm_sec};
	size_t n_month = 0;

	for (; *pattern; s++, pattern++) {
		int *number = numbers[(unsigned char)*pattern & 127];

		if (*pattern == 'm' && n_month < 3) {
			month[n_month++] = *s;
		} else if (number) {
			if (*s == ' ' && *pattern == 'd' && *number == 0)
				continue;
			if (*s < '0' || *s > '9')
				return -EINVAL;
			*number = *number * 10 + (*s - '0');
		} else if (*pattern != '?' && *pattern != *s) {
			return -EINVAL;
		}
	}
	return 0;
}

static int finish(struct tm *tm, const char month[3], time_t *ret)
{
	tm->tm_mon = find_month(month);
	if (tm->tm_mon < 0 || tm->tm_mday < 1 || tm->tm_mday > 31 || tm->tm_hour > 23 ||
		tm->tm_min > 59 || tm->tm_sec > 60)
		return -EINVAL;
	tm->tm_year -= 1900;
	*ret = timegm(tm);
	return 0;
}

/* "Sunday, 06-Nov-94 08:49:37 GMT": a year more than 50 years ahead is one of the last century. */
static int parse_rfc850(struct tine_text s, time_t *ret)
{
	const char *comma = memchr(s.data, ',', s.len);
	struct tm tm = {0};
	char month[3] = "";
	int this_year;
	struct tm now;
	time_t t = time(NULL);

	if (!comma || s.data + s.len - comma != 24 ||
		follow(comma, ", dd-mmm-yy hh:ii:ss GMT", &tm, month) < 0)
		return -EINVAL;
	gmtime_r(&t, &now);
	this_year = now.tm_year + 1900;
	tm.tm_year += this_year - this_year % 100;
	if (tm.tm_year > this_year + 50)
		tm.tm_year -= 100;
	return finish(&tm, month, ret);
}

/* Reads any of the three forms of RFC 9110. Returns 0 or -EINVAL. */
int http_date_parse(struct tine_text s, time_t *ret)
{
	struct tm tm = {0};
	char month[3] = "";

	if (s.len == HTTP_DATE_LEN &&
		follow(s.data, "???, dd mmm yyyy hh:ii:ss GMT", &tm, month) == 0)
		return finish(&tm, month, ret);
	memset(&tm, 0, sizeof(tm));
	if (s.len == 24 && follow(s.data, "??? mmm dd hh:ii:ss yyyy", &tm, month) == 0)
		return finish(&tm, month, ret);
	return parse_rfc850(s, ret);
}

void http_date_renew(struct http_date *d, uint64_t now_ms)
{
	static const char head[] = "Date: ";
	uint64_t wall_ms = clock_us(CLOCK_REALTIME_COARSE) / US_PER_MS;
	char *p = put_text(d->line, head, sizeof(head) - 1);

	http_date_format((time_t)(wall_ms / 1000), p);
	p = put_text(p + HTTP_DATE_LEN, "\r\n", 2);
	d->len = (size_t)(p - d->line);
	d->until_ms = now_ms + 1000 - wall_ms % 1000;
}
