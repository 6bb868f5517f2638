#include "attestation/prog/judge.h"

#include <errno.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/print.h"
#include "attestation/prog/services.h"
#include "base/auto.h"

int judge_policy(const struct opts *opts, bool always, struct att_verdict *verdict, struct err *err)
{
    struct file policy = {0};
    bool builtin = !opts->policy || strcmp(opts->policy, "builtin") == 0;
    if (builtin)
        return opts->policy || always ? att_appraise(verdict, NULL, err) : 0;
    int r = file_read(opts->policy, 1 << 20, &policy, err);
    if (r == 0)
        r = att_appraise(verdict, &policy.text, err);
    file_done(&policy);
    return r;
}

int judge(const struct opts *opts, const struct att_text *evidence, size_t n, bool policy_always,
          struct att_verdict **ret, struct err *err)
{
    struct setup setup;
    struct services services;
    struct att_source source;
    struct att_verdict *verdict = NULL;
    int r = setup_open(opts, &setup, err);
    if (r == 0)
        r = services_open(&services, opts, err);
    if (r == 0) {
        services_source(&services, &source);
        r = att_verify(&setup.options, &source, evidence, n, &verdict, err);
        services_close(&services);
    }
    if (r == 0)
        r = judge_policy(opts, policy_always, verdict, err);
    setup_close(&setup);
    if (r == 0)
        *ret = TAKE(verdict);
    att_verdict_free(verdict);
    return r;
}

static int make_token(const struct opts *opts, const struct att_verdict *verdict,
                      struct att_key **key, char **token, struct err *err)
{
    struct services services;
    struct att_source source;
    int r = att_key_generate(key, err);
    if (r < 0)
        return r;
    r = services_open(&services, opts, err);
    if (r < 0)
        return r;
    services_source(&services, &source);
    r = att_token_make(verdict, *key, NULL, opts->at_seconds, &source, NULL, token, err);
    services_close(&services);
    return r;
}

char *judge_key_set(const struct att_key *key)
{
    const char *jwk = att_key_jwk(key); /* {"crv":… */
    return xasprintf("{\"keys\":[{\"alg\":\"ES384\",\"kid\":\"%s\",\"use\":\"sig\",%s]}",
                     att_key_kid(key), jwk + 1);
}

int judge_and_print(const struct opts *opts, const struct att_text *evidence, size_t n)
{
    struct err err = ERR_INIT;
    struct att_verdict *verdict = NULL;
    struct att_key *key = NULL;
    AUTO_FREE char *token = NULL;
    AUTO_FREE char *jwks = NULL;
    int r = judge(opts, evidence, n, false, &verdict, &err);
    if (r < 0)
        return complain(EXIT_USAGE, &err);
    if (opts->output == OUTPUT_JSON && att_verdict_devices(verdict))
        r = make_token(opts, verdict, &key, &token, &err);
    if (key)
        jwks = judge_key_set(key);
    if (r == 0)
        r = print_verdict(opts, verdict, token, jwks, &err);
    int status = r < 0 ? complain(EXIT_USAGE, &err) : print_status(verdict);
    att_key_free(key);
    att_verdict_free(verdict);
    return status;
}
