/* Answers of the security processor: a register file whose every read is the next four bytes of input, under both
 * mailboxes, the knobs and the modes. Time passes only in pauses, so every limit is reached at once. */
#include <stdlib.h>
#include <string.h>

#include "node-agent/gpu/knobs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct tape {
    struct regs regs;
    const uint8_t *p;
    size_t left;
    int64_t now;
    unsigned writes;
};

static struct tape *of(struct regs *regs)
{
    return (struct tape *)regs;
}

static int tape_read(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err)
{
    struct tape *t = of(regs);
    (void)at;
    if (t->left < 4)
        return err_set(err, 5, "end of input");
    *ret = (uint32_t)t->p[0] | (uint32_t)t->p[1] << 8 | (uint32_t)t->p[2] << 16 |
           (uint32_t)t->p[3] << 24;
    t->p += 4;
    t->left -= 4;
    return 0;
}

static int tape_write(struct regs *regs, uint32_t at, uint32_t v, struct err *err)
{
    (void)v, (void)at, (void)err;
    of(regs)->writes++;
    return 0;
}

static int tape_config_read(struct regs *regs, unsigned at, unsigned n, uint32_t *ret,
                            struct err *err)
{
    int r = tape_read(regs, at, ret, err);
    if (r == 0 && n < 4)
        *ret &= (1u << 8 * n) - 1;
    return r;
}

static int tape_config_write(struct regs *regs, unsigned at, unsigned n, uint32_t v,
                             struct err *err)
{
    (void)n;
    return tape_write(regs, at, v, err);
}

static int64_t tape_now(struct regs *regs)
{
    return of(regs)->now;
}

static void tape_pause(struct regs *regs, int64_t us)
{
    of(regs)->now += us;
}

static void tape_close(struct regs *regs)
{
    (void)regs;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct regs_ops ops = {"tape",           tape_read,         tape_write,
                                        tape_config_read, tape_config_write, tape_now,
                                        tape_pause,       tape_close};
    static const char *const chips[] = {"gh100", "gb100", "ls10", "gb202"};
    struct err err = ERR_INIT;
    struct knobs knobs;
    struct chip_config config = {0};
    const struct chip *chip = NULL;
    unsigned capable;
    enum cc_mode pending;
    if (size < 1)
        return 0;
    struct tape tape = {.regs = {&ops, 64 << 20}, .p = data + 1, .left = size - 1};
    if (data[0] & 0x80) { /* from configuration space on */
        if (chip_read_config(&tape.regs, &config, &err) < 0 ||
            chip_wake(&tape.regs, &config, &err) < 0 ||
            chip_wait_firewall(&tape.regs, &config, &err) < 0 ||
            chip_identify(&tape.regs, &config, chips[data[0] & 3], &chip, &err) < 0 ||
            chip_check_recovery(&tape.regs, chip, &err) < 0 ||
            chip_wait_boot(&tape.regs, chip, &config, &err) < 0)
            return 0;
    } else {
        chip = chip_find(chips[data[0] & 3]);
    }
    knobs_setup(&knobs, &tape.regs, chip);
    if (mode_capable(&knobs, &capable, &err) == 0 && mode_pending(&knobs, &pending, &err) == 0)
        (void)mode_stage(&knobs, (enum cc_mode)(CC_MODE_OFF + (data[0] >> 2 & 3)), &err);
    knobs_forget(&knobs);
    (void)mode_check(&knobs, CC_MODE_OFF, &err);
    return 0;
}
