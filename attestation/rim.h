/* A RIM document: golden measurements signed by NVIDIA. REF-A 4.3 to 4.5
 *
 * The order is the contract: bounds of the raw text, structure of the tree, certificates, signature with the key of
 * the verified chain, and only then values, read from fixed positions of the same tree. */
#ifndef CCN_ATTESTATION_RIM_H
#define CCN_ATTESTATION_RIM_H

#include "attestation/certs.h"
#include "attestation/report.h"

#define RIM_CHAIN 4
#define RIM_ALTERNATIVES 64
#define RIM_TEXT 64

struct golden {
    uint8_t index; /* zero based; SPDM block index - 1 */
    bool active;
    unsigned first, n; /* alternatives: hashes[first .. first + n - 1] */
};

struct rim {
    bool schema_ok, signature_ok;
    const struct cert *chain[RIM_CHAIN];
    size_t n_chain;
    struct chain_verdict chain_verdict;
    char version[RIM_TEXT], product[RIM_TEXT], edition[RIM_TEXT], oemid[RIM_TEXT];
    struct golden golden[255];
    size_t n_golden, n_active;
    uint8_t (*hashes)[REPORT_DIGEST]; /* owned */
    size_t n_hashes;
};

void rim_done(struct rim *rim); /* accepts a zeroed one */

/**
 * rim_load() - steps 1 to 6 of REF-A 4.5 on one document
 * Return: true when all passed; on failure @ret still holds what had been established, for the claims.
 * @ret must be zeroed or done.
 */
bool rim_load(struct certs *pool, const struct cert *root, int64_t at, const uint8_t *xml,
              size_t len, struct rim *ret, struct att_verdict *v);

enum rim_role { RIM_DRIVER, RIM_BIOS };
/* rim_id() - the id of the RIM a report needs, REF-A 4.1. Return: false when the text does not fit. */
bool rim_id(const struct report *report, bool blackwell, enum rim_role role, char *ret,
            size_t room);
/* rim_fits() - product, edition and version against the report */
bool rim_fits(const struct rim *rim, const struct report *report, bool blackwell,
              enum rim_role role, struct att_verdict *v);

/* rim_bounds() - the raw text: no DOCTYPE, CDATA or processing instruction, bounded depth and attributes. Pure. */
bool rim_bounds(const char *xml, size_t len, const char **why);

#endif
