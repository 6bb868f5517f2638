/* Throw-away keys, certificates, reports and RIMs in which exactly one thing is wrong. */
#ifndef CCN_TESTS_UNIT_ATTESTATION_MINT_H
#define CCN_TESTS_UNIT_ATTESTATION_MINT_H

/* cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include "attestation/ccnattest.h"

#define MINT_CLOCK 1795435200 /* 2026-11-23T12:00:00Z */

/* one certificate to be; zero means the ordinary thing */
struct mint_cert {
    const char *name, *serial_number; /* subject CN and serialNumber */
    int not_ca, is_ca;                /* basicConstraints against the position */
    int no_constraints;
    const char *usage;   /* keyUsage, NULL: what the position needs, "": none at all */
    const char *curve;   /* "P-256" */
    const EVP_MD *md;    /* SHA-384 */
    int64_t from, until; /* seconds relative to MINT_CLOCK */
    const char *critical_oid;
    const char *issuer_name; /* instead of the issuer's */
    int sign_with_other_key;
    const uint8_t *dice; /* value of 2.23.133.5.4.1 */
    size_t dice_len;
};

struct mint_chain {
    EVP_PKEY *key[6];
    X509 *cert[6];
    int n;
};

/* mint_chain() - leaf first, root last */
void mint_chain(struct mint_chain *chain, const struct mint_cert *plan, int n);
void mint_done(struct mint_chain *chain);
char *mint_pem(const struct mint_chain *chain, int from,
               int to); /* certificates from..to-1; the caller's */

/* mint_sign() - r and s of 96 bytes over data */
void mint_sign(EVP_PKEY *key, const uint8_t *data, size_t len, uint8_t rs[96]);

/* a file of the source tree, terminated; the caller's */
char *mint_file(const char *name, size_t *len);

/* mint_first_rule() - the rule of the first failure, "" when there is none */
const char *mint_first_rule(const struct att_verdict *verdict);
/* frees the verdict; @rule NULL: accepted */
void mint_expect(struct att_verdict *verdict, const char *what, const char *rule);

#endif
