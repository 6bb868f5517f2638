#include "node-agent/gpu/regs.h"

#include <errno.h>
#include <stddef.h>

const char *regs_bad_value(uint32_t v)
{
    if (v == 0xffffffff)
        return "all ones: asleep, memory access disabled, link down or off the bus";
    if (v >> 16 != 0xbadf)
        return NULL;
    switch (v >> 8 & 0xff) { /* decode hints of REF-P 1.7 */
    case 0x41:
        return "locked by its privilege mask or the BAR0 decoupler";
    case 0x50 ... 0x5f:
        return "no such register, or its unit does not answer";
    default:
        return "privileged register error";
    }
}

static int check_range(const struct regs *regs, uint32_t at, struct err *err)
{
    if (at % 4 != 0 || regs->bar0_size < 4 || at > regs->bar0_size - 4)
        return err_set(err, EINVAL, "register 0x%x does not fit BAR0 of 0x%llx bytes", at,
                       (unsigned long long)regs->bar0_size);
    return 0;
}

int regs_read_any(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err)
{
    int r = check_range(regs, at, err);
    return r < 0 ? r : regs->ops->read(regs, at, ret, err);
}

int regs_read(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err)
{
    uint32_t v;
    int r = regs_read_any(regs, at, &v, err);
    if (r < 0)
        return r;
    const char *bad = regs_bad_value(v);
    if (bad)
        return err_set(err, EIO, "register 0x%x reads 0x%08x (%s)", at, v, bad);
    *ret = v;
    return 0;
}

int regs_write(struct regs *regs, uint32_t at, uint32_t v, struct err *err)
{
    int r = check_range(regs, at, err);
    return r < 0 ? r : regs->ops->write(regs, at, v, err);
}

int regs_config_read(struct regs *regs, unsigned at, unsigned n, uint32_t *ret, struct err *err)
{
    if ((n != 1 && n != 2 && n != 4) || at % n != 0 || at + n > 4096)
        return err_set(err, EINVAL, "configuration offset 0x%x of %u bytes", at, n);
    return regs->ops->config_read(regs, at, n, ret, err);
}

int regs_config_write(struct regs *regs, unsigned at, unsigned n, uint32_t v, struct err *err)
{
    if ((n != 1 && n != 2 && n != 4) || at % n != 0 || at + n > 4096)
        return err_set(err, EINVAL, "configuration offset 0x%x of %u bytes", at, n);
    return regs->ops->config_write(regs, at, n, v, err);
}

int64_t regs_now_us(struct regs *regs)
{
    return regs->ops->now_us(regs);
}

void regs_pause_us(struct regs *regs, int64_t us)
{
    if (us > 0)
        regs->ops->pause_us(regs, us);
}

void regs_close(struct regs *regs)
{
    if (regs)
        regs->ops->close(regs);
}
