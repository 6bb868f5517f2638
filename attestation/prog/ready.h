/* The gate: one flag for all GPUs, opened once, after everything was verified. REF-A 7.3 */
#ifndef CCN_ATTESTATION_PROG_READY_H
#define CCN_ATTESTATION_PROG_READY_H

#include "attestation/prog/collect.h"

/* ready_may_gate() - none of the options that weaken verification goes together with --set-ready. Return: 0, -EINVAL
 * naming the option. */
int ready_may_gate(const struct opts *opts, struct err *err);

/* ready_before() - read the state; TRUE already means that someone opened it without us, which is said aloud */
int ready_before(struct nvml *nvml, bool *was_ready, struct err *err);

/* ready_announce() - the log of the 2023 guide with its line about the ready state, said once, after the last GPU (REF-A
 * 5.10; in 2023 it came after each GPU). The caller's text. */
char *ready_announce(const char *log);

/* ready_open() - same devices as verified, set TRUE once, read back */
int ready_open(struct nvml *nvml, const struct opts *opts, const struct collection *c,
               struct err *err);

/* ready_after_failure() - a closed flag is left alone; an open one is closed only with --revoke-on-failure, for that is
 * final until the driver is reloaded */
void ready_after_failure(struct nvml *nvml, bool was_ready, bool revoke);

#endif
