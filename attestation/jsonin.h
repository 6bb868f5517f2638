/* JSON from outside, read strictly (RFC 8259): one value, valid UTF-8, no raw control characters, no NUL even when
 * escaped, no duplicate members, at most 32 levels and 65536 values. json-c alone would accept all of these. */
#ifndef CCN_ATTESTATION_JSONIN_H
#define CCN_ATTESTATION_JSONIN_H

#include <json-c/json.h>

#include "attestation/ccnattest.h"

/* Return: 0 and the value (the caller's, json_object_put()); -EINVAL with what is wrong and where; -EFBIG. */
int jsonin_parse(const char *text, size_t len, size_t max, struct json_object **ret,
                 struct err *err);
/* jsonin_parse_claims() - the same, but of two members with the same name the last one counts: a published claims fixture of
 * the peers has such a pair. Only for claims that a policy is tried on, never for evidence, tokens or key sets. */
int jsonin_parse_claims(const char *text, size_t len, size_t max, struct json_object **ret,
                        struct err *err);
/* jsonin_string() - member @name of @object when it is a string, else NULL; borrowed */
const char *jsonin_string(struct json_object *object, const char *name);
/* jsonin_member() - any member, NULL when absent (or JSON null); borrowed */
struct json_object *jsonin_member(struct json_object *object, const char *name);

static inline void auto_json_put(struct json_object **object)
{
    json_object_put(*object);
}
#define AUTO_JSON AUTO(auto_json_put)

#endif
