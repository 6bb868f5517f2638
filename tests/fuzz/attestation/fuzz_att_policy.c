/* {"claims": …, "policy": …} split in two as text, and the whole as either. */
#include "attestation/jsonin.h"
#include "tests/fuzz/attestation/target.h"

static void appraise(struct att_text policy, struct att_text claims)
{
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    if (att_check_policy(&policy, &claims, 1, &v, &err) < 0)
        abort();
    target_judge(v, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_text all = target_text(data, size);
    struct err err = ERR_INIT;
    struct json_object *root = NULL;
    appraise(all, all);
    if (jsonin_parse(all.text, size, 1 << 20, &root, &err) < 0)
        return 0;
    struct json_object *policy = jsonin_member(root, "policy");
    struct json_object *claims = jsonin_member(root, "claims");
    if (policy && claims) {
        const char *p = json_object_to_json_string(policy);
        const char *c = json_object_to_json_string(claims);
        appraise((struct att_text){p, strlen(p), "policy"},
                 (struct att_text){c, strlen(c), "claims"});
    }
    json_object_put(root);
    return 0;
}
