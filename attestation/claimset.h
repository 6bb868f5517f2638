/* Claims as a policy sees them, whatever document they came in. */
#ifndef CCN_ATTESTATION_CLAIMSET_H
#define CCN_ATTESTATION_CLAIMSET_H

#include <json-c/json.h>

#include "attestation/ccnattest.h"

struct claimset {
    struct json_object *flat;    /* one object for policies of version 1.0 */
    struct json_object *overall; /* for overall-claims; NULL: no such claims */
    struct json_object *submods; /* name to claims */
    /* all owned */
};

void claimset_done(struct claimset *set);

/**
 * claimset_add() - one document: flat claims; overall claims (it has submods or the overall result); an object or list of
 * devices' claims; a detached EAT, whose tokens are decoded and not verified; or ccnode-attest's JSON output
 * Return: 0, -EINVAL.
 */
int claimset_add(struct claimset *set, const char *text, size_t len, struct err *err);

/* claimset_of_verdict() - what att_token_make() would sign, without signing */
int claimset_of_verdict(struct claimset *set, const struct att_verdict *verdict, struct err *err);

#endif
