#include "attestation/prog/collect.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/prog/lkca.h"
#include "attestation/prog/nscq.h"
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"

void collection_done(struct collection *c)
{
    for (size_t i = 0; i < c->n; i++) {
        att_bytes_done(&c->list[i].report);
        att_bytes_done(&c->list[i].chain);
    }
    c->n = 0;
}

const char *collect_mode_name(const struct nvml_mode *mode)
{
    if (mode->devtools)
        return "devtools";
    if (mode->multi_gpu == 1)
        return "protected-pcie";
    if (mode->multi_gpu == 2)
        return "nvlink-encryption";
    return mode->feature ? "on" : "off";
}

int collect_check_mode(const struct nvml_mode *mode, bool allow_devtools, struct err *err)
{
    if (mode->devtools && !allow_devtools)
        return err_set(err, EPERM,
                       "The system is running in CC DevTools mode !! Nothing is "
                       "protected in it; --allow-devtools overrides for tests");
    if (!mode->feature && !mode->multi_gpu && !mode->devtools)
        return err_set(
            err, EPERM,
            "the confidential compute feature is disabled: the GPU runs with CC off; it is "
            "switched on the node (label nvidia.com/cc.mode, or ccnode set-mode)%s",
            mode->settings ? "" : " (this driver can't tell protected PCIe)");
    if (mode->environment != 2 && !mode->devtools)
        return err_set(err, EPERM, "the CC environment is %s, not production",
                       mode->environment == 1 ? "simulation" : "unavailable");
    return 0;
}

static const char *arch_name(unsigned arch)
{
    return arch == 9 ? "HOPPER" : arch == 10 ? "BLACKWELL" : NULL; /* NVMLH */
}

static int collect_gpu(struct nvml *nvml, const struct nvml_device *device, const char *driver,
                       struct collection *c, struct err *err)
{
    const char *arch = arch_name(device->arch);
    if (!arch)
        return err_set(err, ENOTSUP, "architecture %u, 9 (Hopper) and 10 (Blackwell) are supported",
                       device->arch);
    struct collected *d = &c->list[c->n++];
    *d = (struct collected){.persistence = device->persistence};
    (void)snprintf(d->arch, sizeof d->arch, "%s", arch);
    (void)snprintf(d->uuid, sizeof d->uuid, "%s", device->uuid);
    (void)snprintf(d->driver, sizeof d->driver, "%s", driver);
    (void)snprintf(d->bios, sizeof d->bios, "%s", device->vbios);
    int r = nvml_certificate(nvml, device, &d->chain, err);
    return r < 0 ? r : nvml_report(nvml, device, c->nonce, &d->report, err);
}

int collect_gpus(struct nvml *nvml, const struct opts *opts, struct collection *c, struct err *err)
{
    struct nvml_device devices[ATT_DEVICES_MAX];
    char driver[NVML_TEXT];
    int n = nvml_devices(nvml, devices, ATT_DEVICES_MAX - c->n, err);
    if (n < 0)
        return n;
    if (n == 0)
        return err_set(err, ENODEV, "NVML sees no GPU");
    if (opts->n_gpus && (unsigned)n != opts->n_gpus)
        return err_set(err, ENODEV, "NVML sees %d GPUs, %u are expected (--gpus)", n, opts->n_gpus);
    int r = nvml_driver_version(nvml, driver, err);
    for (int i = 0; r == 0 && i < n; i++) {
        r = collect_gpu(nvml, &devices[i], driver, c, err);
        if (r < 0)
            r = err_wrap(err, r, "GPU %d (%s)", i, devices[i].uuid);
    }
    c->gpus = (unsigned)n;
    return r;
}

static int collect_switch(struct nscq *nscq, const struct nscq_device *device, struct collection *c,
                          struct err *err)
{
    if (device->arch != NSCQ_ARCH_LS10)
        return err_set(err, ENOTSUP, "architecture %d, 2 (LS10) is supported", device->arch);
    if (device->tnvl < 0 || !(device->tnvl & NSCQ_TNVL_LOCK))
        return err_set(err, EPERM, "protected-PCIe mode is %d: not locked", device->tnvl);
    struct collected *d = &c->list[c->n++];
    *d = (struct collected){.arch = "LS10"};
    (void)snprintf(d->uuid, sizeof d->uuid, "%s", device->label);
    int r = nscq_certificate(nscq, device, &d->chain, err);
    return r < 0 ? r : nscq_report(nscq, device, c->nonce, &d->report, err);
}

int collect_switches(const struct opts *opts, struct collection *c, struct err *err)
{
    struct nscq *nscq;
    struct nscq_device devices[ATT_DEVICES_MAX];
    int r = nscq_open(opts->nscq, opts->host_root, &nscq, err);
    if (r < 0)
        return r;
    int n = r = nscq_devices(nscq, devices, ATT_DEVICES_MAX - c->n, err);
    if (n == 0)
        r = err_set(err, ENODEV, "NSCQ sees no NVSwitch");
    else if (n > 0 && opts->n_switches && (unsigned)n != opts->n_switches)
        r = err_set(err, ENODEV, "NSCQ sees %d NVSwitches, %u are expected (--switches)", n,
                    opts->n_switches);
    for (int i = 0; r >= 0 && i < n; i++) {
        r = collect_switch(nscq, &devices[i], c, err);
        if (r < 0)
            r = err_wrap(err, r, "NVSwitch %d (%s)", i, devices[i].label);
    }
    c->switches = n > 0 ? (unsigned)n : 0;
    nscq_close(nscq);
    return r < 0 ? r : 0;
}

static int same_switches(const struct opts *opts, const struct collection *c, struct err *err)
{
    struct nscq *nscq;
    struct nscq_device devices[ATT_DEVICES_MAX];
    int n, r = nscq_open(opts->nscq, opts->host_root, &nscq, err);
    if (r < 0)
        return r;
    n = r = nscq_devices(nscq, devices, ATT_DEVICES_MAX, err);
    if (n >= 0 && (unsigned)n != c->switches)
        r = err_set(err, ENODEV, "%u NVSwitches were verified, %d are there now", c->switches, n);
    for (int i = 0; r >= 0 && i < n; i++)
        if (strcmp(devices[i].label, c->list[c->gpus + (unsigned)i].uuid) != 0)
            r = err_set(err, ENODEV, "NVSwitch %d is %s now, %s was verified", i, devices[i].label,
                        c->list[c->gpus + (unsigned)i].uuid);
    nscq_close(nscq);
    return r < 0 ? r : 0;
}

int collect_same_devices(struct nvml *nvml, const struct opts *opts, const struct collection *c,
                         struct err *err)
{
    struct nvml_device devices[ATT_DEVICES_MAX];
    int n = nvml_devices(nvml, devices, ATT_DEVICES_MAX, err);
    if (n < 0)
        return n;
    if ((unsigned)n != c->gpus)
        return err_set(err, ENODEV, "%u GPUs were verified, %d are there now", c->gpus, n);
    size_t at = 0;
    for (int i = 0; i < n; i++, at++)
        if (strcmp(devices[i].uuid, c->list[at].uuid) != 0)
            return err_set(err, ENODEV, "GPU %d is %s now, %s was verified", i, devices[i].uuid,
                           c->list[at].uuid);
    return c->switches ? same_switches(opts, c, err) : 0;
}

void collect_trouble(const struct opts *opts, const struct err *why)
{
    if (why->code != EREMOTEIO)
        return;
    struct lkca lkca = lkca_read(opts);
    lkca_say(stderr, &lkca, true);
}

void collect_warn_persistence(const struct collection *c)
{
    unsigned off = 0;
    for (size_t i = 0; i < c->gpus; i++)
        off += c->list[i].persistence == 0;
    if (off)
        log_warning("nvidia-persistenced does not hold the GPUs: the driver ends the CC session "
                    "that was attested when its last client goes; start nvidia-persistenced first",
                    NULL);
}

static void put(struct json_object *o, const char *name, const char *text)
{
    if (*text)
        json_object_object_add(o, name, json_object_new_string(text));
}

char *collect_json(const struct collection *c, bool coco)
{
    struct json_object *list = json_object_new_array(), *root = list;
    char nonce[2 * ATT_NONCE_SIZE + 1];
    hex_encode(c->nonce, ATT_NONCE_SIZE, nonce);
    for (size_t i = 0; i < c->n; i++) {
        const struct collected *d = &c->list[i];
        struct json_object *o = json_object_new_object();
        AUTO_FREE char *report = b64_encode(d->report.data, d->report.len);
        AUTO_FREE char *chain = b64_encode(d->chain.data, d->chain.len);
        put(o, "arch", d->arch);
        put(o, "uuid", *d->uuid ? d->uuid : "unknown");
        put(o, "evidence", report);
        put(o, "certificate", chain);
        if (!coco) {
            put(o, "nonce", nonce);
            put(o, "driver_version", d->driver);
            put(o, "vbios_version", d->bios);
        }
        json_object_array_add(list, o);
    }
    if (coco) {
        root = json_object_new_object();
        json_object_object_add(root, "device_evidence_list", list);
    }
    char *text =
        xasprintf("%s\n", json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
    return text;
}
