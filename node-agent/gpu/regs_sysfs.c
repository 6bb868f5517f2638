/* Registers through /sys/bus/pci/devices/<bdf>/resource0 and config. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/regs.h"
#include "node-agent/gpu/sysfs.h"

/* BAR0 of every known device is between 16 and 64 MiB (REF-P 1.5) */
#define BAR0_MAX (512ull << 20)

struct sysfs_regs {
    struct regs regs;
    int dir_fd, config_fd;
    uint8_t *map; /* NULL until the first access */
};

static struct sysfs_regs *of(struct regs *regs)
{
    return (struct sysfs_regs *)regs;
}

static int map_error(int code, struct err *err)
{
    switch (code) {
    case EINVAL:
        return err_set(err, EBUSY,
                       "resource0 can't be mapped: someone has the device open through VFIO");
    case EPERM:
        return err_set(err, EPERM,
                       "resource0 can't be mapped: not permitted (kernel lockdown, sandbox)");
    default:
        errno = code;
        return err_errno(err, "map resource0");
    }
}

static int map_bar0(struct sysfs_regs *s, struct err *err)
{
    AUTO_CLOSE int fd = openat(s->dir_fd, "resource0", O_RDWR | O_SYNC | O_CLOEXEC);
    if (fd < 0)
        return errno == EPERM ? map_error(EPERM, err) : err_errno(err, "open resource0");
    void *map = mmap(NULL, (size_t)s->regs.bar0_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return map_error(errno, err);
    s->map = map;
    return 0;
}

static int sysfs_read(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err)
{
    struct sysfs_regs *s = of(regs);
    int r = s->map ? 0 : map_bar0(s, err);
    return r < 0 ? r : mmio_read(s->map + at, ret, err);
}

static int sysfs_write(struct regs *regs, uint32_t at, uint32_t v, struct err *err)
{
    struct sysfs_regs *s = of(regs);
    int r = s->map ? 0 : map_bar0(s, err);
    return r < 0 ? r : mmio_write(s->map + at, v, err);
}

static int sysfs_config_read(struct regs *regs, unsigned at, unsigned n, uint32_t *ret,
                             struct err *err)
{
    uint8_t b[4] = {0};
    ssize_t got = pread(of(regs)->config_fd, b, n, at);
    if (got < 0)
        return err_errno(err, "read configuration space at 0x%x", at);
    if ((size_t)got != n)
        return err_set(err, EBADMSG, "configuration space ends before 0x%x", at + n);
    *ret = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return 0;
}

static int sysfs_config_write(struct regs *regs, unsigned at, unsigned n, uint32_t v,
                              struct err *err)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    AUTO_CLOSE int fd = openat(of(regs)->dir_fd, "config", O_RDWR | O_SYNC | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open config for writing");
    ssize_t put = pwrite(fd, b, n, at);
    if (put < 0)
        return err_errno(err, "write configuration space at 0x%x", at);
    return (size_t)put == n ? 0 : err_set(err, EIO, "write to config was cut at 0x%x", at);
}

static int64_t sysfs_now_us(struct regs *regs)
{
    (void)regs;
    return mmio_now_us();
}

static void sysfs_pause_us(struct regs *regs, int64_t us)
{
    (void)regs;
    mmio_pause_us(us);
}

static void sysfs_close(struct regs *regs)
{
    struct sysfs_regs *s = of(regs);
    if (s->map)
        (void)munmap(s->map, (size_t)regs->bar0_size);
    if (s->config_fd >= 0)
        (void)close(s->config_fd);
    if (s->dir_fd >= 0)
        (void)close(s->dir_fd);
    free(s);
}

static const struct regs_ops sysfs_ops = {
    .name = "resource0",
    .read = sysfs_read,
    .write = sysfs_write,
    .config_read = sysfs_config_read,
    .config_write = sysfs_config_write,
    .now_us = sysfs_now_us,
    .pause_us = sysfs_pause_us,
    .close = sysfs_close,
};

/* First line of "resource": start, end, flags of BAR0. */
static int read_bar0_size(int dir_fd, uint64_t *ret, struct err *err)
{
    char text[2048];
    unsigned long long start, end, flags;
    int n = fs_read_attr(dir_fd, "resource", text, sizeof text, err);
    if (n < 0)
        return n;
    if (sscanf(text, "%llx %llx %llx", &start, &end, &flags) != 3) /* NOLINT(cert-err34-c) */
        return err_set(err, EBADMSG, "resource starts with '%.40s'", text);
    if (start == 0 || end <= start)
        return err_set(err, ENODEV, "BAR0 has no address; remove the device and rescan the bus");
    if (flags & 1 || end - start >= BAR0_MAX)
        return err_set(err, EBADMSG,
                       "BAR0 from 0x%llx to 0x%llx with flags 0x%llx is not one of "
                       "an NVIDIA device",
                       start, end, flags);
    *ret = end - start + 1;
    return 0;
}

int regs_open_sysfs(const struct host *host, const char *bdf, struct regs **ret, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    struct sysfs_regs *s = xcalloc(1, sizeof *s);
    s->regs.ops = &sysfs_ops;
    s->config_fd = -1;
    s->dir_fd = host_open_dir(host, path, err);
    int r = s->dir_fd == -ENOENT ? err_set(err, ENODEV, "the device is gone") : s->dir_fd;
    if (r >= 0)
        r = read_bar0_size(s->dir_fd, &s->regs.bar0_size, err);
    if (r >= 0) {
        s->config_fd = openat(s->dir_fd, "config", O_RDONLY | O_CLOEXEC);
        if (s->config_fd < 0)
            r = err_errno(err, "open config");
    }
    if (r < 0) {
        sysfs_close(&s->regs);
        return r;
    }
    *ret = &s->regs;
    return 0;
}
