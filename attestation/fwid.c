#include "attestation/fwid.h"

#include <ctype.h>
#include <openssl/objects.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/bytes.h"

static const char oid_dice[] = "2.23.133.5.4.1";  /* Hopper, LS10 */
static const char oid_tcb[] = "2.23.133.5.4.1.1"; /* Blackwell: DiceTcbInfo */
static const uint8_t sha384_oid[] = {0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                     0x65, 0x03, 0x04, 0x02, 0x02};

static const char *const names[] = {"HOPPER", "BLACKWELL", "LS10", "UNKNOWN"};

const char *arch_name(enum arch arch)
{
    return names[arch];
}

enum arch arch_parse(const char *text)
{
    for (int i = 0; i < ARCH_UNKNOWN; i++)
        if (strcasecmp(text, names[i]) == 0)
            return (enum arch)i;
    return ARCH_UNKNOWN;
}

/* the chip is a word of the name: "GH100 A01 GSP FMC LF" */
enum arch arch_of_chip(const char *common_name)
{
    for (const char *word = common_name; word; word = strchr(word, ' ')) {
        word += *word == ' ';
        if (strncmp(word, "GH100 ", 6) == 0)
            return ARCH_HOPPER;
        if (strncmp(word, "LS_10 ", 6) == 0)
            return ARCH_LS10;
        if (strncmp(word, "GB", 2) == 0 && isdigit((unsigned char)word[2]))
            return ARCH_BLACKWELL;
    }
    return ARCH_UNKNOWN;
}

/* One DER element with definite length below 64 KiB. Return: its contents, NULL when it does not fit. */
static const uint8_t *element(struct reader *r, uint8_t *tag, size_t *len)
{
    *tag = read_u8(r);
    size_t n = read_u8(r);
    if (n == 0x81) {
        n = read_u8(r);
        if (n < 0x80)
            return NULL;
    } else if (n == 0x82) {
        n = read_be16(r);
        if (n < 0x100)
            return NULL;
    } else if (n >= 0x80) {
        return NULL;
    }
    *len = n;
    return r->bad ? NULL : read_bytes(r, n);
}

static bool enter(struct reader *r, uint8_t want, struct reader *inside)
{
    uint8_t tag;
    size_t len;
    const uint8_t *p = element(r, &tag, &len);
    if (!p || tag != want)
        return false;
    *inside = reader_of(p, len);
    return true;
}

/* SEQUENCE { sha384, OCTET STRING of 48 } */
static const uint8_t *digest_of(struct reader *r)
{
    struct reader seq, value;
    if (!enter(r, 0x30, &seq))
        return NULL;
    const uint8_t *oid = read_bytes(&seq, sizeof sha384_oid);
    if (!oid || memcmp(oid, sha384_oid, sizeof sha384_oid) != 0 || !enter(&seq, 0x04, &value) ||
        value.left != REPORT_DIGEST || seq.left)
        return NULL;
    return value.p;
}

bool fwid_decode_dice(const uint8_t *der, size_t len, const uint8_t **digest, const uint8_t **spki,
                      size_t *spki_len)
{
    struct reader r = reader_of(der, len), seq, number, key;
    if (!enter(&r, 0x30, &seq) || r.left || !enter(&seq, 0x02, &number) || number.left != 1 ||
        number.p[0] != 1)
        return false;
    const uint8_t *start = seq.p;
    if (!enter(&seq, 0x30, &key))
        return false;
    *spki = start;
    *spki_len = (size_t)(seq.p - start);
    *digest = digest_of(&seq);
    return *digest && seq.left == 0;
}

bool fwid_decode_tcb(const uint8_t *der, size_t len, const uint8_t **digest)
{
    struct reader r = reader_of(der, len), seq;
    if (!enter(&r, 0x30, &seq) || r.left)
        return false;
    const uint8_t *found = NULL;
    while (seq.left) {
        uint8_t tag;
        size_t n;
        const uint8_t *p = element(&seq, &tag, &n);
        if (!p)
            return false;
        if (tag != 0xa6) /* [6] fwids */
            continue;
        struct reader list = reader_of(p, n);
        if (found || !(found = digest_of(&list)))
            return false;
        while (list.left) /* later entries: other layers, zero in the public sample */
            if (!digest_of(&list))
                return false;
    }
    *digest = found;
    return found;
}

/* the value of the one extension with this OID, NULL when there is none or more than one */
static const ASN1_OCTET_STRING *extension(const struct cert *cert, const char *oid)
{
    const ASN1_OCTET_STRING *found = NULL;
    int n = X509_get_ext_count(cert->x509);
    for (int i = 0; i < n; i++) {
        X509_EXTENSION *ext = X509_get_ext(cert->x509, i);
        char text[64];
        if (OBJ_obj2txt(text, sizeof text, X509_EXTENSION_get_object(ext), 1) <= 0 ||
            strcmp(text, oid) != 0)
            continue;
        if (found)
            return NULL;
        found = X509_EXTENSION_get_data(ext);
    }
    return found;
}

static bool names_key_of(const struct cert *brom, const uint8_t *spki, size_t len)
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(brom->x509), &der);
    bool same = n > 0 && (size_t)n == len && memcmp(der, spki, len) == 0;
    OPENSSL_free(der);
    return same;
}

static bool missing_in_report(const struct report *report, enum att_missing_fwid missing,
                              struct att_verdict *v)
{
    if (report->kind == ATT_SWITCH)
        return trail_pass(v, "fwid.match", "not applicable: switch reports carry no FWID");
    bool old = strtol(report->driver, NULL, 10) < 550;
    if (missing == ATT_FWID_OPTIONAL || (missing == ATT_FWID_BY_DRIVER && old))
        return trail_pass(v, "fwid.match",
                          "the report of driver %s carries no FWID; accepted without",
                          report->driver);
    return trail_fail(v, ATT_ERR_FWID, "fwid.match",
                      "the report of driver %s carries no FWID (drivers from 550 on do)",
                      report->driver);
}

bool fwid_check(const struct report *report, enum arch arch, const struct cert *leaf,
                const struct cert *brom, enum att_missing_fwid missing, struct att_verdict *v)
{
    const uint8_t *digest = NULL, *spki = NULL;
    size_t spki_len = 0;
    bool tcb = arch == ARCH_BLACKWELL;
    const ASN1_OCTET_STRING *ext = extension(leaf, tcb ? oid_tcb : oid_dice);
    const struct opaque *claimed = report_opaque(report, OPAQUE_FWID);
    if (ext) {
        const uint8_t *der = ASN1_STRING_get0_data(ext);
        size_t len = (size_t)ASN1_STRING_length(ext);
        if (tcb ? !fwid_decode_tcb(der, len, &digest)
                : !fwid_decode_dice(der, len, &digest, &spki, &spki_len))
            return trail_fail(v, ATT_ERR_FWID, "fwid.extension",
                              "the DICE extension of the leaf certificate is malformed");
    } else if (claimed) {
        return trail_fail(v, ATT_ERR_FWID_ABSENT, "fwid.extension",
                          "the report carries a FWID, the leaf certificate has no DICE extension");
    }
    if (spki && !names_key_of(brom, spki, spki_len))
        return trail_fail(v, ATT_ERR_FWID, "fwid.brom_key",
                          "the DICE extension names a key that is not the BROM certificate's");
    if (!claimed)
        return missing_in_report(report, missing, v);
    if (memcmp(claimed->value, digest, REPORT_DIGEST) != 0) {
        char a[17], b[17];
        hex_encode(claimed->value, 8, a);
        hex_encode(digest, 8, b);
        return trail_fail(v, ATT_ERR_FWID, "fwid.match", "report says %s…, certificate says %s…", a,
                          b);
    }
    return trail_pass(v, "fwid.match", "firmware digest of report and leaf certificate are equal");
}
