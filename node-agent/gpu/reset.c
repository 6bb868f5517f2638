#include "node-agent/gpu/reset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/sysfs.h"

#define MARK_LIMIT_US 1000000 /* a kernel that returns before the reset has taken place */

int reset_mark(struct regs *regs, const struct chip *chip, struct err *err)
{
    const uint32_t at[] = {chip->flr_scratch, chip->sbr_scratch};
    struct err why = ERR_INIT;
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(at) && at[i] && r == 0; i++)
        r = regs_write(regs, at[i], 1, &why);
    if (r != -EBUSY)
        return 0; /* a device that can't be written to is reset all the same */
    *err = why;
    return r;
}

int reset_check_mark(struct regs *regs, const struct chip *chip, struct err *err)
{
    struct err ignored = ERR_INIT;
    int64_t end = regs_now_us(regs) + MARK_LIMIT_US;
    if (!chip->flr_scratch)
        return 0;
    for (;;) {
        uint32_t v;
        int64_t now = regs_now_us(regs);
        if (regs_read_any(regs, chip->flr_scratch, &v, &ignored) < 0 || v != 1)
            return 0; /* unreadable so early: the wait for boot says more */
        if (now >= end)
            return err_set(err, EIO,
                           "the reset did nothing (marker in register 0x%x is still there)",
                           chip->flr_scratch);
        regs_pause_us(regs, 10000);
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += len) {
        bool begins = p == list || p[-1] == ' ';
        if (begins && (p[len] == ' ' || p[len] == '\0'))
            return true;
    }
    return false;
}

static int check_alive(struct regs *regs, struct err *err)
{
    uint32_t id;
    int r = regs_config_read(regs, 0, 2, &id, err);
    if (r == 0 && id == 0xffff)
        r = err_set(err, ENODEV,
                    "not reset: configuration space reads all ones, the kernel would wait for "
                    "minutes for a device that is off the bus");
    return r;
}

static int write_reset(int dir_fd, const char *method, struct err *err)
{
    int r = fs_write_attr(dir_fd, "reset", "1", err);
    if (r == -ENOENT)
        return err_set(err, EOPNOTSUPP,
                       "the kernel knows no way to reset it (no \"reset\" attribute)");
    if (r == -ENOTTY)
        return err_set(err, ENOTTY, "kernel reset (%s) failed: the device did not come back",
                       method);
    return r < 0 ? err_wrap(err, r, "kernel reset (%s)", method) : 0;
}

int reset_device(const struct host *host, const char *bdf, struct regs *regs, const char *method,
                 char ret_method[16], struct err *err)
{
    char path[64], methods[64] = "";
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    int r = check_alive(regs, err);
    AUTO_CLOSE int fd = r < 0 ? -1 : host_open_dir(host, path, err);
    if (fd < 0)
        return r < 0 ? r : fd;
    int n = fs_read_attr(fd, "reset_method", methods, sizeof methods, err);
    if (n < 0 && n != -ENOENT) /* before Linux 5.15 there is none */
        return n;
    if (n == 0)
        return err_set(err, EOPNOTSUPP,
                       "all reset methods were switched off by whoever emptied "
                       "reset_method; write \"default\" to " SYS_PCI_DEVICES "/%s/reset_method",
                       bdf);
    if (*method && !has_word(methods, method))
        return err_set(err, EOPNOTSUPP, "reset method %s is not possible here (possible: %s)",
                       method, *methods ? methods : "the kernel does not let one choose");
    const char *used = *method ? method : n > 0 ? methods : "reset";
    (void)snprintf(ret_method, 16, "%.*s", (int)strcspn(used, " "), used);
    bool choose = *method && strcmp(methods, method) != 0;
    if (choose)
        r = fs_write_attr(fd, "reset_method", method, err);
    if (r < 0)
        return r;
    r = write_reset(fd, ret_method, err);
    struct err second = ERR_INIT;
    if (choose && fs_write_attr(fd, "reset_method", methods, &second) < 0 && r == 0)
        r = err_set(err, second.code, "put reset_method back: %.200s", second.msg);
    return r;
}
