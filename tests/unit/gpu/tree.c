#include "tree.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"

struct tree *tree_new(void)
{
    struct err err = ERR_INIT;
    struct tree *t = xcalloc(1, sizeof *t);
    (void)snprintf(t->root, sizeof t->root, "/tmp/ccn-test-gpu-XXXXXX");
    assert_non_null(mkdtemp(t->root));
    assert_int_equal(host_open(&t->host, t->root, &err), 0);
    return t;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void tree_free(struct tree *t)
{
    host_close(&t->host);
    (void)nftw(t->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(t);
}

void tree_dir(struct tree *t, const char *path)
{
    struct err err = ERR_INIT;
    assert_int_equal(fs_mkdirs(&t->host, path, &err), 0);
}

static char *parent_made(struct tree *t, const char *path)
{
    char *full = xasprintf("%s%s", t->root, path);
    AUTO_FREE char *dir = xstrdup(path);
    *strrchr(dir, '/') = '\0';
    tree_dir(t, dir);
    return full;
}

void tree_file(struct tree *t, const char *path, const char *text)
{
    AUTO_FREE char *full = parent_made(t, path);
    AUTO_FCLOSE FILE *f = fopen(full, "we");
    assert_non_null(f);
    (void)fputs(text, f);
}

void tree_link(struct tree *t, const char *path, const char *target)
{
    AUTO_FREE char *full = parent_made(t, path);
    (void)unlink(full);
    assert_int_equal(symlink(target, full), 0);
}

void tree_remove(struct tree *t, const char *path)
{
    AUTO_FREE char *full = xasprintf("%s%s", t->root, path);
    (void)nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void device_file(struct tree *t, const char *bdf, const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("/sys/devices/pci0000:00/%s/%s", bdf, name);
    tree_file(t, path, text);
}

void tree_device(struct tree *t, const char *bdf, const char *vendor, const char *device,
                 const char *class_text, int group)
{
    device_file(t, bdf, "vendor", vendor);
    device_file(t, bdf, "device", device);
    device_file(t, bdf, "class", class_text);
    device_file(t, bdf, "numa_node", "0\n");
    device_file(t, bdf, "driver_override", "(null)\n");
    device_file(t, bdf, "enable", "0\n");
    AUTO_FREE char *bus = xasprintf("/sys/bus/pci/devices/%s", bdf);
    AUTO_FREE char *to = xasprintf("../../../devices/pci0000:00/%s", bdf);
    tree_link(t, bus, to);
    if (group < 0)
        return;
    AUTO_FREE char *link = xasprintf("/sys/devices/pci0000:00/%s/iommu_group", bdf);
    AUTO_FREE char *target = xasprintf("../../../kernel/iommu_groups/%d", group);
    tree_link(t, link, target);
    AUTO_FREE char *member = xasprintf("/sys/kernel/iommu_groups/%d/devices/%s", group, bdf);
    AUTO_FREE char *back = xasprintf("../../../../devices/pci0000:00/%s", bdf);
    tree_link(t, member, back);
}

void tree_driver(struct tree *t, const char *bdf, const char *driver)
{
    AUTO_FREE char *link = xasprintf("/sys/devices/pci0000:00/%s/driver", bdf);
    AUTO_FREE char *target = xasprintf("../../../bus/pci/drivers/%s", driver);
    AUTO_FREE char *dir = xasprintf("/sys/bus/pci/drivers/%s", driver);
    tree_dir(t, dir);
    tree_link(t, link, target);
}
