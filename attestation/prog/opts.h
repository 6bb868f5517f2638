/* The command line of ccnode-attest: one table for all subcommands; interface.md section 2 and REF-A 5.9. */
#ifndef CCN_ATTESTATION_PROG_OPTS_H
#define CCN_ATTESTATION_PROG_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

/* exit statuses, interface.md */
enum {
    EXIT_ACCEPTED,
    EXIT_REJECTED,
    EXIT_USAGE,
    EXIT_COLLECT,
    EXIT_SERVICE,
    EXIT_POLICY,
    EXIT_READY
};

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_LOG };

#define OPTS_FILES 4 /* of one repeatable option */
#define OPTS_ARGS 4

/* Texts are borrowed from argv or the environment; NULL when not given. */
struct opts {
    const char *args[OPTS_ARGS]; /* what is no option */
    unsigned n_args;
    const char *evidence[OPTS_FILES], *claims[OPTS_FILES];
    unsigned n_evidence, n_claims;
    const char *report, *chain, *nonce, *at, *device_root, *rim_root;
    const char *rim_dir, *rim_url, *rim_store, *ocsp_url, *nras_url, *service_key, *ca_file;
    const char *revocation, *policy, *token, *jwks, *issuer, *audience;
    const char *request, *response, *subject, *issuer_pem, *vcek, *report_data, *id;
    const char *device, *format, *output_file, *timeout, *verifier, *claims_version;
    const char *gpus, *switches, *host_root, *nvml, *nscq, *evidence_out, *key_out, *gpu_source,
        *switch_source, *log_level, *log_format, *output_text, *driver_timeout;
    bool allow_hold, allow_missing_fwid, protected_pcie, set_ready, revoke_on_failure,
        allow_devtools, with_tee, help, version;
    bool announce_ready; /* set by attest: the log says that the gate is about to open */
    /* derived by opts_finish() */
    enum output output;
    enum log_level level;
    enum log_format lines;
    int64_t at_seconds;
    uint8_t nonce_bytes[32];
    bool has_nonce;
    int64_t timeout_ms;
    unsigned n_gpus, n_switches, driver_seconds;
};

/* opts_parse() - @argv after the subcommand. Return: 0, -EINVAL with what is wrong. */
int opts_parse(int argc, char **argv, struct opts *ret, struct err *err);
void opts_help(void);

#endif
