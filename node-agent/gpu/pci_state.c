#include "node-agent/gpu/pci_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/sysfs.h"

static int64_t number(const char *text, char **end)
{
    errno = 0;
    long long v = strtoll(text, end, 10);
    return *end == text || errno != 0 || *text < '0' || *text > '9' ? -1 : v;
}

/* "32.0 GT/s PCIe", before Linux 5.8 "8 GT/s"; "Unknown" is a value too. */
static int64_t read_speed(int dir_fd, const char *name)
{
    char text[64], *end;
    struct err ignored = ERR_INIT;
    if (fs_read_attr(dir_fd, name, text, sizeof text, &ignored) <= 0)
        return -1;
    int64_t whole = number(text, &end), tenth = 0;
    if (*end == '.' && end[1] >= '0' && end[1] <= '9') {
        tenth = end[1] - '0';
        end += 2;
    }
    return whole < 0 || whole > 1024 || strncmp(end, " GT/s", 5) != 0 ? -1
                                                                      : whole * 1000 + tenth * 100;
}

/* 0, 63 and 255 are what the kernel makes of a register that it could not read. */
static int64_t read_width(int dir_fd, const char *name)
{
    int width;
    struct err ignored = ERR_INIT;
    return sysfs_int(dir_fd, name, &width, &ignored) == 0 && width > 0 && width <= 32 ? width : -1;
}

/* The last line, "TOTAL_ERR_COR 12". */
static int64_t read_total(int dir_fd, const char *name)
{
    char text[4096], *end;
    struct err ignored = ERR_INIT;
    if (fs_read_attr(dir_fd, name, text, sizeof text, &ignored) <= 0)
        return -1;
    const char *total = strstr(text, "TOTAL_ERR_");
    const char *value = total ? strchr(total, ' ') : NULL;
    int64_t v = value ? number(value + 1, &end) : -1;
    return v >= 0 && *end == '\0' ? v : -1;
}

static void read_power(int dir_fd, char *ret, size_t room)
{
    static const char *const states[] = {"D0", "D1", "D2", "D3hot", "D3cold", "unknown"};
    char text[16];
    sysfs_word(dir_fd, "power_state", text, sizeof text);
    *ret = '\0';
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (strcmp(text, states[i]) == 0)
            (void)snprintf(ret, room, "%s", states[i]);
    }
}

void pci_state_read(const struct host *host, const char *bdf, struct pci_state *ret)
{
    char path[64];
    struct err ignored = ERR_INIT;
    *ret = (struct pci_state){"", -1, -1, -1, -1, -1, -1, -1};
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, &ignored);
    if (dir_fd < 0)
        return;
    read_power(dir_fd, ret->power, sizeof ret->power);
    ret->correctable = read_total(dir_fd, "aer_dev_correctable");
    ret->nonfatal = read_total(dir_fd, "aer_dev_nonfatal");
    ret->fatal = read_total(dir_fd, "aer_dev_fatal");
    if (strcmp(ret->power, "D3cold") == 0)
        return;
    ret->speed = read_speed(dir_fd, "current_link_speed");
    ret->max_speed = read_speed(dir_fd, "max_link_speed");
    ret->width = read_width(dir_fd, "current_link_width");
    ret->max_width = read_width(dir_fd, "max_link_width");
}
