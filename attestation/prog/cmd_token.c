#include <errno.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/judge.h"
#include "attestation/prog/print.h"
#include "attestation/prog/services.h"
#include "base/auto.h"

#define JWKS_MAX (1u << 20)

/* the key set of a file, or of a service over TLS */
static int read_jwks(const struct opts *opts, struct file *ret, struct err *err)
{
    if (strncmp(opts->jwks, "http://", 7) != 0 && strncmp(opts->jwks, "https://", 8) != 0)
        return file_read(opts->jwks, JWKS_MAX, ret, err);
    struct att_bytes body = {0};
    struct http *http = http_new(opts->ca_file, opts->timeout_ms);
    struct http_request request = {
        .url = opts->jwks, .accept = "application/json", .max = JWKS_MAX};
    int r = http_send(http, &request, &body, err);
    http_free(http);
    if (r < 0)
        return r;
    ret->data = xstrndup((const char *)body.data, body.len);
    ret->text = (struct att_text){ret->data, body.len, "key set"};
    att_bytes_done(&body);
    return 0;
}

int cmd_validate_token(const struct opts *opts)
{
    struct err err = ERR_INIT;
    struct file token = {0}, jwks = {0};
    struct att_verdict *verdict = NULL;
    int status = EXIT_USAGE;
    if (!opts->token || !opts->jwks) {
        (void)err_set(&err, EINVAL, "--token and --jwks are needed");
        return complain(EXIT_USAGE, &err);
    }
    struct att_token_options options = {.nonce = opts->has_nonce ? opts->nonce_bytes : NULL,
                                        .at = opts->at_seconds,
                                        .issuer = opts->issuer ? opts->issuer : NRAS_URL_DEFAULT,
                                        .devices = opts->n_gpus + opts->n_switches};
    int r = file_read(opts->token, ATT_EVIDENCE_MAX, &token, &err);
    if (r == 0) {
        r = read_jwks(opts, &jwks, &err);
        if (r < 0 && strncmp(opts->jwks, "http", 4) == 0)
            status = EXIT_SERVICE;
    }
    if (r == 0)
        r = att_check_token(&options, &token.text, &jwks.text, &verdict, &err);
    if (r == 0 && att_verdict_class(verdict) == ATT_ACCEPTED)
        r = judge_policy(opts, false, verdict, &err);
    if (r == 0)
        r = print_verdict(opts, verdict, NULL, NULL, &err);
    status = r < 0 ? complain(status, &err) : print_status(verdict);
    att_verdict_free(verdict);
    file_done(&token);
    file_done(&jwks);
    return status;
}
