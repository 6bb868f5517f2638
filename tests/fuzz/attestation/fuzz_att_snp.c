/* 1184 bytes of report, the rest is the certificate. */
#include "attestation/snp.h"
#include "tests/fuzz/attestation/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_options options = target_options();
    size_t n = size < SNP_REPORT_SIZE ? size : SNP_REPORT_SIZE;
    struct att_text report = target_text(data, n), leaf = target_text(data + n, size - n);
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    if (att_check_snp(&options, &report, &leaf, NULL, &v, &err) < 0)
        abort();
    target_judge(v, true);
    return 0;
}
