#include "base/bytes.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const uint8_t *read_bytes(struct reader *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    r->left -= n;
    return p;
}

uint8_t read_u8(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 1);
    return p ? p[0] : 0;
}

uint16_t read_le16(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 2);
    return p ? get_le16(p) : 0;
}

uint32_t read_le24(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 3);
    return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 : 0;
}

uint32_t read_le32(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 4);
    return p ? get_le32(p) : 0;
}

uint64_t read_le64(struct reader *r)
{
    uint64_t low = read_le32(r);
    return low | (uint64_t)read_le32(r) << 32;
}

uint16_t read_be16(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 2);
    return (uint16_t)(p ? p[0] << 8 | p[1] : 0);
}

uint32_t read_be32(struct reader *r)
{
    uint32_t high = read_be16(r);
    return high << 16 | read_be16(r);
}

void hex_encode(const uint8_t *p, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[p[i] >> 4];
        ret[2 * i + 1] = digits[p[i] & 15];
    }
    ret[2 * n] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_decode(const char *text, size_t len, uint8_t *ret, size_t room, struct err *err)
{
    if (len % 2 != 0)
        return err_set(err, EINVAL, "hex text has an odd number of characters (%zu)", len);
    if (len / 2 > room || len / 2 > INT_MAX)
        return err_set(err, ENOSPC, "hex text of %zu bytes is longer than the %zu expected",
                       len / 2, room);
    for (size_t i = 0; i < len; i++) {
        if (hex_value(text[i]) < 0)
            return err_set(err, EINVAL, "character %zu is not a hex digit", i + 1);
    }
    for (size_t i = 0; i < len / 2; i++)
        ret[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
    return (int)(len / 2);
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret, struct err *err)
{
    char *end;
    int base = strncmp(text, "0x", 2) == 0 || strncmp(text, "0X", 2) == 0 ? 16 : 10;
    if (!isxdigit((unsigned char)text[0]))
        return err_set(err, EINVAL, "'%.40s' is not a number", text);
    errno = 0;
    unsigned long long v = strtoull(text, &end, base);
    while (isspace((unsigned char)*end))
        end++;
    if (*end != '\0' || end == text)
        return err_set(err, EINVAL, "'%.40s' is not a number", text);
    if (errno == ERANGE || v > max)
        return err_set(err, ERANGE, "%.40s is larger than %llu", text, (unsigned long long)max);
    *ret = v;
    return 0;
}
