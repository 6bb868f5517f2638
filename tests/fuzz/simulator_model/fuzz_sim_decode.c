/* Any bytes as an instruction: bounded, and running what was decoded stays inside its operands. */
#include <stdlib.h>
#include <string.h>

#include "simulator/trap/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t code[64] = {0};
    uint64_t regs[16], flags = 0x202, memory = 0x0123456789abcdefull;
    struct insn in;
    memcpy(code, data, size < 24 ? size : 24);
    for (int i = 0; i < 16; i++)
        regs[i] = 0x1111111111111111ull * (unsigned)i;
    (void)insn_width(code);
    (void)insn_stores_only(code);
    if (!insn_decode(code, &in))
        return 0;
    if (in.length < 2 || in.length > INSN_MAX || (in.width & (in.width - 1)) || in.width > 8 ||
        in.reg > 15)
        abort();
    insn_run(&in, regs, &flags, &memory);
    return 0;
}
