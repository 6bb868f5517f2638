/* The attestation report: SPDM 1.1 GET_MEASUREMENTS request followed by the MEASUREMENTS response (REF-A 2).
 *
 * Bytes in, borrowed views out; hostile input. A parsed report keeps the rules of REF-A 2.8: every length fits, block
 * indexes are unique, no TLV type twice, mandatory types present, texts of [0-9A-Za-z.] only. Pure.
 */
#ifndef CCN_ATTESTATION_REPORT_H
#define CCN_ATTESTATION_REPORT_H

#include "attestation/trail.h"

#define REPORT_DIGEST 48    /* SHA-384 */
#define REPORT_SIGNATURE 96 /* r and s, big endian */
#define REPORT_TEXT 33

/* opaque types, REF-A 2.6 */
enum {
    OPAQUE_DRIVER = 3,
    OPAQUE_VBIOS = 6,
    OPAQUE_NVDEC = 11,
    OPAQUE_CHIP_SKU = 15,
    OPAQUE_PROJECT = 17,
    OPAQUE_PROJECT_SKU = 18,
    OPAQUE_FWID = 20,
    OPAQUE_PCIE_STATUS = 21,
    OPAQUE_PDI = 22,
    OPAQUE_LOCK = 25,
    OPAQUE_GPU_PDIS = 26,
    OPAQUE_VERSION = 34,
    OPAQUE_CHIP = 35,
    OPAQUE_FEATURE = 36
};
#define STATUS_ENABLED 0xaa
#define STATUS_DISABLED 0x55
#define FEATURE_SPT 0
#define FEATURE_MPT 1
#define FEATURE_PPCIE 2

struct opaque {
    uint16_t type, len;
    const uint8_t *value;
};

struct report {
    enum att_kind kind;
    const uint8_t *bytes;
    size_t len;        /* as given, trailing zeros included */
    size_t signed_len; /* the signature follows these bytes */
    const uint8_t *nonce, *response_nonce;
    unsigned n_blocks;
    const uint8_t *block[256]; /* by SPDM index; RIM index + 1 */
    struct opaque opaque[64];
    size_t n_opaque;
    /* validated texts; "" when the type is absent and not mandatory */
    char driver[REPORT_TEXT], bios[REPORT_TEXT]; /* GPU: VBIOS as 96.00.9F.00.01; switch: as sent */
    char chip_sku[REPORT_TEXT], project[REPORT_TEXT], project_sku[REPORT_TEXT], chip[REPORT_TEXT];
    uint8_t nvdec;    /* STATUS_ENABLED or STATUS_DISABLED on a GPU */
    int feature;      /* FEATURE_…, -1 unknown */
    bool pcie_locked; /* GPU: protected-PCIe status enabled */
};

/* report_parse() - Return: true; false with a failed rule in the trail. @ret is written only on success and borrows
 * from @bytes. */
bool report_parse(const uint8_t *bytes, size_t len, enum att_kind kind, struct report *ret,
                  struct att_verdict *v);
/* report_opaque() - the TLV of a type, or NULL */
const struct opaque *report_opaque(const struct report *report, unsigned type);
/* report_claims() - everything parsed as a JSON object; the caller's */
struct json_object *report_facts(const struct report *report);

#endif
