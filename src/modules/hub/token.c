/*
 * Signed tokens. Worker only.
 *
 * Nothing of a token is looked at before its signature has been found to be right, but where its parts begin.
 */
#include "modules/hub/token.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <unistd.h>

#define SIGNATURE  32 /* bytes of HMAC-SHA256 */
#define FILE_MAX   4096
#define EXPIRY_MAX 12 /* digits */

/* --- secrets --- */

/* Takes over one line. Returns 0, -EINVAL or -ENOSPC. */
static int add_secret(struct token_secrets *s, const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len == 0)
		return 0;
	if (len < TOKEN_SECRET_MIN || len > TOKEN_SECRET_MAX)
		return -EINVAL;
	if (s->n == TOKEN_SECRETS)
		return -ENOSPC;
	memcpy(s->secret[s->n].text, line, len);
	s->secret[s->n++].len = len;
	return 0;
}

static int add_secrets(struct token_secrets *s, const char *p, const char *end)
{
	int r = 0;

	while (r == 0 && p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		const char *stop = lf ? lf : end;

		r = add_secret(s, p, (size_t)(stop - p));
		p = lf ? lf + 1 : end;
	}
	return r == 0 && s->n == 0 ? -EINVAL : r;
}

/*
 * Reads a file with a secret a line. Returns 0; -EINVAL when there is none, or one of a wrong length; -ENOSPC for too many;
 * -EFBIG; or why it could not be read.
 */
int token_read_secrets(const char *path, struct token_secrets *ret)
{
	char text[FILE_MAX + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t len = 0;
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, text + len, sizeof(text) - len)) > 0)
		len += (size_t)n;
	r = n < 0 ? -errno : len > FILE_MAX ? -EFBIG : 0;
	close(fd);
	ret->n = 0;
	if (r == 0)
		r = add_secrets(ret, text, text + len);
	OPENSSL_cleanse(text, sizeof(text));
	return r;
}

/* --- tokens --- */

/* Takes what stands behind the last dot off the text. */
static bool take_last(struct tine_text *text, struct tine_text *ret)
{
	const char *dot = memrchr(text->data, '.', text->len);

	if (!dot)
		return false;
	*ret = (struct tine_text){dot + 1, (size_t)(text->data + text->len - dot - 1)};
	text->len = (size_t)(dot - text->data);
	return true;
}

static bool parse_hex(struct tine_text hex, unsigned char to[SIGNATURE])
{
	static const char digits[] = "0123456789abcdef";

	if (hex.len != 2 * SIGNATURE)
		return false;
	for (size_t i = 0; i < hex.len; i++) {
		const char *digit = memchr(digits, hex.data[i], 16);

		if (!digit)
			return false;
		to[i / 2] = (unsigned char)(to[i / 2] << 4 | (digit - digits));
	}
	return true;
}

static bool is_signed(const struct token_secrets *s, struct tine_text body,
	const unsigned char signature[SIGNATURE])
{
	unsigned char own[EVP_MAX_MD_SIZE];
	bool found = false;
	unsigned len;

	for (unsigned i = 0; i < s->n; i++) {
		if (HMAC(EVP_sha256(), s->secret[i].text, (int)s->secret[i].len,
			    (const unsigned char *)body.data, body.len, own, &len))
			found |= len == SIGNATURE && CRYPTO_memcmp(own, signature, SIGNATURE) == 0;
	}
	return found;
}

static bool parse_rights(struct tine_text text, unsigned *ret)
{
	*ret = 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == 'p')
			*ret |= TOKEN_PUBLISH;
		else if (text.data[i] == 's')
			*ret |= TOKEN_SUBSCRIBE;
		else
			return false;
	}
	return *ret != 0;
}

/* Takes the digits and the dot at the beginning off the text. */
static bool take_expiry(struct tine_text *text, uint64_t *ret)
{
	size_t i;

	*ret = 0;
	for (i = 0; i < text->len && i < EXPIRY_MAX && text->data[i] >= '0' && text->data[i] <= '9';
		i++)
		*ret = *ret * 10 + (uint64_t)(text->data[i] - '0');
	if (i == 0 || i == text->len || text->data[i] != '.')
		return false;
	text->data += i + 1;
	text->len -= i + 1;
	return true;
}

/* Returns 0; -EBADMSG for what is no token of ours; -EKEYEXPIRED for one that was. */
int token_parse(const struct token_secrets *secrets, struct tine_text text, uint64_t now_s,
	struct token *ret)
{
	unsigned char signature[SIGNATURE];
	struct tine_text body = text, hex, rights;

	if (text.len == 0 || !take_last(&body, &hex) || !parse_hex(hex, signature) ||
		!is_signed(secrets, body, signature))
		return -EBADMSG;
	if (!take_last(&body, &rights) || !parse_rights(rights, &ret->rights) ||
		!take_expiry(&body, &ret->expires_s) || topic_parse(body, &ret->topic) < 0)
		return -EBADMSG;
	return ret->expires_s <= now_s ? -EKEYEXPIRED : 0;
}
