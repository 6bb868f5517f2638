#include "node-agent/gpu/power.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/sysfs.h"

/* ---- records: <dir>/0000:18:00.0.awake with the name of the driver, "-" for none ---- */

static void record_name(const char *bdf, char ret[32])
{
    (void)snprintf(ret, 32, "%.12s.awake", bdf);
}

static void current_driver(const struct host *host, const char *bdf, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    char path[64];
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    AUTO_CLOSE int fd = host_open_dir(host, path, &ignored);
    *ret = '\0';
    if (fd >= 0)
        sysfs_link_name(fd, "driver", ret, room);
    if (!*ret)
        (void)snprintf(ret, room, "-");
}

/* Not atomic: half of it is the name of no driver, and nothing has been changed yet. */
static int write_record(const struct power *power, const struct host *host, const char *bdf,
                        struct err *err)
{
    char name[32], driver[32];
    record_name(bdf, name);
    current_driver(host, bdf, driver, sizeof driver);
    AUTO_FREE char *path = xasprintf("%s/%s", power->dir, name);
    AUTO_CLOSE int fd = host_openat(host, path, O_WRONLY | O_CREAT | O_TRUNC, err);
    if (fd < 0)
        return fd;
    size_t len = strlen(driver);
    return write(fd, driver, len) == (ssize_t)len ? 0 : err_errno(err, "write %s", path);
}

static void remove_record(const struct power *power, const struct host *host, const char *bdf)
{
    struct err ignored = ERR_INIT;
    char name[32];
    record_name(bdf, name);
    (void)fs_remove(host, power->dir, name, &ignored);
}

/* Left by a process that was killed, or of one that holds the same bridge: both put it back. */
static bool is_on_record(const struct power *power, const struct host *host, const char *bdf)
{
    struct err ignored = ERR_INIT;
    char name[32], driver[32];
    AUTO_FREE char *text = NULL;
    record_name(bdf, name);
    AUTO_FREE char *path = xasprintf("%s/%s", power->dir, name);
    if (fs_read(host, path, 256, &text, NULL, &ignored) < 0)
        return false;
    current_driver(host, bdf, driver, sizeof driver);
    if (strcmp(text, driver) == 0)
        return true;
    remove_record(power, host, bdf);
    return false;
}

/* ---- power/control ---- */

static void remember(struct power *power, const char *bdf)
{
    for (size_t i = 0; i < power->n; i++) {
        if (strcmp(power->bdf[i], bdf) == 0)
            return;
    }
    (void)snprintf(power->bdf[power->n++], BDF_SIZE, "%.12s", bdf);
}

static int set_on(struct power *power, const struct host *host, const char *bdf, struct err *err)
{
    char path[64], control[16];
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s/power", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, err);
    if (dir_fd < 0)
        return dir_fd == -ENOENT ? 0 : dir_fd;
    int r = fs_read_attr(dir_fd, "control", control, sizeof control, err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return err_wrap(err, r, "power/control of %s", bdf);
    if (strcmp(control, "on") == 0) {
        if (is_on_record(power, host, bdf))
            remember(power, bdf);
        return 0;
    }
    r = write_record(power, host, bdf,
                     err); /* before the write: who is killed in between has done no harm */
    if (r < 0)
        return err_wrap(err, r, "keep on record that %s may sleep", bdf);
    r = fs_write_attr(dir_fd, "control", "on", err);
    if (r < 0)
        return err_wrap(err, r, "wake %s by power/control", bdf);
    remember(power, bdf);
    return 0;
}

int power_hold(struct power *power, const struct host *host, const char *bdf, struct err *err)
{
    char path[64], target[PATH_MAX], *save = NULL;
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, err);
    if (dir_fd < 0)
        return dir_fd;
    int r = fs_read_link(dir_fd, bdf, target, sizeof target, err);
    if (r < 0)
        return r == -ENOENT ? err_set(err, ENODEV, "the device is gone") : r;
    /* "../../../devices/pci0000:17/0000:17:01.0/0000:18:00.0": every address on the way, outermost first */
    r = 0;
    for (char *p = strtok_r(target, "/", &save); p && r == 0; p = strtok_r(NULL, "/", &save)) {
        if (!inventory_bdf_ok(p))
            continue;
        if (power->n == POWER_MAX_LEVELS)
            return err_set(err, E2BIG, "more than %d bridges above the device", POWER_MAX_LEVELS);
        r = set_on(power, host, p, err);
    }
    return r;
}

int power_release(struct power *power, const struct host *host, struct err *err)
{
    int r = 0;
    while (power->n > 0) {
        char path[64];
        (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s/power", power->bdf[--power->n]);
        AUTO_CLOSE int dir_fd = host_open_dir(host, path, err);
        int w = dir_fd < 0 ? dir_fd : fs_write_attr(dir_fd, "control", "auto", err);
        if (w < 0 && w != -ENOENT && w != -ENODEV)
            r = w;
        else
            remove_record(power, host, power->bdf[power->n]);
    }
    return r;
}

void power_forget(struct power *power, const struct host *host, const char *bdf)
{
    size_t n = 0;
    remove_record(power, host, bdf);
    for (size_t i = 0; i < power->n; i++) {
        if (strcmp(power->bdf[i], bdf) != 0)
            memmove(power->bdf[n++], power->bdf[i], BDF_SIZE);
    }
    power->n = n;
}
