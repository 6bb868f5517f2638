/* The guest's TEE as a simulated provider, preloaded into ccnode-attest: a folder made below …/tsm/report becomes an entry
 * of configfs-tsm, and SNP_GET_REPORT of any file is answered as /dev/sev-guest does. The folder FAKE_TSM holds
 *
 *   vcek.key     PEM: signs the reports (Milan, version 2, levels and chip of tests/data/attest-set/amd)
 *   vcek.der     when there: the host's certificate table holds it
 *   fault        lines "WHAT VALUE": provider TEXT, generation N, size N, data N (a byte changed), vmpl N, policy N,
 *                status N, firmware N, offset N (of the table's entry)
 *   calls        appended: mkdir, inblob, rmdir, ioctl
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/sev-guest.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPORT 1184
#define SIGNED 0x2a0

static FILE *file(const char *name, const char *mode)
{
    char path[1024];
    const char *dir = getenv("FAKE_TSM");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nonexistent", name);
    return fopen(path, mode);
}

static void note(const char *what)
{
    FILE *f = file("calls", "a");
    if (f) {
        fprintf(f, "%s\n", what);
        fclose(f);
    }
}

/* text of a fault, or @otherwise */
static const char *fault(const char *what, const char *otherwise, char room[64])
{
    char line[128], name[64], value[64];
    FILE *f = file("fault", "r");
    snprintf(room, 64, "%s", otherwise);
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%63s %63s", name, value) == 2 && strcmp(name, what) == 0)
            snprintf(room, 64, "%s", value);
    if (f)
        fclose(f);
    return room;
}

static unsigned number(const char *what, unsigned otherwise)
{
    char text[64], room[64];
    snprintf(text, sizeof text, "%u", otherwise);
    return (unsigned)strtoul(fault(what, text, room), NULL, 0);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* r and s little endian in 72 bytes each */
static void sign(uint8_t *report)
{
    FILE *f = file("vcek.key", "r");
    EVP_PKEY *key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
    if (f)
        fclose(f);
    if (!key)
        return;
    uint8_t der[160];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) != 1 ||
        EVP_DigestSign(ctx, der, &n, report, SIGNED) != 1)
        abort();
    const uint8_t *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
    BN_bn2lebinpad(ECDSA_SIG_get0_r(sig), report + SIGNED, 72);
    BN_bn2lebinpad(ECDSA_SIG_get0_s(sig), report + SIGNED + 72, 72);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

static void make_report(const uint8_t data[64], uint8_t report[REPORT])
{
    memset(report, 0, REPORT);
    put32(report, 2);
    put32(report + 8, number("policy", 0x30000));
    put32(report + 0x30, number("vmpl", 0));
    put32(report + 0x34, 1);
    memcpy(report + 0x50, data, 64);
    report[0x50] ^= (uint8_t)number("data", 0);
    memset(report + 0x90, 0xaa, 48);
    memset(report + 0xc0, 0xbb, 32);
    report[0x180] = 3;
    report[0x186] = 8;
    report[0x187] = 115;
    memset(report + 0x1a0, 0x5c, 64);
    sign(report);
}

/* configfs-tsm ---------------------------------------------------------------------------------------------------- */

static void put_file(const char *dir, const char *name, const void *data, size_t len)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f) {
        fwrite(data, 1, len, f);
        fclose(f);
    }
}

static size_t make_table(uint8_t *table, size_t room)
{
    static const uint8_t vcek[16] = {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64,
                                     0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd};
    FILE *f = file("vcek.der", "rb");
    if (!f)
        return 0;
    memset(table, 0, 48);
    memcpy(table, vcek, 16);
    size_t n = fread(table + 48, 1, room - 48, f);
    fclose(f);
    put32(table + 16, number("offset", 48));
    put32(table + 20, (uint32_t)n);
    return 48 + n;
}

static bool is_entry(int fd, const char *below, char path[1024])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 1023);
    path[n > 0 ? n : 0] = 0;
    return n > 0 && strstr(path, "/tsm/report") && strstr(path, below);
}

int mkdirat(int parent, const char *name, mode_t mode)
{
    char path[1024], dir[1200], text[64], room[64];
    int r = (int)syscall(SYS_mkdirat, parent, name, mode);
    if (r == 0 && is_entry(parent, "/tsm/report", path)) {
        snprintf(dir, sizeof dir, "%s/%s", path, name);
        put_file(dir, "inblob", "", 0);
        snprintf(text, sizeof text, "%s\n", fault("provider", "sev_guest", room));
        put_file(dir, "provider", text, strlen(text));
        note("mkdir");
    }
    return r;
}

ssize_t write(int fd, const void *data, size_t len)
{
    char path[1024], text[64];
    if (!is_entry(fd, "/inblob", path))
        return syscall(SYS_write, fd, data, len);
    note("inblob");
    uint8_t report[REPORT];
    static uint8_t table[8192];
    path[strlen(path) - strlen("/inblob")] = 0;
    if (len != 64) {
        errno = EINVAL;
        return -1;
    }
    make_report(data, report);
    put_file(path, "outblob", report, number("size", REPORT));
    put_file(path, "auxblob", table, make_table(table, sizeof table));
    snprintf(text, sizeof text, "%u\n", number("generation", 1));
    put_file(path, "generation", text, strlen(text));
    return (ssize_t)len;
}

int unlinkat(int parent, const char *name, int flags)
{
    char path[1024], victim[2048];
    static const char *const files[] = {"inblob", "provider", "outblob", "auxblob", "generation"};
    if (flags & AT_REMOVEDIR && is_entry(parent, "/tsm/report", path)) {
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            snprintf(victim, sizeof victim, "%s/%s", name, files[i]);
            (void)syscall(SYS_unlinkat, parent, victim, 0);
        }
        note("rmdir");
    }
    return (int)syscall(SYS_unlinkat, parent, name, flags);
}

/* /dev/sev-guest -------------------------------------------------------------------------------------------------- */

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (request != SNP_GET_REPORT)
        return (int)syscall(SYS_ioctl, fd, request, arg);
    note("ioctl");
    struct snp_guest_request_ioctl *call = arg;
    const struct snp_report_req *in = (const void *)(uintptr_t)call->req_data;
    struct snp_report_resp *out = (void *)(uintptr_t)call->resp_data;
    call->fw_error = number("firmware", 0);
    if (call->fw_error) {
        errno = EIO;
        return -1;
    }
    memset(out, 0, sizeof *out);
    put32(out->data, number("status", 0));
    put32(out->data + 4, number("size", REPORT));
    make_report(in->user_data, out->data + 32);
    return 0;
}
