#include <stddef.h>
#include <string.h>

#include "client.h"

#define BOOT0 0x0
#define SCRATCH 0x1458
#define H100 0x180000a1u

static uint32_t load(volatile uint8_t *p)
{
    uint32_t v;
    __asm__ volatile("movl %1, %0" : "=r"(v) : "m"(*(volatile uint32_t *)p));
    return v;
}

static void store(volatile uint8_t *p, uint32_t v)
{
    __asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)p) : "r"(v));
}

static void by_the_compiler(volatile uint8_t *bar)
{
    volatile uint32_t *scratch = (volatile uint32_t *)(bar + SCRATCH),
                      *boot0 = (volatile uint32_t *)(bar + BOOT0);
    *scratch = 5;
    CHECK(*scratch == 5);
    *scratch |= 0x10;
    *scratch += 3;
    CHECK(*scratch == 0x18);
    CHECK((*boot0 & 0xff) == 0xa1 && *boot0 > 0x18000000u);
    CHECK(*(volatile uint8_t *)(bar + BOOT0 + 3) == 0x18);
    CHECK(*(volatile uint16_t *)(bar + BOOT0) == 0x00a1);
    *(volatile uint16_t *)(bar + SCRATCH + 2) = 0xabcd;
    CHECK(*scratch == 0xabcd0018);
    uint64_t wide = *(volatile uint64_t *)(bar + SCRATCH);
    CHECK((uint32_t)wide == 0xabcd0018);
}

/* what a decoder must know, and the upper halves of registers */
static void by_hand(volatile uint8_t *bar)
{
    uint64_t v = ~0ull;
    store(bar + SCRATCH, 0x80f1);
    CHECK(load(bar + SCRATCH) == 0x80f1);
    __asm__ volatile("movl %1, %k0" : "+r"(v) : "m"(*(volatile uint32_t *)(bar + SCRATCH)));
    CHECK(v == 0x80f1);
    v = ~0ull;
    __asm__ volatile("movw %1, %w0" : "+r"(v) : "m"(*(volatile uint16_t *)(bar + SCRATCH)));
    CHECK(v == 0xffffffffffff80f1ull);
    __asm__ volatile("movswl %1, %k0" : "+r"(v) : "m"(*(volatile uint16_t *)(bar + SCRATCH)));
    CHECK(v == 0xffff80f1);
    uint8_t equal = 0;
    __asm__ volatile("cmpl %2, %1; sete %0"
                     : "=q"(equal)
                     : "m"(*(volatile uint32_t *)(bar + BOOT0)), "r"(H100));
    CHECK(equal);
    __asm__ volatile("testb $0x10, %1; setne %0"
                     : "=q"(equal)
                     : "m"(*(volatile uint8_t *)(bar + BOOT0 + 3)));
    CHECK(equal);
    v = 1;
    __asm__ volatile("addl %1, %k0" : "+r"(v) : "m"(*(volatile uint32_t *)(bar + BOOT0)));
    CHECK(v == H100 + 1);
}

/* not decoded: these take the single step */
static void stepped(volatile uint8_t *bar)
{
    uint32_t out[4] = {0}, in[4] = {0x77, 0, 0, 0};
    __asm__ volatile("movups (%0), %%xmm0; movups %%xmm0, (%1)" ::"r"(bar + 0x1450), "r"(out)
                     : "xmm0", "memory");
    CHECK(out[2] == load(bar + SCRATCH));
    store(bar + SCRATCH, 1);
    __asm__ volatile("incl %0" : "+m"(*(volatile uint32_t *)(bar + SCRATCH)));
    CHECK(load(bar + SCRATCH) == 2);
    __asm__ volatile("movd (%0), %%xmm0; movd %%xmm0, (%1)" ::"r"(in), "r"(bar + SCRATCH)
                     : "xmm0", "memory");
    CHECK(load(bar + SCRATCH) == 0x77);
    uint32_t v = 9;
    __asm__ volatile("xchgl %0, %1" : "+r"(v), "+m"(*(volatile uint32_t *)(bar + SCRATCH)));
    CHECK(v == 0x77 && load(bar + SCRATCH) == 9);
}

/* a data port: one address, each access counts */
static void port(volatile uint8_t *bar)
{
    store(bar + 0x8f2ad0, 0x03000800);
    for (uint32_t i = 0; i < 64; i++)
        store(bar + 0x8f2ad4, i * 3);
    CHECK(load(bar + 0x8f2ad0) == 0x03000900);
    store(bar + 0x8f2ad0, 0x03000800);
    for (uint32_t i = 0; i < 64; i++)
        CHECK(load(bar + 0x8f2ad4) == i * 3);
}

void decoded_forms_of_access(volatile uint8_t *bar)
{
    by_the_compiler(bar);
    by_hand(bar);
    port(bar);
}

void every_form_of_access(volatile uint8_t *bar)
{
    decoded_forms_of_access(bar);
    stepped(bar);
}
