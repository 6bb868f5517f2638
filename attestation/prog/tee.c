#include "attestation/prog/tee.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sev-guest.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/fs.h"

#define REPORT_SIZE 1184
#define BLOB_MAX (64u << 10)
static const char tsm[] = "/sys/kernel/config/tsm/report";

/* configfs-tsm ---------------------------------------------------------------------------------------------------- */

static int read_blob(int dir, const char *name, struct att_bytes *ret, struct err *err)
{
    char *data = NULL;
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s/…/%s", tsm, name);
    int r = fs_read_fd(fd, name, BLOB_MAX, &data, &ret->len, err);
    ret->data = (uint8_t *)data;
    return r < 0 ? r : 0;
}

static int write_blob(int dir, const uint8_t *data, size_t len, struct err *err)
{
    AUTO_CLOSE int fd = openat(dir, "inblob", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        return err_errno(err, "%s/…/inblob", tsm);
    return 0;
}

/* generation counts writes: 1 means that nobody else wrote between ours and the reading */
static int check_generation(int dir, struct err *err)
{
    struct att_bytes text = {0};
    int r = read_blob(dir, "generation", &text, err);
    bool one =
        r == 0 && text.len >= 1 && text.data[0] == '1' && (text.len == 1 || text.data[1] == '\n');
    att_bytes_done(&text);
    return r < 0 ? r : one ? 0 : err_set(err, EBUSY, "someone else writes to our TSM entry");
}

static int read_entry(int dir, const uint8_t *data, struct att_bytes *report,
                      struct att_bytes *certs, struct err *err)
{
    struct att_bytes provider = {0};
    struct err ignored = ERR_INIT;
    int r = write_blob(dir, data, TEE_DATA_SIZE, err);
    if (r == 0)
        r = read_blob(dir, "provider", &provider, err);
    if (r == 0 && (provider.len < 9 || memcmp(provider.data, "sev_guest", 9) != 0))
        r = err_set(err, ENOTSUP, "the TSM provider is %.20s, sev_guest is supported",
                    (const char *)provider.data);
    att_bytes_done(&provider);
    if (r == 0)
        r = read_blob(dir, "outblob", report, err);
    if (r == 0 && read_blob(dir, "auxblob", certs, &ignored) < 0)
        att_bytes_done(certs); /* the host gave none */
    return r == 0 ? check_generation(dir, err) : r;
}

static int from_tsm(const struct host *host, const uint8_t *data, struct att_bytes *report,
                    struct att_bytes *certs, struct err *err)
{
    AUTO_CLOSE int parent = host_open_dir(host, tsm, err);
    char name[32];
    uint8_t random[8];
    if (parent < 0)
        return parent == -ENOENT ? -ENODEV : parent;
    /* not the process id: it is 1 in every container, and a killed run leaves its entry behind */
    int r = getrandom(random, sizeof random, 0) == (ssize_t)sizeof random
                ? 0
                : err_errno(err, "getrandom");
    if (r < 0)
        return r;
    (void)snprintf(name, sizeof name, "ccnode-");
    hex_encode(random, sizeof random, name + strlen(name));
    if (mkdirat(parent, name, 0700) < 0)
        return errno == ENXIO ? -ENODEV : err_errno(err, "%s/%s", tsm, name); /* no provider */
    AUTO_CLOSE int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = dir < 0 ? err_errno(err, "%s/%s", tsm, name) : read_entry(dir, data, report, certs, err);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
    return r;
}

/* /dev/sev-guest -------------------------------------------------------------------------------------------------- */

static int from_device(const struct host *host, const uint8_t *data, struct att_bytes *report,
                       struct err *err)
{
    struct snp_report_req request = {.vmpl = 0};
    struct snp_report_resp response = {{0}};
    struct snp_guest_request_ioctl call = {
        .msg_version = 1, .req_data = (uintptr_t)&request, .resp_data = (uintptr_t)&response};
    AUTO_CLOSE int fd = host_openat(host, "/dev/sev-guest", O_RDWR, err);
    if (fd < 0)
        return fd == -ENOENT ? err_set(err, ENODEV,
                                       "the guest has neither %s nor /dev/sev-guest: "
                                       "it is no SEV-SNP guest, or its kernel is too "
                                       "old",
                                       tsm)
                             : fd;
    memcpy(request.user_data, data, TEE_DATA_SIZE);
    if (ioctl(fd, SNP_GET_REPORT, &call) < 0)
        return err_errno(err, "/dev/sev-guest (firmware error 0x%llx)",
                         (unsigned long long)call.fw_error);
    /* REF-A 8.1: status, size, 24 reserved bytes, then the report */
    if (get_le32(response.data) != 0 || get_le32(response.data + 4) != REPORT_SIZE)
        return err_set(err, EBADMSG, "/dev/sev-guest: status %u, report of %u bytes",
                       get_le32(response.data), get_le32(response.data + 4));
    report->data = xmalloc(REPORT_SIZE);
    report->len = REPORT_SIZE;
    memcpy(report->data, response.data + 32, REPORT_SIZE);
    return 0;
}

int tee_report(const char *host_root, const uint8_t data[TEE_DATA_SIZE], struct att_bytes *report,
               struct att_bytes *certs, struct err *err)
{
    struct host host;
    int r = host_open(&host, host_root ? host_root : "/", err);
    if (r < 0)
        return r;
    r = from_tsm(&host, data, report, certs, err);
    if (r == -ENODEV)
        r = from_device(&host, data, report, err);
    host_close(&host);
    if (r == 0 && report->len != REPORT_SIZE)
        r = err_set(err, EBADMSG, "SNP report of %zu bytes, %d are expected", report->len,
                    REPORT_SIZE);
    if (r == 0 && memcmp(report->data + 0x50, data, TEE_DATA_SIZE) != 0)
        r = err_set(err, EBADMSG, "the SNP report does not carry our REPORT_DATA");
    return r;
}
