#include "attestation/fwid.h"
#include "tests/fuzz/attestation/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct att_options options = target_options();
    struct att_text text = target_text(data, size);
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    const uint8_t *digest, *spki;
    size_t len;
    if (att_check_chain(&options, &text, &v, &err) < 0)
        abort();
    target_judge(v, true); /* the saved genuine chains are good */
    if (fwid_decode_dice(data, size, &digest, &spki, &len) && (spki < data || len > size))
        abort();
    (void)fwid_decode_tcb(data, size, &digest);
    return 0;
}
