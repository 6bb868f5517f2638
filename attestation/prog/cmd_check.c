/* ccnode-attest check STAGE: one line per rule, exit 0 or 1. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/print.h"
#include "base/auto.h"
#include "base/bytes.h"

#define FILE_MAX (8u << 20)

struct inputs {
    struct file file[6];
    unsigned n;
};

/* the text of a file, NULL with err; closed by inputs_done() */
static const struct att_text *input(struct inputs *in, const char *path, const char *option,
                                    struct err *err)
{
    if (!path) {
        (void)err_set(err, EINVAL, "%s is needed", option);
        return NULL;
    }
    struct file *file = &in->file[in->n];
    if (file_read(path, FILE_MAX, file, err) < 0)
        return NULL;
    in->n++;
    return &file->text;
}

static void inputs_done(struct inputs *in)
{
    for (unsigned i = 0; i < in->n; i++)
        file_done(&in->file[i]);
}

typedef int stage_fn(const struct opts *opts, const struct att_options *options, struct inputs *in,
                     struct att_verdict **ret, struct err *err);

static const char *positional(const struct opts *opts, const char *given)
{
    return given ? given : opts->n_args > 1 ? opts->args[1] : NULL;
}

static int stage_report(const struct opts *opts, const struct att_options *options,
                        struct inputs *in, struct att_verdict **ret, struct err *err)
{
    if (opts->report) {
        const struct att_text *report = input(in, opts->report, "--report", err);
        const struct att_text *chain = report ? input(in, opts->chain, "--chain", err) : NULL;
        return chain ? att_check_report_hex(options, report, chain, ret, err) : -err->code;
    }
    const struct att_text *evidence =
        input(in, positional(opts, opts->evidence[0]), "--evidence, or --report and --chain", err);
    return evidence ? att_check_report(options, evidence, ret, err) : -err->code;
}

static int stage_chain(const struct opts *opts, const struct att_options *options,
                       struct inputs *in, struct att_verdict **ret, struct err *err)
{
    const struct att_text *chain = input(in, positional(opts, opts->chain), "--chain", err);
    return chain ? att_check_chain(options, chain, ret, err) : -err->code;
}

static int stage_rim(const struct opts *opts, const struct att_options *options, struct inputs *in,
                     struct att_verdict **ret, struct err *err)
{
    const struct att_text *evidence = NULL;
    const struct att_text *rim = input(in, positional(opts, NULL), "the RIM file", err);
    if (!rim)
        return -err->code;
    if (opts->n_evidence && !(evidence = input(in, opts->evidence[0], "--evidence", err)))
        return -err->code;
    return att_check_rim(options, rim, evidence, ret, err);
}

static int stage_rim_reply(const struct opts *opts, const struct att_options *options,
                           struct inputs *in, struct att_verdict **ret, struct err *err)
{
    if (!opts->id)
        return err_set(err, EINVAL, "--id is needed");
    const struct att_text *reply = input(in, positional(opts, NULL), "the reply file", err);
    return reply ? att_check_rim_reply(options, reply, opts->id, ret, err) : -err->code;
}

static int stage_ocsp(const struct opts *opts, const struct att_options *options, struct inputs *in,
                      struct att_verdict **ret, struct err *err)
{
    const struct att_text *response = input(in, opts->response, "--response", err);
    const struct att_text *request = response ? input(in, opts->request, "--request", err) : NULL;
    const struct att_text *subject = request ? input(in, opts->subject, "--subject", err) : NULL;
    const struct att_text *issuer = subject ? input(in, opts->issuer, "--issuer", err) : NULL;
    return issuer ? att_check_ocsp(options, response, request, subject, issuer, ret, err)
                  : -err->code;
}

static int stage_policy(const struct opts *opts, const struct att_options *options,
                        struct inputs *in, struct att_verdict **ret, struct err *err)
{
    (void)options;
    struct att_text claims[OPTS_FILES];
    const struct att_text *policy = input(in, opts->policy, "--policy", err);
    if (!policy)
        return -err->code;
    if (opts->n_claims == 0)
        return err_set(err, EINVAL, "--claims is needed");
    for (unsigned i = 0; i < opts->n_claims; i++) {
        const struct att_text *text = input(in, opts->claims[i], "--claims", err);
        if (!text)
            return -err->code;
        claims[i] = *text;
    }
    return att_check_policy(policy, claims, opts->n_claims, ret, err);
}

static int stage_snp(const struct opts *opts, const struct att_options *options, struct inputs *in,
                     struct att_verdict **ret, struct err *err)
{
    uint8_t data[64];
    if (opts->report_data && hex_decode(opts->report_data, strlen(opts->report_data), data,
                                        sizeof data, err) != (int)sizeof data)
        return err_set(err, EINVAL, "--report-data: 128 hexadecimal digits are expected");
    const struct att_text *report = input(in, opts->report, "--report", err);
    const struct att_text *vcek = report ? input(in, opts->vcek, "--vcek", err) : NULL;
    return vcek ? att_check_snp(options, report, vcek, opts->report_data ? data : NULL, ret, err)
                : -err->code;
}

/* the token's own key, tied to the processor: no key set, no other trust */
static int stage_tee(const struct opts *opts, const struct att_options *options, struct inputs *in,
                     struct att_verdict **ret, struct err *err)
{
    const struct att_text *token = input(in, opts->token, "--token", err);
    const struct att_text *vcek = NULL;
    if (!token || (opts->vcek && !(vcek = input(in, opts->vcek, "--vcek", err))))
        return -err->code;
    struct att_token_options token_options = {
        .nonce = options->nonce,
        .at = options->at,
        .issuer = opts->issuer ? opts->issuer : ATT_ISSUER_DEFAULT,
        .devices = opts->n_gpus + opts->n_switches,
    };
    return att_check_tee(&token_options, token, vcek, ret, err);
}

static const struct {
    const char *name;
    stage_fn *run;
} stages[] = {
    {"report", stage_report}, {"chain", stage_chain},
    {"rim", stage_rim},       {"rim-reply", stage_rim_reply},
    {"ocsp", stage_ocsp},     {"policy", stage_policy},
    {"snp", stage_snp},       {"tee", stage_tee},
};

static int run_stage(const struct opts *opts, stage_fn *run)
{
    struct err err = ERR_INIT;
    struct inputs in = {.n = 0};
    struct setup setup;
    struct att_verdict *verdict = NULL;
    int r = setup_open(opts, &setup, &err);
    if (r == 0)
        r = run(opts, &setup.options, &in, &verdict, &err);
    int status = EXIT_USAGE;
    if (r == 0) {
        status = att_verdict_class(verdict) == ATT_ACCEPTED ? EXIT_ACCEPTED : EXIT_REJECTED;
        r = print_verdict(opts, verdict, NULL, NULL, &err);
    }
    if (r < 0)
        status = complain(EXIT_USAGE, &err);
    att_verdict_free(verdict);
    inputs_done(&in);
    setup_close(&setup);
    return status;
}

int cmd_check(const struct opts *opts)
{
    struct err err = ERR_INIT;
    for (size_t i = 0; opts->n_args && i < ARRAY_LEN(stages); i++)
        if (strcmp(opts->args[0], stages[i].name) == 0)
            return run_stage(opts, stages[i].run);
    (void)err_set(&err, EINVAL,
                  "check needs a stage: report, chain, rim, rim-reply, ocsp, policy, snp or tee");
    return complain(EXIT_USAGE, &err);
}
