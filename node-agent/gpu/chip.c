#include "node-agent/gpu/chip.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/names.h"

enum {
    PMC_BOOT_0 = 0x0,
    HOPPER_RECOVERY = 0x20120,     /* bit 30 */
    BLACKWELL_RECOVERY = 0x8aa128, /* low byte not 0 or 1 */
    LS10_RECOVERY = 0x66120,       /* bit 30 */
    GRACE_LINK = 0x1498,           /* 0xff = up (Linux drivers/vfio/pci/nvgrace-gpu) */
    FSP_STATUS = 0x8f0320,         /* four words */
    FSP_VERSION = 0x8f0334,        /* major 11:8, minor 7:0 */
    HOPPER_FAULT = 0x2b4,          /* configuration space: security fault word */
    DVSEC_FAULT = 0x14,            /* the same, from NVIDIA's DVSEC on */
};

#define GRACE_LIMIT_MS 30000 /* memory training and link together (nvgrace-gpu) */
#define HOPPER_BOOT .boot_reg = 0x200bc, .boot_limit_ms = 5000
#define GB10X_BOOT .boot_reg = 0x200bc, .boot_limit_ms = 10000
#define GB20X_BOOT .boot_reg = 0xad00bc, .boot_limit_ms = 10000
#define BLACKWELL .family = CHIP_BLACKWELL, .mailbox = MAILBOX_MNOC, .mode_reg = 0x590

static const struct {
    uint32_t mask, value; /* of PMC_BOOT_0 */
    struct chip chip;
} chips[] = {
    {0x1ff00000,
     0x18000000,
     {.name = "gh100",
      .family = CHIP_HOPPER,
      .mailbox = MAILBOX_EMEM,
      HOPPER_BOOT,
      .mode_reg = 0x1182cc,
      .flr_scratch = 0x1458,
      .sbr_scratch = 0x91288}},
    {0x1ff00000, 0x1a000000, {.name = "gb100", BLACKWELL, GB10X_BOOT}},
    {0x1ff00000, 0x1a200000, {.name = "gb102", BLACKWELL, GB10X_BOOT}},
    {0x1ff00000, 0x1a300000, {.name = "gb110", BLACKWELL, GB10X_BOOT}},
    {0x1ff00000, 0x1a400000, {.name = "gb112", BLACKWELL, GB10X_BOOT}},
    {0x1ff00000, 0x1b200000, {.name = "gb202", BLACKWELL, GB20X_BOOT}},
    {0x1ff00000, 0x1b300000, {.name = "gb203", BLACKWELL, GB20X_BOOT}},
    {0x1ff00000, 0x1b500000, {.name = "gb205", BLACKWELL, GB20X_BOOT}},
    {0x1ff00000, 0x1b600000, {.name = "gb206", BLACKWELL, GB20X_BOOT}},
    {0x1ff00000, 0x1b700000, {.name = "gb207", BLACKWELL, GB20X_BOOT}},
    {0xffffff00,
     0x00700000,
     {.name = "ls10",
      .family = CHIP_LS10,
      .mailbox = MAILBOX_EMEM,
      .boot_reg = 0x660bc,
      .boot_limit_ms = 5000,
      .mode_reg = 0x28c50,
      .flr_scratch = 0xdfe0,
      .sbr_scratch = 0x91288}},
};

static const struct chip plain = {.name = "", .family = CHIP_PLAIN};
static const struct chip unlisted = {.name = "", .family = CHIP_PLAIN, .unlisted = true};

const struct chip *chip_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(chips); i++) {
        if (strcmp(chips[i].chip.name, name) == 0)
            return &chips[i].chip;
    }
    return NULL;
}

const struct chip *chip_of_boot0(uint32_t boot0)
{
    for (size_t i = 0; i < ARRAY_LEN(chips); i++) {
        if ((boot0 & chips[i].mask) == chips[i].value)
            return &chips[i].chip;
    }
    return NULL;
}

/* What the fault word says (REF-P 1.7); an unknown bit is told by its number. */
static void describe_fault(uint32_t word, char *ret, size_t room)
{
    static const char *const names[16] = {"fuse-pod",    "fuse-scpm",   "fsp-scpm",     "sec2-scpm",
                                          "fsp-dcls",    "sec2-dcls",   "gsp-dcls",     "pmu-dcls",
                                          "seq-too-big", "pre-iff-crc", "post-iff-crc", "ecc",
                                          "cmd",         "pri",         "watchdog",     "bootfsm"};
    size_t n = (size_t)snprintf(ret, room, "fault word 0x%08x", word);
    for (unsigned bit = 0; bit < 16 && n < room; bit++) {
        if (word & 1u << bit)
            n += (size_t)snprintf(ret + n, room - n, " %s", names[bit]);
    }
    if (word >> 30 && n < room)
        (void)snprintf(ret + n, room - n, "%s%s", word & 1u << 30 ? " device-lockdown" : "",
                       word & 1u << 31 ? " function-lockdown" : "");
}

static int security_fault(struct regs *regs, const struct chip_config *config, uint32_t boot0,
                          struct err *err)
{
    struct err ignored = ERR_INIT;
    char text[240] = "fault word unreadable";
    unsigned at = config->dvsec ? config->dvsec + DVSEC_FAULT : HOPPER_FAULT;
    uint32_t word;
    if (regs_config_read(regs, at, 4, &word, &ignored) == 0)
        describe_fault(word, text, sizeof text);
    return err_set(err, ENOTRECOVERABLE,
                   "locked down after a security fault (register 0x0 reads "
                   "0x%08x, %s)",
                   boot0, text);
}

static int in_recovery(const char *what, uint32_t v, struct err *err)
{
    return err_set(err, ENOTRECOVERABLE, "firmware is in recovery mode (%s reads 0x%08x)", what, v);
}

int chip_identify(struct regs *regs, const struct chip_config *config, const char *hint,
                  const struct chip **ret, struct err *err)
{
    uint32_t boot0;
    int r = regs_read_any(regs, PMC_BOOT_0, &boot0, err);
    if (r == 0 && boot0 == 0xffffffff && !config->dvsec && strncmp(hint, "gb", 2) == 0) {
        regs_pause_us(regs, 3000000); /* a firewall that cannot be watched */
        r = regs_read_any(regs, PMC_BOOT_0, &boot0, err);
    }
    if (r < 0)
        return r;
    if (boot0 == 0xbadf0200 || boot0 == 0xbad00200)
        return security_fault(regs, config, boot0, err);
    const char *bad = regs_bad_value(boot0);
    if (bad)
        return err_set(err, EIO, "register 0x0 reads 0x%08x (%s)", boot0, bad);
    if (boot0 == 0 && strcmp(hint, "gh100") == 0)
        return in_recovery("register 0x0", boot0, err);
    const struct chip *chip = chip_of_boot0(boot0);
    if (!chip && chip_find(hint))
        return err_set(err, EIO, "register 0x0 reads 0x%08x, which is no %s", boot0, hint);
    *ret = chip ? chip : strcmp(hint, CHIP_UNLISTED) == 0 ? &unlisted : &plain;
    return 0;
}

int chip_check_recovery(struct regs *regs, const struct chip *chip, struct err *err)
{
    static const uint32_t at[] = {[CHIP_HOPPER] = HOPPER_RECOVERY,
                                  [CHIP_BLACKWELL] = BLACKWELL_RECOVERY,
                                  [CHIP_LS10] = LS10_RECOVERY};
    uint32_t v;
    char name[32];
    if (chip->family == CHIP_PLAIN)
        return 0;
    int r = regs_read(regs, at[chip->family], &v, err);
    if (r < 0)
        return r;
    bool recovery = chip->family == CHIP_BLACKWELL ? (v & 0xff) > 1 : (v & 1u << 30) != 0;
    (void)snprintf(name, sizeof name, "register 0x%x", at[chip->family]);
    return recovery ? in_recovery(name, v, err) : 0;
}

enum cc_mode chip_decode_mode(const struct chip *chip, uint32_t v)
{
    static const enum cc_mode cc[] = {CC_MODE_OFF, CC_MODE_ON, CC_MODE_INVALID, CC_MODE_DEVTOOLS};
    switch (chip->family) {
    case CHIP_LS10:
        return v & 1 ? CC_MODE_PPCIE : CC_MODE_OFF;
    case CHIP_HOPPER: /* field 6:5: 0 none, 1 protected PCIe; the CC bits are then 0 */
        if ((v >> 5 & 3) == 0)
            return cc[v & 3];
        return (v >> 5 & 3) == 1 && (v & 3) == 0 ? CC_MODE_PPCIE : CC_MODE_INVALID;
    case CHIP_BLACKWELL:
        return cc[v & 3];
    case CHIP_PLAIN:
        break;
    }
    return CC_MODE_OFF;
}

int chip_read_mode(struct regs *regs, const struct chip *chip, enum cc_mode *ret, struct err *err)
{
    uint32_t v = 0;
    int r = chip->mode_reg ? regs_read(regs, chip->mode_reg, &v, err) : 0;
    if (r == 0)
        *ret = chip_decode_mode(chip, v);
    return r;
}

/* ---- waiting ---- */

/* A register that reads 0xff when it is done, the time for it, and what it means. */
struct ready {
    uint32_t at;
    int limit_ms;
    const char *what;
    bool tolerant; /* of error patterns meanwhile */
};

static int boot_timeout(struct regs *regs, const struct ready *ready, uint32_t last,
                        struct err *err)
{
    struct err ignored = ERR_INIT;
    uint32_t status[4] = {0}, version = 0;
    for (unsigned i = 0; i < 4; i++)
        (void)regs_read_any(regs, FSP_STATUS + 4 * i, &status[i], &ignored);
    (void)regs_read_any(regs, FSP_VERSION, &version, &ignored);
    return err_set(err, ETIMEDOUT,
                   "firmware did not report %s within %d s (register 0x%x reads 0x%x; FSP status "
                   "%08x %08x %08x %08x, version %u.%u)",
                   ready->what, ready->limit_ms / 1000, ready->at, last, status[0], status[1],
                   status[2], status[3], version >> 8 & 15, version & 0xff);
}

/* All ones while booting: is the device still there? Return: 0 it is, keep waiting. */
static int still_there(struct regs *regs, struct err *err)
{
    uint32_t id, command;
    int r = regs_config_read(regs, 0, 2, &id, err);
    if (r == 0 && id == 0xffff)
        r = err_set(err, ENODEV,
                    "the device fell off the bus while booting (configuration space "
                    "reads all ones)");
    if (r == 0)
        r = regs_config_read(regs, 4, 2, &command, err);
    if (r == 0 && !(command & 2))
        r = err_set(err, EIO, "memory access of the device was switched off while it booted");
    return r;
}

static int wait_ready(struct regs *regs, const struct ready *ready, int64_t begin, struct err *err)
{
    int64_t end = begin + (int64_t)ready->limit_ms * 1000;
    int r = 0;
    while (r == 0) {
        int64_t now = regs_now_us(regs); /* before the read: a slow last read still counts */
        uint32_t v;
        r = regs_read_any(regs, ready->at, &v, err);
        if (r < 0 || v == 0xff)
            return r;
        if (v == 0xffffffff)
            r = still_there(regs, err);
        else if (v >> 16 == 0xbadf && !ready->tolerant)
            r = err_set(err, EIO, "boot failed: register 0x%x reads 0x%08x (%s)", ready->at, v,
                        regs_bad_value(v));
        if (r == 0 && now >= end)
            return boot_timeout(regs, ready, v, err);
        if (r == 0)
            regs_pause_us(regs, 10000);
    }
    return r;
}

int chip_wait_boot(struct regs *regs, const struct chip *chip, const struct chip_config *config,
                   struct err *err)
{
    const struct ready boot = {chip->boot_reg, config->grace ? GRACE_LIMIT_MS : chip->boot_limit_ms,
                               "boot complete", chip->family == CHIP_BLACKWELL};
    const struct ready link = {GRACE_LINK, GRACE_LIMIT_MS, "the link to the processor up", true};
    if (!chip->boot_reg)
        return 0;
    int r = chip_wait_firewall(regs, config, err);
    int64_t begin = regs_now_us(regs);
    if (r == 0)
        r = wait_ready(regs, &boot, begin, err);
    if (r == 0 && config->grace)
        r = wait_ready(regs, &link, begin, err);
    return r;
}
