#include <errno.h>
#include <string.h>

#include "attestation/prog/collect.h"
#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/services.h"
#include "attestation/prog/watch.h"
#include "base/auto.h"

/* gpu by default; nvswitch or all bring the switches in */
static int collect_all(const struct opts *opts, struct collection *c, struct err *err)
{
    struct nvml *nvml = NULL;
    struct nvml_mode mode;
    bool switches = opts->device && strcmp(opts->device, "gpu") != 0;
    bool gpus = !opts->device || strcmp(opts->device, "nvswitch") != 0;
    int r = 0;
    if (gpus) {
        r = nvml_open(opts->nvml, opts->host_root, &nvml, err);
        if (r == 0)
            r = nvml_mode(nvml, &mode, err);
        if (r == 0)
            r = collect_check_mode(&mode, opts->allow_devtools, err);
        if (r == 0)
            r = collect_gpus(nvml, opts, c, err);
        nvml_close(nvml);
    }
    return r == 0 && switches ? collect_switches(opts, c, err) : r;
}

int cmd_collect(const struct opts *opts)
{
    struct err err = ERR_INIT;
    AUTO_FREE struct collection *c = xcalloc(1, sizeof *c);
    if (opts->has_nonce)
        memcpy(c->nonce, opts->nonce_bytes, sizeof c->nonce);
    else if (services_random(NULL, c->nonce, sizeof c->nonce, &err) < 0)
        return complain(EXIT_COLLECT, &err);
    int status = EXIT_ACCEPTED;
    watch_start(opts->driver_seconds, EXIT_COLLECT);
    int r = collect_all(opts, c, &err);
    watch_stop();
    if (r < 0) {
        collect_trouble(opts, &err);
        status = complain(EXIT_COLLECT, &err);
    } else {
        bool coco = opts->format && strcmp(opts->format, "coco") == 0;
        AUTO_FREE char *list = collect_json(c, coco);
        /* nvattest's wrapping: REF-A 1.7 */
        AUTO_FREE char *json =
            opts->output == OUTPUT_JSON && !coco
                ? xasprintf("{\"result_code\":0,\"result_message\":\"ok\",\"evidences\":%s}\n",
                            list)
                : xstrdup(list);
        if (file_replace(opts->output_file, json, strlen(json), &err) < 0)
            status = complain(EXIT_COLLECT, &err);
    }
    collection_done(c);
    return status;
}
