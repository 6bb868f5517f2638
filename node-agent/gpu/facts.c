#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/sysfs.h"

static void read_text(const struct host *host, const char *path, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    AUTO_FREE char *text = NULL;
    *ret = '\0';
    if (fs_read(host, path, 4096, &text, NULL, &ignored) < 0)
        return;
    size_t n = strcspn(text, "\n");
    text[n] = '\0';
    sysfs_copy_name(text, ret, room);
}

static bool is_on(const struct host *host, const char *path)
{
    char value[8];
    read_text(host, path, value, sizeof value);
    return strcmp(value, "Y") == 0 || strcmp(value, "1") == 0;
}

/* "none [integrity] confidentiality": the one in brackets */
void host_lockdown(const struct host *host, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    AUTO_FREE char *text = NULL;
    *ret = '\0';
    if (fs_read(host, "/sys/kernel/security/lockdown", 4096, &text, NULL, &ignored) < 0)
        return;
    char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;
    if (!close)
        return;
    *close = '\0';
    sysfs_copy_name(open + 1, ret, room);
}

static bool has_iommu_groups(const struct host *host)
{
    struct err ignored = ERR_INIT;
    int fd = host_openat(host, "/sys/kernel/iommu_groups", O_RDONLY | O_DIRECTORY, &ignored);
    if (fd < 0)
        return false;
    AUTO_CLOSEDIR DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return false;
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (isdigit((unsigned char)e->d_name[0]))
            return true;
    }
    return false;
}

void host_release(const struct host *host, char *ret, size_t room)
{
    read_text(host, "/proc/sys/kernel/osrelease", ret, room);
}

void host_facts_read(const struct host *host, struct host_facts *ret)
{
    *ret = (struct host_facts){
        .snp = is_on(host, "/sys/module/kvm_amd/parameters/sev_snp"),
        .tdx = is_on(host, "/sys/module/kvm_intel/parameters/tdx"),
        .iommu = has_iommu_groups(host),
    };
    host_lockdown(host, ret->lockdown, sizeof ret->lockdown);
    read_text(host, "/proc/sys/kernel/random/boot_id", ret->boot_id, sizeof ret->boot_id);
}
