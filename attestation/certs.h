/* The certificates of one call. Each is decoded once and each signature on one is checked once, however many devices
 * share it: what attestation costs is the number of P-384 checks. One pool belongs to one call and one thread. */
#ifndef CCN_ATTESTATION_CERTS_H
#define CCN_ATTESTATION_CERTS_H

#include <openssl/x509.h>

#include "attestation/trail.h"

#define CERTS_MAX 512
#define CERTS_CHAIN 5

struct cert {
    X509 *x509;
    EVP_PKEY *key; /* borrowed from x509 */
    uint8_t sha256[32];
    int64_t not_before, not_after;
    const struct cert
        *signed_by; /* the issuer whose key has been seen to verify this one, or NULL */
};

struct certs {
    struct cert *list[CERTS_MAX];
    size_t n;
    unsigned signatures; /* signatures checked so far, for tests and benchmarks */
};

struct certs *certs_new(void);
void certs_free(struct certs *pool); /* accepts NULL */

/* certs_add() - the certificate of a DER block; the same block gives the same pointer. NULL with err. */
struct cert *certs_add(struct certs *pool, const uint8_t *der, size_t len, struct err *err);
/* certs_add_pem() - certificates of a PEM text that holds nothing else, at most @max.
 * Return: how many, -EINVAL, -EFBIG. */
int certs_add_pem(struct certs *pool, const char *pem, size_t len, const struct cert **ret,
                  size_t max, struct err *err);

struct chain_verdict {
    bool valid;
    const char *status; /* "valid", "expired", "invalid": claim x-nvidia-cert-status */
    int64_t not_after;  /* the earliest of the chain; 0 when there is none */
};

/**
 * certs_verify() - the chain profile of REF-A 3.3
 * @chain: leaf first, root last; @n must equal @expect
 * Return: as ret->valid; every rule leaves a line.
 */
bool certs_verify(struct certs *pool, const struct cert *const *chain, size_t n, size_t expect,
                  const struct cert *root, int64_t at, struct chain_verdict *ret,
                  struct att_verdict *v);

/* certs_signed_by() - the signature of @cert under @issuer's key, checked once per call */
bool certs_signed_by(struct certs *pool, const struct cert *cert, const struct cert *issuer);

/* certs_is_p384() - the public key is P-384 as a named curve with an uncompressed point */
bool certs_is_p384(const struct cert *cert);

/* Text attributes of a subject (NID_commonName, NID_serialNumber); false when absent or too long */
bool certs_subject(const struct cert *cert, int nid, char *ret, size_t room);
/* certs_ueid() - serial number in decimal; the caller's */
char *certs_ueid(const struct cert *cert);
/* certs_time() - "2026-11-23T12:00:00Z" */
void certs_time(int64_t seconds, char ret[32]);

/* certs_ecdsa() - ECDSA P-384 over SHA-384 of @data with r‖s of 96 bytes, big endian, both within 1..n-1 */
bool certs_ecdsa(struct certs *pool, const struct cert *cert, const uint8_t *data, size_t len,
                 const uint8_t rs[96]);
/* ecdsa_p384() - the same with a bare key */
bool ecdsa_p384(EVP_PKEY *key, const uint8_t *data, size_t len, const uint8_t rs[96]);

#endif
