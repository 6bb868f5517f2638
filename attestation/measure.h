/* Golden values against runtime values. REF-A 4.6. Pure. */
#ifndef CCN_ATTESTATION_MEASURE_H
#define CCN_ATTESTATION_MEASURE_H

#include "attestation/rim.h"

struct mismatch {
    uint8_t index;
    bool from_driver;
    const uint8_t *golden;  /* first alternative */
    const uint8_t *runtime; /* NULL: no such block */
};

struct comparison {
    bool no_conflict, match;
    unsigned compared, skipped;
    struct mismatch list[255];
    size_t n;
};

/* measure_compare() - @driver is NULL for a switch, or when one RIM alone is looked at. Index 35 is skipped when NVDEC0
 * is disabled. Return: true when there is no conflict and every active entry equals its block. */
bool measure_compare(const struct report *report, const struct rim *driver, const struct rim *bios,
                     struct comparison *ret, struct att_verdict *v);

#endif
