/* Bounded little/big-endian reading and writing, hex text, checked numbers.
 *
 * A reader never runs past its end: a read that does not fit sets `bad`, returns 0 and stays bad, so a
 * decoder may read a whole structure and test once. Pure.
 */
#ifndef CCN_BASE_BYTES_H
#define CCN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};

static inline struct reader reader_of(const void *p, size_t n)
{
    return (struct reader){.p = p, .left = n, .bad = false};
}

uint8_t read_u8(struct reader *r);
uint16_t read_le16(struct reader *r);
uint32_t read_le24(struct reader *r);
uint32_t read_le32(struct reader *r);
uint64_t read_le64(struct reader *r);
uint16_t read_be16(struct reader *r);
uint32_t read_be32(struct reader *r);
/* A borrowed view of the next n bytes, or NULL (and bad) when fewer are left. */
const uint8_t *read_bytes(struct reader *r, size_t n);

static inline uint16_t get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline void put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void put_le32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

/* hex_encode() - lower-case text of n bytes; ret has room for 2n+1 characters. */
void hex_encode(const uint8_t *p, size_t n, char *ret);
/**
 * hex_decode() - bytes of hex text (either case, no separators)
 * @len: characters of @text; must be even
 * Return: number of bytes written, or -EINVAL (odd length, foreign character at …), -ENOSPC.
 */
int hex_decode(const char *text, size_t len, uint8_t *ret, size_t room, struct err *err);

/**
 * parse_u64() - a whole string as an unsigned number
 * @text: decimal, or hexadecimal with 0x; white space at the end is allowed (sysfs ends with a newline)
 * Return: 0, -EINVAL not a number, -ERANGE above @max.
 */
int parse_u64(const char *text, uint64_t max, uint64_t *ret, struct err *err);

#endif
