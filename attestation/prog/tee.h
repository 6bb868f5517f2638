/* The CPU's evidence: an SEV-SNP report whose REPORT_DATA covers nonce, key and GPU evidence. REF-A 8.1, 8.5 */
#ifndef CCN_ATTESTATION_PROG_TEE_H
#define CCN_ATTESTATION_PROG_TEE_H

#include "attestation/ccnattest.h"

#define TEE_DATA_SIZE 64

/**
 * tee_report() - a report over @data, from configfs-tsm, else from /dev/sev-guest
 * @certs: the host's certificate table, untrusted; may come back empty
 * Return: 0; -ENODEV when the guest has neither.
 */
int tee_report(const char *host_root, const uint8_t data[TEE_DATA_SIZE], struct att_bytes *report,
               struct att_bytes *certs, struct err *err);

/* tee_gpu_nonce() - first 32 bytes of SHA-384 over {"nonce":…,"tee-pubkey":…}, members sorted, no spaces */
void tee_gpu_nonce(const char *nonce_hex, const char *jwk, uint8_t ret[ATT_NONCE_SIZE]);
/* tee_report_data() - SHA-384 over {"additional-evidence":…,"nonce":…,"tee-pubkey":…}, then 16 zero bytes */
void tee_report_data(const char *evidence, const char *nonce_hex, const char *jwk,
                     uint8_t ret[TEE_DATA_SIZE]);

#endif
