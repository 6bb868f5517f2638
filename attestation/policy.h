/* The built-in policy for one device's claims, shared by verdicts and tokens. REF-A 5.8 */
#ifndef CCN_ATTESTATION_POLICY_H
#define CCN_ATTESTATION_POLICY_H

#include "attestation/trail.h"

/* policy_builtin_one() - measres success; every certificate chain valid, OCSP good, nonce and answer not denied */
bool policy_builtin_one(struct json_object *claims, const char *name, struct att_verdict *v);

#endif
