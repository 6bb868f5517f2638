/* ES384 and nothing else: keys, key sets, compact tokens. RFC 7515, 7517, 7638. */
#ifndef CCN_ATTESTATION_JOSE_H
#define CCN_ATTESTATION_JOSE_H

#include <json-c/json.h>
#include <openssl/evp.h>

#include "attestation/ccnattest.h"

struct att_key {
    EVP_PKEY *pkey;
    char *jwk, *kid;
};

/* jose_sign() - compact token over @claims; the caller's */
int jose_sign(const struct att_key *key, struct json_object *claims, char **ret, struct err *err);

/* A key set and the key of it that was used last: all tokens of a bundle name the same one, which is decoded once. */
struct jose_set {
    struct json_object *json; /* borrowed */
    char kid[128];            /* of key; "" when there is none */
    EVP_PKEY *key;            /* owned */
};
void jose_set_done(struct jose_set *set);

/**
 * jose_verify() - one compact token
 * @set: the key is found by the header's kid; keys inside the header are ignored
 * Return: 0 and the claims (the caller's); -EINVAL form; -EACCES algorithm, key or signature, with what was wrong.
 */
int jose_verify(struct jose_set *set, const char *token, struct json_object **ret, struct err *err);

#endif
