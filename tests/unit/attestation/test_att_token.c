/* Detached EATs in which exactly one thing is wrong. REF-A 6.3, 9.4 */
#include "tests/unit/attestation/mint.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/jose.h"
#include "attestation/jsonin.h"
#include "base/auto.h"
#include "base/bytes.h"

static const uint8_t nonce[32] = {0x5a};
static const char nonce_hex[] = "5a00000000000000000000000000000000000000000000000000000000000000";
static struct att_key *key, *other;

struct plan {
    const char *what, *rule;
    const char *overall, *submodule; /* JSON merged into the claims */
    const char *header;              /* of the overall token, instead of the ordinary one */
    const char *digest, *label;
    int no_token, extra_token, no_submodules, wrong_key, hs256, twice;
    unsigned devices;
};

static const struct plan plans[] = {
    {.what = "good"},
    {.what = "label SHA256", .label = "SHA256"},
    {.what = "two devices", .twice = 1, .devices = 2},
    {.what = "algorithm none", .rule = "token.signature", .header = "{\"alg\":\"none\"}"},
    {.what = "HS256 with the public key", .rule = "token.signature", .hs256 = 1},
    {.what = "ES256", .rule = "token.signature", .header = "{\"alg\":\"ES256\",\"kid\":\"K\"}"},
    {.what = "no kid", .rule = "token.signature", .header = "{\"alg\":\"ES384\"}"},
    {.what = "unknown kid",
     .rule = "token.signature",
     .header = "{\"alg\":\"ES384\",\"kid\":\"x\"}"},
    {.what = "critical extension",
     .rule = "token.signature",
     .header = "{\"alg\":\"ES384\",\"kid\":\"K\",\"crit\":[\"b64\"]}"},
    {.what = "other key, embedded in the header", .rule = "token.signature", .wrong_key = 1},
    {.what = "expired", .rule = "token.expired", .overall = "{\"exp\":1795435000}"},
    {.what = "expired within the skew", .overall = "{\"exp\":1795435150}"},
    {.what = "exp is text", .rule = "token.times", .overall = "{\"exp\":\"1795438800\"}"},
    {.what = "exp is null", .rule = "token.times", .overall = "{\"exp\":null}"},
    {.what = "not yet valid", .rule = "token.not_yet_valid", .overall = "{\"nbf\":1795435400}"},
    {.what = "issued in the future",
     .rule = "token.not_yet_valid",
     .overall = "{\"iat\":1795439000}"},
    {.what = "wrong issuer", .rule = "token.issuer", .overall = "{\"iss\":\"https://evil\"}"},
    {.what = "wrong issuer of the submodule",
     .rule = "token.issuer",
     .submodule = "{\"iss\":\"x\"}"},
    {.what = "submodule expired", .rule = "token.expired", .submodule = "{\"exp\":1795430000}"},
    {.what = "nonce of another session",
     .rule = "token.nonce",
     .overall =
         "{\"eat_nonce\":\"6b00000000000000000000000000000000000000000000000000000000000000\"}"},
    {.what = "submodule nonce of another session",
     .rule = "token.nonce",
     .submodule =
         "{\"eat_nonce\":\"6b00000000000000000000000000000000000000000000000000000000000000\"}"},
    {.what = "no nonce", .rule = "token.nonce", .overall = "{\"eat_nonce\":null}"},
    {.what = "overall false",
     .rule = "token.result",
     .overall = "{\"x-nvidia-overall-att-result\":false}"},
    {.what = "overall is a number",
     .rule = "token.result",
     .overall = "{\"x-nvidia-overall-att-result\":1}"},
    {.what = "overall is text",
     .rule = "token.result",
     .overall = "{\"x-nvidia-overall-att-result\":\"true\"}"},
    {.what = "overall missing",
     .rule = "token.result",
     .overall = "{\"x-nvidia-overall-att-result\":null}"},
    {.what = "submodule fails", .rule = "policy.builtin", .submodule = "{\"measres\":\"fail\"}"},
    {.what = "submodule without measres",
     .rule = "policy.builtin",
     .submodule = "{\"measres\":null}"},
    {.what = "revoked chain",
     .rule = "policy.builtin",
     .submodule = "{\"x-nvidia-gpu-driver-rim-cert-chain\":{\"x-nvidia-cert-status\":\"valid\","
                  "\"x-nvidia-cert-ocsp-status\":\"revoked\"}}"},
    {.what = "error of the service",
     .rule = "token.error",
     .submodule = "{\"x-nvidia-error-details\":{\"code\":4013}}"},
    {.what = "digest of another token",
     .rule = "token.digest",
     .digest = "0000000000000000000000000000000000000000000000000000000000000000"},
    {.what = "digest by MD5", .rule = "token.digest", .label = "MD5"},
    {.what = "token missing", .rule = "token.submodules", .no_token = 1},
    {.what = "token too many", .rule = "token.submodules", .extra_token = 1},
    {.what = "no submodules", .rule = "token.submodules", .no_submodules = 1},
    {.what = "fewer than asked for", .rule = "token.submodules", .devices = 2},
    {.what = "more than asked for", .rule = "token.submodules", .devices = 1, .twice = 1},
};

static void merge(struct json_object *claims, const char *json)
{
    AUTO_JSON struct json_object *more = json ? json_tokener_parse(json) : NULL;
    if (!more)
        return;
    json_object_object_foreach(more, name, value)
    {
        json_object_object_add(claims, name, json_object_get(value));
    }
}

static struct json_object *common(void)
{
    AUTO_FREE char *json = xasprintf("{\"iss\":\"I\",\"iat\":1795435200,\"nbf\":1795435200,\"exp\":"
                                     "1795438800,\"eat_nonce\":\"%s\"}",
                                     nonce_hex);
    return json_tokener_parse(json);
}

/* an overall token with another header, signed with @signer or by HMAC over the public key */
static char *odd_token(const struct plan *p, struct json_object *claims)
{
    AUTO_FREE char *with_jwk = xasprintf("{\"alg\":\"ES384\",\"kid\":\"%s\",\"jwk\":%s}",
                                         att_key_kid(key), att_key_jwk(other));
    const char *header = p->hs256       ? "{\"alg\":\"HS256\",\"kid\":\"K\"}"
                         : p->wrong_key ? with_jwk
                                        : p->header;
    AUTO_FREE char *real = xstrdup(header);
    const char *k = strstr(header, "\"K\"");
    if (k) {
        free(TAKE(real));
        real = xasprintf("%.*s\"%s\"%s", (int)(k - header), header, att_key_kid(key), k + 3);
    }
    const char *text = json_object_to_json_string(claims);
    AUTO_FREE char *h = b64url_encode((const uint8_t *)real, strlen(real));
    AUTO_FREE char *c = b64url_encode((const uint8_t *)text, strlen(text));
    AUTO_FREE char *input = xasprintf("%s.%s", h, c);
    uint8_t rs[96];
    mint_sign((p->wrong_key ? other : key)->pkey, (const uint8_t *)input, strlen(input), rs);
    AUTO_FREE char *s = b64url_encode(rs, p->hs256 ? 32 : sizeof rs);
    return xasprintf("%s.%s", input, s);
}

static void add_submodule(const struct plan *p, const char *name, struct json_object *digests,
                          struct json_object *tokens)
{
    struct err err = ERR_INIT;
    AUTO_JSON struct json_object *claims = common();
    AUTO_FREE char *token = NULL;
    uint8_t digest[32];
    char hex[65];
    merge(claims,
          "{\"measres\":\"success\","
          "\"x-nvidia-gpu-attestation-report-cert-chain\":{\"x-nvidia-cert-status\":\"valid\","
          "\"x-nvidia-cert-ocsp-status\":\"good\"},"
          "\"x-nvidia-gpu-driver-rim-cert-chain\":{\"x-nvidia-cert-status\":\"valid\","
          "\"x-nvidia-cert-ocsp-status\":\"good\"}}");
    merge(claims, p->submodule);
    assert_int_equal(jose_sign(key, claims, &token, &err), 0);
    assert_int_equal(EVP_Digest(token, strlen(token), digest, NULL, EVP_sha256(), NULL), 1);
    hex_encode(digest, sizeof digest, hex);
    AUTO_FREE char *entry = xasprintf("[\"DIGEST\",[\"%s\",\"%s\"]]",
                                      p->label ? p->label : "SHA-256", p->digest ? p->digest : hex);
    json_object_object_add(digests, name, json_tokener_parse(entry));
    if (!p->no_token)
        json_object_object_add(tokens, name, json_object_new_string(token));
}

static char *bundle(const struct plan *p)
{
    struct err err = ERR_INIT;
    AUTO_JSON struct json_object *overall = common();
    AUTO_JSON struct json_object *tokens = json_object_new_object();
    struct json_object *digests = json_object_new_object();
    AUTO_FREE char *token = NULL;
    if (!p->no_submodules)
        add_submodule(p, "GPU-0", digests, tokens);
    if (p->twice)
        add_submodule(p, "GPU-1", digests, tokens);
    if (p->extra_token)
        json_object_object_add(tokens, "GPU-9", json_object_new_string("a.b.c"));
    json_object_object_add(overall, "x-nvidia-overall-att-result", json_object_new_boolean(true));
    json_object_object_add(overall, "submods", digests);
    merge(overall, p->overall);
    if (p->header || p->wrong_key || p->hs256)
        token = odd_token(p, overall);
    else
        assert_int_equal(jose_sign(key, overall, &token, &err), 0);
    return xasprintf("[[\"JWT\",\"%s\"],%s]", token, json_object_to_json_string(tokens));
}

static struct att_verdict *check(const char *json, const char *jwks, unsigned devices)
{
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    struct att_token_options options = {
        .nonce = nonce, .at = MINT_CLOCK, .issuer = "I", .devices = devices};
    struct att_text token = {json, strlen(json), "token"}, keys = {jwks, strlen(jwks), "jwks"};
    assert_int_equal(att_check_token(&options, &token, &keys, &v, &err), 0);
    return v;
}

static char *key_set(const char *extra)
{
    return xasprintf("{\"keys\":[{\"kid\":\"%s\"%s,%s]}", att_key_kid(key), extra,
                     att_key_jwk(key) + 1);
}

static void each_plan(void **state)
{
    (void)state;
    AUTO_FREE char *jwks = key_set(",\"alg\":\"ES384\",\"use\":\"sig\"");
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        AUTO_FREE char *json = bundle(&plans[i]);
        mint_expect(check(json, jwks, plans[i].devices), plans[i].what, plans[i].rule);
    }
}

static void key_sets(void **state)
{
    (void)state;
    AUTO_FREE char *json = bundle(&plans[0]);
    AUTO_FREE char *alg = key_set(",\"alg\":\"ES256\"");
    AUTO_FREE char *use = key_set(",\"use\":\"enc\"");
    AUTO_FREE char *x5c = key_set(",\"x5c\":[\"AAAA\"]");
    AUTO_FREE char *one = key_set("");
    AUTO_FREE char *inner = xstrndup(one + 9, strlen(one) - 11);
    AUTO_FREE char *twice = xasprintf("{\"keys\":[%s,%s]}", inner, inner);
    mint_expect(check(json, alg, 0), "key of another algorithm", "token.signature");
    mint_expect(check(json, use, 0), "key for encryption", "token.signature");
    mint_expect(check(json, x5c, 0), "x5c that does not agree", "token.signature");
    mint_expect(check(json, twice, 0), "two keys of one name", "token.signature");
    mint_expect(check(json, "{\"keys\":[]}", 0), "empty key set", "token.signature");
    mint_expect(check(json, "[]", 0), "no key set", "token.signature");
    mint_expect(check(json, "{", 0), "no JSON", "token.key_set");
}

static void forms(void **state)
{
    static const char *const bad[] = {"{}",
                                      "[]",
                                      "[1,2]",
                                      "[[\"JWT\"],{}]",
                                      "[[\"X\",\"a\"],{}]",
                                      "[[\"JWT\",1],{}]",
                                      "[[\"JWT\",\"a.b\"],{}]",
                                      "[[\"JWT\",\"a.b.c.d\"],{}]",
                                      "[[\"JWT\",\"\"],{},{}]"};
    (void)state;
    AUTO_FREE char *jwks = key_set("");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        mint_expect(check(bad[i], jwks, 0), bad[i], "token.form");
}

static int make_keys(void **state)
{
    struct err err = ERR_INIT;
    (void)state;
    return att_key_generate(&key, &err) < 0 || att_key_generate(&other, &err) < 0;
}

static int drop_keys(void **state)
{
    (void)state;
    att_key_free(key);
    att_key_free(other);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_plan), cmocka_unit_test(key_sets),
                                       cmocka_unit_test(forms)};
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
