/* The DICE extension of a device's leaf certificate: which firmware the leaf key belongs to. REF-A 3.4 */
#ifndef CCN_ATTESTATION_FWID_H
#define CCN_ATTESTATION_FWID_H

#include "attestation/certs.h"
#include "attestation/report.h"

enum arch { ARCH_HOPPER, ARCH_BLACKWELL, ARCH_LS10, ARCH_UNKNOWN };

const char *arch_name(enum arch arch);           /* "HOPPER", … */
enum arch arch_parse(const char *text);          /* any case */
enum arch arch_of_chip(const char *common_name); /* from "GH100 A01 GSP FMC LF" */
static inline enum att_kind arch_kind(enum arch arch)
{
    return arch == ARCH_LS10 ? ATT_SWITCH : ATT_GPU;
}

/* fwid_check() - report against leaf, and the BROM key the leaf names against certificate 1 */
bool fwid_check(const struct report *report, enum arch arch, const struct cert *leaf,
                const struct cert *brom, enum att_missing_fwid missing, struct att_verdict *v);

/* fwid_decode_dice(), fwid_decode_tcb() - the two forms of the extension. Pure, hostile input.
 * Return: true; @digest (48 bytes) and @spki are views into @der. */
bool fwid_decode_dice(const uint8_t *der, size_t len, const uint8_t **digest, const uint8_t **spki,
                      size_t *spki_len);
bool fwid_decode_tcb(const uint8_t *der, size_t len, const uint8_t **digest);

#endif
