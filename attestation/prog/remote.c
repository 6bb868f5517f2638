#include "attestation/prog/remote.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/prog/http.h"
#include "attestation/prog/services.h"
#include "attestation/trail.h"
#include "base/auto.h"
#include "base/bytes.h"

#define EAT_MAX (2u << 20)
#define JWKS_MAX (256u << 10)

static bool is_kind(const struct collected *d, enum att_kind kind)
{
    return (strcmp(d->arch, "LS10") == 0) == (kind == ATT_SWITCH);
}

/* REF-A 6.2 */
static char *request_body(const struct collection *c, enum att_kind kind, unsigned *count)
{
    struct json_object *root = json_object_new_object(), *list = json_object_new_array();
    char nonce[2 * ATT_NONCE_SIZE + 1];
    const char *arch = "";
    *count = 0;
    hex_encode(c->nonce, ATT_NONCE_SIZE, nonce);
    for (size_t i = 0; i < c->n; i++) {
        const struct collected *d = &c->list[i];
        if (!is_kind(d, kind))
            continue;
        struct json_object *o = json_object_new_object();
        AUTO_FREE char *report = b64_encode(d->report.data, d->report.len);
        AUTO_FREE char *chain = b64_encode(d->chain.data, d->chain.len);
        json_object_object_add(o, "evidence", json_object_new_string(report));
        json_object_object_add(o, "certificate", json_object_new_string(chain));
        json_object_array_add(list, o);
        arch = d->arch;
        (*count)++;
    }
    json_object_object_add(root, "nonce", json_object_new_string(nonce));
    json_object_object_add(root, "arch", json_object_new_string(arch));
    json_object_object_add(root, "claims_version", json_object_new_string("3.0"));
    json_object_object_add(root, "evidence_list", list);
    char *text = xstrdup(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
    return text;
}

/* All devices of one request share the architecture (REF-A 6.2), and each is there once, which the service does not check */
static int check_devices(const struct collection *c, enum att_kind kind, struct err *err)
{
    const char *arch = NULL;
    for (size_t i = 0; i < c->n; i++) {
        if (!is_kind(&c->list[i], kind))
            continue;
        if (arch && strcmp(arch, c->list[i].arch) != 0)
            return err_set(err, EINVAL, "GPUs of %s and %s in one machine", arch, c->list[i].arch);
        arch = c->list[i].arch;
        for (size_t j = 0; j < i; j++)
            if (c->list[j].chain.len == c->list[i].chain.len &&
                memcmp(c->list[j].chain.data, c->list[i].chain.data, c->list[i].chain.len) == 0)
                return err_set(err, EINVAL, "devices %zu and %zu are the same", j, i);
    }
    return 0;
}

/* The address without its version: the issuer, and where the keys are. v4 unless it ends in /v3 (REF-A 6.1). */
static char *base_url(const struct opts *opts, const char **version)
{
    const char *base = opts->nras_url ? opts->nras_url : NRAS_URL_DEFAULT;
    size_t n = strlen(base);
    while (n && base[n - 1] == '/')
        n--;
    *version = n > 3 && strncmp(base + n - 3, "/v3", 3) == 0 ? "v3" : "v4";
    if (n > 3 && (strncmp(base + n - 3, "/v3", 3) == 0 || strncmp(base + n - 3, "/v4", 3) == 0))
        n -= 3;
    return xstrndup(base, n);
}

static int fetch(const struct opts *opts, const char *base, const char *path, const char *body,
                 struct att_bytes *eat, struct att_bytes *jwks, struct err *err)
{
    struct http *http = http_new(opts->ca_file, opts->timeout_ms);
    AUTO_FREE char *url = xasprintf("%s/%s", base, path);
    AUTO_FREE char *keys = xasprintf("%s/.well-known/jwks.json", base);
    struct http_request attest = {.url = url,
                                  .accept = "application/json",
                                  .content_type = "application/json",
                                  .body = body,
                                  .len = strlen(body),
                                  .key = opts->service_key,
                                  .max = EAT_MAX};
    struct http_request get = {
        .url = keys, .accept = "application/json", .key = opts->service_key, .max = JWKS_MAX};
    int r = http_send(http, &attest, eat, err);
    if (r == 0)
        r = http_send(http, &get, jwks, err);
    http_free(http);
    return r;
}

int remote_judge(const struct opts *opts, const struct collection *c, enum att_kind kind,
                 struct att_verdict **ret, char **eat, struct err *err)
{
    unsigned count = 0;
    struct att_bytes body = {0}, jwks = {0};
    AUTO_FREE char *request = request_body(c, kind, &count);
    const char *version;
    AUTO_FREE char *base = base_url(opts, &version);
    AUTO_FREE char *path = xasprintf("%s/attest/%s", version, kind == ATT_GPU ? "gpu" : "switch");
    int r = check_devices(c, kind, err);
    if (r < 0)
        return r;
    r = fetch(opts, base, path, request, &body, &jwks, err);
    if (r < 0) {
        *ret = trail_new();
        (void)trail_unavailable(*ret, ATT_ERR_TOKEN, "remote.fetch", "%s", err->msg);
        r = 0;
    } else {
        struct att_token_options options = {.nonce = c->nonce,
                                            .at = opts->at_seconds,
                                            .issuer = opts->issuer ? opts->issuer : base,
                                            .devices = count};
        struct att_text token = {(const char *)body.data, body.len, "answer of the service"};
        struct att_text keys = {(const char *)jwks.data, jwks.len, "key set of the service"};
        r = att_check_token(&options, &token, &keys, ret, err);
        if (r == 0)
            *eat = xstrndup((const char *)body.data, body.len);
    }
    att_bytes_done(&body);
    att_bytes_done(&jwks);
    return r;
}
