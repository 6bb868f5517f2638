/* What sysfs says around a device: its driver, its group, who else is in it. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "simulator/trap/vfio.h"

/* Return: true with the driver's name; false when none is bound */
static bool driver_of(const char *root, const char *bdf, char *ret, size_t room)
{
    char path[PATH_MAX + 64], target[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/driver", root, bdf);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    const char *name = strrchr(target, '/');
    (void)snprintf(ret, room, "%s", name ? name + 1 : target);
    return true;
}

bool on_vfio(const char *root, const char *bdf)
{
    char driver[64];
    return driver_of(root, bdf, driver, sizeof driver) && strstr(driver, "vfio");
}

bool in_group(const char *root, int number, const char *bdf)
{
    char path[PATH_MAX + 96];
    (void)snprintf(path, sizeof path, "%s/sys/kernel/iommu_groups/%d/devices/%s", root, number,
                   bdf);
    return access(path, F_OK) == 0;
}

/* no member may be on a driver that uses DMA itself: vfio, pci-stub, bridges, or none */
bool viable(const char *root, int number)
{
    char path[PATH_MAX + 96], driver[64];
    bool ok = true;
    (void)snprintf(path, sizeof path, "%s/sys/kernel/iommu_groups/%d/devices", root, number);
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    for (struct dirent *e; (e = readdir(dir));)
        if (*e->d_name != '.' && driver_of(root, e->d_name, driver, sizeof driver))
            ok &= strstr(driver, "vfio") || strcmp(driver, "pci-stub") == 0 ||
                  strcmp(driver, "pcieport") == 0;
    (void)closedir(dir);
    return ok;
}
unsigned group_of(const char *root, const char *bdf)
{
    char path[PATH_MAX + 96], target[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/iommu_group", root, bdf);
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    const char *number = strrchr(target, '/');
    return number ? (unsigned)strtoul(number + 1, NULL, 10) : ~0u;
}
