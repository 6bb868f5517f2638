/* One x86-64 instruction that touched device memory: what it does, and doing it.
 *
 * Covers moves and arithmetic with one memory operand (what gcc, clang and CPython use on mapped registers); string,
 * vector and exotic instructions are left to the single-step fallback. Source: Intel SDM volume 2, chapter 2 and
 * appendix A. Pure, no allocation; async-signal-safe.
 */
#ifndef CCN_SIMULATOR_TRAP_DECODE_H
#define CCN_SIMULATOR_TRAP_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#define INSN_MAX 15 /* bytes */

enum insn_kind {
    INSN_LOAD,      /* register = memory */
    INSN_STORE,     /* memory = register or immediate */
    INSN_ALU_READ,  /* register = register op memory; or compare only */
    INSN_ALU_WRITE, /* memory = memory op register or immediate */
};
enum alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST };

struct insn {
    enum insn_kind kind;
    enum alu alu;
    uint8_t length; /* of the instruction */
    uint8_t width;  /* of the memory operand: 1, 2, 4 or 8 bytes */
    uint8_t reg;    /* 0..15 as encoded: rax rcx rdx rbx rsp rbp rsi rdi r8… */
    bool high_byte; /* ah, ch, dh, bh instead */
    bool has_imm;
    bool
        memory_first; /* INSN_ALU_READ: memory is the left operand and nothing is kept (cmp, test) */
    bool sign;        /* INSN_LOAD: sign-extended */
    uint8_t dest_width; /* INSN_LOAD: 4 bytes also clear the upper half, 1 and 2 keep the rest */
    int64_t imm;
};

/* insn_decode() - the bytes at code. Return: false when it is none of the above. Reads no further than the instruction. */
bool insn_decode(const uint8_t *code, struct insn *ret);

/* insn_width() - a guess of how many bytes an undecodable instruction moves: 4, 8 or 16 */
unsigned insn_width(const uint8_t *code);
/* insn_stores_only() - an undecodable instruction that writes without reading first: vector and string stores */
bool insn_stores_only(const uint8_t *code);

/**
 * insn_run() - carry it out on registers
 * @regs: sixteen, in encoding order    @flags: rflags
 * @memory: the operand's value before; afterwards what is to be written (INSN_STORE, INSN_ALU_WRITE)
 */
void insn_run(const struct insn *in, uint64_t *regs, uint64_t *flags, uint64_t *memory);

#endif
