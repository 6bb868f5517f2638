/* Strict base64: no foreign characters, no line breaks, padding as the alphabet demands, unused bits zero. Pure. */
#ifndef CCN_ATTESTATION_B64_H
#define CCN_ATTESTATION_B64_H

#include "attestation/ccnattest.h"

/* b64_decode() - standard alphabet, padded; @max bytes at most. Return: 0, -EINVAL, -EFBIG. */
int b64_decode(const char *text, size_t len, size_t max, struct att_bytes *ret, struct err *err);
/* b64url_decode() - URL alphabet, unpadded (RFC 7515). */
int b64url_decode(const char *text, size_t len, size_t max, struct att_bytes *ret, struct err *err);
char *b64_encode(const uint8_t *p, size_t n);    /* the caller's */
char *b64url_encode(const uint8_t *p, size_t n); /* the caller's */

#endif
