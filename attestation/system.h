/* The devices of one run together: no device twice, numbers, one mode, protected-PCIe topology. REF-A 3.5, 9.1 */
#ifndef CCN_ATTESTATION_SYSTEM_H
#define CCN_ATTESTATION_SYSTEM_H

#include "attestation/device.h"

#define PPCIE_GPUS 8
#define PPCIE_SWITCHES 4

/* system_check() - after every device's evidence was accepted. Return: true, or a failed rule. */
bool system_check(const struct att_options *options, const struct device *devices, size_t n,
                  struct att_verdict *v);

#endif
