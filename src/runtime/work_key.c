/* Key pairs: RSA and elliptic curves, as PEM. On a thread of the pool. */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <string.h>

#include "base/fd.h"
#include "runtime/work_crypto.h"

/* The names that we take, and what OpenSSL calls these curves. */
static const struct {
	const char *name, *group;
} curves[] = {
	{"P-256", "P-256"},
	{"P-384", "P-384"},
	{"P-521", "P-521"},
	{"secp256k1", "secp256k1"},
};

static bool is_rsa(const char *algorithm)
{
	return strcasecmp(algorithm, "RSA") == 0;
}

static const char *curve_find(const char *algorithm)
{
	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
		if (strcasecmp(algorithm, curves[i].name) == 0)
			return curves[i].group;
	}
	return NULL;
}

bool key_is_sound(const struct tine_crypto *c)
{
	if (!c->algorithm)
		return false;
	if (is_rsa(c->algorithm))
		return c->bits >= TINE_CRYPTO_RSA_MIN && c->bits <= TINE_CRYPTO_RSA_MAX &&
			c->bits % 8 == 0;
	return curve_find(c->algorithm);
}

static void ctx_freep(EVP_PKEY_CTX **ctx)
{
	EVP_PKEY_CTX_free(*ctx);
}

static void pkey_freep(EVP_PKEY **pkey)
{
	EVP_PKEY_free(*pkey);
}

static void bio_freep(BIO **bio)
{
	BIO_free(*bio);
}

/* Called for each candidate: 0 ends the search. */
static int on_candidate(EVP_PKEY_CTX *ctx)
{
	struct crypto_op *o = EVP_PKEY_CTX_get_app_data(ctx);

	return work_op_stopped(&o->op) == 0;
}

static int set_up(struct crypto_op *o, EVP_PKEY_CTX *ctx)
{
	size_t bits = o->c.bits;
	const char *group = curve_find(o->c.algorithm);
	OSSL_PARAM params[] = {OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end()};

	if (group)
		params[0] = OSSL_PARAM_construct_utf8_string(
			OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)group, 0);
	else
		params[0] = OSSL_PARAM_construct_size_t(OSSL_PKEY_PARAM_RSA_BITS, &bits);
	EVP_PKEY_CTX_set_app_data(ctx, o);
	EVP_PKEY_CTX_set_cb(ctx, on_candidate);
	return EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1;
}

/* A copy that ends with a 0. BIO_free() overwrites what it frees. */
static char *text_of(BIO *bio)
{
	char *data, *text;
	long len = BIO_get_mem_data(bio, &data);

	text = len > 0 ? OPENSSL_malloc((size_t)len + 1) : NULL;
	if (!text)
		return NULL;
	memcpy(text, data, (size_t)len);
	text[len] = '\0';
	return text;
}

static int to_pem(struct crypto_op *o, EVP_PKEY *pkey)
{
	CLEANUP(bio_freep) BIO *private_bio = BIO_new(BIO_s_mem());
	CLEANUP(bio_freep) BIO *public_bio = BIO_new(BIO_s_mem());

	if (!private_bio || !public_bio ||
		PEM_write_bio_PKCS8PrivateKey(private_bio, pkey, NULL, NULL, 0, NULL, NULL) != 1 ||
		PEM_write_bio_PUBKEY(public_bio, pkey) != 1)
		return crypto_failed(o);
	o->private_key = text_of(private_bio);
	o->public_key = text_of(public_bio);
	return o->private_key && o->public_key ? 0 : -ENOMEM;
}

int key_make(struct crypto_op *o)
{
	const char *type = is_rsa(o->c.algorithm) ? "RSA" : "EC";
	CLEANUP(ctx_freep) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	CLEANUP(pkey_freep) EVP_PKEY *pkey = NULL;

	if (!ctx || set_up(o, ctx) != 1 || EVP_PKEY_generate(ctx, &pkey) != 1) {
		int r = crypto_failed(o);
		int stopped = work_op_stopped(&o->op);

		return stopped ? stopped : r;
	}
	return to_pem(o, pkey);
}
