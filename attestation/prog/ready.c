#include "attestation/prog/ready.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"

int ready_may_gate(const struct opts *opts, struct err *err)
{
    bool remote = opts->verifier && strcmp(opts->verifier, "remote") == 0;
    const struct {
        bool given;
        const char *name;
    } weak[] = {
        {opts->allow_missing_fwid, "allow-missing-fwid"},
        /* the remote verifier's word counts only as far as its address and TLS do */
        {remote && opts->nras_url && strncmp(opts->nras_url, "https://", 8) != 0,
         "nras-url without TLS"},
        {remote && opts->ca_file, "ca-file and --verifier remote"},
        {remote && opts->issuer, "issuer and --verifier remote"},
        {opts->device_root, "device-root"},
        {opts->rim_root, "rim-root"},
        {opts->at, "at"},
        {opts->revocation && strcmp(opts->revocation, "off") == 0, "revocation off"},
        {opts->n_evidence, "evidence"},
        {opts->gpu_source && strcmp(opts->gpu_source, "file") == 0, "gpu-evidence-source file"},
        {opts->switch_source && strcmp(opts->switch_source, "file") == 0,
         "nvswitch-evidence-source file"}};
    for (size_t i = 0; opts->set_ready && i < ARRAY_LEN(weak); i++)
        if (weak[i].given)
            return err_set(err, EINVAL,
                           "--%s can't be combined with --set-ready: it would open the "
                           "gate on a weakened verification",
                           weak[i].name);
    return 0;
}

char *ready_announce(const char *log)
{
    static const char line[] = "\tSetting the GPU Ready State to READY.\n";
    static const char verified[] = "\tGPU ";
    const char *at = log, *last = NULL;
    while ((at = strstr(at, verified)) != NULL) {
        const char *end = strchr(at, '\n');
        if (end && memmem(at, (size_t)(end - at), " verified successfully.", 23))
            last = at;
        at += sizeof verified - 1;
    }
    if (!last)
        return xstrdup(log);
    return xasprintf("%.*s%s%s", (int)(last - log), log, line, last);
}

int ready_before(struct nvml *nvml, bool *was_ready, struct err *err)
{
    int r = nvml_ready_get(nvml, was_ready, err);
    if (r == 0 && *was_ready)
        log_warning("the GPU ready state is open already: something opened it before attestation "
                    "(Kata's kernel parameter nvrc.smi.srs=1 does); this run can't be a gate",
                    NULL);
    return r;
}

int ready_open(struct nvml *nvml, const struct opts *opts, const struct collection *c,
               struct err *err)
{
    bool ready = false;
    int r = collect_same_devices(nvml, opts, c, err);
    if (r < 0)
        return err_wrap(err, r, "ready state stays closed");
    r = nvml_ready_set(nvml, true, err);
    if (r == 0)
        r = nvml_ready_get(nvml, &ready, err);
    if (r == 0 && !ready)
        r = err_set(err, EIO, "the ready state was set and is still not ready");
    if (r == 0) {
        AUTO_FREE char *gpus =
            xasprintf("%u", c->gpus); /* the flag covers GPUs plugged later too */
        log_info("GPU ready state set", "gpus", gpus, NULL);
    }
    return r;
}

void ready_after_failure(struct nvml *nvml, bool was_ready, bool revoke)
{
    struct err err = ERR_INIT;
    if (!was_ready)
        return;
    if (!revoke)
        log_error("attestation failed and the GPU ready state is open; --revoke-on-failure would "
                  "close it, finally",
                  NULL);
    else if (nvml_ready_set(nvml, false, &err) < 0)
        log_error("the GPU ready state could not be closed", "error", err.msg, NULL);
    else
        log_warning("GPU ready state closed; it stays so until the driver is reloaded", NULL);
}
