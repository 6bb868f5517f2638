/* Detached EATs, made and checked. REF-A 5.6, 6.3, 9.4 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "attestation/jose.h"
#include "attestation/jsonin.h"
#include "attestation/policy.h"
#include "attestation/trail.h"
#include "base/auto.h"
#include "base/bytes.h"

#define TOKEN_MAX (4u << 20)
#define LIFETIME 3600
#define SKEW 120

static void digest_of(const char *token, char ret[65])
{
    uint8_t digest[32];
    if (EVP_Digest(token, strlen(token), digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    hex_encode(digest, sizeof digest, ret);
}

/* Making ---------------------------------------------------------------------------------------------------------- */

static int add_registered(struct json_object *claims, const char *issuer, int64_t now,
                          const struct att_source *source, struct err *err)
{
    uint8_t random[16];
    char jti[33];
    int r = source->random(source->arg, random, sizeof random, err);
    if (r < 0)
        return r;
    hex_encode(random, sizeof random, jti);
    json_object_object_add(claims, "iss", json_object_new_string(issuer));
    json_object_object_add(claims, "iat", json_object_new_int64(now));
    json_object_object_add(claims, "nbf", json_object_new_int64(now));
    json_object_object_add(claims, "exp", json_object_new_int64(now + LIFETIME));
    json_object_object_add(claims, "jti", json_object_new_string(jti));
    return 0;
}

static struct json_object *copy(struct json_object *from)
{
    struct json_object *to = NULL;
    if (json_object_deep_copy(from, &to, NULL) != 0)
        abort();
    return to;
}

struct making {
    const struct att_verdict *verdict;
    const struct att_key *key;
    const struct att_source *source;
    const char *issuer;
    int64_t now;
};

static int make_one(const struct making *m, struct json_object *claims, char **ret, struct err *err)
{
    int r = add_registered(claims, m->issuer, m->now, m->source, err);
    return r < 0 ? r : jose_sign(m->key, claims, ret, err);
}

static int make_submods(const struct making *m, struct json_object *digests,
                        struct json_object *tokens, struct err *err)
{
    struct json_object *devices = m->verdict->claims[ATT_CLAIMS_V3];
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(m->verdict->names, i));
        AUTO_JSON struct json_object *claims = copy(json_object_array_get_idx(devices, i));
        AUTO_FREE char *token = NULL;
        char digest[65];
        int r = make_one(m, claims, &token, err);
        if (r < 0)
            return r;
        digest_of(token, digest);
        struct json_object *entry = json_object_new_array(), *pair = json_object_new_array();
        json_object_array_add(pair, json_object_new_string("SHA-256"));
        json_object_array_add(pair, json_object_new_string(digest));
        json_object_array_add(entry, json_object_new_string("DIGEST"));
        json_object_array_add(entry, pair);
        json_object_object_add(digests, name, entry);
        json_object_object_add(tokens, name, json_object_new_string(token));
    }
    return 0;
}

int att_token_make(const struct att_verdict *verdict, const struct att_key *key, const char *issuer,
                   int64_t now, const struct att_source *source, const char *extra, char **ret,
                   struct err *err)
{
    if (!verdict->claims[ATT_CLAIMS_V3] || !verdict->claims[ATT_CLAIMS_OVERALL])
        return err_set(err, EINVAL, "the verdict has no claims");
    struct making m = {verdict, key, source, issuer ? issuer : ATT_ISSUER_DEFAULT, now};
    AUTO_JSON struct json_object *overall = copy(verdict->claims[ATT_CLAIMS_OVERALL]);
    AUTO_JSON struct json_object *list = json_object_new_array();
    AUTO_JSON struct json_object *more = extra ? json_tokener_parse(extra) : NULL;
    struct json_object *digests = json_object_new_object(), *tokens = json_object_new_object();
    struct json_object *pair = json_object_new_array();
    AUTO_FREE char *token = NULL;
    json_object_array_add(list, pair);
    json_object_array_add(list, tokens);
    json_object_object_add(overall, "submods", digests);
    /* the policy may have refused after the claims were made */
    json_object_object_add(overall, "x-nvidia-overall-att-result",
                           json_object_new_boolean(verdict->class == ATT_ACCEPTED));
    if (json_object_is_type(more, json_type_object)) {
        json_object_object_foreach(more, name, value)
        {
            json_object_object_add(overall, name, json_object_get(value));
        }
    }
    int r = make_submods(&m, digests, tokens, err);
    if (r == 0)
        r = make_one(&m, overall, &token, err);
    if (r < 0)
        return r;
    json_object_array_add(pair, json_object_new_string("JWT"));
    json_object_array_add(pair, json_object_new_string(token));
    *ret = xstrdup(json_object_to_json_string_ext(list, JSON_C_TO_STRING_PLAIN |
                                                            JSON_C_TO_STRING_NOSLASHESCAPE));
    return 0;
}

/* Checking -------------------------------------------------------------------------------------------------------- */

struct checking {
    const struct att_token_options *options;
    struct jose_set keys;
    struct att_verdict *v;
    char nonce[2 * ATT_NONCE_SIZE + 1]; /* expected; the overall token's when none was given */
};

/* a member that must be an integer; absent is fine when optional */
static bool take_time(struct json_object *claims, const char *name, bool optional, int64_t absent,
                      int64_t *ret)
{
    struct json_object *member = NULL;
    bool there = json_object_object_get_ex(claims, name, &member);
    *ret = there ? json_object_get_int64(member) : absent;
    return there ? json_object_is_type(member, json_type_int) : optional;
}

static bool check_times(const struct checking *c, struct json_object *claims)
{
    int64_t at = c->options->at, exp, nbf, iat;
    if (!take_time(claims, "exp", false, 0, &exp) || !take_time(claims, "nbf", true, at, &nbf) ||
        !take_time(claims, "iat", true, at, &iat))
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.times",
                          "exp is missing, or a time is no whole number");
    if (exp < at - SKEW)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.expired", "expired %lld seconds ago",
                          (long long)(at - exp));
    if (nbf > at + SKEW || iat > at + SKEW)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.not_yet_valid",
                          "not valid for another %lld seconds",
                          (long long)((nbf > iat ? nbf : iat) - at));
    return true;
}

static bool check_common(struct checking *c, struct json_object *claims)
{
    const char *iss = jsonin_string(claims, "iss"), *nonce = jsonin_string(claims, "eat_nonce");
    if (!iss || strcmp(iss, c->options->issuer) != 0)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.issuer", "issuer \"%.80s\", %s is expected",
                          iss ? iss : "(none)", c->options->issuer);
    if (!check_times(c, claims))
        return false;
    if (!nonce || strlen(nonce) != 2 * ATT_NONCE_SIZE)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.nonce", "no eat_nonce of 64 digits");
    if (!c->nonce[0])
        (void)snprintf(c->nonce, sizeof c->nonce, "%s", nonce);
    if (strcasecmp(nonce, c->nonce) != 0)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.nonce",
                          "the token answers nonce %.16s…, %.16s… is expected", nonce, c->nonce);
    return true;
}

static struct json_object *open_token(struct checking *c, struct json_object *text)
{
    struct err err = ERR_INIT;
    struct json_object *claims = NULL;
    if (!json_object_is_type(text, json_type_string)) {
        (void)trail_fail(c->v, ATT_ERR_TOKEN, "token.form", "a token is no string");
        return NULL;
    }
    const char *token = json_object_get_string(text);
    int r = jose_verify(&c->keys, token, &claims, &err);
    if (r < 0) {
        (void)trail_fail(c->v, ATT_ERR_TOKEN, r == -EACCES ? "token.signature" : "token.form", "%s",
                         err.msg);
        return NULL;
    }
    if (check_common(c, claims))
        return claims;
    json_object_put(claims);
    return NULL;
}

/* ["DIGEST", ["SHA-256", hex]] over the compact text */
static bool check_digest(struct checking *c, struct json_object *entry, const char *token)
{
    struct json_object *pair = NULL;
    bool form = json_object_is_type(entry, json_type_array) &&
                json_object_array_length(entry) == 2 &&
                (pair = json_object_array_get_idx(entry, 1)) &&
                json_object_is_type(pair, json_type_array) && json_object_array_length(pair) == 2;
    const char *kind = form ? json_object_get_string(json_object_array_get_idx(entry, 0)) : NULL;
    const char *label = form ? json_object_get_string(json_object_array_get_idx(pair, 0)) : NULL;
    const char *want = form ? json_object_get_string(json_object_array_get_idx(pair, 1)) : NULL;
    char have[65];
    if (!kind || strcmp(kind, "DIGEST") != 0 || !label || !want)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.digest", "no digest of the submodule");
    if (strcmp(label, "SHA-256") != 0 && strcmp(label, "SHA256") != 0)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.digest",
                          "digest algorithm %.20s, SHA-256 "
                          "is expected",
                          label);
    digest_of(token, have);
    if (strcasecmp(want, have) != 0)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.digest",
                          "the overall token was made for another submodule token");
    return true;
}

static bool check_submodule(struct checking *c, const char *name, struct json_object *entry,
                            struct json_object *text, struct json_object *devices)
{
    if (!json_object_is_type(text, json_type_string))
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.form", "a token is no string");
    if (!check_digest(c, entry, json_object_get_string(text)))
        return false;
    struct json_object *claims = open_token(c, text);
    if (!claims)
        return false;
    struct json_object *error = jsonin_member(claims, "x-nvidia-error-details");
    bool ok = true;
    if (error || jsonin_member(claims, "x-nv-err-code"))
        ok = trail_fail(c->v, ATT_ERR_TOKEN, "token.error", "the service reports an error: %.200s",
                        error ? json_object_to_json_string(error) : "x-nv-err-code");
    ok = ok && policy_builtin_one(claims, name, c->v);
    json_object_array_add(devices, claims);
    json_object_array_add(c->v->names, json_object_new_string(name));
    return ok;
}

static bool check_submodules(struct checking *c, struct json_object *overall,
                             struct json_object *tokens)
{
    struct json_object *submods = jsonin_member(overall, "submods");
    if (!json_object_is_type(submods, json_type_object) ||
        !json_object_is_type(tokens, json_type_object) || json_object_object_length(submods) == 0)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.submodules",
                          "no submodule: no device was "
                          "attested");
    int n = json_object_object_length(submods);
    if (c->options->devices && n != (int)c->options->devices)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.submodules",
                          "%d submodules, %u devices were asked for", n, c->options->devices);
    json_object_object_foreach(tokens, extra, unused)
    {
        (void)unused;
        if (!json_object_object_get_ex(submods, extra, NULL))
            return trail_fail(c->v, ATT_ERR_TOKEN, "token.submodules",
                              "token %.40s is not named by the overall token", extra);
    }
    struct json_object *devices = c->v->claims[ATT_CLAIMS_V3];
    json_object_object_foreach(submods, name, entry)
    {
        struct json_object *text = NULL;
        trail_subject(c->v, "%.40s", name);
        bool ok = json_object_object_get_ex(tokens, name, &text)
                      ? check_submodule(c, name, entry, text, devices)
                      : trail_fail(c->v, ATT_ERR_TOKEN, "token.submodules",
                                   "the overall token names it, its token is missing");
        trail_subject(c->v, "%s", "");
        if (!ok)
            return false;
    }
    c->v->n_devices = (size_t)n;
    return trail_pass(c->v, "token.submodules", "%d, signed, digests and claims fit", n);
}

static bool check_bundle(struct checking *c, struct json_object *root)
{
    if (json_object_is_type(root, json_type_object))
        root = jsonin_member(root, "detached_eat");
    struct json_object *pair =
        json_object_is_type(root, json_type_array) && json_object_array_length(root) == 2
            ? json_object_array_get_idx(root, 0)
            : NULL;
    const char *kind =
        json_object_is_type(pair, json_type_array) && json_object_array_length(pair) == 2
            ? json_object_get_string(json_object_array_get_idx(pair, 0))
            : NULL;
    if (!kind || strcmp(kind, "JWT") != 0)
        return trail_fail(c->v, ATT_ERR_TOKEN, "token.form",
                          "no detached EAT: [[\"JWT\", token], {name: token}] is expected");
    trail_subject(c->v, "overall");
    struct json_object *overall = open_token(c, json_object_array_get_idx(pair, 1));
    trail_subject(c->v, "%s", "");
    if (!overall)
        return false;
    c->v->claims[ATT_CLAIMS_OVERALL] = overall;
    (void)trail_pass(c->v, "token.overall", "signature, issuer, times and nonce fit");
    struct json_object *result = NULL;
    if (!json_object_object_get_ex(overall, "x-nvidia-overall-att-result", &result) ||
        !json_object_is_type(result, json_type_boolean) || !json_object_get_boolean(result))
        return trail_fail(c->v, ATT_ERR_OVERALL, "token.result",
                          "the overall result is %.40s, not the boolean true",
                          result ? json_object_to_json_string(result) : "missing");
    return check_submodules(c, overall, json_object_array_get_idx(root, 1));
}

int att_check_token(const struct att_token_options *options, const struct att_text *token,
                    const struct att_text *jwks, struct att_verdict **ret, struct err *err)
{
    if (!options->issuer || options->at <= 0)
        return err_set(err, EINVAL, "an issuer and a time are needed");
    struct checking c = {.options = options, .v = trail_new()};
    AUTO_JSON struct json_object *root = NULL;
    AUTO_JSON struct json_object *keys = NULL;
    c.v->claims[ATT_CLAIMS_V3] = json_object_new_array();
    c.v->names = json_object_new_array();
    if (options->nonce)
        hex_encode(options->nonce, ATT_NONCE_SIZE, c.nonce);
    else
        (void)trail_note(c.v, "option.nonce",
                         "no nonce was given: the tokens may be of another "
                         "session");
    if (jsonin_parse(jwks->text, jwks->len, TOKEN_MAX, &keys, err) < 0)
        (void)trail_fail(c.v, ATT_ERR_JSON, "token.key_set", "%s: %s", jwks->name, err->msg);
    else if (jsonin_parse(token->text, token->len, TOKEN_MAX, &root, err) < 0)
        (void)trail_fail(c.v, ATT_ERR_JSON, "token.form", "%s: %s", token->name, err->msg);
    else {
        c.keys.json = keys;
        (void)check_bundle(&c, root);
        jose_set_done(&c.keys);
    }
    *ret = c.v;
    return 0;
}
