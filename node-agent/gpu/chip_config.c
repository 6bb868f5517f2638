/* Configuration space: presence, capabilities, power state, memory decoding, BAR firewall. */
#include <errno.h>

#include "base/auto.h"
#include "node-agent/gpu/chip.h"

enum {
    CFG_ID = 0x00,
    CFG_SUBSYSTEM = 0x2c,
    CFG_COMMAND = 0x04,
    CFG_STATUS_CAPS = 1 << 4, /* of the status word */
    CFG_CAPS = 0x34,
    CFG_PROBE = 0xf0, /* a word that hypervisors do not emulate (gpu-admin-tools) */
    CAP_PM = 0x01,
    CAP_PCIE = 0x10,
    EXT_DVSEC = 0x23,
    FIREWALL_UP = 1 << 20,
    FIREWALL_LIMIT_US = 5000000,
};

static int is_gone(struct err *err)
{
    return err_set(err, ENODEV,
                   "configuration space reads all ones: the device is off the bus, in "
                   "D3cold or its link is down");
}

static int walk_legacy(struct regs *regs, uint32_t at, struct chip_config *ret, struct err *err)
{
    for (int limit = 48; at >= 0x40 && limit > 0; limit--) {
        uint32_t v;
        int r = regs_config_read(regs, at & 0xfc, 4, &v, err);
        if (r < 0)
            return r;
        if (v == 0xffffffff)
            return is_gone(err);
        if ((v & 0xff) == CAP_PM)
            ret->pm = at & 0xfc;
        else if ((v & 0xff) == CAP_PCIE)
            ret->pcie = at & 0xfc;
        at = v >> 8 & 0xff;
    }
    return 0;
}

static int check_dvsec(struct regs *regs, uint32_t at, struct chip_config *ret, struct err *err)
{
    uint32_t vendor, id;
    int r = regs_config_read(regs, at + 4, 4, &vendor, err);
    if (r == 0)
        r = regs_config_read(regs, at + 8, 4, &id, err);
    if (r == 0 && (vendor & 0xffff) == 0x10de && (id & 0xffff) == 0)
        ret->dvsec = at;
    return r;
}

static int walk_extended(struct regs *regs, struct chip_config *ret, struct err *err)
{
    struct err ignored = ERR_INIT;
    uint32_t at = 0x100;
    for (int limit = 96; at >= 0x100 && limit > 0; limit--) {
        uint32_t v;
        /* a file of 256 bytes has none: no error */
        int r = regs_config_read(regs, at, 4, &v, at == 0x100 ? &ignored : err);
        if (r < 0)
            return at == 0x100 ? 0 : r;
        if (v == 0 || v == 0xffffffff)
            return 0;
        if ((v & 0xffff) == EXT_DVSEC && at <= 4096 - 0x18) {
            r = check_dvsec(regs, at, ret, err);
            if (r < 0)
                return r;
        }
        at = v >> 20 & 0xffc;
    }
    return 0;
}

/* Boards whose GPU has a coherent link (C2C) to a Grace processor: NVIDIA/gpu-admin-tools gpu/devid_names.py. Some share
 * their device id with boards that have none. */
static const struct {
    uint16_t device, subsystem; /* 0 = any */
} grace[] = {
    {0x2342, 0}, {0x2343, 0}, {0x2345, 0},      {0x2348, 0},
    {0x2941, 0}, {0x297e, 0}, {0x29bc, 0x2045}, {0x31c2, 0x21f1},
};

static int find_grace(struct regs *regs, struct chip_config *ret, struct err *err)
{
    uint32_t id, subsystem;
    int r = regs_config_read(regs, CFG_ID, 4, &id, err);
    if (r == 0)
        r = regs_config_read(regs, CFG_SUBSYSTEM, 4, &subsystem, err);
    for (size_t i = 0; i < ARRAY_LEN(grace) && r == 0; i++) {
        if (id >> 16 == grace[i].device &&
            (!grace[i].subsystem || subsystem >> 16 == grace[i].subsystem))
            ret->grace = true;
    }
    return r;
}

int chip_read_config(struct regs *regs, struct chip_config *ret, struct err *err)
{
    struct chip_config config = {0};
    uint32_t caps, probe;
    int r = regs_config_read(regs, CFG_CAPS, 1, &caps, err);
    if (r == 0)
        r = regs_config_read(regs, CFG_PROBE, 2, &probe, err);
    if (r < 0)
        return r;
    if (caps == 0xff || probe == 0xffff)
        return is_gone(err);
    r = find_grace(regs, &config, err);
    if (r == 0)
        r = walk_legacy(regs, caps, &config, err);
    if (r == 0)
        r = walk_extended(regs, &config, err);
    if (r == 0)
        *ret = config;
    return r;
}

static int to_d0(struct regs *regs, unsigned pm, struct err *err)
{
    uint32_t v;
    int r = regs_config_read(regs, pm + 4, 2, &v, err);
    if (r < 0 || (v & 3) == 0)
        return r;
    r = regs_config_write(regs, pm + 4, 2, v & ~3u, err);
    regs_pause_us(regs, 10000); /* D3hot exit, PCI Express 5.9 */
    if (r == 0)
        r = regs_config_read(regs, pm + 4, 2, &v, err);
    if (r == 0 && (v & 3) != 0)
        r = err_set(err, EIO, "the device stays in power state D%u%s", v & 3,
                    v == 0xffff ? "cold" : "");
    return r;
}

int chip_wake(struct regs *regs, const struct chip_config *config, struct err *err)
{
    uint32_t command;
    int r = config->pm ? to_d0(regs, config->pm, err) : 0;
    if (r == 0)
        r = regs_config_read(regs, CFG_COMMAND, 2, &command, err);
    if (r == 0 && !(command & 2))
        r = regs_config_write(regs, CFG_COMMAND, 2, command | 2, err);
    return r;
}

int chip_wait_firewall(struct regs *regs, const struct chip_config *config, struct err *err)
{
    int64_t end = regs_now_us(regs) + FIREWALL_LIMIT_US;
    if (!config->dvsec)
        return 0;
    for (;;) {
        int64_t now = regs_now_us(regs);
        uint32_t v;
        int r = regs_config_read(regs, config->dvsec + 8, 4, &v, err);
        if (r < 0)
            return r;
        if (v != 0xffffffff && !(v & FIREWALL_UP))
            return 0;
        if (now >= end)
            return v == 0xffffffff
                       ? is_gone(err)
                       : err_set(err, ETIMEDOUT, "the BAR firewall was not lowered within 5 s");
        regs_pause_us(regs, 10000);
    }
}
