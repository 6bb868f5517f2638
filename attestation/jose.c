#include "attestation/jose.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/certs.h"
#include "attestation/jsonin.h"
#include "base/auto.h"

#define TOKEN_MAX (1u << 20)
#define COORDINATE 48

#define SPKI_HEAD 24 /* bytes before the 96 of the point in a SubjectPublicKeyInfo of P-384 */

static void auto_pkey(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

/* Keys ------------------------------------------------------------------------------------------------------------ */

static void fill_jwk(struct att_key *key)
{
    uint8_t digest[32];
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key->pkey, &der);
    if (n != SPKI_HEAD + 2 * COORDINATE)
        abort();
    const uint8_t *point = der + SPKI_HEAD;
    AUTO_FREE char *x = b64url_encode(point, COORDINATE);
    AUTO_FREE char *y = b64url_encode(point + COORDINATE, COORDINATE);
    /* members sorted, no spaces: the form RFC 7638 hashes */
    key->jwk = xasprintf("{\"crv\":\"P-384\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y);
    if (EVP_Digest(key->jwk, strlen(key->jwk), digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    key->kid = b64url_encode(digest, sizeof digest);
    OPENSSL_free(der);
}

int att_key_generate(struct att_key **ret, struct err *err)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-384");
    if (!pkey)
        return err_set(err, EIO, "no P-384 key could be generated");
    struct att_key *key = xcalloc(1, sizeof *key);
    key->pkey = pkey;
    fill_jwk(key);
    *ret = key;
    return 0;
}

void att_key_free(struct att_key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    free(key->jwk);
    free(key->kid);
    free(key);
}

const char *att_key_jwk(const struct att_key *key)
{
    return key->jwk;
}

const char *att_key_kid(const struct att_key *key)
{
    return key->kid;
}

/* Signing --------------------------------------------------------------------------------------------------------- */

static bool sign(EVP_PKEY *key, const char *text, uint8_t rs[2 * COORDINATE])
{
    uint8_t der[160];
    size_t len = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, der, &len, (const uint8_t *)text, strlen(text)) == 1;
    const uint8_t *p = der;
    ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &p, (long)len) : NULL;
    ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, COORDINATE) == COORDINATE &&
         BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + COORDINATE, COORDINATE) == COORDINATE;
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    return ok;
}

int jose_sign(const struct att_key *key, struct json_object *claims, char **ret, struct err *err)
{
    uint8_t rs[2 * COORDINATE];
    AUTO_FREE char *header =
        xasprintf("{\"alg\":\"ES384\",\"kid\":\"%s\",\"typ\":\"JWT\"}", key->kid);
    const char *text = json_object_to_json_string_ext(claims, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE);
    AUTO_FREE char *h = b64url_encode((const uint8_t *)header, strlen(header));
    AUTO_FREE char *p = b64url_encode((const uint8_t *)text, strlen(text));
    AUTO_FREE char *input = xasprintf("%s.%s", h, p);
    if (!sign(key->pkey, input, rs))
        return err_set(err, EIO, "the token could not be signed");
    AUTO_FREE char *s = b64url_encode(rs, sizeof rs);
    *ret = xasprintf("%s.%s", input, s);
    return 0;
}

/* Key sets -------------------------------------------------------------------------------------------------------- */

static int coordinate(struct json_object *jwk, const char *name, uint8_t ret[COORDINATE],
                      struct err *err)
{
    const char *text = jsonin_string(jwk, name);
    struct att_bytes bytes = {0};
    if (!text)
        return err_set(err, EACCES, "the key has no %s", name);
    int r = b64url_decode(text, strlen(text), COORDINATE, &bytes, err);
    if (r == 0 && bytes.len == COORDINATE)
        memcpy(ret, bytes.data, COORDINATE);
    else
        r = err_set(err, EACCES, "the key's %s is not 48 bytes", name);
    att_bytes_done(&bytes);
    return r;
}

/* x5c[0], when there is one, must hold the same key */
static bool certificate_agrees(struct json_object *jwk, EVP_PKEY *key)
{
    struct json_object *list = jsonin_member(jwk, "x5c");
    if (!list)
        return true;
    struct json_object *first =
        json_object_is_type(list, json_type_array) ? json_object_array_get_idx(list, 0) : NULL;
    const char *text =
        json_object_is_type(first, json_type_string) ? json_object_get_string(first) : NULL;
    struct att_bytes der = {0};
    struct err err = ERR_INIT;
    if (!text || b64_decode(text, strlen(text), ATT_OCSP_MAX, &der, &err) < 0)
        return false;
    const uint8_t *p = der.data;
    X509 *x509 = d2i_X509(NULL, &p, (long)der.len);
    EVP_PKEY *other = x509 ? X509_get0_pubkey(x509) : NULL;
    bool same = other && EVP_PKEY_eq(key, other) == 1;
    X509_free(x509);
    att_bytes_done(&der);
    return same;
}

static bool member_is(struct json_object *jwk, const char *name, const char *want, bool optional)
{
    const char *text = jsonin_string(jwk, name);
    return text ? strcmp(text, want) == 0 : optional && !jsonin_member(jwk, name);
}

/* from the point itself: the decoders would try every format they know first. NULL when it is not on the curve. */
static EVP_PKEY *key_of_point(const uint8_t point[1 + 2 * COORDINATE])
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    uint8_t octets[1 + 2 * COORDINATE];
    char group[] = "P-384";
    memcpy(octets, point, sizeof octets);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, octets, sizeof octets),
        OSSL_PARAM_construct_end()};
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static int key_of_jwk(struct json_object *jwk, EVP_PKEY **ret, struct err *err)
{
    uint8_t point[1 + 2 * COORDINATE] = {0x04};
    if (!member_is(jwk, "kty", "EC", false) || !member_is(jwk, "crv", "P-384", false) ||
        !member_is(jwk, "alg", "ES384", true) || !member_is(jwk, "use", "sig", true))
        return err_set(err, EACCES, "the key is not a P-384 signing key");
    int r = coordinate(jwk, "x", point + 1, err);
    if (r == 0)
        r = coordinate(jwk, "y", point + 1 + COORDINATE, err);
    if (r < 0)
        return r;
    AUTO(auto_pkey) EVP_PKEY *key = key_of_point(point);
    if (!key)
        return err_set(err, EACCES, "the key is no point of P-384");
    if (!certificate_agrees(jwk, key))
        return err_set(err, EACCES, "the key's x5c holds another key than x and y");
    *ret = TAKE(key);
    return 0;
}

static int find_key(struct json_object *jwks, const char *kid, EVP_PKEY **ret, struct err *err)
{
    struct json_object *keys = jsonin_member(jwks, "keys"), *found = NULL;
    if (!json_object_is_type(keys, json_type_array))
        return err_set(err, EACCES, "the key set has no list of keys");
    for (size_t i = 0; i < json_object_array_length(keys); i++) {
        struct json_object *jwk = json_object_array_get_idx(keys, i);
        const char *name = jsonin_string(jwk, "kid");
        if (!name || strcmp(name, kid) != 0)
            continue;
        if (found)
            return err_set(err, EACCES, "two keys are called %.60s", kid);
        found = jwk;
    }
    if (!found)
        return err_set(err, EACCES, "key %.60s is not in the key set", kid);
    return key_of_jwk(found, ret, err);
}

/* Verifying ------------------------------------------------------------------------------------------------------- */

static int decode_json(const char *text, size_t len, struct json_object **ret, struct err *err)
{
    struct att_bytes bytes = {0};
    int r = b64url_decode(text, len, TOKEN_MAX, &bytes, err);
    if (r == 0)
        r = jsonin_parse((const char *)bytes.data, bytes.len, TOKEN_MAX, ret, err);
    att_bytes_done(&bytes);
    if (r == 0 && !json_object_is_type(*ret, json_type_object)) {
        json_object_put(*ret);
        *ret = NULL;
        r = err_set(err, EINVAL, "no JSON object");
    }
    return r;
}

void jose_set_done(struct jose_set *set)
{
    EVP_PKEY_free(set->key);
    *set = (struct jose_set){0};
}

static int select_key(struct jose_set *set, const char *kid, struct err *err)
{
    EVP_PKEY *key = NULL;
    if (set->key && strcmp(set->kid, kid) == 0)
        return 0;
    if (strlen(kid) >= sizeof set->kid)
        return err_set(err, EACCES, "key name of %zu characters", strlen(kid));
    int r = find_key(set->json, kid, &key, err);
    if (r < 0)
        return r;
    EVP_PKEY_free(set->key);
    set->key = key;
    (void)snprintf(set->kid, sizeof set->kid, "%s", kid);
    return 0;
}

static int key_of_header(struct jose_set *set, const char *text, size_t len, struct err *err)
{
    AUTO_JSON struct json_object *header = NULL;
    int r = decode_json(text, len, &header, err);
    if (r < 0)
        return err_wrap(err, r, "token header");
    const char *alg = jsonin_string(header, "alg"), *kid = jsonin_string(header, "kid");
    if (!alg || strcmp(alg, "ES384") != 0)
        return err_set(err, EACCES, "algorithm \"%.20s\", ES384 is the only one",
                       alg ? alg : "(none)");
    if (jsonin_member(header, "crit"))
        return err_set(err, EACCES, "the header has critical extensions, none is known");
    if (!kid)
        return err_set(err, EACCES, "the header names no key (kid)");
    return select_key(set, kid, err);
}

int jose_verify(struct jose_set *set, const char *token, struct json_object **ret, struct err *err)
{
    const char *first = strchr(token, '.'), *second = first ? strchr(first + 1, '.') : NULL;
    if (!second || strchr(second + 1, '.'))
        return err_set(err, EINVAL, "a token has three parts");
    int r = key_of_header(set, token, (size_t)(first - token), err);
    if (r < 0)
        return r;
    struct att_bytes sig = {0};
    r = b64url_decode(second + 1, strlen(second + 1), 2 * COORDINATE, &sig, err);
    bool ok = r == 0 && sig.len == 2 * COORDINATE &&
              ecdsa_p384(set->key, (const uint8_t *)token, (size_t)(second - token), sig.data);
    att_bytes_done(&sig);
    if (!ok)
        return err_set(err, EACCES, "the signature does not verify");
    r = decode_json(first + 1, (size_t)(second - first - 1), ret, err);
    return r < 0 ? err_wrap(err, r, "token claims") : 0;
}
