#include "attestation/prog/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/dl.h"
#include "base/auto.h"

/* go-nvml nvml.h; sizes and offsets measured with the compiler, REF-A 1.3 */
struct cc_state {
    unsigned environment, feature, devtools;
};
struct cc_settings {
    unsigned version, environment, feature, devtools, multi_gpu;
};
#define SETTINGS_VERSION 0x01000014u
struct cc_certificate {
    unsigned size, attestation_size;
    uint8_t chain[0x1000], attestation_chain[0x1400];
};
struct cc_report {
    unsigned cec_present, size, cec_size;
    uint8_t nonce[32], report[0x2000], cec[0x1000];
};
_Static_assert(sizeof(struct cc_state) == 12 && sizeof(struct cc_settings) == 20, "NVML layout");
_Static_assert(sizeof(struct cc_certificate) == 9224 && sizeof(struct cc_report) == 12332,
               "NVML layout");

enum { NOT_SUPPORTED = 3, BUFFER_TOO_SMALL = 7, FUNCTION_NOT_FOUND = 13, VERSION_MISMATCH = 25 };

struct nvml {
    void *lib;
    bool initialised;
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_string)(int);
    int (*driver_version)(char *, unsigned);
    int (*state)(struct cc_state *);
    int (*settings)(struct cc_settings *);
    int (*ready_get)(unsigned *);
    int (*ready_set)(unsigned);
    int (*count)(unsigned *);
    int (*handle)(unsigned, void **);
    int (*uuid)(void *, char *, unsigned);
    int (*vbios)(void *, char *, unsigned);
    int (*arch)(void *, unsigned *);
    int (*persistence)(void *, unsigned *);
    int (*certificate)(void *, struct cc_certificate *);
    int (*report)(void *, struct cc_report *);
};

static int load_symbols(struct nvml *n, struct err *err)
{
    const struct dl_symbol symbols[] = {
        {"nvmlInit_v2", &n->init, false},
        {"nvmlShutdown", &n->shutdown, false},
        {"nvmlErrorString", &n->error_string, false},
        {"nvmlSystemGetDriverVersion", &n->driver_version, false},
        {"nvmlSystemGetConfComputeState", &n->state, false},
        {"nvmlSystemGetConfComputeSettings", &n->settings, true},
        {"nvmlSystemGetConfComputeGpusReadyState", &n->ready_get, false},
        {"nvmlSystemSetConfComputeGpusReadyState", &n->ready_set, false},
        {"nvmlDeviceGetCount_v2", &n->count, false},
        {"nvmlDeviceGetHandleByIndex_v2", &n->handle, false},
        {"nvmlDeviceGetUUID", &n->uuid, false},
        {"nvmlDeviceGetVbiosVersion", &n->vbios, false},
        {"nvmlDeviceGetArchitecture", &n->arch, false},
        {"nvmlDeviceGetPersistenceMode", &n->persistence, true},
        {"nvmlDeviceGetConfComputeGpuCertificate", &n->certificate, false},
        {"nvmlDeviceGetConfComputeGpuAttestationReport", &n->report, false},
    };
    return dl_symbols(n->lib, "NVML", symbols, ARRAY_LEN(symbols), err);
}

/* what a person can do about a code, REF-A 1.4 and 7.4 */
static const char *hint(int code)
{
    switch (code) {
    case 4:
        return "; run as root with CAP_SYS_ADMIN and access to /dev/nvidiactl";
    case 9:
    case 12:
        return "; the driver is not loaded: is nvidia.ko there, and did the guest load the crypto "
               "modules ecdsa_generic and ecdh_generic (LKCA) before it?";
    case 18:
        return "; library and kernel driver are of different versions";
    case 2:
        return "; after the ready state was FALSE once more this is final until the driver is "
               "reloaded";
    case 15:
        return "; the GPU is lost: look for Xid in the kernel log";
    case 999:
        return "; a GPU with CC off answers this, and a driver without the LKCA crypto modules "
               "(ecdsa_generic, ecdh_generic); ccnode-attest status tells which";
    default:
        return "";
    }
}

static int failed(const struct nvml *n, int code, const char *call, struct err *err)
{
    const char *text = n->error_string ? n->error_string(code) : NULL;
    (void)err_set(err, EREMOTEIO, "%s: NVML says %d (%s)%s", call, code, text ? text : "?",
                  hint(code));
    err->device_status = (uint32_t)code;
    return -EREMOTEIO;
}

int nvml_open(const char *file, const char *host_root, struct nvml **ret, struct err *err)
{
    struct nvml *n = xcalloc(1, sizeof *n);
    int r = dl_open(file, "libnvidia-ml.so.1", host_root, &n->lib, err);
    if (r == 0)
        r = load_symbols(n, err);
    if (r == 0) {
        int code = n->init();
        n->initialised = code == 0;
        r = code ? failed(n, code, "nvmlInit_v2", err) : 0;
    }
    if (r < 0) {
        nvml_close(n);
        return r;
    }
    *ret = n;
    return 0;
}

void nvml_close(struct nvml *nvml)
{
    if (!nvml)
        return;
    if (nvml->initialised)
        (void)nvml->shutdown();
    if (nvml->lib)
        (void)dlclose(nvml->lib);
    free(nvml);
}

int nvml_mode(struct nvml *nvml, struct nvml_mode *ret, struct err *err)
{
    struct cc_settings settings = {.version = SETTINGS_VERSION};
    struct cc_state state = {0};
    int code = nvml->settings ? nvml->settings(&settings) : FUNCTION_NOT_FOUND;
    if (code == 0) {
        *ret = (struct nvml_mode){settings.environment, settings.feature, settings.devtools,
                                  settings.multi_gpu, true};
        return 0;
    }
    if (code != FUNCTION_NOT_FOUND && code != VERSION_MISMATCH && code != NOT_SUPPORTED)
        return failed(nvml, code, "nvmlSystemGetConfComputeSettings", err);
    code = nvml->state(&state);
    if (code)
        return failed(nvml, code, "nvmlSystemGetConfComputeState", err);
    *ret = (struct nvml_mode){state.environment, state.feature, state.devtools, 0, false};
    return 0;
}

int nvml_driver_version(struct nvml *nvml, char ret[NVML_TEXT], struct err *err)
{
    int code = nvml->driver_version(ret, 80);
    if (code == BUFFER_TOO_SMALL)
        code = nvml->driver_version(ret, NVML_TEXT);
    if (code)
        return failed(nvml, code, "nvmlSystemGetDriverVersion", err);
    ret[NVML_TEXT - 1] = 0;
    return 0;
}

/* 7, buffer too small, is answered by one larger try: REF-A 1.4 */
static int read_text(int (*get)(void *, char *, unsigned), void *handle, unsigned usual,
                     char ret[NVML_TEXT])
{
    int code = get(handle, ret, usual);
    if (code == BUFFER_TOO_SMALL)
        code = get(handle, ret, NVML_TEXT);
    ret[NVML_TEXT - 1] = 0;
    return code;
}

static int read_device(struct nvml *n, unsigned i, struct nvml_device *d, struct err *err)
{
    unsigned persistence = 0;
    char call[64];
    int code = n->handle(i, &d->handle);
    (void)snprintf(call, sizeof call, "GPU %u: nvmlDeviceGetHandleByIndex_v2", i);
    if (!code && (code = read_text(n->uuid, d->handle, 80, d->uuid)))
        (void)snprintf(call, sizeof call, "GPU %u: nvmlDeviceGetUUID", i);
    if (!code && (code = read_text(n->vbios, d->handle, 32, d->vbios)))
        (void)snprintf(call, sizeof call, "GPU %u: nvmlDeviceGetVbiosVersion", i);
    if (!code && (code = n->arch(d->handle, &d->arch)))
        (void)snprintf(call, sizeof call, "GPU %u: nvmlDeviceGetArchitecture", i);
    if (code)
        return failed(n, code, call, err);
    d->persistence = -1;
    if (n->persistence && n->persistence(d->handle, &persistence) == 0)
        d->persistence = persistence != 0;
    return 0;
}

int nvml_devices(struct nvml *nvml, struct nvml_device *ret, size_t room, struct err *err)
{
    unsigned count = 0;
    int code = nvml->count(&count);
    if (code)
        return failed(nvml, code, "nvmlDeviceGetCount_v2", err);
    if (count > room)
        return err_set(err, E2BIG, "NVML reports %u GPUs, %zu are possible", count, room);
    for (unsigned i = 0; i < count; i++) {
        ret[i] = (struct nvml_device){0};
        int r = read_device(nvml, i, &ret[i], err);
        if (r < 0)
            return r;
    }
    return (int)count;
}

static int take(const uint8_t *data, size_t size, size_t max, const char *what,
                struct att_bytes *ret, struct err *err)
{
    if (size == 0 || size > max)
        return err_set(err, EBADMSG, "%s of %zu bytes, 1 to %zu are possible", what, size, max);
    ret->data = xmalloc(size);
    ret->len = size;
    memcpy(ret->data, data, size);
    return 0;
}

int nvml_certificate(struct nvml *nvml, const struct nvml_device *device, struct att_bytes *ret,
                     struct err *err)
{
    AUTO_FREE struct cc_certificate *cert = xcalloc(1, sizeof *cert);
    int code = nvml->certificate(device->handle, cert);
    if (code)
        return failed(nvml, code, "nvmlDeviceGetConfComputeGpuCertificate", err);
    int r = take(cert->attestation_chain, cert->attestation_size, sizeof cert->attestation_chain,
                 "certificate chain", ret, err);
    while (r == 0 && ret->len > 1 && ret->data[ret->len - 1] == 0) /* counted terminator */
        ret->len--;
    return r;
}

int nvml_report(struct nvml *nvml, const struct nvml_device *device,
                const uint8_t nonce[ATT_NONCE_SIZE], struct att_bytes *ret, struct err *err)
{
    AUTO_FREE struct cc_report *report = xcalloc(1, sizeof *report);
    memcpy(report->nonce, nonce, sizeof report->nonce);
    int code = nvml->report(device->handle, report);
    if (code)
        return failed(nvml, code, "nvmlDeviceGetConfComputeGpuAttestationReport", err);
    return take(report->report, report->size, sizeof report->report, "attestation report", ret,
                err);
}

int nvml_ready_get(struct nvml *nvml, bool *ret, struct err *err)
{
    unsigned value = 0;
    int code = nvml->ready_get(&value);
    if (code)
        return failed(nvml, code, "nvmlSystemGetConfComputeGpusReadyState", err);
    *ret = value != 0;
    return 0;
}

int nvml_ready_set(struct nvml *nvml, bool ready, struct err *err)
{
    int code = nvml->ready_set(ready);
    return code ? failed(nvml, code, "nvmlSystemSetConfComputeGpusReadyState", err) : 0;
}
