#include "attestation/binding.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "attestation/b64.h"
#include "attestation/jsonin.h"
#include "attestation/snp.h"
#include "base/auto.h"
#include "base/bytes.h"

#define TOKEN_MAX (4u << 20)
#define TABLE_MAX (64u << 10)
#define TABLE_ENTRY 24 /* GUID 16, offset u32, length u32 */

/* Transcript ------------------------------------------------------------------------------------------------------ */

static void sha384(const char *text, uint8_t ret[48])
{
    if (EVP_Digest(text, strlen(text), ret, NULL, EVP_sha384(), NULL) != 1)
        abort();
}

static char *json_string(const char *text)
{
    struct json_object *o = json_object_new_string(text);
    char *quoted = xstrdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return quoted;
}

void binding_gpu_nonce(const char *nonce_hex, const char *jwk, uint8_t ret[ATT_NONCE_SIZE])
{
    uint8_t digest[48];
    AUTO_FREE char *text = xasprintf("{\"nonce\":\"%s\",\"tee-pubkey\":%s}", nonce_hex, jwk);
    sha384(text, digest);
    memcpy(ret, digest, ATT_NONCE_SIZE);
}

void binding_report_data(const char *evidence, const char *nonce_hex, const char *jwk,
                         uint8_t ret[BINDING_DATA_SIZE])
{
    AUTO_FREE char *quoted = json_string(evidence);
    AUTO_FREE char *text = xasprintf(
        "{\"additional-evidence\":%s,\"nonce\":\"%s\",\"tee-pubkey\":%s}", quoted, nonce_hex, jwk);
    memset(ret, 0, BINDING_DATA_SIZE);
    sha384(text, ret);
}

/* Checking -------------------------------------------------------------------------------------------------------- */

struct bound {
    struct json_object *claims; /* unverified payload of the overall token; owned */
    const char *evidence, *nonce, *report, *certificates; /* borrowed from it */
    char *jwk, *jwks;                                     /* canonical; key set of that one key */
    uint8_t gpu_nonce[ATT_NONCE_SIZE];
};

static void bound_done(struct bound *b)
{
    json_object_put(b->claims);
    free(b->jwk);
    free(b->jwks);
}

/* The payload of the overall token before its signature is known to be good: only to learn which key to verify with. That
 * key counts for nothing until the SNP report is seen to name it. */
static struct json_object *peek(const struct att_text *token, struct err *err)
{
    AUTO_JSON struct json_object *root = NULL;
    if (jsonin_parse(token->text, token->len, TOKEN_MAX, &root, err) < 0)
        return NULL;
    struct json_object *list =
        json_object_is_type(root, json_type_object) ? jsonin_member(root, "detached_eat") : root;
    struct json_object *pair =
        json_object_is_type(list, json_type_array) ? json_object_array_get_idx(list, 0) : NULL;
    struct json_object *text =
        json_object_is_type(pair, json_type_array) ? json_object_array_get_idx(pair, 1) : NULL;
    const char *jwt =
        json_object_is_type(text, json_type_string) ? json_object_get_string(text) : "";
    const char *payload = strchr(jwt, '.');
    const char *end = payload ? strchr(payload + 1, '.') : NULL;
    struct json_object *claims = NULL;
    if (!end) {
        (void)err_set(err, EINVAL,
                      "no detached EAT: [[\"JWT\", token], {name: token}] is expected");
        return NULL;
    }
    struct att_bytes bytes = {0};
    int r = b64url_decode(payload + 1, (size_t)(end - payload - 1), TOKEN_MAX, &bytes, err);
    if (r == 0)
        r = jsonin_parse((const char *)bytes.data, bytes.len, TOKEN_MAX, &claims, err);
    att_bytes_done(&bytes);
    return r < 0 ? NULL : claims;
}

/* sorted members, no spaces, nothing else: the form that was hashed */
static char *canonical_jwk(struct json_object *key)
{
    const char *crv = jsonin_string(key, "crv"), *kty = jsonin_string(key, "kty"),
               *x = jsonin_string(key, "x"), *y = jsonin_string(key, "y");
    static const char base64url[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (!crv || strcmp(crv, "P-384") != 0 || !kty || strcmp(kty, "EC") != 0 || !x || !y ||
        strlen(x) != 64 || strspn(x, base64url) != 64 || strlen(y) != 64 ||
        strspn(y, base64url) != 64 || json_object_object_length(key) != 4)
        return NULL;
    return xasprintf("{\"crv\":\"P-384\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y);
}

static char *key_set(const char *jwk)
{
    uint8_t digest[32];
    if (EVP_Digest(jwk, strlen(jwk), digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    AUTO_FREE char *kid = b64url_encode(digest, sizeof digest); /* RFC 7638 */
    return xasprintf("{\"keys\":[{\"alg\":\"ES384\",\"kid\":\"%s\",\"use\":\"sig\",%s]}", kid,
                     jwk + 1);
}

static int read_claim(const struct att_text *token, struct bound *b, struct err *err)
{
    b->claims = peek(token, err);
    if (!b->claims)
        return -EINVAL;
    struct json_object *tee = jsonin_member(b->claims, BINDING_CLAIM);
    const char *type = tee ? jsonin_string(tee, "type") : NULL;
    if (!type || strcmp(type, "snp") != 0)
        return err_set(err, EINVAL, "the token has no %s of type snp: was it made with --with-tee?",
                       BINDING_CLAIM);
    b->evidence = jsonin_string(tee, "additional-evidence");
    b->nonce = jsonin_string(tee, "nonce");
    b->report = jsonin_string(tee, "report");
    b->certificates = jsonin_string(tee, "certificates");
    b->jwk = canonical_jwk(jsonin_member(tee, "tee-pubkey"));
    if (!b->evidence || !b->nonce || !b->report || !b->certificates || !b->jwk)
        return err_set(err, EINVAL,
                       "%s needs additional-evidence, nonce, report, certificates and tee-pubkey "
                       "(a P-384 key)",
                       BINDING_CLAIM);
    b->jwks = key_set(b->jwk);
    return 0;
}

/* The host's certificate table: untrusted, every offset is bounded. REF-A 8.1: GUIDs in textual order. */
static const struct cert *from_table(struct certs *pool, const struct att_bytes *table, bool vlek,
                                     struct err *err)
{
    static const uint8_t vcek_id[16] = {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64,
                                        0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd};
    static const uint8_t vlek_id[16] = {0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e,
                                        0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1};
    const uint8_t *want = vlek ? vlek_id : vcek_id;
    for (size_t at = 0; at + TABLE_ENTRY <= table->len; at += TABLE_ENTRY) {
        const uint8_t *entry = table->data + at;
        uint32_t offset = get_le32(entry + 16), size = get_le32(entry + 20);
        if (memcmp(entry, want, 16) != 0)
            continue;
        if (offset > table->len || size > table->len - offset) {
            (void)err_set(err, EBADMSG, "an entry of the certificate table points outside it");
            return NULL;
        }
        return certs_add(pool, table->data + offset, size, err);
    }
    (void)err_set(err, ENOENT,
                  "the host's certificate table has no %s; give the one of AMD's key service "
                  "(--vcek)",
                  vlek ? "VLEK" : "VCEK");
    return NULL;
}

static const struct cert *find_leaf(struct certs *pool, const struct att_text *given,
                                    const struct bound *b, bool vlek, struct err *err)
{
    const struct cert *cert = NULL;
    if (given && given->len && (uint8_t)given->text[0] == 0x30)
        return certs_add(pool, (const uint8_t *)given->text, given->len, err);
    if (given)
        return certs_add_pem(pool, given->text, given->len, &cert, 1, err) == 1 ? cert : NULL;
    struct att_bytes table = {0};
    int r = b64_decode(b->certificates, strlen(b->certificates), TABLE_MAX, &table, err);
    if (r < 0)
        (void)err_wrap(err, r, "certificate table");
    else
        cert = from_table(pool, &table, vlek, err);
    att_bytes_done(&table);
    return cert;
}

static bool check_report(const struct bound *b, const struct att_bytes *report,
                         const struct att_text *vcek, int64_t at, struct att_verdict *v)
{
    uint8_t data[BINDING_DATA_SIZE];
    struct snp_report r;
    struct err err = ERR_INIT;
    if (!snp_parse(report->data, report->len, &r, v))
        return false;
    binding_report_data(b->evidence, b->nonce, b->jwk, data);
    if (memcmp(r.data, data, sizeof data) != 0)
        return trail_fail(v, ATT_ERR_SNP, "tee.report_data",
                          "REPORT_DATA covers another nonce, key or GPU evidence");
    (void)trail_pass(v, "tee.report_data", "covers nonce, token key and GPU evidence");
    struct certs *pool = certs_new();
    const struct cert *leaf = find_leaf(pool, vcek, b, r.signing_key == 1, &err);
    bool ok = leaf ? snp_verify(pool, &r, leaf, data, at, v)
                   : trail_fail(v, ATT_ERR_SNP, "tee.certificate", "%s", err.msg);
    certs_free(pool);
    char measurement[97], host_data[65];
    hex_encode(r.measurement, 48, measurement);
    hex_encode(r.host_data, 32, host_data);
    (void)trail_note(
        v, "tee.measurement",
        "launch measurement %s, host data %s: compare them with those of the image you "
        "expect, or the guest may be another one",
        measurement, host_data);
    return ok;
}

static bool check_bound(const struct bound *b, const struct att_text *vcek, int64_t at,
                        struct att_verdict *v)
{
    struct err err = ERR_INIT;
    struct att_bytes report = {0};
    if (b64_decode(b->report, strlen(b->report), SNP_REPORT_SIZE, &report, &err) < 0)
        return trail_fail(v, ATT_ERR_SNP, "snp.size", "report: %s", err.msg);
    bool ok = check_report(b, &report, vcek, at, v);
    att_bytes_done(&report);
    return ok;
}

int att_check_tee(const struct att_token_options *options, const struct att_text *token,
                  const struct att_text *vcek, struct att_verdict **ret, struct err *err)
{
    struct bound b = {0};
    struct err why = ERR_INIT;
    char nonce[2 * ATT_NONCE_SIZE + 1];
    if (!options->nonce || options->at <= 0)
        return err_set(err, EINVAL, "a nonce and a time are needed");
    hex_encode(options->nonce, ATT_NONCE_SIZE, nonce);
    int r = 0;
    if (read_claim(token, &b, &why) < 0) {
        (void)trail_fail(*ret = trail_new(), ATT_ERR_SNP, "tee.form", "%s: %s", token->name,
                         why.msg);
    } else if (strcmp(b.nonce, nonce) != 0) { /* lower case: it is part of what was hashed */
        (void)trail_fail(*ret = trail_new(), ATT_ERR_NONCE, "tee.nonce",
                         "the guest answered nonce %.16s…, %.16s… is expected", b.nonce, nonce);
    } else {
        struct att_token_options inner = *options;
        struct att_text keys = {b.jwks, strlen(b.jwks), "key of the TEE"};
        binding_gpu_nonce(nonce, b.jwk, b.gpu_nonce);
        inner.nonce = b.gpu_nonce;
        r = att_check_token(&inner, token, &keys, ret, err);
        if (r == 0 && att_verdict_class(*ret) == ATT_ACCEPTED) {
            (void)trail_pass(*ret, "tee.key", "the token is signed with the key of the TEE");
            (void)trail_pass(*ret, "tee.nonce",
                             "every GPU answered a nonce made of ours and that key");
            (void)check_bound(&b, vcek, options->at, *ret);
        }
    }
    bound_done(&b);
    return r;
}
