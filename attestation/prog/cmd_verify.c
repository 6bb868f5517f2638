#include <errno.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/judge.h"
#include "attestation/prog/print.h"

int cmd_verify(const struct opts *opts)
{
    struct err err = ERR_INIT;
    struct file files[OPTS_FILES] = {{0}};
    struct att_text texts[OPTS_FILES];
    int r = 0;
    if (!opts->has_nonce)
        r = err_set(&err, EINVAL, "--nonce is needed: the nonce the evidence was asked for with");
    else if (opts->n_evidence == 0)
        r = err_set(&err, EINVAL, "--evidence is needed");
    for (unsigned i = 0; r == 0 && i < opts->n_evidence; i++) {
        r = file_read(opts->evidence[i], ATT_EVIDENCE_MAX, &files[i], &err);
        texts[i] = files[i].text;
    }
    int status =
        r < 0 ? complain(EXIT_USAGE, &err) : judge_and_print(opts, texts, opts->n_evidence);
    for (unsigned i = 0; i < opts->n_evidence; i++)
        file_done(&files[i]);
    return status;
}
