#include "tests/fuzz/attestation/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_options options = target_options();
    struct att_text text = target_text(data, size);
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    struct att_bytes xml = {0};
    if (att_check_rim(&options, &text, NULL, &v, &err) < 0)
        abort();
    target_judge(v, true);
    if (att_rim_reply_decode(text.text, size, "NV_SWITCH_BIOS_5612_0002_890_9610550001", &xml,
                             &err) == 0)
        att_bytes_done(&xml);
    return 0;
}
