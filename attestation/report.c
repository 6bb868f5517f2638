#include "attestation/report.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"

#define REQUEST_SIZE 37
#define RESPONSE_MIN (8 + 32 + 2)
#define BLOCK_HEADER 4
#define MAX_TRAILING 3

static bool parse_request(struct reader *r, struct report *rep, struct att_verdict *v)
{
    const uint8_t *p = read_bytes(r, REQUEST_SIZE);
    if (!p)
        return trail_fail(v, ATT_ERR_SPDM_REQUEST, "report.size", "shorter than a request");
    if (p[0] != 0x11)
        return trail_fail(v, ATT_ERR_SPDM_REQUEST, "report.version",
                          "unsupported SPDM version 0x%02x, 0x11 is expected", p[0]);
    if (p[1] != 0xe0)
        return trail_fail(v, ATT_ERR_SPDM_REQUEST, "report.request",
                          "request code 0x%02x, 0xe0 (GET_MEASUREMENTS) is expected", p[1]);
    if (!(p[2] & 1) || p[3] != 0xff || p[36] != 0)
        return trail_fail(
            v, ATT_ERR_SPDM_REQUEST, "report.request",
            "request of attributes 0x%02x, operation 0x%02x, slot %u: a signature, all "
            "measurements and slot 0 must be asked for",
            p[2], p[3], p[36]);
    rep->nonce = p + 4;
    return true;
}

static bool parse_block(struct reader *r, struct report *rep, struct att_verdict *v)
{
    uint8_t index = read_u8(r), spec = read_u8(r);
    uint16_t size = read_le16(r);
    uint8_t type = read_u8(r);
    uint16_t value_size = read_le16(r);
    if (r->bad)
        return trail_fail(v, ATT_ERR_SPDM_MEASUREMENTS, "report.blocks",
                          "measurement record ends inside a block header");
    if (index == 0 || rep->block[index])
        return trail_fail(v, ATT_ERR_SPDM_MEASUREMENTS, "report.blocks", "block index %u is %s",
                          index, index ? "there twice" : "not allowed");
    if (spec != 1)
        return trail_fail(v, ATT_ERR_SPDM_MEASUREMENTS, "report.blocks",
                          "block %u: measurement specification %u, 1 (DMTF) is expected", index,
                          spec);
    if (value_size != REPORT_DIGEST || size != value_size + 3 || (type & 0x80))
        return trail_fail(v, ATT_ERR_SPDM_MEASUREMENTS, "report.blocks",
                          "block %u: size %u, value size %u, type 0x%02x: a digest of 48 bytes is "
                          "expected",
                          index, size, value_size, type);
    const uint8_t *value = read_bytes(r, REPORT_DIGEST);
    if (!value)
        return trail_fail(v, ATT_ERR_SPDM_MEASUREMENTS, "report.blocks",
                          "block %u runs past the measurement record", index);
    rep->block[index] = value;
    rep->n_blocks++;
    return true;
}

static bool parse_response(struct reader *r, struct report *rep, struct att_verdict *v)
{
    const uint8_t *p = read_bytes(r, 5);
    uint32_t record = read_le24(r);
    if (r->bad)
        return trail_fail(v, ATT_ERR_SPDM_PARSE, "report.size", "shorter than a response");
    if (p[0] != 0x11)
        return trail_fail(v, ATT_ERR_SPDM_PARSE, "report.version",
                          "response of SPDM version 0x%02x, 0x11 is expected", p[0]);
    if (p[1] != 0x60 || p[2] != 0 || p[3] != 0)
        return trail_fail(
            v, ATT_ERR_SPDM_PARSE, "report.response",
            "response code 0x%02x, parameters %u and %u: 0x60 (MEASUREMENTS), 0 and 0 "
            "are expected",
            p[1], p[2], p[3]);
    const uint8_t *blocks = read_bytes(r, record);
    if (!blocks)
        return trail_fail(v, ATT_ERR_SPDM_PARSE, "report.record",
                          "measurement record of %u bytes runs past the end", record);
    struct reader b = reader_of(blocks, record);
    while (b.left)
        if (!parse_block(&b, rep, v))
            return false;
    if (rep->n_blocks == 0 || rep->n_blocks != p[4])
        return trail_fail(v, ATT_ERR_SPDM_MEASUREMENTS, "report.blocks",
                          "%u blocks are announced, %u are there", p[4], rep->n_blocks);
    rep->response_nonce = read_bytes(r, 32);
    return true;
}

static bool parse_opaque(struct reader *r, struct report *rep, struct att_verdict *v)
{
    uint16_t len = read_le16(r);
    const uint8_t *area = read_bytes(r, len);
    if (!area)
        return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.opaque",
                          "opaque data of %u bytes runs past the end", len);
    struct reader o = reader_of(area, len);
    while (o.left) {
        uint16_t type = read_le16(&o), size = read_le16(&o);
        const uint8_t *value = read_bytes(&o, size);
        if (o.bad)
            return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.opaque",
                              "opaque data ends inside an entry");
        if (report_opaque(rep, type))
            return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.opaque",
                              "opaque type %u is there twice", type);
        if (rep->n_opaque == ARRAY_LEN(rep->opaque))
            return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.opaque", "too many opaque entries");
        rep->opaque[rep->n_opaque++] = (struct opaque){type, size, value};
    }
    return true;
}

const struct opaque *report_opaque(const struct report *report, unsigned type)
{
    for (size_t i = 0; i < report->n_opaque; i++)
        if (report->opaque[i].type == type)
            return &report->opaque[i];
    return NULL;
}

static bool parse_tail(struct reader *r, struct report *rep, struct att_verdict *v)
{
    rep->signed_len = rep->len - r->left;
    if (!read_bytes(r, REPORT_SIGNATURE))
        return trail_fail(v, ATT_ERR_SPDM_PARSE, "report.size",
                          "no room for a signature of 96 bytes: %zu are left", r->left);
    size_t n = r->left;
    const uint8_t *tail = read_bytes(r, n);
    bool zero = true;
    for (size_t i = 0; tail && i < n && zero; i++)
        zero = tail[i] == 0;
    if (n > MAX_TRAILING || !zero)
        return trail_fail(v, ATT_ERR_SPDM_PARSE, "report.trailing",
                          "%zu bytes follow the signature; at most 3 zero bytes may", n);
    return true;
}

/* Mandatory types and the exact sizes of those that are read; 0: any size that is a text. REF-A 2.6, 2.8 */
struct field {
    unsigned type;
    uint16_t size;
    bool mandatory;
};
static const struct field gpu_fields[] = {
    {OPAQUE_DRIVER, 0, true},   {OPAQUE_VBIOS, 8, true},        {OPAQUE_NVDEC, 1, true},
    {OPAQUE_CHIP_SKU, 0, true}, {OPAQUE_PROJECT, 0, true},      {OPAQUE_PROJECT_SKU, 0, true},
    {OPAQUE_FWID, 48, false},   {OPAQUE_PCIE_STATUS, 1, false}, {OPAQUE_PDI, 144, false},
    {OPAQUE_VERSION, 2, false}, {OPAQUE_CHIP, 0, false},        {OPAQUE_FEATURE, 2, false},
};
static const struct field switch_fields[] = {
    {OPAQUE_VBIOS, 14, true}, {OPAQUE_PDI, 8, true},   {OPAQUE_GPU_PDIS, 128, true},
    {OPAQUE_FWID, 48, false}, {OPAQUE_LOCK, 2, false}, {OPAQUE_VERSION, 2, false},
};

static bool check_fields(const struct report *rep, struct att_verdict *v)
{
    const struct field *fields = rep->kind == ATT_GPU ? gpu_fields : switch_fields;
    size_t n = rep->kind == ATT_GPU ? ARRAY_LEN(gpu_fields) : ARRAY_LEN(switch_fields);
    for (size_t i = 0; i < n; i++) {
        const struct opaque *o = report_opaque(rep, fields[i].type);
        if (!o && fields[i].mandatory)
            return trail_fail(v, ATT_ERR_SPDM_FIELD, "report.field",
                              "opaque type %u is missing, a %s must have it", fields[i].type,
                              rep->kind == ATT_GPU ? "GPU" : "switch");
        if (o && fields[i].size && o->len != fields[i].size)
            return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.field",
                              "opaque type %u has %u bytes, %u are expected", o->type, o->len,
                              fields[i].size);
    }
    return true;
}

/* Texts become parts of RIM ids, URLs and file names: nothing but letters, digits and dots may pass. */
static bool take_text(const struct report *rep, unsigned type, char ret[REPORT_TEXT],
                      struct att_verdict *v)
{
    const struct opaque *o = report_opaque(rep, type);
    if (!o)
        return true;
    size_t n = o->len;
    while (n && o->value[n - 1] == 0)
        n--;
    if (n == 0 || n >= REPORT_TEXT)
        return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.text",
                          "opaque type %u is a text of %zu characters", type, n);
    for (size_t i = 0; i < n; i++)
        if (!isalnum(o->value[i]) && o->value[i] != '.')
            return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.text",
                              "opaque type %u has the byte 0x%02x, letters, digits and dots are "
                              "allowed",
                              type, o->value[i]);
    memcpy(ret, o->value, n);
    ret[n] = 0;
    return true;
}

/* digits, dot, digits: two to four groups */
static bool is_driver_version(const char *text)
{
    unsigned groups = 1;
    bool digit = false;
    for (; *text; text++) {
        if (*text == '.') {
            if (!digit)
                return false;
            groups++;
            digit = false;
        } else if (isdigit((unsigned char)*text)) {
            digit = true;
        } else {
            return false;
        }
    }
    return digit && groups >= 2 && groups <= 4;
}

/* five groups of two hexadecimal digits */
static bool is_bios_version(const char *text)
{
    for (unsigned i = 0; i < 14; i++)
        if (i % 3 == 2 ? text[i] != '.' : !isxdigit((unsigned char)text[i]))
            return false;
    return text[14] == 0;
}

static bool take_gpu(struct report *rep, struct att_verdict *v)
{
    if (!take_text(rep, OPAQUE_DRIVER, rep->driver, v) ||
        !take_text(rep, OPAQUE_CHIP_SKU, rep->chip_sku, v) ||
        !take_text(rep, OPAQUE_PROJECT, rep->project, v) ||
        !take_text(rep, OPAQUE_PROJECT_SKU, rep->project_sku, v) ||
        !take_text(rep, OPAQUE_CHIP, rep->chip, v))
        return false;
    if (!is_driver_version(rep->driver))
        return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.text",
                          "driver version \"%s\" is not of the form 550.90.07", rep->driver);
    const uint8_t *b = report_opaque(rep, OPAQUE_VBIOS)->value;
    (void)snprintf(rep->bios, sizeof rep->bios, "%02X.%02X.%02X.%02X.%02X", b[3], b[2], b[1], b[0],
                   b[4]);
    rep->nvdec = report_opaque(rep, OPAQUE_NVDEC)->value[0];
    if (rep->nvdec != STATUS_ENABLED && rep->nvdec != STATUS_DISABLED)
        return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.nvdec",
                          "NVDEC0 status 0x%02x, 0xaa (enabled) or 0x55 (disabled) is expected",
                          rep->nvdec);
    const struct opaque *pcie = report_opaque(rep, OPAQUE_PCIE_STATUS);
    if (pcie && pcie->value[0] != STATUS_ENABLED && pcie->value[0] != STATUS_DISABLED)
        return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.pcie",
                          "protected-PCIe status 0x%02x, 0xaa or 0x55 is expected", pcie->value[0]);
    rep->pcie_locked = pcie && pcie->value[0] == STATUS_ENABLED;
    return true;
}

static bool take_switch(struct report *rep, struct att_verdict *v)
{
    if (!take_text(rep, OPAQUE_VBIOS, rep->bios, v))
        return false;
    if (!is_bios_version(rep->bios))
        return trail_fail(v, ATT_ERR_SPDM_OPAQUE, "report.text",
                          "BIOS version \"%s\" is not of the form 96.10.55.00.01", rep->bios);
    return true;
}

static bool take_version(struct report *rep, struct att_verdict *v)
{
    const struct opaque *version = report_opaque(rep, OPAQUE_VERSION);
    unsigned number = version ? get_le16(version->value) : 0;
    if (number > 1)
        return trail_fail(v, ATT_ERR_FIRMWARE, "report.opaque_version",
                          "opaque data of version %u, versions up to 1 are known", number);
    const struct opaque *feature = report_opaque(rep, OPAQUE_FEATURE);
    rep->feature = number >= 1 && feature ? get_le16(feature->value) : -1;
    if (number < 1) /* chip info means nothing before version 1 */
        rep->chip[0] = 0;
    return true;
}

bool report_parse(const uint8_t *bytes, size_t len, enum att_kind kind, struct report *ret,
                  struct att_verdict *v)
{
    struct report rep = {.kind = kind, .bytes = bytes, .len = len, .feature = -1};
    if (len < REQUEST_SIZE + RESPONSE_MIN + REPORT_SIGNATURE || len > ATT_REPORT_MAX)
        return trail_fail(v, ATT_ERR_EVIDENCE, "report.size",
                          "report of %zu bytes, %d to %d are possible", len,
                          REQUEST_SIZE + RESPONSE_MIN + REPORT_SIGNATURE, ATT_REPORT_MAX);
    struct reader r = reader_of(bytes, len);
    if (!parse_request(&r, &rep, v) || !parse_response(&r, &rep, v) || !parse_opaque(&r, &rep, v) ||
        !parse_tail(&r, &rep, v) || !check_fields(&rep, v))
        return false;
    if (kind == ATT_GPU ? !take_gpu(&rep, v) : !take_switch(&rep, v))
        return false;
    if (!take_version(&rep, v))
        return false;
    *ret = rep;
    return trail_pass(v, "report.parse", "%zu bytes, %u blocks, %zu opaque fields, firmware %s%s%s",
                      len, rep.n_blocks, rep.n_opaque, rep.bios, rep.driver[0] ? ", driver " : "",
                      rep.driver);
}

static struct json_object *hex(const uint8_t *p, size_t n)
{
    AUTO_FREE char *text = xmalloc(2 * n + 1);
    hex_encode(p, n, text);
    return json_object_new_string(text);
}

struct json_object *report_facts(const struct report *report)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    json_object_object_add(o, "report_bytes", json_object_new_int64((int64_t)report->len));
    json_object_object_add(o, "signed_bytes", json_object_new_int64((int64_t)report->signed_len));
    size_t tail = report->len - report->signed_len - REPORT_SIGNATURE;
    json_object_object_add(o, "trailing_bytes", json_object_new_int64((int64_t)tail));
    json_object_object_add(o, "signature",
                           hex(report->bytes + report->signed_len, REPORT_SIGNATURE));
    json_object_object_add(o, "request_nonce", hex(report->nonce, 32));
    json_object_object_add(o, "response_nonce", hex(report->response_nonce, 32));
    json_object_object_add(o, "blocks", json_object_new_int64(report->n_blocks));
    if (report->kind == ATT_GPU)
        json_object_object_add(o, "driver_version", json_object_new_string(report->driver));
    json_object_object_add(o, "vbios_version", json_object_new_string(report->bios));
    for (size_t i = 0; i < report->n_opaque; i++) {
        const struct opaque *tlv = &report->opaque[i];
        struct json_object *entry = json_object_new_object();
        json_object_object_add(entry, "type", json_object_new_int(tlv->type));
        json_object_object_add(entry, "size", json_object_new_int(tlv->len));
        json_object_object_add(entry, "hex", hex(tlv->value, tlv->len));
        json_object_array_add(list, entry);
    }
    json_object_object_add(o, "opaque", list);
    struct json_object *values = json_object_new_object();
    for (unsigned i = 1; i < ARRAY_LEN(report->block); i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%u", i - 1);
        if (report->block[i])
            json_object_object_add(values, key, hex(report->block[i], REPORT_DIGEST));
    }
    json_object_object_add(o, "measurements", values);
    return o;
}
