/* A response against the request and certificates of the saved set. */
#include "tests/fuzz/attestation/ocsp_set.h"
#include "tests/fuzz/attestation/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_options options = target_options();
    struct att_text response = target_text(data, size);
    struct att_text request = {(const char *)ocsp_set_request, sizeof ocsp_set_request, "request"};
    struct att_text subject = {(const char *)ocsp_set_subject, sizeof ocsp_set_subject, "subject"};
    struct att_text issuer = {(const char *)ocsp_set_issuer, sizeof ocsp_set_issuer, "issuer"};
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    if (att_check_ocsp(&options, &response, &request, &subject, &issuer, &v, &err) < 0)
        abort();
    target_judge(v, true);
    /* the same bytes as a request */
    if (att_check_ocsp(&options, &request, &response, &subject, &issuer, &v, &err) < 0)
        abort();
    target_judge(v, false);
    return 0;
}
