#include "node-agent/gpu/power.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/sysfs.h"

static int set_on(struct power *power, const struct host *host, const char *bdf, struct err *err)
{
    char path[64], control[16];
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s/power", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, err);
    if (dir_fd < 0)
        return dir_fd == -ENOENT ? 0 : dir_fd;
    int r = fs_read_attr(dir_fd, "control", control, sizeof control, err);
    if (r == -ENOENT || (r >= 0 && strcmp(control, "on") == 0))
        return 0;
    if (r < 0)
        return err_wrap(err, r, "power/control of %s", bdf);
    r = fs_write_attr(dir_fd, "control", "on", err);
    if (r < 0)
        return err_wrap(err, r, "wake %s by power/control", bdf);
    (void)snprintf(power->bdf[power->n++], BDF_SIZE, "%.12s", bdf);
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
    }
    return r;
}

void power_forget(struct power *power, const char *bdf)
{
    size_t n = 0;
    for (size_t i = 0; i < power->n; i++) {
        if (strcmp(power->bdf[i], bdf) != 0)
            memmove(power->bdf[n++], power->bdf[i], BDF_SIZE);
    }
    power->n = n;
}
