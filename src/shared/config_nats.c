/*
 * What [bus] says of NATS: addresses, patterns, files. Part of config_check(), so nothing that takes long: whether a file is of the right
 * kind; what is in it is found out by the bridge, when it starts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/parse.h"
#include "ipc/subject.h"
#include "shared/config_load.h"

#define PATTERNS_MAX 16

/* --- addresses --- */

/* What is wrong with HOST, HOST:PORT or [v6]:PORT, or NULL. */
static const char *check_host(const char *host, size_t len)
{
	const char *end = memchr(host, ']', len), *colon;
	char port[8];
	uint64_t n;

	colon = memchr(end ? end : host, ':', len - (size_t)(end ? end - host : 0));
	if (len == 0 || colon == host)
		return "the host is missing";
	for (size_t i = 0; i < len; i++) {
		if (host[i] <= ' ' || host[i] > '~' || strchr("/?#\\\"", host[i]))
			return "that is no host";
	}
	if (!colon)
		return NULL;
	snprintf(port, sizeof(port), "%.*s", (int)(len - (size_t)(colon + 1 - host)), colon + 1);
	if (parse_u64(port, &n) < 0 || n == 0 || n > 65535)
		return "the port is a number from 1 to 65535";
	return NULL;
}

static const char *check_url(const char *url, size_t len)
{
	static const char *const schemes[] = {"nats://", "tls://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		size_t n = strlen(schemes[i]);
		const char *at;

		if (len < n || memcmp(url, schemes[i], n) != 0)
			continue;
		url += n;
		len -= n;
		if (len > 0 && url[len - 1] == '/')
			len--;
		for (size_t j = 0; j < len; j++) {
			if (url[j] <= ' ' || url[j] == '\x7f')
				return "there is a blank in it";
		}
		at = memrchr(url, '@', len); /* behind a user and a password */
		if (at && (at == url || *url == ':'))
			return "the user is missing";
		return check_host(at ? at + 1 : url, at ? len - (size_t)(at + 1 - url) : len);
	}
	return "it begins with neither nats:// nor tls://";
}

static void check_urls(struct config_loader *l, const struct config_section *s, const char *urls)
{
	while (*urls) {
		size_t n = strcspn(urls, ",");
		const char *why;

		while (*urls == ' ' && n > 0)
			urls++, n--;
		why = check_url(urls, n);
		if (why) { /* not quoted: it may have a password */
			config_report(l, config_blame_line(s, "nats"),
				"bus.nats: %s; write nats://HOST:PORT or tls://HOST:PORT, several "
				"with commas "
				"between them",
				why);
			return;
		}
		urls += n + (urls[n] == ',');
	}
}

/* --- patterns --- */

/* Splits at blanks. Returns the pattern, or NULL at the end. */
static const char *next_pattern(const char **text, size_t *ret_len)
{
	const char *p;

	*text += strspn(*text, " \t");
	p = *text;
	*ret_len = strcspn(p, " \t");
	*text += *ret_len;
	return *ret_len > 0 ? p : NULL;
}

static void report_pattern(struct config_loader *l, const struct config_section *s,
	const char *pattern, size_t len, const char *why)
{
	config_report(l, config_blame_line(s, "nats_subjects"),
		"bus.nats_subjects: \"%.*s\": %s; write patterns such as > or chat.> orders.*",
		(int)(len < 60 ? len : 60), pattern, why);
}

/* Those of which two fit one subject would carry it twice. */
static bool overlaps_another(const char *all, const char *pattern, size_t len)
{
	char both[SUBJECT_MAX + 1];
	const char *other;
	size_t n;

	while ((other = next_pattern(&all, &n)) && other < pattern) {
		if (subject_intersect(other, n, pattern, len, both))
			return true;
	}
	return false;
}

static void check_patterns(struct config_loader *l, const struct config_section *s, const char *all)
{
	const char *rest = all, *pattern, *why;
	unsigned n = 0;
	size_t len;

	while ((pattern = next_pattern(&rest, &len))) {
		if (subject_check(pattern, len, SUBJECT_PATTERN, &why) < 0)
			report_pattern(l, s, pattern, len, why);
		else if (subject_is_reserved(pattern, len))
			report_pattern(l, s, pattern, len, "what begins with `$` stays here");
		else if (overlaps_another(all, pattern, len))
			report_pattern(l, s, pattern, len, "it overlaps one before it");
		else if (++n > PATTERNS_MAX)
			report_pattern(l, s, pattern, len, "more than 16 patterns");
		else
			continue;
		return;
	}
	if (n == 0)
		config_report(l, config_blame_line(s, "nats_subjects"),
			"bus.nats_subjects: no pattern; write one such as >, or take nats away");
}

/* --- files --- */

struct file {
	const char *key, *path;
	bool is_secret;
	const char *marks[2]; /* it has a line "-----BEGIN ..." with each... */
	const char *absent;   /* ...or not what it is for */
};

/* Whether there is a line "-----BEGIN ...MARK...". */
static bool has_mark(const char *text, const char *mark)
{
	static const char begin[] = "-----BEGIN ";

	while ((text = strstr(text, begin))) {
		const char *found = strstr(text, mark);

		if (found && found < text + strcspn(text, "\n"))
			return true;
		text += sizeof(begin) - 1;
	}
	return false;
}

/* Of a bundle of authorities what is in front is enough. */
static const char *check_content(const struct file *file)
{
	static char text[64 << 10];
	FILE *f = fopen(file->path, "re");
	bool found;

	if (!f)
		return strerror(errno);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	found = has_mark(text, file->marks[0]) &&
		(!file->marks[1] || has_mark(text, file->marks[1]));
	explicit_bzero(text, sizeof(text));
	return found ? NULL : file->absent;
}

static const char *check_file(const struct file *file)
{
	struct stat st;

	if (stat(file->path, &st) < 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "not a regular file";
	if (st.st_size == 0)
		return "it is empty";
	if (file->is_secret && (st.st_mode & (S_IROTH | S_IWOTH)))
		return st.st_mode & S_IROTH ? "everybody may read it; chmod o-r it"
					    : "everybody may write it; chmod o-w it";
	return check_content(file);
}

static void check_files(struct config_loader *l, const struct config_section *s)
{
	const struct conf_bus *c = &l->config->bus;
	const struct file files[] = {
		{"nats_credentials", c->nats_credentials, true, {"NATS USER JWT-----", "SEED-----"},
			"no credentials of a NATS user, which have a JWT and a seed"},
		{"nats_tls_ca", c->nats_tls_ca, false, {"CERTIFICATE-----"},
			"no certificate (PEM) in it"},
		{"nats_tls_cert", c->nats_tls_cert, false, {"CERTIFICATE-----"},
			"no certificate (PEM) in it"},
		{"nats_tls_key", c->nats_tls_key, true, {"PRIVATE KEY-----"},
			"no private key (PEM) in it"}};

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		const char *why = files[i].path ? check_file(&files[i]) : NULL;

		if (why)
			config_report(l, config_blame_line(s, files[i].key), "bus.%s: %s: %s",
				files[i].key, files[i].path, why);
	}
	if (!c->nats_tls_cert != !c->nats_tls_key)
		config_report(l,
			config_blame_line(s, c->nats_tls_cert ? "nats_tls_cert" : "nats_tls_key"),
			"bus.%s: of no use without %s; write both",
			c->nats_tls_cert ? "nats_tls_cert" : "nats_tls_key",
			c->nats_tls_cert ? "nats_tls_key" : "nats_tls_cert");
}

/* Nothing of it matters without [bus] nats. */
void config_check_nats(struct config_loader *l)
{
	const struct config_section *s = config_find_section(l, SECTION_BUS, 0);
	const struct conf_bus *c = &l->config->bus;

	if (!c->nats)
		return;
	check_urls(l, s, c->nats);
	check_patterns(l, s, c->nats_subjects ? c->nats_subjects : "");
	check_files(l, s);
}
