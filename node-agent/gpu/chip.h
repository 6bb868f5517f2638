/* What kind of chip answers, from its own registers, and whether it is fit to be talked to (REF-P 1.2, 1.7, 2).
 *
 * Register offsets: NVIDIA/open-gpu-kernel-modules published headers and NVIDIA/gpu-admin-tools gpu/regs.
 */
#ifndef CCN_GPU_CHIP_H
#define CCN_GPU_CHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node-agent/gpu/device.h"
#include "node-agent/gpu/regs.h"

enum chip_family { CHIP_PLAIN, CHIP_HOPPER, CHIP_BLACKWELL, CHIP_LS10 };
enum chip_mailbox { MAILBOX_NONE, MAILBOX_EMEM, MAILBOX_MNOC };

struct chip {
    const char *name; /* as names_chip() */
    enum chip_family family;
    bool unlisted; /* CHIP_PLAIN because nobody knows it, not because it has no CC */
    enum chip_mailbox mailbox;
    uint32_t boot_reg; /* 0xff = boot complete; 0 = none */
    int boot_limit_ms;
    uint32_t mode_reg;
    uint32_t flr_scratch, sbr_scratch; /* cleared by resets; 0 = none */
};

/* What configuration space says, in the order in which it must be asked. */
struct chip_config {
    unsigned pm;    /* offset of the power management capability; 0 = none */
    unsigned pcie;  /* PCI Express capability */
    unsigned dvsec; /* NVIDIA's DVSEC with the BAR firewall bit (Blackwell) */
    bool grace;     /* superchip (GH200, GB200, …): its link to the processor comes up as well */
};

/**
 * chip_read_config() - is the function there at all, and where its capabilities are
 * Return: 0; -ENODEV configuration space reads all ones (off the bus, D3cold, link down).
 */
int chip_read_config(struct regs *regs, struct chip_config *ret, struct err *err);

/* chip_wake() - D0 and memory decoding on, by configuration space. Return: 0, -EIO stuck in D3, -errno. */
int chip_wake(struct regs *regs, const struct chip_config *config, struct err *err);

/* chip_wait_firewall() - until BAR0 answers after a reset; at once where there is no firewall. -ETIMEDOUT after 5 s. */
int chip_wait_firewall(struct regs *regs, const struct chip_config *config, struct err *err);

/**
 * chip_identify() - by PMC_BOOT_0
 * @hint: chip name by id: tells "no data" apart (Hopper in recovery reads 0, Blackwell without DVSEC needs a pause).
 *        Registers win over ids, which only give names: another chip of ours than the id says is what it reads; a chip
 *        that should be one of ours and reads as none is an error; an unlisted id may be any
 * @ret: a chip without Confidential Computing is CHIP_PLAIN; so is one that neither id nor register tells (unlisted)
 * Return: 0; -ENOTRECOVERABLE locked down after a security fault, or firmware in recovery mode; -EIO no answer.
 */
int chip_identify(struct regs *regs, const struct chip_config *config, const char *hint,
                  const struct chip **ret, struct err *err);

/* chip_check_recovery() - Return: 0, -ENOTRECOVERABLE firmware in recovery mode, -errno. */
int chip_check_recovery(struct regs *regs, const struct chip *chip, struct err *err);

/* chip_wait_boot() - until firmware says boot complete, and on a Grace superchip the link to the processor is up.
 * -ETIMEDOUT with the status words of the FSP. */
int chip_wait_boot(struct regs *regs, const struct chip *chip, const struct chip_config *config,
                   struct err *err);

/* chip_read_mode() - the active mode. */
int chip_read_mode(struct regs *regs, const struct chip *chip, enum cc_mode *ret, struct err *err);
/* chip_decode_mode() - pure */
enum cc_mode chip_decode_mode(const struct chip *chip, uint32_t v);

/* chip_find() - by name, for tests and for messages. Return: the row or NULL. */
const struct chip *chip_find(const char *name);
/* chip_of_boot0() - the row of a PMC_BOOT_0 value, or NULL for one without Confidential Computing. Pure. */
const struct chip *chip_of_boot0(uint32_t boot0);

#endif
