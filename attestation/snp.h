/* AMD SEV-SNP attestation report and the certificate that signed it. REF-A 8.2, 8.3. Pure; hostile input. */
#ifndef CCN_ATTESTATION_SNP_H
#define CCN_ATTESTATION_SNP_H

#include "attestation/certs.h"

#define SNP_REPORT_SIZE 1184
#define SNP_SIGNED_SIZE 0x2a0
#define SNP_DATA_SIZE 64

struct snp_report {
    const uint8_t *bytes; /* SNP_REPORT_SIZE, borrowed */
    uint32_t version, vmpl;
    uint64_t policy;
    unsigned signing_key; /* 0 VCEK, 1 VLEK */
    const uint8_t *data, *measurement, *host_data, *reported_tcb, *chip_id;
    uint8_t family, model; /* version 3 and later */
};

bool snp_parse(const uint8_t *bytes, size_t len, struct snp_report *ret, struct att_verdict *v);
/* snp_verify() - certificate against the pinned chain, report against the certificate
 * @data: expected REPORT_DATA, or NULL */
bool snp_verify(struct certs *pool, const struct snp_report *report, const struct cert *leaf,
                const uint8_t *data, int64_t at, struct att_verdict *v);

#endif
