/* What the targets share: a clock, a nonce, a text of the input, and that a verdict is a verdict. */
#ifndef CCN_TESTS_FUZZ_ATTESTATION_TARGET_H
#define CCN_TESTS_FUZZ_ATTESTATION_TARGET_H

#include <stdlib.h>
#include <string.h>

#include "attestation/ccnattest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 2026-11-23T12:00:00Z, and the nonce of the saved inputs */
#define TARGET_CLOCK 1795435200
static const uint8_t target_nonce[ATT_NONCE_SIZE] = {
    0x93, 0x1d, 0x8d, 0xd0, 0xad, 0xd2, 0x03, 0xac, 0x3d, 0x8b, 0x4f, 0xbd, 0xe7, 0x5e, 0x11, 0x52,
    0x78, 0xee, 0xfc, 0xdc, 0xea, 0xc5, 0xb8, 0x76, 0x71, 0xa7, 0x48, 0xf3, 0x23, 0x64, 0xdf, 0xcb};

static inline struct att_options target_options(void)
{
    return (struct att_options){.nonce = target_nonce, .at = TARGET_CLOCK};
}

static inline struct att_text target_text(const uint8_t *data, size_t size)
{
    return (struct att_text){(const char *)data, size, "input"};
}

/* a refusal has a reason; nothing a fuzzer makes may be accepted unless @may_accept */
static inline void target_judge(struct att_verdict *verdict, bool may_accept)
{
    bool accepted = att_verdict_class(verdict) == ATT_ACCEPTED;
    if ((accepted && !may_accept) || (!accepted && !att_verdict_message(verdict)[0]))
        abort();
    att_verdict_free(verdict);
}

#endif
