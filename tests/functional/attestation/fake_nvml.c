/* A libnvidia-ml.so.1 that serves a folder named by FAKE_NVML:
 *
 *   mode        "environment feature devtools multi_gpu"
 *   ready       "0" or "1"; rewritten by the set call
 *   gpuN.report, gpuN.chain    bytes; gpuN.key (PEM), when there, signs the report anew over the caller's nonce
 *   versions    "driver vbios"
 *   fault       lines "FUNCTION CODE [CALL]": that call of the function (counted from 1; 0: every) answers CODE;
 *               pseudo functions report-size, chain-size set the size, count-after N: another count from the second call on,
 *               uuid-after N: other uuids after N of them were read
 *               CODE 9999: never comes back
 *   calls       appended: one function name a line
 */
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned counts[32];
static int initialised;

static FILE *file(const char *name, const char *mode)
{
    char path[1024];
    const char *dir = getenv("FAKE_NVML");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nonexistent", name);
    return fopen(path, mode);
}

/* value of a fault line, -1 when there is none for this call */
static int fault(const char *function, unsigned call)
{
    char line[128], name[64];
    int code, at, found = -1;
    FILE *f = file("fault", "r");
    while (f && fgets(line, sizeof line, f)) {
        at = 0;
        if (sscanf(line, "%63s %d %d", name, &code, &at) >= 2 && strcmp(name, function) == 0 &&
            (at == 0 || (unsigned)at == call))
            found = code;
    }
    if (f)
        fclose(f);
    return found;
}

static int enter(const char *function, unsigned slot)
{
    FILE *f = file("calls", "a");
    if (f) {
        fprintf(f, "%s\n", function);
        fclose(f);
    }
    int code = fault(function, ++counts[slot]);
    if (code == 9999) /* no answer */
        for (;;)
            pause();
    if (code < 0 && slot && !initialised)
        return 1;
    return code < 0 ? 0 : code;
}
#define ENTER(slot)                                                                                \
    do {                                                                                           \
        int code_ = enter(__func__, slot);                                                         \
        if (code_)                                                                                 \
            return code_;                                                                          \
    } while (0)

int nvmlInit_v2(void)
{
    ENTER(0);
    initialised = 1;
    return 0;
}
int nvmlShutdown(void)
{
    ENTER(1);
    initialised = 0;
    return 0;
}
const char *nvmlErrorString(int code)
{
    return code == 2 ? "Invalid Argument" : code == 999 ? "Unknown Error" : "some error";
}
static void words(const char *name, unsigned *ret, int n)
{
    FILE *f = file(name, "r");
    for (int i = 0; i < n; i++)
        if (!f || fscanf(f, "%u", &ret[i]) != 1)
            ret[i] = 0;
    if (f)
        fclose(f);
}
static void text(int which, char *ret, unsigned room)
{
    char list[2][64] = {"550.90.07", "96.00.9F.00.01"};
    FILE *f = file("versions", "r");
    if (f && fscanf(f, "%63s %63s", list[0], list[1]) < 2)
        list[0][0] = 0;
    if (f)
        fclose(f);
    snprintf(ret, room, "%s", list[which]);
}
int nvmlSystemGetDriverVersion(char *ret, unsigned room)
{
    ENTER(2);
    text(0, ret, room);
    return 0;
}
int nvmlSystemGetConfComputeState(unsigned *state)
{
    ENTER(3);
    words("mode", state, 3);
    return 0;
}
int nvmlSystemGetConfComputeSettings(unsigned *settings)
{
    ENTER(4);
    if (settings[0] != 0x01000014)
        return 25;
    words("mode", settings + 1, 4);
    return 0;
}
int nvmlSystemGetConfComputeGpusReadyState(unsigned *ready)
{
    ENTER(5);
    words("ready", ready, 1);
    return 0;
}
int nvmlSystemSetConfComputeGpusReadyState(unsigned ready)
{
    ENTER(6);
    FILE *f = file("ready", "w");
    if (f) {
        fprintf(f, "%u\n", ready);
        fclose(f);
    }
    return 0;
}
int nvmlDeviceGetCount_v2(unsigned *count)
{
    ENTER(7);
    int after = fault("count-after", 0);
    char name[32];
    for (*count = 0; *count < 32; (*count)++) {
        snprintf(name, sizeof name, "gpu%u.report", *count);
        FILE *f = file(name, "r");
        if (!f)
            break;
        fclose(f);
    }
    if (after >= 0 && counts[7] > 1)
        *count = (unsigned)after;
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **handle)
{
    ENTER(8);
    *handle = (void *)(uintptr_t)(i + 1);
    return 0;
}
int nvmlDeviceGetUUID(void *handle, char *ret, unsigned room)
{
    ENTER(9);
    int after = fault("uuid-after", 0);
    snprintf(ret, room, "GPU-%08u-0000-0000-0000-00000000000%u",
             after >= 0 && counts[9] > (unsigned)after ? 1u : 0u, (unsigned)(uintptr_t)handle - 1);
    return 0;
}
int nvmlDeviceGetVbiosVersion(void *handle, char *ret, unsigned room)
{
    (void)handle;
    ENTER(10);
    text(1, ret, room);
    return 0;
}
int nvmlDeviceGetArchitecture(void *handle, unsigned *arch)
{
    (void)handle;
    ENTER(11);
    *arch = 9;
    return 0;
}
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *on)
{
    (void)handle;
    ENTER(12);
    *on = fault("persistence-off", 0) >= 0 ? 0 : 1;
    return 0;
}

static unsigned load(void *handle, const char *kind, uint8_t *ret, size_t room)
{
    char name[32];
    snprintf(name, sizeof name, "gpu%u.%s", (unsigned)(uintptr_t)handle - 1, kind);
    FILE *f = file(name, "rb");
    size_t n = f ? fread(ret, 1, room, f) : 0;
    if (f)
        fclose(f);
    return (unsigned)n;
}

int nvmlDeviceGetConfComputeGpuCertificate(void *handle, uint8_t *cert)
{
    ENTER(13);
    unsigned n = load(handle, "chain", cert + 4104, 0x1400);
    int size = fault("chain-size", 0);
    if (size >= 0)
        n = (unsigned)size;
    memcpy(cert + 4, &n, 4);
    return 0;
}

/* r and s, 48 bytes each, over everything before them */
static void sign(EVP_PKEY *key, uint8_t *report, unsigned len)
{
    uint8_t der[160];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) != 1 ||
        EVP_DigestSign(ctx, der, &n, report, len - 96) != 1)
        abort();
    const uint8_t *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), report + len - 96, 48);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), report + len - 48, 48);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

int nvmlDeviceGetConfComputeGpuAttestationReport(void *handle, uint8_t *report)
{
    char name[32];
    ENTER(14);
    uint8_t *bytes = report + 44;
    unsigned n = load(handle, "report", bytes, 0x2000);
    snprintf(name, sizeof name, "gpu%u.key", (unsigned)(uintptr_t)handle - 1);
    FILE *f = file(name, "r");
    EVP_PKEY *key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
    if (key) {
        memcpy(bytes + 4, report + 12, 32);
        sign(key, bytes, n);
        EVP_PKEY_free(key);
    }
    if (f)
        fclose(f);
    int size = fault("report-size", 0);
    if (size >= 0)
        n = (unsigned)size;
    memcpy(report + 4, &n, 4);
    return 0;
}
