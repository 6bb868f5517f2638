/* A token against the saved key set, and the same bytes as a key set. */
#include "tests/fuzz/attestation/target.h"

static const char jwks[] =
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"kid\":\"test-kid-1\",\"alg\":\"ES384\","
    "\"x\":\"Up7Egdaq0K0REm8Hfxo9w3qFE-6tnrBBKFbN0siOX9gpYkwddJH2hMQbZf6pJemH\","
    "\"y\":\"pWcSbVIuKpVSY_FmUiwPm80vJeLhH-QZ0sTrvjY9IfO0UJ3bmMFDn-gL_u_hDnzc\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_token_options options = {
        .nonce = target_nonce, .at = TARGET_CLOCK, .issuer = "https://nras.attestation.nvidia.com"};
    struct att_text token = target_text(data, size);
    struct att_text keys = {jwks, sizeof jwks - 1, "jwks"};
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    if (att_check_token(&options, &token, &keys, &v, &err) < 0)
        abort();
    target_judge(v, true);
    if (att_check_token(&options, &keys, &token, &v, &err) < 0)
        abort();
    target_judge(v, false);
    return 0;
}
