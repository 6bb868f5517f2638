/* The decoder against the processor: every instruction runs natively on plain memory and emulated; registers, flags
 * and memory must agree. The operand is always (%rdi); encodings are written out, so that no compiler chooses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>

#include "simulator/trap/decode.h"

#define COMPARED_FLAGS 0x8d5u /* OF SF ZF AF PF CF */
#define UNDEFINED_AF 0x10u    /* after and, or, xor, test */

struct machine {
    uint64_t rax, rcx, rdx, rbx, r8, flags, memory;
};

static uint8_t *code_page;

static int make_page(void **state)
{
    (void)state;
    code_page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return code_page == MAP_FAILED ? -1 : 0;
}

static int drop_page(void **state)
{
    (void)state;
    return munmap(code_page, 4096);
}

/* the instruction between two returns of our own making; registers from and to the machine */
__attribute__((no_sanitize("address", "undefined"), noinline)) static void native(struct machine *m)
{
    __asm__ volatile(
        "push %%rbx\n\t"
        "mov %0, %%rsi\n\t"
        "lea %c[memory](%%rsi), %%rdi\n\t"
        "push %c[flags](%%rsi)\n\t"
        "popfq\n\t"
        "mov %c[rax](%%rsi), %%rax\n\t"
        "mov %c[rcx](%%rsi), %%rcx\n\t"
        "mov %c[rdx](%%rsi), %%rdx\n\t"
        "mov %c[rbx](%%rsi), %%rbx\n\t"
        "mov %c[r8](%%rsi), %%r8\n\t"
        "call *%[code]\n\t"
        "mov %%rax, %c[rax](%%rsi)\n\t"
        "mov %%rcx, %c[rcx](%%rsi)\n\t"
        "mov %%rdx, %c[rdx](%%rsi)\n\t"
        "mov %%rbx, %c[rbx](%%rsi)\n\t"
        "mov %%r8, %c[r8](%%rsi)\n\t"
        "pushfq\n\t"
        "pop %c[flags](%%rsi)\n\t"
        "pop %%rbx\n\t"
        :
        : "r"(m), [code] "r"(code_page), [rax] "i"(offsetof(struct machine, rax)),
          [rcx] "i"(offsetof(struct machine, rcx)), [rdx] "i"(offsetof(struct machine, rdx)),
          [rbx] "i"(offsetof(struct machine, rbx)), [r8] "i"(offsetof(struct machine, r8)),
          [flags] "i"(offsetof(struct machine, flags)),
          [memory] "i"(offsetof(struct machine, memory))
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "memory", "cc");
}

static void emulated(struct machine *m, const struct insn *in)
{
    uint64_t regs[16] = {m->rax, m->rcx, m->rdx, m->rbx};
    uint64_t memory = 0;
    regs[8] = m->r8;
    memcpy(&memory, &m->memory, in->width);
    insn_run(in, regs, &m->flags, &memory);
    if (in->kind == INSN_STORE || in->kind == INSN_ALU_WRITE)
        memcpy(&m->memory, &memory, in->width);
    m->rax = regs[0];
    m->rcx = regs[1];
    m->rdx = regs[2];
    m->rbx = regs[3];
    m->r8 = regs[8];
}

static uint64_t seed = 88172645463325252ull;

/* xorshift, with many values at the edges */
static uint64_t random_value(void)
{
    static const uint64_t edges[] = {0,      1,          0x7f,       0x80,  0xff,      0x7fff,
                                     0x8000, 0x7fffffff, 0x80000000, ~0ull, 1ull << 63};
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % 3 ? seed : edges[seed / 3 % (sizeof edges / sizeof *edges)];
}

static void compare(const uint8_t *code, size_t length, const struct insn *in)
{
    bool logic =
        in->alu == ALU_AND || in->alu == ALU_OR || in->alu == ALU_XOR || in->alu == ALU_TEST;
    uint64_t flags = COMPARED_FLAGS & ~(uint64_t)(logic ? UNDEFINED_AF : 0);
    memcpy(code_page, code, length);
    code_page[length] = 0xc3;
    for (int i = 0; i < 200; i++) {
        struct machine a = {.rax = random_value(),
                            .rcx = random_value(),
                            .rdx = random_value(),
                            .rbx = random_value(),
                            .r8 = random_value(),
                            .memory = random_value(),
                            .flags = 0x202 | (random_value() & 1)};
        struct machine b = a;
        native(&a);
        emulated(&b, in);
        a.flags &= flags;
        b.flags &= flags;
        if (memcmp(&a, &b, sizeof a) != 0)
            fail_msg("%02x %02x %02x %02x: rax %lx %lx rcx %lx %lx rdx %lx %lx r8 %lx %lx memory "
                     "%lx %lx flags %lx %lx",
                     code[0], code[1], code[2], code[3], a.rax, b.rax, a.rcx, b.rcx, a.rdx, b.rdx,
                     a.r8, b.r8, a.memory, b.memory, a.flags, b.flags);
    }
}

/* prefix, REX, opcode, the middle field in ModRM with (%rdi), immediate */
static void one(uint8_t prefix, uint8_t rex, const uint8_t *opcode, size_t n, uint8_t field,
                size_t imm)
{
    uint8_t code[16] = {0};
    size_t len = 0;
    struct insn in;
    if (prefix)
        code[len++] = prefix;
    if (rex)
        code[len++] = rex;
    memcpy(code + len, opcode, n);
    len += n;
    code[len++] = (uint8_t)(field << 3 | 7);
    for (size_t i = 0; i < imm; i++)
        code[len++] = (uint8_t)random_value();
    if (!insn_decode(code, &in))
        fail_msg("%02x %02x %02x %02x is not decoded", code[0], code[1], code[2], code[3]);
    if (in.length != len)
        fail_msg("%02x %02x %02x %02x has %zu bytes, not %d", code[0], code[1], code[2], code[3],
                 len, in.length);
    compare(code, len, &in);
}

/* prefix and REX of each width; r8 by REX.R; 0..3 are rax rcx rdx rbx, 4..7 ah ch dh bh without REX */
static void every_register(const uint8_t *opcode, size_t n, bool byte, size_t (*imm)(int width))
{
    static const struct {
        uint8_t prefix, rex;
        int width;
    } wide[] = {{0, 0, 4}, {0x66, 0, 2}, {0, 0x48, 8}, {0, 0x4c, 8}, {0, 0x44, 4}, {0x66, 0x44, 2}};
    for (size_t i = 0; i < sizeof wide / sizeof *wide && !byte; i++)
        for (uint8_t field = 0; field < 4; field++)
            if (!(wide[i].rex & 4) || field == 0)
                one(wide[i].prefix, wide[i].rex, opcode, n, field, imm ? imm(wide[i].width) : 0);
    for (uint8_t field = 0; field < 8 && byte; field++)
        one(0, 0, opcode, n, field, imm ? imm(1) : 0);
    if (byte)
        one(0, 0x44, opcode, n, 0, imm ? imm(1) : 0);
}

static void moves(void **state)
{
    (void)state;
    every_register((const uint8_t[]){0x8b}, 1, false, NULL);
    every_register((const uint8_t[]){0x8a}, 1, true, NULL);
    every_register((const uint8_t[]){0x89}, 1, false, NULL);
    every_register((const uint8_t[]){0x88}, 1, true, NULL);
    one(0, 0, (const uint8_t[]){0xc6}, 1, 0, 1);
    one(0, 0, (const uint8_t[]){0xc7}, 1, 0, 4);
    one(0x66, 0, (const uint8_t[]){0xc7}, 1, 0, 2);
    one(0, 0x48, (const uint8_t[]){0xc7}, 1, 0, 4); /* sign-extended */
}

static void extensions(void **state)
{
    (void)state;
    for (uint8_t op = 0xb6; op <= 0xbf; op = (uint8_t)(op == 0xb7 ? 0xbe : op + 1))
        every_register((const uint8_t[]){0x0f, op}, 2, false, NULL);
    one(0, 0x48, (const uint8_t[]){0x63}, 1, 1, 0);
}

static void arithmetic_with_registers(void **state)
{
    (void)state;
    for (uint8_t op = 0; op < 0x40; op += 8)
        for (uint8_t form = 0; form < 4; form++)
            every_register((const uint8_t[]){(uint8_t)(op | form)}, 1, !(form & 1), NULL);
    every_register((const uint8_t[]){0x84}, 1, true, NULL);
    every_register((const uint8_t[]){0x85}, 1, false, NULL);
}

static size_t full(int width)
{
    return width == 8 ? 4 : (size_t)width;
}

static void arithmetic_with_immediates(void **state)
{
    (void)state;
    for (uint8_t field = 0; field < 8; field++) {
        one(0, 0, (const uint8_t[]){0x80}, 1, field, 1);
        one(0, 0, (const uint8_t[]){0x81}, 1, field, full(4));
        one(0x66, 0, (const uint8_t[]){0x81}, 1, field, full(2));
        one(0, 0x48, (const uint8_t[]){0x81}, 1, field, full(8));
        one(0, 0, (const uint8_t[]){0x83}, 1, field, 1);
        one(0, 0x48, (const uint8_t[]){0x83}, 1, field, 1);
    }
    one(0, 0, (const uint8_t[]){0xf6}, 1, 0, 1);
    one(0, 0, (const uint8_t[]){0xf7}, 1, 0, 4);
    one(0x66, 0, (const uint8_t[]){0xf7}, 1, 0, 2);
    one(0, 0x48, (const uint8_t[]){0xf7}, 1, 0, 4);
}

static void addressing_forms_only_change_the_length(void **state)
{
    (void)state;
    static const struct {
        uint8_t code[12];
        int length;
    } forms[] = {
        {{0x8b, 0x07}, 2},                               /* (%rdi) */
        {{0x8b, 0x47, 0x10}, 3},                         /* 16(%rdi) */
        {{0x8b, 0x87, 0, 1, 0, 0}, 6},                   /* 256(%rdi) */
        {{0x8b, 0x04, 0x37}, 3},                         /* (%rdi,%rsi) */
        {{0x8b, 0x44, 0x37, 8}, 4},                      /* 8(%rdi,%rsi) */
        {{0x8b, 0x84, 0x37, 0, 1, 0, 0}, 7},             /* 256(%rdi,%rsi) */
        {{0x8b, 0x04, 0x35, 0, 0, 0, 0}, 7},             /* (,%rsi) */
        {{0x8b, 0x05, 0, 0, 0, 0}, 6},                   /* (%rip) */
        {{0x41, 0x8b, 0x04, 0x24}, 4},                   /* (%r12) */
        {{0x41, 0x8b, 0x45, 0x00}, 4},                   /* (%r13) */
        {{0x67, 0x8b, 0x07}, 3},                         /* (%edi) */
        {{0x81, 0xbf, 0, 1, 0, 0, 1, 2, 3, 4}, 10},      /* cmpl, displacement and immediate */
        {{0x66, 0xc7, 0x84, 0x37, 0, 1, 0, 0, 1, 2}, 10} /* movw */
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct insn in;
        assert_true(insn_decode(forms[i].code, &in));
        assert_int_equal(in.length, forms[i].length);
    }
}

static void others_are_left_to_the_single_step(void **state)
{
    (void)state;
    static const uint8_t others[][6] = {
        {0xf3, 0xa4},             /* rep movsb */
        {0x0f, 0x10, 0x07},       /* movups */
        {0x66, 0x0f, 0x6f, 0x07}, /* movdqa */
        {0xf3, 0x0f, 0x7e, 0x07}, /* movq */
        {0xc5, 0xfa, 0x6f, 0x07}, /* vmovdqu */
        {0x8b, 0xc7},             /* no memory operand */
        {0xff, 0x07},             /* inc */
        {0x87, 0x07},             /* xchg */
        {0x90},                   /* nop */
        {0xc7, 0x4f, 0, 0, 0, 0}, /* c7 with another field than 0 */
        {0xf7, 0x17},             /* not */
        {0x8d, 0x07},             /* lea */
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        uint8_t code[32] = {0};
        struct insn in;
        memcpy(code, others[i], sizeof others[i]);
        if (insn_decode(code, &in))
            fail_msg("%02x %02x was decoded", code[0], code[1]);
    }
    assert_int_equal(insn_width((const uint8_t[INSN_MAX + 2]){0x0f, 0x10, 0x07}), 16);
    assert_int_equal(insn_width((const uint8_t[INSN_MAX + 2]){0x66, 0x0f, 0x6f, 0x07}), 16);
    assert_int_equal(insn_width((const uint8_t[INSN_MAX + 2]){0x48, 0x87, 0x07}), 8);
    assert_int_equal(insn_width((const uint8_t[INSN_MAX + 2]){0xff, 0x07}), 4);
    assert_true(insn_stores_only((const uint8_t[INSN_MAX + 2]){0x66, 0x0f, 0x7e, 0x07}));
    assert_true(insn_stores_only((const uint8_t[INSN_MAX + 2]){0x0f, 0x11, 0x07}));
    assert_true(insn_stores_only((const uint8_t[INSN_MAX + 2]){0xf3, 0xab}));
    assert_false(insn_stores_only((const uint8_t[INSN_MAX + 2]){0xff, 0x07}));
    uint8_t endless[32];
    memset(endless, 0x66, sizeof endless);
    struct insn in;
    assert_false(insn_decode(endless, &in));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves),
        cmocka_unit_test(extensions),
        cmocka_unit_test(arithmetic_with_registers),
        cmocka_unit_test(arithmetic_with_immediates),
        cmocka_unit_test(addressing_forms_only_change_the_length),
        cmocka_unit_test(others_are_left_to_the_single_step),
    };
    return cmocka_run_group_tests(tests, make_page, drop_page);
}
