#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "base/auto.h"

int complain(int status, const struct err *err)
{
    (void)fprintf(stderr, "ccnode-attest: %s\n", err->msg);
    return status;
}

static int read_root(const char *path, char **ret, struct err *err)
{
    struct file file = {0};
    if (!path)
        return 0;
    int r = file_read(path, 64 << 10, &file, err);
    if (r < 0)
        return r;
    *ret = file.data;
    return 0;
}

int setup_open(const struct opts *opts, struct setup *ret, struct err *err)
{
    *ret = (struct setup){0};
    int r = read_root(opts->device_root, &ret->device_root, err);
    if (r < 0 || (r = read_root(opts->rim_root, &ret->rim_root, err)) < 0)
        return r;
    bool off = opts->revocation && strcmp(opts->revocation, "off") == 0;
    ret->options = (struct att_options){
        .nonce = opts->has_nonce ? opts->nonce_bytes : NULL,
        .at = opts->at_seconds,
        .at_replaced = opts->at != NULL,
        .device_root_pem = ret->device_root,
        .rim_root_pem = ret->rim_root,
        .revocation = off ? ATT_REVOCATION_OFF : ATT_REVOCATION_REQUIRED,
        .allow_hold = opts->allow_hold,
        .missing_fwid = opts->allow_missing_fwid ? ATT_FWID_OPTIONAL : ATT_FWID_BY_DRIVER,
        .gpus = opts->n_gpus,
        .switches = opts->n_switches,
        .protected_pcie = opts->protected_pcie,
    };
    return 0;
}

void setup_close(struct setup *setup)
{
    free(setup->device_root);
    free(setup->rim_root);
}
