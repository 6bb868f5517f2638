/* How an SEV-SNP report covers nonce, token key and GPU evidence. REF-A 8.5: the scheme of confidential-containers
 * (guest-components rcar_client.rs), so that Trustee accepts the same evidence. Pure; the checking side gets hostile input. */
#ifndef CCN_ATTESTATION_BINDING_H
#define CCN_ATTESTATION_BINDING_H

#include "attestation/ccnattest.h"

#define BINDING_DATA_SIZE 64
#define BINDING_CLAIM                                                                              \
    "x-ccnode-tee" /* of the overall token: type, report, certificates, nonce, key, evidence */

/* binding_gpu_nonce() - what the GPUs answer: first 32 bytes of SHA-384 over {"nonce":…,"tee-pubkey":…}, members sorted,
 * no spaces. @jwk: canonical, as att_key_jwk() gives it */
void binding_gpu_nonce(const char *nonce_hex, const char *jwk, uint8_t ret[ATT_NONCE_SIZE]);
/* binding_report_data() - SHA-384 over {"additional-evidence":…,"nonce":…,"tee-pubkey":…}, then 16 zero bytes */
void binding_report_data(const char *evidence, const char *nonce_hex, const char *jwk,
                         uint8_t ret[BINDING_DATA_SIZE]);

#endif
