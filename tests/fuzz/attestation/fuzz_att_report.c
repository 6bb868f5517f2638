#include "attestation/report.h"
#include "tests/fuzz/attestation/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int kind = ATT_GPU; kind <= ATT_SWITCH; kind++) {
        struct report report;
        struct att_verdict *v = trail_new();
        if (report_parse(data, size, (enum att_kind)kind, &report, v)) {
            if (report.signed_len + REPORT_SIGNATURE > size || !report.bios[0])
                abort();
            json_object_put(report_facts(&report));
        }
        target_judge(v, true);
    }
    return 0;
}
