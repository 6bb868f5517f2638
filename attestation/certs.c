#include "attestation/certs.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "attestation/b64.h"
#include "base/auto.h"

struct certs *certs_new(void)
{
    return xcalloc(1, sizeof(struct certs));
}

void certs_free(struct certs *pool)
{
    if (!pool)
        return;
    for (size_t i = 0; i < pool->n; i++) {
        X509_free(pool->list[i]->x509);
        free(pool->list[i]);
    }
    free(pool);
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MIN;
}

static void auto_x509(X509 **x509)
{
    X509_free(*x509);
}

struct cert *certs_add(struct certs *pool, const uint8_t *der, size_t len, struct err *err)
{
    uint8_t digest[32];
    if (EVP_Digest(der, len, digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    for (size_t i = 0; i < pool->n; i++)
        if (memcmp(pool->list[i]->sha256, digest, sizeof digest) == 0)
            return pool->list[i];
    if (pool->n == CERTS_MAX || len > ATT_OCSP_MAX) {
        (void)err_set(err, EFBIG, "too many or too large certificates");
        return NULL;
    }
    const uint8_t *p = der;
    AUTO(auto_x509) X509 *x509 = d2i_X509(NULL, &p, (long)len);
    if (!x509 || p != der + len) {
        (void)err_set(err, EINVAL, "%zu bytes that are no DER certificate", len);
        return NULL;
    }
    EVP_PKEY *key = X509_get0_pubkey(x509);
    int64_t from = seconds_of(X509_get0_notBefore(x509)),
            until = seconds_of(X509_get0_notAfter(x509));
    if (!key || from == INT64_MIN || until == INT64_MIN) {
        (void)err_set(err, EINVAL, "certificate with an unreadable %s", key ? "date" : "key");
        return NULL;
    }
    struct cert *cert = xcalloc(1, sizeof *cert);
    *cert = (struct cert){.x509 = TAKE(x509), .key = key, .not_before = from, .not_after = until};
    memcpy(cert->sha256, digest, sizeof digest);
    pool->list[pool->n++] = cert;
    return cert;
}

/* One PEM block: text between the two marks without its white space. */
static int add_block(struct certs *pool, const char *body, size_t len, const struct cert **ret,
                     struct err *err)
{
    AUTO_FREE char *text = xmalloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n", body[i]) || !body[i])
            text[n++] = body[i];
    struct att_bytes der = {0};
    int r = b64_decode(text, n, ATT_OCSP_MAX, &der, err);
    if (r < 0)
        return err_wrap(err, r, "PEM block");
    *ret = certs_add(pool, der.data, der.len, err);
    att_bytes_done(&der);
    return *ret ? 0 : -err->code;
}

static const char *find(const char *p, const char *end, const char *what)
{
    return memmem(p, (size_t)(end - p), what, strlen(what));
}

int certs_add_pem(struct certs *pool, const char *pem, size_t len, const struct cert **ret,
                  size_t max, struct err *err)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    const char *p = pem, *stop = pem + len;
    size_t n = 0;
    for (;;) {
        while (p < stop && *p && strchr(" \t\r\n", *p))
            p++;
        if (p == stop)
            break;
        if ((size_t)(stop - p) < strlen(begin) || memcmp(p, begin, strlen(begin)) != 0)
            return err_set(err, EINVAL, "text at byte %zu that is no PEM certificate",
                           (size_t)(p - pem));
        p += strlen(begin);
        const char *close = find(p, stop, end);
        if (!close)
            return err_set(err, EINVAL, "PEM certificate without an end");
        if (n == max)
            return err_set(err, EFBIG, "more than %zu certificates", max);
        int r = add_block(pool, p, (size_t)(close - p), &ret[n], err);
        if (r < 0)
            return err_wrap(err, r, "certificate %zu", n);
        n++;
        p = close + strlen(end);
    }
    if (n == 0)
        return err_set(err, EINVAL, "no certificate in %zu bytes of text", len);
    return (int)n;
}

bool certs_is_p384(const struct cert *cert)
{
    /* SubjectPublicKeyInfo { id-ecPublicKey, secp384r1, BIT STRING of an uncompressed point } */
    static const uint8_t head[] = {0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86,
                                   0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
                                   0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04};
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert->x509), &der);
    bool ok = n == (int)sizeof head + 96 && memcmp(der, head, sizeof head) == 0;
    OPENSSL_free(der);
    return ok;
}

bool certs_subject(const struct cert *cert, int nid, char *ret, size_t room)
{
    X509_NAME *name = X509_get_subject_name(cert->x509);
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    if (at < 0)
        return false;
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    bool ok = n > 0 && (size_t)n < room && !memchr(text, 0, (size_t)n);
    if (ok) {
        memcpy(ret, text, (size_t)n);
        ret[n] = 0;
    }
    OPENSSL_free(text);
    return ok;
}

char *certs_ueid(const struct cert *cert)
{
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert->x509), NULL);
    char *decimal = serial ? BN_bn2dec(serial) : NULL;
    char *copy = xstrdup(decimal ? decimal : "");
    OPENSSL_free(decimal);
    BN_free(serial);
    return copy;
}

void certs_time(int64_t seconds, char ret[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    ret[0] = 0;
    if (gmtime_r(&t, &tm))
        (void)strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

bool certs_signed_by(struct certs *pool, const struct cert *cert, const struct cert *issuer)
{
    if (cert->signed_by)
        return cert->signed_by == issuer;
    pool->signatures++;
    if (X509_verify(cert->x509, issuer->key) != 1)
        return false;
    for (size_t i = 0; i < pool->n; i++) /* the list is where the certificate is ours to write */
        if (pool->list[i] == cert)
            pool->list[i]->signed_by = issuer;
    return true;
}

static const struct cert *find_x509(const struct certs *pool, const X509 *x509)
{
    for (size_t i = 0; i < pool->n; i++)
        if (pool->list[i]->x509 == x509)
            return pool->list[i];
    return NULL;
}

/* What X509_verify_cert() calls for signatures and dates, once it has built the path and checked extensions: the same
 * checks, but no signature twice. */
static int verify_signatures(X509_STORE_CTX *ctx)
{
    struct certs *pool = X509_STORE_CTX_get_app_data(ctx);
    time_t at = X509_VERIFY_PARAM_get_time(X509_STORE_CTX_get0_param(ctx));
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    int n = sk_X509_num(chain);
    for (int i = n - 1; i >= 0; i--) {
        const struct cert *cert = find_x509(pool, sk_X509_value(chain, i));
        const struct cert *issuer = find_x509(pool, sk_X509_value(chain, i < n - 1 ? i + 1 : i));
        int why = !cert || !issuer        ? X509_V_ERR_UNSPECIFIED
                  : cert->not_before > at ? X509_V_ERR_CERT_NOT_YET_VALID
                  : cert->not_after < at  ? X509_V_ERR_CERT_HAS_EXPIRED
                  : i < n - 1 && !certs_signed_by(pool, cert, issuer)
                      ? X509_V_ERR_CERT_SIGNATURE_FAILURE
                      : X509_V_OK;
        if (why != X509_V_OK) {
            X509_STORE_CTX_set_error(ctx, why);
            X509_STORE_CTX_set_error_depth(ctx, i);
            return 0;
        }
    }
    return 1;
}

struct path {
    X509_STORE *store;
    X509_STORE_CTX *ctx;
    STACK_OF(X509) * others;
};

static void path_done(struct path *path)
{
    X509_STORE_CTX_free(path->ctx);
    X509_STORE_free(path->store);
    sk_X509_free(path->others);
}

/* A store of one root, no partial chains, and then the chain that was built must be the chain that was presented. */
static bool verify_path(struct certs *pool, const struct cert *const *chain, size_t n,
                        const struct cert *root, int64_t at, struct att_verdict *v)
{
    AUTO(path_done)
    struct path path = {X509_STORE_new(), X509_STORE_CTX_new(), sk_X509_new_null()};
    if (!path.store || !path.ctx || !path.others)
        abort();
    for (size_t i = 1; i + 1 < n; i++)
        if (!sk_X509_push(path.others, chain[i]->x509))
            abort();
    if (X509_STORE_add_cert(path.store, root->x509) != 1)
        abort();
    X509_STORE_set_verify(path.store, verify_signatures);
    if (X509_STORE_CTX_init(path.ctx, path.store, chain[0]->x509, path.others) != 1 ||
        X509_STORE_CTX_set_app_data(path.ctx, pool) != 1)
        abort();
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(path.ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)at);
    X509_VERIFY_PARAM_set_auth_level(param, 2);
    X509_VERIFY_PARAM_set_depth(param, (int)n);
    if (X509_verify_cert(path.ctx) != 1)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.path", "certificate %d: %s",
                          X509_STORE_CTX_get_error_depth(path.ctx),
                          X509_verify_cert_error_string(X509_STORE_CTX_get_error(path.ctx)));
    STACK_OF(X509) *built = X509_STORE_CTX_get0_chain(path.ctx);
    bool same = sk_X509_num(built) == (int)n;
    for (size_t i = 0; same && i < n; i++)
        same = sk_X509_value(built, (int)i) == chain[i]->x509;
    if (!same)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.order",
                          "the certificates verify, but not in the order they were presented");
    return trail_pass(v, "chain.path", "%zu certificates, names and signatures chain to the root",
                      n);
}

static bool check_one(const struct cert *cert, size_t i, struct att_verdict *v)
{
    uint32_t usage = X509_get_key_usage(cert->x509); /* all ones when absent */
    if (!certs_is_p384(cert))
        return trail_fail(v, ATT_ERR_CHAIN, "chain.key", "certificate %zu has no P-384 key", i);
    if (X509_get_signature_nid(cert->x509) != NID_ecdsa_with_SHA384)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.algorithm",
                          "certificate %zu is signed with %s, ecdsa-with-SHA384 is expected", i,
                          OBJ_nid2sn(X509_get_signature_nid(cert->x509)));
    /* basicConstraints itself: X509_check_ca() would also look at the key usage, and accept what has neither */
    bool ca = (X509_get_extension_flags(cert->x509) & EXFLAG_CA) != 0;
    if (i > 0 && !ca)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.ca",
                          "certificate %zu issues others but is no certificate authority", i);
    if (i == 0 && ca)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.ca",
                          "certificate 0 signs data but is a certificate authority");
    if (!(usage & (i > 0 ? KU_KEY_CERT_SIGN : KU_DIGITAL_SIGNATURE)))
        return trail_fail(v, ATT_ERR_CHAIN, "chain.usage", "certificate %zu may not sign %s", i,
                          i > 0 ? "certificates" : "data");
    return true;
}

static bool check_dates(const struct cert *const *chain, size_t n, int64_t at,
                        struct chain_verdict *ret, struct att_verdict *v)
{
    char from[32], until[32], now[32];
    certs_time(at, now);
    for (size_t i = 0; i < n; i++) {
        if (chain[i]->not_before <= at && at <= chain[i]->not_after)
            continue;
        certs_time(chain[i]->not_before, from);
        certs_time(chain[i]->not_after, until);
        bool expired = at > chain[i]->not_after;
        ret->status = expired ? "expired" : "invalid";
        return trail_fail(v, ATT_ERR_CHAIN, "chain.validity",
                          "certificate %zu is valid from %s to %s, %s at %s", i, from, until,
                          expired ? "expired" : "not yet valid", now);
    }
    return trail_pass(v, "chain.validity", "all %zu certificates are valid at %s", n, now);
}

bool certs_verify(struct certs *pool, const struct cert *const *chain, size_t n, size_t expect,
                  const struct cert *root, int64_t at, struct chain_verdict *ret,
                  struct att_verdict *v)
{
    *ret = (struct chain_verdict){.status = "invalid"};
    for (size_t i = 0; i < n; i++)
        if (i == 0 || chain[i]->not_after < ret->not_after)
            ret->not_after = chain[i]->not_after;
    if (n != expect)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.count",
                          "%zu certificates, exactly %zu are expected", n, expect);
    if (chain[n - 1] != root)
        return trail_fail(v, ATT_ERR_CHAIN, "chain.root",
                          "the last certificate is not the trusted root (SHA-256 differs)");
    (void)trail_pass(v, "chain.root", "the last certificate is the trusted root");
    for (size_t i = 0; i < n; i++)
        if (!check_one(chain[i], i, v))
            return false;
    if (!check_dates(chain, n, at, ret, v) || !verify_path(pool, chain, n, root, at, v))
        return false;
    ret->valid = true;
    ret->status = "valid";
    return true;
}

/* 0 < value < order of P-384 */
static bool in_range(const uint8_t value[48])
{
    static const uint8_t order[48] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37,
                                      0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a,
                                      0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73};
    static const uint8_t zero[48];
    return memcmp(value, zero, 48) != 0 && memcmp(value, order, 48) < 0;
}

bool ecdsa_p384(EVP_PKEY *key, const uint8_t *data, size_t len, const uint8_t rs[96])
{
    if (!in_range(rs) || !in_range(rs + 48))
        return false;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(rs, 48, NULL), *s = BN_bin2bn(rs + 48, 48, NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!sig || !r || !s || !ctx || ECDSA_SIG_set0(sig, r, s) != 1)
        abort();
    unsigned char *der = NULL;
    int n = i2d_ECDSA_SIG(sig, &der);
    bool ok = n > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, key) == 1 &&
              EVP_DigestVerify(ctx, der, (size_t)n, data, len) == 1;
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool certs_ecdsa(struct certs *pool, const struct cert *cert, const uint8_t *data, size_t len,
                 const uint8_t rs[96])
{
    pool->signatures++;
    return certs_is_p384(cert) && ecdsa_p384(cert->key, data, len, rs);
}
