#include "attestation/b64.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void make_table(const char *alphabet, int8_t table[256])
{
    memset(table, -1, 256);
    for (int i = 0; i < 64; i++)
        table[(unsigned char)alphabet[i]] = (int8_t)i;
}

/* digits without padding */
static int decode(const char *alphabet, const char *text, size_t len, size_t max,
                  struct att_bytes *ret, struct err *err)
{
    int8_t table[256];
    make_table(alphabet, table);
    if (len % 4 == 1)
        return err_set(err, EINVAL, "base64 of %zu digits can't be", len);
    size_t n = len / 4 * 3 + (len % 4 ? len % 4 - 1 : 0);
    if (n > max)
        return err_set(err, EFBIG, "base64 of %zu bytes, %zu are allowed", n, max);
    AUTO_FREE uint8_t *out = xmalloc(n + 1);
    uint32_t bits = 0;
    unsigned have = 0;
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        int8_t digit = table[(unsigned char)text[i]];
        if (digit < 0)
            return err_set(err, EINVAL, "base64 has the character 0x%02x at %zu",
                           (unsigned char)text[i], i);
        bits = (bits << 6 | (uint32_t)digit) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[at++] = (uint8_t)(bits >> have);
        }
    }
    if (bits & ((1u << have) - 1))
        return err_set(err, EINVAL, "base64 ends with bits that belong to no byte");
    out[n] = 0;
    ret->data = TAKE(out);
    ret->len = n;
    return 0;
}

int b64_decode(const char *text, size_t len, size_t max, struct att_bytes *ret, struct err *err)
{
    if (len % 4)
        return err_set(err, EINVAL, "base64 is not padded: %zu characters", len);
    if (len && text[len - 1] == '=')
        len -= text[len - 2] == '=' ? 2 : 1;
    return decode(standard, text, len, max, ret, err);
}

int b64url_decode(const char *text, size_t len, size_t max, struct att_bytes *ret, struct err *err)
{
    return decode(url, text, len, max, ret, err);
}

static char *encode(const char *alphabet, bool pad, const uint8_t *p, size_t n)
{
    char *out = xmalloc((n + 2) / 3 * 4 + 1);
    size_t at = 0;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t bits = (uint32_t)p[i] << 16;
        if (left > 1)
            bits |= (uint32_t)p[i + 1] << 8;
        if (left > 2)
            bits |= p[i + 2];
        size_t digits = left >= 3 ? 4 : left + 1;
        for (size_t d = 0; d < 4; d++) {
            if (d < digits)
                out[at++] = alphabet[bits >> (18 - 6 * d) & 63];
            else if (pad)
                out[at++] = '=';
        }
    }
    out[at] = 0;
    return out;
}

char *b64_encode(const uint8_t *p, size_t n)
{
    return encode(standard, true, p, n);
}

char *b64url_encode(const uint8_t *p, size_t n)
{
    return encode(url, false, p, n);
}
