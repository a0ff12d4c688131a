/*
 * Ready-made work with OpenSSL: digests, message authentication, derivation, random bytes; one row per operation. Key pairs are
 * work_key.c's. OpenSSL's queue of errors belongs to the thread; it is empty before and after each operation.
 */
#include "runtime/work_crypto.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/fd.h"
#include "base/sized.h"
#include "runtime/module.h"

#define R_TIMES_P_MAX 65536u

struct crypto_row {
	struct work_op_kind kind; /* first */
	bool needs_digest;
	bool (*is_sound)(const struct tine_crypto *c);
	int (*run)(struct crypto_op *o);
};

static const struct {
	const char *names[2];
	const EVP_MD *(*get)(void);
} digests[] = {
	{{"SHA224", "SHA-224"}, EVP_sha224},
	{{"SHA256", "SHA-256"}, EVP_sha256},
	{{"SHA384", "SHA-384"}, EVP_sha384},
	{{"SHA512", "SHA-512"}, EVP_sha512},
	{{"SHA512-256", "SHA-512/256"}, EVP_sha512_256},
};

static const EVP_MD *digest_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof(digests) / sizeof(digests[0]); i++) {
		if (strcasecmp(name, digests[i].names[0]) == 0 ||
			strcasecmp(name, digests[i].names[1]) == 0)
			return digests[i].get();
	}
	return NULL;
}

/* OpenSSL would not. Returns -ENOMEM or -EIO, with the first reason that it gives, which is the cause of the others. */
int crypto_failed(struct crypto_op *o)
{
	const char *data = NULL;
	int flags = 0;
	unsigned long error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
	const char *reason = ERR_reason_error_string(error);
	bool more = flags & ERR_TXT_STRING && data && *data;
	int status = ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EIO;

	work_op_say(&o->op, status, "%s%s%s", reason ? reason : "OpenSSL failed without a reason",
		more ? ": " : "", more ? data : "");
	ERR_clear_error();
	return status;
}

static int room_for(struct crypto_op *o, size_t len)
{
	o->data = OPENSSL_zalloc(len);
	o->len = len;
	return o->data ? 0 : -ENOMEM;
}

/* --- digest, hmac --- */

static void md_freep(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx);
}

static void mac_freep(EVP_MAC **mac)
{
	EVP_MAC_free(*mac);
}

static void mac_ctx_freep(EVP_MAC_CTX **ctx)
{
	EVP_MAC_CTX_free(*ctx);
}

static size_t piece(const struct crypto_op *o, size_t at)
{
	return o->c.len - at < WORK_PIECE ? o->c.len - at : WORK_PIECE;
}

static const unsigned char *data_at(const struct crypto_op *o, size_t at)
{
	return (const unsigned char *)o->c.data + at;
}

static int run_digest(struct crypto_op *o)
{
	CLEANUP(md_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int r = room_for(o, (size_t)EVP_MD_get_size(o->digest));

	if (r < 0)
		return r;
	if (!ctx || EVP_DigestInit_ex2(ctx, o->digest, NULL) != 1)
		return crypto_failed(o);
	for (size_t at = 0, n; at < o->c.len; at += n) {
		n = piece(o, at);
		if (EVP_DigestUpdate(ctx, data_at(o, at), n) != 1)
			return crypto_failed(o);
		if ((r = work_op_stopped(&o->op)) < 0)
			return r;
	}
	return EVP_DigestFinal_ex(ctx, o->data, NULL) == 1 ? 0 : crypto_failed(o);
}

/* An empty key is a key; OpenSSL takes NULL for "the one before". */
static int hmac_init(const struct crypto_op *o, EVP_MAC_CTX *ctx)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(
			OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(o->digest), 0),
		OSSL_PARAM_construct_end(),
	};
	const void *key = o->c.key ? o->c.key : "";

	return EVP_MAC_init(ctx, key, o->c.key_len, params);
}

static int run_hmac(struct crypto_op *o)
{
	CLEANUP(mac_freep) EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	CLEANUP(mac_ctx_freep) EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	int r = room_for(o, (size_t)EVP_MD_get_size(o->digest));

	if (r < 0)
		return r;
	if (!ctx || hmac_init(o, ctx) != 1)
		return crypto_failed(o);
	for (size_t at = 0, n; at < o->c.len; at += n) {
		n = piece(o, at);
		if (EVP_MAC_update(ctx, data_at(o, at), n) != 1)
			return crypto_failed(o);
		if ((r = work_op_stopped(&o->op)) < 0)
			return r;
	}
	return EVP_MAC_final(ctx, o->data, &o->len, o->len) == 1 ? 0 : crypto_failed(o);
}

/* --- derivation --- */

static int run_pbkdf2(struct crypto_op *o)
{
	const struct tine_crypto *c = &o->c;
	int r = room_for(o, c->length);

	if (r < 0)
		return r;
	if (PKCS5_PBKDF2_HMAC(c->key ? c->key : "", (int)c->key_len, c->salt, (int)c->salt_len,
		    (int)c->iterations, o->digest, (int)c->length, o->data) != 1)
		return crypto_failed(o);
	return 0;
}

/* What the algorithm holds (RFC 7914, section 2): the blocks, the table, and two blocks to work in. */
static uint64_t scrypt_memory(const struct tine_crypto *c)
{
	return 128 * (uint64_t)c->r * (c->n + c->p + 2);
}

static int run_scrypt(struct crypto_op *o)
{
	const struct tine_crypto *c = &o->c;
	int r = room_for(o, c->length);

	if (r < 0)
		return r;
	if (EVP_PBE_scrypt(c->key ? c->key : "", c->key_len, c->salt, c->salt_len, c->n, c->r, c->p,
		    scrypt_memory(c), o->data, c->length) != 1)
		return crypto_failed(o);
	return 0;
}

static int run_random(struct crypto_op *o)
{
	int r = room_for(o, o->c.length);

	for (size_t at = 0; r == 0 && at < o->len; at += WORK_PIECE) {
		size_t n = o->len - at < WORK_PIECE ? o->len - at : WORK_PIECE;

		if (RAND_bytes(o->data + at, (int)n) != 1)
			return crypto_failed(o);
		r = work_op_stopped(&o->op);
	}
	return r;
}

/* --- checks --- */

static bool is_any(const struct tine_crypto *c)
{
	return true;
}

static bool is_length_sound(const struct tine_crypto *c)
{
	return c->length > 0 && c->length <= TINE_CRYPTO_DERIVED_MAX;
}

static bool is_pbkdf2_sound(const struct tine_crypto *c)
{
	return is_length_sound(c) && c->iterations > 0 &&
		c->iterations <= TINE_CRYPTO_ITERATIONS_MAX;
}

/* The bounds of n, r and p keep the product from overflowing. n below 2^(16 r) is the algorithm's own. */
static bool is_scrypt_sound(const struct tine_crypto *c)
{
	uint64_t max = c->memory_max ? c->memory_max : TINE_CRYPTO_MEMORY;

	if (c->n < 2 || (c->n & (c->n - 1)) != 0 || c->n > TINE_CRYPTO_MEMORY_MAX)
		return false;
	if (c->r == 0 || c->p == 0 || (uint64_t)c->r * c->p > R_TIMES_P_MAX)
		return false;
	if (c->r == 1 && c->n >= 65536)
		return false;
	return is_length_sound(c) && max <= TINE_CRYPTO_MEMORY_MAX && scrypt_memory(c) <= max;
}

static bool is_random_sound(const struct tine_crypto *c)
{
	return c->length > 0 && c->length <= TINE_CRYPTO_RANDOM_MAX;
}

static int on_run(struct work_op *op)
{
	struct crypto_op *o = (struct crypto_op *)op;

	ERR_clear_error();
	return ((const struct crypto_row *)op->kind)->run(o);
}

static void deliver(struct work_op *op)
{
	struct crypto_op *o = (struct crypto_op *)op;
	struct tine_crypto_result result = {.status = op->status,
		.text = op->text,
		.data = o->data,
		.len = o->data ? o->len : 0,
		.private_key = o->private_key,
		.public_key = o->public_key};

	o->c.on_done(&result, o->c.arg);
}

static void drop(struct work_op *op)
{
	struct crypto_op *o = (struct crypto_op *)op;

	OPENSSL_clear_free(o->data, o->len);
	OPENSSL_clear_free(o->private_key, o->private_key ? strlen(o->private_key) : 0);
	OPENSSL_free(o->public_key);
	o->data = NULL;
	o->private_key = o->public_key = NULL;
}

#define ROW(name, sound, fn) \
	{name, POOL_CPU, on_run, deliver, drop, NULL}, .is_sound = sound, .run = fn

static const struct crypto_row rows[CRYPTO_KINDS] = {
	[CRYPTO_DIGEST] = {ROW("digest", is_any, run_digest), .needs_digest = true},
	[CRYPTO_HMAC] = {ROW("hmac", is_any, run_hmac), .needs_digest = true},
	[CRYPTO_PBKDF2] = {ROW("pbkdf2", is_pbkdf2_sound, run_pbkdf2), .needs_digest = true},
	[CRYPTO_SCRYPT] = {ROW("scrypt", is_scrypt_sound, run_scrypt)},
	[CRYPTO_RANDOM] = {ROW("random", is_random_sound, run_random)},
	[CRYPTO_KEY] = {ROW("key", key_is_sound, key_make)},
};

static bool is_there(const void *data, size_t len, size_t max)
{
	return (data || len == 0) && len <= max;
}

static bool is_sound(
	const struct crypto_row *row, const struct tine_crypto *c, const EVP_MD *digest)
{
	return c->on_done && (digest || !row->needs_digest) &&
		is_there(c->data, c->len, TINE_CRYPTO_BYTES_MAX) &&
		is_there(c->key, c->key_len, TINE_CRYPTO_KEY_MAX) &&
		is_there(c->salt, c->salt_len, TINE_CRYPTO_KEY_MAX) && row->is_sound(c);
}

static struct crypto_op *op_new(
	const struct crypto_row *row, const struct tine_crypto *c, const EVP_MD *digest)
{
	const char *name = row->needs_digest ? NULL : c->algorithm;
	size_t n_data = c->lent ? 0 : c->len, n_name = work_op_text_size(name);
	struct crypto_op *o = (struct crypto_op *)work_op_new(
		&row->kind, sizeof(*o), n_data + c->key_len + c->salt_len + n_name);

	if (!o)
		return NULL;
	o->op.secret = true;
	o->c = *c;
	o->digest = digest;
	o->c.algorithm = work_op_copy_text(&o->op, name);
	if (!c->lent)
		o->c.data = work_op_copy(&o->op, c->data, c->len);
	o->c.key = work_op_copy(&o->op, c->key, c->key_len);
	o->c.salt = work_op_copy(&o->op, c->salt, c->salt_len);
	return o;
}

int work_crypto_submit(struct tine_worker *worker, enum crypto_kind kind,
	const struct tine_crypto *given, struct tine_work **ret)
{
	const struct crypto_row *row = &rows[kind];
	const EVP_MD *digest;
	struct tine_crypto c;
	struct crypto_op *o;
	int r = worker && worker->pool ? SIZED_TAKE(&c, given, arg) : -EINVAL;

	if (r < 0)
		return r;
	digest = row->needs_digest ? digest_find(c.algorithm) : NULL;
	if (!is_sound(row, &c, digest))
		return -EINVAL;
	o = op_new(row, &c, digest);
	if (!o)
		return -ENOMEM;
	return work_op_submit(worker, &o->op, c.timeout_us, ret);
}
