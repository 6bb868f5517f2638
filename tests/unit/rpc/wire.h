/* Protocol buffers written by hand: what a peer sends, independent of the generated code under test. */
#ifndef CCN_TEST_WIRE_H
#define CCN_TEST_WIRE_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

struct wire {
    size_t n;
    uint8_t p[32768];
};

static inline void wire_varint(struct wire *w, uint64_t value)
{
    do {
        assert(w->n < sizeof w->p);
        w->p[w->n++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
}

static inline void wire_int(struct wire *w, unsigned number, uint64_t value)
{
    wire_varint(w, number << 3);
    wire_varint(w, value);
}

static inline void wire_bytes(struct wire *w, unsigned number, const void *p, size_t n)
{
    wire_varint(w, number << 3 | 2);
    wire_varint(w, n);
    assert(n <= sizeof w->p - w->n);
    if (n)
        memcpy(w->p + w->n, p, n);
    w->n += n;
}

static inline void wire_text(struct wire *w, unsigned number, const char *text)
{
    wire_bytes(w, number, text, strlen(text));
}

static inline void wire_sub(struct wire *w, unsigned number, const struct wire *sub)
{
    wire_bytes(w, number, sub->p, sub->n);
}

#endif
