#include "simulator/trap/identify.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546 /* Linux include/uapi/linux/magic.h: FUSE_SUPER_MAGIC */

/* FUSE, or with `ccnode-sim --device-nodes` a character device of /dev/null's number */
static bool simulated(const char *link)
{
    struct statfs fs;
    struct stat st;
    if (statfs(link, &fs) == 0 && fs.f_type == FUSE_MAGIC)
        return true;
    return stat(link, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

static bool all_digits(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!isdigit((unsigned char)*s))
            return false;
    return true;
}

static bool is_resource(struct model *model, char *path, char *name, struct file_id *ret)
{
    if (strncmp(name, "resource", 8) != 0 || !isdigit((unsigned char)name[8]) ||
        (name[9] && strcmp(name + 9, "_wc") != 0))
        return false;
    name[-1] = '\0';
    const char *bdf = strrchr(path, '/');
    ret->kind = FILE_RESOURCE;
    ret->bar = name[8] - '0';
    ret->hw = bdf ? model_find(model, bdf + 1) : -1;
    return ret->hw >= 0;
}

/* The cdev's device: the only one whose vfio-dev directory has that name. */
static int device_of_cdev(struct model *model, const char *root, const char *name)
{
    for (int hw = 0; hw < model_count(model); hw++) {
        char path[PATH_MAX + 128];
        (void)snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/vfio-dev/%s", root,
                       model_desc(model, hw)->bdf, name);
        if (access(path, F_OK) == 0)
            return hw;
    }
    return -1;
}

static bool cut(const char *path, const char *at, struct file_id *ret)
{
    size_t n = (size_t)(at - path);
    memcpy(ret->root, path, n);
    ret->root[n] = '\0';
    return true;
}

static bool is_vfio(struct model *model, const char *path, const char *name, struct file_id *ret)
{
    size_t n = (size_t)(name - path); /* with the slash */
    static const char group[] = "/dev/vfio/", cdev[] = "/dev/vfio/devices/", dev[] = "/dev/";
    if (n >= sizeof cdev - 1 && strncmp(name - (sizeof cdev - 1), cdev, sizeof cdev - 1) == 0) {
        ret->kind = FILE_CDEV;
        (void)cut(path, name - (sizeof cdev - 1), ret);
        ret->hw = device_of_cdev(model, ret->root, name);
        return ret->hw >= 0;
    }
    if (n >= sizeof group - 1 && strncmp(name - (sizeof group - 1), group, sizeof group - 1) == 0) {
        bool container = strcmp(name, "vfio") == 0;
        ret->kind = container ? FILE_CONTAINER : FILE_GROUP;
        ret->number = container ? -1 : atoi(name); /* NOLINT(cert-err34-c): digits, checked next */
        return (container || all_digits(name)) && cut(path, name - (sizeof group - 1), ret);
    }
    ret->kind = FILE_IOMMUFD;
    return strcmp(name, "iommu") == 0 && n >= sizeof dev - 1 &&
           strncmp(name - (sizeof dev - 1), dev, sizeof dev - 1) == 0 &&
           cut(path, name - (sizeof dev - 1), ret);
}

bool identify_link(struct model *model, const char *link, struct file_id *ret)
{
    char path[PATH_MAX];
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return false;
    path[n] = '\0';
    char *gone = strstr(path, " (deleted)"); /* a node that went while it was open */
    if (gone)
        *gone = '\0';
    char *name = strrchr(path, '/');
    if (!name || name == path)
        return false;
    name++;
    bool candidate = strncmp(name, "resource", 8) == 0 || strstr(path, "/dev/vfio/") ||
                     strcmp(name, "iommu") == 0;
    if (!candidate || !simulated(link))
        return false;
    ret->hw = ret->bar = ret->number = -1;
    ret->root[0] = '\0';
    return is_resource(model, path, name, ret) || is_vfio(model, path, name, ret);
}
