/* Collect, verify, appraise; with --set-ready a gate in front of the workload. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/judge.h"
#include "attestation/prog/print.h"
#include "attestation/prog/ready.h"
#include "attestation/prog/remote.h"
#include "attestation/prog/services.h"
#include "attestation/prog/tee.h"
#include "attestation/prog/watch.h"
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"

struct run {
    struct opts opts; /* a copy: nonce, mode and counts are filled in */
    struct nvml *nvml;
    struct nvml_mode mode;
    struct collection c;
    struct att_key *key;
    struct att_verdict *verdict;
    char *token, *extra;     /* owned */
    bool was_ready, no_gate; /* no_gate: the ready state can't even be read */
};

static void run_done(struct run *run)
{
    collection_done(&run->c);
    nvml_close(run->nvml);
    att_key_free(run->key);
    att_verdict_free(run->verdict);
    free(run->token);
    free(run->extra);
}

static bool is_remote(const struct opts *opts)
{
    return opts->verifier && strcmp(opts->verifier, "remote") == 0;
}

/* The relying party's nonce, or a fresh one; with a TEE the GPUs answer a nonce that covers it and our key. */
static int choose_nonce(struct run *run, char hex[2 * ATT_NONCE_SIZE + 1], struct err *err)
{
    uint8_t nonce[ATT_NONCE_SIZE];
    if (run->opts.has_nonce)
        memcpy(nonce, run->opts.nonce_bytes, sizeof nonce);
    else if (services_random(NULL, nonce, sizeof nonce, err) < 0)
        return -err->code;
    hex_encode(nonce, sizeof nonce, hex);
    if (run->opts.with_tee)
        binding_gpu_nonce(hex, att_key_jwk(run->key), nonce);
    memcpy(run->c.nonce, nonce, sizeof nonce);
    memcpy(run->opts.nonce_bytes, nonce, sizeof nonce);
    run->opts.has_nonce = true;
    return 0;
}

static int collect_now(struct run *run, struct err *err)
{
    struct opts *o = &run->opts;
    int r = nvml_open(o->nvml, o->host_root, &run->nvml, err);
    if (r < 0 || (r = nvml_mode(run->nvml, &run->mode, err)) < 0 ||
        (r = collect_check_mode(&run->mode, o->allow_devtools, err)) < 0)
        return r;
    r = ready_before(run->nvml, &run->was_ready, err);
    if (r < 0 && o->set_ready) {
        run->no_gate = true;
        return r;
    }
    if (r < 0) /* without a gate it does not matter */
        log_warning("the GPU ready state is unknown", "error", err->msg, NULL);
    if (run->mode.multi_gpu == 1) /* the links are protected only as a whole */
        o->protected_pcie = true;
    if (o->protected_pcie && is_remote(o))
        return err_set(err, ENOTSUP,
                       "protected PCIe: the remote verifier looks at each device alone, not at how "
                       "they are wired; use --verifier local");
    r = collect_gpus(run->nvml, o, &run->c, err);
    bool switches = o->protected_pcie || (o->device && strcmp(o->device, "gpu") != 0);
    if (r == 0 && switches)
        r = collect_switches(o, &run->c, err);
    return r;
}

static int collect(struct run *run, struct err *err)
{
    watch_start(run->opts.driver_seconds, EXIT_COLLECT);
    int r = collect_now(run, err);
    watch_stop();
    if (r < 0)
        collect_trouble(&run->opts, err);
    else
        collect_warn_persistence(&run->c);
    return r;
}

/* No verdict: a document that says why, for whoever reads only that. */
static int fail(const struct run *run, int status, const struct err *err)
{
    struct err second = ERR_INIT;
    if (print_failure(&run->opts, err, &second) < 0)
        return complain(complain(status, err), &second);
    return complain(status, err);
}

/* CPU last, so that its report covers the GPU evidence; what it says goes into the token. */
static int bind_tee(struct run *run, const char *nonce_hex, struct err *err)
{
    uint8_t data[TEE_DATA_SIZE];
    struct att_bytes report = {0}, certs = {0};
    AUTO_FREE char *pretty = collect_json(&run->c, true);
    struct json_object *coco = json_tokener_parse(pretty), *map = json_object_new_object();
    json_object_object_add(map, "nvidia", coco);
    const char *evidence = json_object_to_json_string_ext(map, JSON_C_TO_STRING_PLAIN |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE);
    binding_report_data(evidence, nonce_hex, att_key_jwk(run->key), data);
    int r = tee_report(run->opts.host_root, data, &report, &certs, err);
    if (r == 0) {
        struct json_object *o = json_object_new_object(), *tee = json_object_new_object();
        AUTO_FREE char *r64 = b64_encode(report.data, report.len);
        AUTO_FREE char *c64 = b64_encode(certs.data ? certs.data : (const uint8_t *)"", certs.len);
        json_object_object_add(tee, "type", json_object_new_string("snp"));
        json_object_object_add(tee, "report", json_object_new_string(r64));
        json_object_object_add(tee, "certificates", json_object_new_string(c64));
        json_object_object_add(tee, "nonce", json_object_new_string(nonce_hex));
        json_object_object_add(tee, "tee-pubkey", json_tokener_parse(att_key_jwk(run->key)));
        json_object_object_add(tee, "additional-evidence", json_object_new_string(evidence));
        json_object_object_add(o, BINDING_CLAIM, tee);
        run->extra = xstrdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE));
        json_object_put(o);
    }
    json_object_put(map);
    att_bytes_done(&report);
    att_bytes_done(&certs);
    return r;
}

static int judge_local(struct run *run, const char *json, struct err *err)
{
    struct att_text text = {json, strlen(json), "collected evidence"};
    return judge(&run->opts, &text, 1, true, &run->verdict, err);
}

/* GPUs, then switches: the first verdict that is no acceptance counts. */
static int judge_remote(struct run *run, struct err *err)
{
    int r = 0;
    for (int kind = ATT_GPU; r == 0 && kind <= ATT_SWITCH; kind++) {
        if ((kind == ATT_GPU ? run->c.gpus : run->c.switches) == 0)
            continue;
        if (run->verdict && att_verdict_class(run->verdict) != ATT_ACCEPTED)
            break;
        att_verdict_free(TAKE(run->verdict));
        free(TAKE(run->token));
        r = remote_judge(&run->opts, &run->c, (enum att_kind)kind, &run->verdict, &run->token, err);
        if (r == 0 && att_verdict_class(run->verdict) == ATT_ACCEPTED)
            r = judge_policy(&run->opts, true, run->verdict, err);
    }
    return r;
}

static int make_token(struct run *run, struct err *err)
{
    struct services services;
    struct att_source source;
    if (run->token || att_verdict_devices(run->verdict) == 0)
        return 0;
    int r = services_open(&services, &run->opts, err);
    if (r < 0)
        return r;
    services_source(&services, &source);
    r = att_token_make(run->verdict, run->key, run->opts.issuer, run->opts.at_seconds, &source,
                       run->extra, &run->token, err);
    services_close(&services);
    return r;
}

/* Claims and token go out before the gate opens: what can't be told is no success. */
static int report(struct run *run, struct err *err)
{
    AUTO_FREE char *jwks = is_remote(&run->opts) ? NULL : judge_key_set(run->key);
    run->opts.announce_ready = run->opts.set_ready && !run->was_ready;
    int r = make_token(run, err);
    if (r == 0)
        r = print_verdict(&run->opts, run->verdict, run->token, jwks, err);
    return r < 0 ? complain(EXIT_USAGE, err) : print_status(run->verdict);
}

static int attest(struct run *run, struct err *err)
{
    char nonce_hex[2 * ATT_NONCE_SIZE + 1];
    int r = att_key_generate(&run->key, err);
    if (r < 0 || (r = choose_nonce(run, nonce_hex, err)) < 0 || (r = collect(run, err)) < 0)
        return fail(run, run->no_gate ? EXIT_READY : EXIT_COLLECT, err);
    AUTO_FREE char *json = collect_json(&run->c, false);
    if (run->opts.evidence_out)
        r = file_replace(run->opts.evidence_out, json, strlen(json), err);
    if (r == 0 && run->opts.with_tee)
        r = bind_tee(run, nonce_hex, err);
    if (r < 0)
        return fail(run, EXIT_COLLECT, err);
    r = is_remote(&run->opts) ? judge_remote(run, err) : judge_local(run, json, err);
    if (r < 0)
        return complain(EXIT_USAGE, err);
    return report(run, err);
}

/* The gate: opened after success alone, and only then; whatever failed leaves it as it was. */
static int attest_and_gate(struct run *run, struct err *err)
{
    int status = attest(run, err);
    watch_start(run->opts.driver_seconds, EXIT_READY);
    if (status != EXIT_ACCEPTED)
        ready_after_failure(run->nvml, run->was_ready, run->opts.revoke_on_failure);
    else if (run->opts.set_ready && !run->was_ready &&
             ready_open(run->nvml, &run->opts, &run->c, err) < 0)
        status = complain(EXIT_READY, err);
    watch_stop();
    return status;
}

int cmd_attest(const struct opts *opts)
{
    struct err err = ERR_INIT;
    if (ready_may_gate(opts, &err) < 0)
        return complain(EXIT_USAGE, &err);
    if (opts->with_tee && (is_remote(opts) || opts->n_evidence)) {
        (void)err_set(&err, EINVAL,
                      "--with-tee binds evidence collected here to a token made here: not with "
                      "--verifier remote or stored evidence");
        return complain(EXIT_USAGE, &err);
    }
    if (opts->n_evidence) { /* stored evidence: what nvattest calls the source "file" */
        if (!opts->has_nonce) {
            (void)err_set(&err, EINVAL, "--nonce is needed with stored evidence");
            return complain(EXIT_USAGE, &err);
        }
        struct opts file = *opts;
        file.policy = file.policy ? file.policy : "builtin";
        return cmd_verify(&file);
    }
    AUTO_FREE struct run *run = xcalloc(1, sizeof *run);
    run->opts = *opts;
    int status = attest_and_gate(run, &err);
    run_done(run);
    return status;
}
