/* The pinned roots: one for devices, one for RIMs, three products of AMD. REF-A 3.2, 8.3.
 *
 * A root is not a setting. A file may replace one for stored evidence and tests; it never adds to it. */
#ifndef CCN_ATTESTATION_ANCHORS_H
#define CCN_ATTESTATION_ANCHORS_H

#include "attestation/certs.h"

enum anchor { ANCHOR_DEVICE, ANCHOR_RIM };

/**
 * anchors_root() - the pinned root, or the one that replaces it
 * @pem: NULL for the pinned one; otherwise exactly one certificate that is self-signed and a certificate authority
 * Return: 0, -EINVAL when @pem is no such certificate.
 */
int anchors_root(struct certs *pool, enum anchor which, const char *pem, const struct cert **ret,
                 struct err *err);

struct amd_chain {
    const char *product; /* "Milan", "Genoa", "Turin" */
    const struct cert *ark, *ask, *asvk;
};
/* anchors_amd() - the three certificates of product 0, 1 or 2. Return: 0; -EINVAL when the compiled-in files differ. */
int anchors_amd(struct certs *pool, unsigned product, struct amd_chain *ret, struct err *err);

#endif
