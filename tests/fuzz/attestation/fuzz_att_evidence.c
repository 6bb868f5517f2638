/* The whole path without any RIM: nothing may be accepted. */
#include "tests/fuzz/attestation/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_options options = target_options();
    struct att_text text = target_text(data, size);
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    options.revocation = ATT_REVOCATION_OFF;
    if (att_verify(&options, NULL, &text, 1, &v, &err) < 0)
        abort();
    (void)att_verdict_claims(v, ATT_CLAIMS_V3);
    (void)att_verdict_claims(v, ATT_CLAIMS_2023);
    if (!strstr(att_verdict_log(v), "False\n"))
        abort();
    target_judge(v, false);
    return 0;
}
