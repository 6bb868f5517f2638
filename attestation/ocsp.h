/* One OCSP request, one response. REF-A 3.6. Pure; the response is hostile. */
#ifndef CCN_ATTESTATION_OCSP_H
#define CCN_ATTESTATION_OCSP_H

#include "attestation/certs.h"

#define OCSP_NONCE_SIZE 32
#define OCSP_SKEW 300            /* seconds two clocks may differ */
#define OCSP_NO_NEXT_UPDATE 3600 /* seconds an answer without nextUpdate is usable */

struct ocsp_verdict {
    bool good;           /* the certificate may be used: good, or an allowed hold */
    bool response_valid; /* form, CertID, responder, signature, freshness */
    bool responder_ok, signature_ok, nonce_ok;
    bool held;       /* revoked with certificateHold */
    bool retry_sha1; /* malformedRequest or unauthorized: the responder may want a SHA-1 CertID */
    const char
        *status; /* "good", "revoked", "unknown", "undefined": claim x-nvidia-cert-ocsp-status */
    const char *reason; /* claim spelling, "certificate_hold"; NULL when not revoked */
};

/* ocsp_request() - DER of a request with a nonce of 32 bytes; @sha1 selects the CertID hash, SHA-384 otherwise */
void ocsp_request(const struct cert *cert, const struct cert *issuer, bool sha1,
                  const uint8_t nonce[OCSP_NONCE_SIZE], struct att_bytes *ret);

/**
 * ocsp_check() - a response against the request it answers
 * @allow_hold: revoked with reason certificateHold is tolerated, with a note
 * Return: as ret->good.
 */
bool ocsp_check(struct certs *pool, const struct att_bytes *response,
                const struct att_bytes *request, const struct cert *cert, const struct cert *issuer,
                int64_t at, bool allow_hold, struct ocsp_verdict *ret, struct att_verdict *v);

#endif
