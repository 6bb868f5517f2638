/* Devices of the simulator's model in this process, with our register back end on top: no kernel, no time passes but
 * the model's. */
#ifndef CCN_TEST_GPU_BENCH_H
#define CCN_TEST_GPU_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node-agent/gpu/chip.h"
#include "node-agent/gpu/knobs.h"
#include "node-agent/gpu/regs.h"
#include "simulator/model/model.h"

struct bench {
    struct model *model;
    int hw;
    struct regs *regs;
    struct chip_config config;
    const struct chip *chip;
    struct knobs knobs;
};

/* bench_twist() - from now on register @at reads @add more than it should; 0, 0 ends it */
void bench_twist(struct bench *bench, uint32_t at, uint32_t add);
/* bench_twist_config() - configuration offset @at reads @value; 0, 0 ends it */
void bench_twist_config(struct bench *bench, unsigned at, uint32_t value);

/* bench_owe_answer() - MNOC: from @at_ns on the mailbox has an answer to a read, @value, that belongs to an earlier
 * request; firmware answers one after the other, so what follows comes after it */
void bench_owe_answer(struct bench *bench, int64_t at_ns, uint32_t value);

struct bench_kind {
    const char *name; /* chip */
    uint16_t device_id;
    uint32_t class_code;
    unsigned modes; /* CC_MODE_BIT() */
};
extern const struct bench_kind bench_kinds[4]; /* gh100, gb100, gb202, ls10 */

/* bench_new() - a booted device, not opened */
struct bench *bench_new(const struct bench_kind *kind);
void bench_free(struct bench *bench);
/* bench_open() - as a worker opens it. Return: 0 or -errno. */
int bench_open(struct bench *bench, struct err *err);
/* bench_reset() - FLR as Linux does it: waits until configuration answers, restores it */
void bench_reset(struct bench *bench);
void bench_fault(struct bench *bench, int fault, int value);
/* bench_switch() - stage, read back, reset, wait for boot, verify. Return: 0 or -errno. */
int bench_switch(struct bench *bench, enum cc_mode mode, struct err *err);
enum cc_mode bench_active(const struct bench *bench);

#endif
