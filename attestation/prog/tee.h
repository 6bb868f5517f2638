/* The CPU's evidence: an SEV-SNP report whose REPORT_DATA covers nonce, key and GPU evidence. REF-A 8.1, 8.5 */
#ifndef CCN_ATTESTATION_PROG_TEE_H
#define CCN_ATTESTATION_PROG_TEE_H

#include "attestation/binding.h"

#define TEE_DATA_SIZE BINDING_DATA_SIZE

/**
 * tee_report() - a report over @data, from configfs-tsm, else from /dev/sev-guest
 * @certs: the host's certificate table, untrusted; may come back empty
 * Return: 0; -ENODEV when the guest has neither.
 */
int tee_report(const char *host_root, const uint8_t data[TEE_DATA_SIZE], struct att_bytes *report,
               struct att_bytes *certs, struct err *err);

#endif
