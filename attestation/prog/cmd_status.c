/* What the driver says, and what usually is missing when it does not work: REF-A 7.4 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/collect.h"
#include "attestation/prog/commands.h"
#include "attestation/prog/files.h"
#include "attestation/prog/lkca.h"
#include "attestation/prog/watch.h"
#include "base/auto.h"

struct status {
    struct nvml_mode mode;
    char driver[NVML_TEXT];
    struct nvml_device devices[ATT_DEVICES_MAX];
    int n;
    bool ready, ready_known;
    struct lkca lkca;
};

static int read_status(const struct opts *opts, struct status *s, struct err *err)
{
    struct nvml *nvml = NULL;
    struct err ignored = ERR_INIT;
    int r = nvml_open(opts->nvml, opts->host_root, &nvml, err);
    if (r < 0)
        return r;
    r = nvml_mode(nvml, &s->mode, err);
    if (r == 0)
        r = nvml_driver_version(nvml, s->driver, err);
    if (r == 0)
        r = s->n = nvml_devices(nvml, s->devices, ATT_DEVICES_MAX, err);
    s->ready_known = r >= 0 && nvml_ready_get(nvml, &s->ready, &ignored) == 0;
    nvml_close(nvml);
    return r < 0 ? r : 0;
}

static const char *environment_name(unsigned environment)
{
    return environment == 2 ? "production" : environment == 1 ? "simulation" : "unavailable";
}

static const char *persistence_name(int persistence)
{
    return persistence < 0 ? "unknown" : persistence ? "on" : "off";
}

static void print_text(FILE *f, const struct status *s)
{
    bool persistence_off = false;
    (void)fprintf(f, "CC mode: %s\nenvironment: %s\n", collect_mode_name(&s->mode),
                  environment_name(s->mode.environment));
    if (!s->mode.settings)
        (void)fprintf(f,
                      "note: this driver has no Settings call, so protected PCIe can't be seen\n");
    (void)fprintf(f, "ready state: %s%s\n",
                  !s->ready_known ? "unknown"
                  : s->ready      ? "ready"
                                  : "not ready",
                  s->ready_known && !s->mode.feature && !s->mode.multi_gpu
                      ? " (gates nothing while CC is off)"
                      : "");
    (void)fprintf(f, "driver: %s\n", s->driver);
    for (int i = 0; i < s->n; i++) {
        const struct nvml_device *d = &s->devices[i];
        (void)fprintf(f, "GPU %d: %s, VBIOS %s, architecture %u, persistence %s\n", i, d->uuid,
                      d->vbios, d->arch, persistence_name(d->persistence));
        persistence_off |= d->persistence == 0;
    }
    if (persistence_off)
        (void)fprintf(f, "nvidia-persistenced: does not hold the GPUs: without it the driver ends "
                         "the CC session when the last client goes, and attestation must be "
                         "repeated; start it first\n");
    lkca_say(f, &s->lkca, false);
}

static void put_text(struct json_object *o, const char *name, const char *text)
{
    json_object_object_add(o, name, json_object_new_string(text));
}

static void print_json(FILE *f, const struct status *s)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    put_text(o, "cc_mode", collect_mode_name(&s->mode));
    put_text(o, "environment", environment_name(s->mode.environment));
    json_object_object_add(o, "ready_state",
                           s->ready_known ? json_object_new_boolean(s->ready) : NULL);
    put_text(o, "driver_version", s->driver);
    for (int i = 0; i < s->n; i++) {
        struct json_object *d = json_object_new_object();
        put_text(d, "uuid", s->devices[i].uuid);
        put_text(d, "vbios_version", s->devices[i].vbios);
        json_object_object_add(d, "architecture", json_object_new_int64(s->devices[i].arch));
        put_text(d, "persistence", persistence_name(s->devices[i].persistence));
        json_object_array_add(list, d);
    }
    json_object_object_add(o, "gpus", list);
    json_object_object_add(o, "lkca_ecdsa",
                           s->lkca.known ? json_object_new_boolean(s->lkca.ecdsa) : NULL);
    json_object_object_add(o, "lkca_ecdh",
                           s->lkca.known ? json_object_new_boolean(s->lkca.ecdh) : NULL);
    (void)fprintf(f, "%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
    json_object_put(o);
}

int cmd_status(const struct opts *opts)
{
    struct err err = ERR_INIT;
    AUTO_FREE struct status *s = xcalloc(1, sizeof *s);
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    s->lkca = lkca_read(opts);
    watch_start(opts->driver_seconds, EXIT_COLLECT);
    if (read_status(opts, s, &err) < 0) {
        lkca_say(stderr, &s->lkca, true);
        return complain(EXIT_COLLECT, &err);
    }
    watch_stop();
    FILE *f = open_memstream(&text, &len);
    if (!f)
        abort();
    if (opts->output == OUTPUT_JSON)
        print_json(f, s);
    else
        print_text(f, s);
    if (fclose(f) != 0)
        abort();
    return file_replace(opts->output_file, text, len, &err) < 0 ? complain(EXIT_USAGE, &err)
                                                                : EXIT_ACCEPTED;
}

/* Reading is free; setting is what attest --set-ready does after everything was verified. */
int cmd_ready(const struct opts *opts)
{
    struct err err = ERR_INIT;
    struct nvml *nvml = NULL;
    bool ready = false;
    const char *what = opts->n_args ? opts->args[0] : "get";
    if (strcmp(what, "set") == 0) {
        struct opts set = *opts;
        set.set_ready = true;
        return cmd_attest(&set);
    }
    if (strcmp(what, "get") != 0) {
        (void)err_set(&err, EINVAL, "ready get, or ready set (the same as attest --set-ready)");
        return complain(EXIT_USAGE, &err);
    }
    watch_start(opts->driver_seconds, EXIT_READY);
    int r = nvml_open(opts->nvml, opts->host_root, &nvml, &err);
    if (r == 0)
        r = nvml_ready_get(nvml, &ready, &err);
    nvml_close(nvml);
    watch_stop();
    if (r < 0)
        return complain(EXIT_READY, &err);
    printf("%s\n", ready ? "ready" : "not ready");
    return EXIT_ACCEPTED;
}
