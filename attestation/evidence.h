/* Evidence JSON (REF-A 1.7, 8.6): a list of devices, nvattest's {"evidences": […]}, CoCo's {"device_evidence_list": […]}.
 * Its nonce and version members are compared, never trusted. */
#ifndef CCN_ATTESTATION_EVIDENCE_H
#define CCN_ATTESTATION_EVIDENCE_H

#include "attestation/fwid.h"

struct evidence {
    enum arch arch;
    char uuid[80];           /* "" when absent */
    char driver_version[40]; /* what NVML said; "" when absent */
    char vbios_version[40];
    struct att_bytes report; /* owned */
    struct att_bytes chain;  /* owned, PEM text */
};

struct evidence_list {
    struct evidence *items;
    size_t n;
};

void evidence_done(struct evidence_list *list);

/**
 * evidence_parse() - append the devices of one document
 * @nonce: the caller's; a document that states another one is refused. NULL: not compared.
 * Return: true; false with a failed rule.
 */
bool evidence_parse(const struct att_text *text, const uint8_t *nonce, struct evidence_list *list,
                    struct att_verdict *v);

#endif
