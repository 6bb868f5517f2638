/* The kernel's crypto that the driver's SPDM needs, and its absence by name. REF-A 7.4: soft dependencies ecdh_generic and
 * ecdsa_generic of nvidia.ko (open-gpu-kernel-modules kernel-open/nvidia/libspdm_ecc.c). */
#ifndef CCN_ATTESTATION_PROG_LKCA_H
#define CCN_ATTESTATION_PROG_LKCA_H

#include <stdio.h>

#include "attestation/prog/opts.h"

struct lkca {
    bool known, ecdsa, ecdh; /* known: /proc/crypto could be read */
};

struct lkca lkca_read(const struct opts *opts);
/* lkca_say() - one line on what is there or missing; with @trouble_only nothing unless something is missing */
void lkca_say(FILE *f, const struct lkca *lkca, bool trouble_only);

#endif
