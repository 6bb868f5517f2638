/* The subcommands; each returns an exit status and has said on standard error why when it is not 0. */
#ifndef CCN_ATTESTATION_PROG_COMMANDS_H
#define CCN_ATTESTATION_PROG_COMMANDS_H

#include "attestation/ccnattest.h"
#include "attestation/prog/opts.h"

int cmd_verify(const struct opts *opts);
int cmd_check(const struct opts *opts);
int cmd_validate_token(const struct opts *opts);
int cmd_collect(const struct opts *opts);
int cmd_attest(const struct opts *opts);
int cmd_status(const struct opts *opts);
int cmd_ready(const struct opts *opts);

/* complain() - "ccnode-attest: sentence" on standard error. Return: @status. */
int complain(int status, const struct err *err);

/* What several commands need of the options: anchors read, struct att_options filled. */
struct setup {
    char *device_root, *rim_root; /* owned */
    struct att_options options;
};
int setup_open(const struct opts *opts, struct setup *ret, struct err *err);
void setup_close(struct setup *setup);

#endif
