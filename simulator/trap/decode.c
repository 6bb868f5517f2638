#include "simulator/trap/decode.h"

#include <string.h>

#define FLAG_CF 0x001u
#define FLAG_PF 0x004u
#define FLAG_AF 0x010u
#define FLAG_ZF 0x040u
#define FLAG_SF 0x080u
#define FLAG_OF 0x800u
#define FLAGS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

struct cursor {
    const uint8_t *start, *p;
    bool operand16, wide, rex;
    uint8_t reg_high; /* REX.R, as bit 3 */
};

static bool is_prefix(uint8_t b)
{
    return b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x2e ||
           b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65;
}

static bool prefixes(struct cursor *c)
{
    while (is_prefix(*c->p)) {
        c->operand16 |= *c->p == 0x66;
        if (*c->p == 0xf2 || *c->p == 0xf3) /* repeats, and vector forms */
            return false;
        if (++c->p - c->start >= INSN_MAX)
            return false;
    }
    if ((*c->p & 0xf0) == 0x40) {
        c->rex = true;
        c->wide = *c->p & 8;
        c->reg_high = (uint8_t)((*c->p & 4) << 1);
        c->p++;
    }
    return true;
}

/* Return: the middle field (register or opcode extension), -1 when there is no memory operand */
static int modrm(struct cursor *c)
{
    uint8_t m = *c->p++;
    unsigned mod = m >> 6, rm = m & 7;
    if (mod == 3)
        return -1;
    if (rm == 4) {
        uint8_t sib = *c->p++;
        if ((sib & 7) == 5 && mod == 0)
            c->p += 4;
    } else if (rm == 5 && mod == 0) {
        c->p += 4;
    }
    c->p += mod == 1 ? 1 : mod == 2 ? 4 : 0;
    return m >> 3 & 7;
}

static int64_t immediate(struct cursor *c, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)c->p[i] << (8 * i);
    c->p += bytes;
    unsigned unused = 64 - 8 * bytes;
    return (int64_t)(v << unused) >> unused;
}

static uint8_t operand_width(const struct cursor *c, uint8_t opcode)
{
    if (!(opcode & 1))
        return 1;
    return c->wide ? 8 : c->operand16 ? 2 : 4;
}

/* byte registers 4..7 without REX are ah, ch, dh, bh */
static void set_register(struct insn *in, const struct cursor *c, int field, uint8_t width)
{
    in->reg = (uint8_t)(field | c->reg_high);
    if (width == 1 && !c->rex && in->reg >= 4) {
        in->high_byte = true;
        in->reg = (uint8_t)(in->reg - 4);
    }
}

static bool decode_0f(struct cursor *c, struct insn *in)
{
    uint8_t opcode = *c->p++;
    if ((opcode & 0xf6) != 0xb6) /* b6 b7 be bf: movzx, movsx */
        return false;
    int field = modrm(c);
    if (field < 0)
        return false;
    in->kind = INSN_LOAD;
    in->width = opcode & 1 ? 2 : 1;
    in->dest_width = c->wide ? 8 : c->operand16 ? 2 : 4;
    in->sign = opcode & 8;
    in->reg = (uint8_t)(field | c->reg_high);
    return true;
}

static void set_immediate(struct cursor *c, struct insn *in, bool one_byte)
{
    in->has_imm = true;
    in->imm = immediate(c, one_byte || in->width == 1 ? 1 : in->width == 2 ? 2 : 4);
}

/* 00..3f: eight operations; r/m,r (0 1) and r,r/m (2 3) */
static bool decode_alu(struct cursor *c, uint8_t opcode, struct insn *in)
{
    if ((opcode & 7) > 3)
        return false;
    int field = modrm(c);
    if (field < 0)
        return false;
    in->alu = (enum alu)(opcode >> 3);
    in->width = operand_width(c, opcode);
    set_register(in, c, field, in->width);
    in->memory_first = !(opcode & 2);
    in->kind = in->memory_first && in->alu != ALU_CMP ? INSN_ALU_WRITE : INSN_ALU_READ;
    return true;
}

/* 80 81 83: operation by the middle field, immediate; f6 f7: test */
static bool decode_group(struct cursor *c, uint8_t opcode, struct insn *in)
{
    int field = modrm(c);
    bool test = opcode >= 0xf6;
    if (field < 0 || (test && field > 1))
        return false;
    in->alu = test ? ALU_TEST : (enum alu)field;
    in->width = operand_width(c, opcode);
    in->memory_first = true;
    in->kind = test || field == ALU_CMP ? INSN_ALU_READ : INSN_ALU_WRITE;
    set_immediate(c, in, opcode == 0x83);
    return true;
}

static bool decode_move(struct cursor *c, uint8_t opcode, struct insn *in)
{
    int field = modrm(c);
    if (field < 0)
        return false;
    in->width = in->dest_width = operand_width(c, opcode);
    switch (opcode) {
    case 0x8a:
    case 0x8b:
        in->kind = INSN_LOAD;
        break;
    case 0x88:
    case 0x89:
        in->kind = INSN_STORE;
        break;
    case 0xc6:
    case 0xc7:
        in->kind = INSN_STORE;
        set_immediate(c, in, false);
        return field == 0;
    case 0x84:
    case 0x85:
        in->kind = INSN_ALU_READ;
        in->alu = ALU_TEST;
        in->memory_first = true;
        break;
    default: /* 63: movsxd */
        in->kind = INSN_LOAD;
        in->width = 4;
        in->dest_width = c->wide ? 8 : 4;
        in->sign = true;
    }
    set_register(in, c, field, in->width);
    return true;
}

static bool decode_opcode(struct cursor *c, struct insn *in)
{
    uint8_t opcode = *c->p++;
    if (opcode == 0x0f)
        return decode_0f(c, in);
    if (opcode < 0x40)
        return decode_alu(c, opcode, in);
    if (opcode == 0x80 || opcode == 0x81 || opcode == 0x83 || opcode == 0xf6 || opcode == 0xf7)
        return decode_group(c, opcode, in);
    bool move = (opcode >= 0x88 && opcode <= 0x8b) || opcode == 0xc6 || opcode == 0xc7 ||
                opcode == 0x84 || opcode == 0x85 || opcode == 0x63;
    return move && decode_move(c, opcode, in);
}

bool insn_decode(const uint8_t *code, struct insn *ret)
{
    struct cursor c = {.start = code, .p = code};
    struct insn in = {0};
    if (!prefixes(&c) || !decode_opcode(&c, &in) || c.p - code > INSN_MAX)
        return false;
    in.length = (uint8_t)(c.p - code);
    *ret = in;
    return true;
}

unsigned insn_width(const uint8_t *code)
{
    bool wide = false, single = false;
    int i = 0;
    for (; i < INSN_MAX && is_prefix(code[i]); i++)
        single |= code[i] == 0xf2 || code[i] == 0xf3;
    if ((code[i] & 0xf0) == 0x40)
        wide = code[i++] & 8;
    bool vector =
        code[i] == 0x0f && (code[i + 1] == 0x10 || code[i + 1] == 0x11 || code[i + 1] == 0x28 ||
                            code[i + 1] == 0x29 || code[i + 1] == 0x6f || code[i + 1] == 0x7f);
    if (code[i] == 0xc4 || code[i] == 0xc5 || (vector && !(single && code[i + 1] < 0x20)))
        return 16;
    return wide ? 8 : 4;
}

bool insn_stores_only(const uint8_t *code)
{
    static const uint8_t vector[] = {0x11, 0x13, 0x17, 0x29, 0x2b, 0x7e, 0x7f, 0xc3, 0xd6, 0xe7};
    int i = 0;
    while (i < INSN_MAX && is_prefix(code[i]))
        i++;
    if ((code[i] & 0xf0) == 0x40)
        i++;
    if (code[i] == 0xc4 || code[i] == 0xc5 || code[i] == 0xaa || code[i] == 0xab ||
        code[i] == 0xa4 || code[i] == 0xa5)
        return true;
    return code[i] == 0x0f && memchr(vector, code[i + 1], sizeof vector);
}

/* --- running --------------------------------------------------------------------------------------------------- */

static uint64_t mask_of(unsigned width)
{
    return width == 8 ? ~0ull : (1ull << (8 * width)) - 1;
}

static uint64_t get_register(const struct insn *in, const uint64_t *regs)
{
    uint64_t v = regs[in->reg] >> (in->high_byte ? 8 : 0);
    return v & mask_of(in->width);
}

static void put_register(const struct insn *in, uint64_t *regs, unsigned width, uint64_t v)
{
    uint64_t *r = &regs[in->reg];
    if (in->high_byte)
        *r = (*r & ~0xff00ull) | (v & 0xff) << 8;
    else if (width >= 4)
        *r = v & mask_of(width); /* 32-bit results clear the upper half */
    else
        *r = (*r & ~mask_of(width)) | (v & mask_of(width));
}

static uint64_t sign_extend(uint64_t v, unsigned width)
{
    unsigned unused = 64 - 8 * width;
    return (uint64_t)((int64_t)(v << unused) >> unused);
}

static unsigned result_flags(uint64_t r, unsigned width)
{
    unsigned flags = 0;
    if (r == 0)
        flags |= FLAG_ZF;
    if (r >> (8 * width - 1) & 1)
        flags |= FLAG_SF;
    if (!(__builtin_popcount((unsigned)r & 0xff) & 1))
        flags |= FLAG_PF;
    return flags;
}

static uint64_t add(uint64_t a, uint64_t b, unsigned carry, unsigned width, unsigned *flags)
{
    uint64_t mask = mask_of(width), r = (a + b + carry) & mask;
    unsigned top = 8 * width - 1;
    *flags = result_flags(r, width);
    if (r < a || (carry && r == a))
        *flags |= FLAG_CF;
    if ((a ^ b ^ r) & 0x10)
        *flags |= FLAG_AF;
    if ((~(a ^ b) & (a ^ r)) >> top & 1)
        *flags |= FLAG_OF;
    return r;
}

static uint64_t subtract(uint64_t a, uint64_t b, unsigned borrow, unsigned width, unsigned *flags)
{
    uint64_t mask = mask_of(width), r = (a - b - borrow) & mask;
    unsigned top = 8 * width - 1;
    *flags = result_flags(r, width);
    if (a < b || (borrow && a == b))
        *flags |= FLAG_CF;
    if ((a ^ b ^ r) & 0x10)
        *flags |= FLAG_AF;
    if (((a ^ b) & (a ^ r)) >> top & 1)
        *flags |= FLAG_OF;
    return r;
}

static uint64_t operate(enum alu op, uint64_t a, uint64_t b, unsigned width, uint64_t *rflags)
{
    unsigned carry = *rflags & FLAG_CF ? 1 : 0, flags = 0;
    uint64_t r = 0;
    switch (op) {
    case ALU_ADD:
    case ALU_ADC:
        r = add(a, b, op == ALU_ADC ? carry : 0, width, &flags);
        break;
    case ALU_SUB:
    case ALU_CMP:
    case ALU_SBB:
        r = subtract(a, b, op == ALU_SBB ? carry : 0, width, &flags);
        break;
    default:
        r = op == ALU_OR ? a | b : op == ALU_XOR ? a ^ b : a & b;
        flags = result_flags(r, width);
    }
    *rflags = (*rflags & ~(uint64_t)FLAGS) | flags;
    return r;
}

void insn_run(const struct insn *in, uint64_t *regs, uint64_t *flags, uint64_t *memory)
{
    uint64_t mask = mask_of(in->width);
    uint64_t other = in->has_imm ? (uint64_t)in->imm & mask : get_register(in, regs);
    uint64_t value = *memory & mask;
    switch (in->kind) {
    case INSN_LOAD:
        put_register(in, regs, in->dest_width, in->sign ? sign_extend(value, in->width) : value);
        break;
    case INSN_STORE:
        *memory = other;
        break;
    case INSN_ALU_WRITE:
        *memory = operate(in->alu, value, other, in->width, flags);
        break;
    case INSN_ALU_READ:
        if (in->memory_first)
            (void)operate(in->alu, value, other, in->width, flags);
        else {
            uint64_t r = operate(in->alu, other, value, in->width, flags);
            if (in->alu != ALU_CMP)
                put_register(in, regs, in->width, r);
        }
        break;
    }
}
