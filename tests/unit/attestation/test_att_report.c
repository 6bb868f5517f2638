/* Reports in which exactly one thing is wrong, each signed anew by its leaf so that the signature is never the reason. */
#include "tests/unit/attestation/mint.h"

#include <json-c/json.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/jsonin.h"
#include "base/auto.h"
#include "base/bytes.h"

#define RESPONSE 37
#define RECORD (RESPONSE + 8)

static struct {
    EVP_PKEY *leaf;
    char *root, *chain64, *pem;
    uint8_t report[9000];
    size_t len;
    uint8_t nonce[32];
} set;

/* where the value of an opaque type starts */
static uint8_t *tlv(uint8_t *r, unsigned type)
{
    size_t record = r[42] | (size_t)r[43] << 8 | (size_t)r[44] << 16;
    uint8_t *p = r + RECORD + record + 32, *end = p + 2 + get_le16(p);
    for (p += 2; p < end; p += 4 + get_le16(p + 2))
        if (get_le16(p) == type)
            return p + 4;
    fail_msg("no opaque type %u", type);
    return NULL;
}

static uint8_t *block(uint8_t *r, unsigned i) /* by position, header included */
{
    return r + RECORD + 55 * (size_t)i;
}

/* each returns how many bytes it added before the signature */
typedef int edit(uint8_t *r);

static int nothing(uint8_t *r)
{
    (void)r;
    return 0;
}
#define EDIT(name, ...)                                                                            \
    static int name(uint8_t *r)                                                                    \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
        return 0;                                                                                  \
    }
EDIT(request_version, r[0] = 0x12)
EDIT(request_code, r[1] = 0xe1)
EDIT(unsigned_request, r[2] = 0)
EDIT(one_block_asked, r[3] = 1)
EDIT(other_slot, r[36] = 1)
EDIT(other_nonce, r[4] ^= 1)
EDIT(response_version, r[RESPONSE] = 0x12)
EDIT(response_error, r[RESPONSE + 1] = 0x7f)
EDIT(response_param, r[RESPONSE + 3] = 1)
EDIT(count_63, r[RESPONSE + 4] = 63)
EDIT(index_zero, block(r, 9)[0] = 0)
EDIT(index_twice, block(r, 9)[0] = 9)
EDIT(spec_2, block(r, 9)[1] = 2)
EDIT(outer_size, block(r, 9)[2] = 50)
EDIT(inner_size, block(r, 9)[5] = 32)
EDIT(raw_value, block(r, 9)[4] = 0x81)
EDIT(record_past_end, r[RESPONSE + 7] = 0xff)
EDIT(opaque_twice, put_le16(tlv(r, 18) - 4, 17))
EDIT(opaque_unknown, put_le16(tlv(r, 16) - 4, 4000))
EDIT(no_driver, put_le16(tlv(r, 3) - 4, 4001))
EDIT(no_vbios, put_le16(tlv(r, 6) - 4, 4001))
EDIT(no_nvdec, put_le16(tlv(r, 11) - 4, 4001))
EDIT(no_chip_sku, put_le16(tlv(r, 15) - 4, 4001))
EDIT(no_project, put_le16(tlv(r, 17) - 4, 4001))
EDIT(no_project_sku, put_le16(tlv(r, 18) - 4, 4001))
EDIT(driver_slash, tlv(r, 3)[3] = '/')
EDIT(driver_nul_inside, tlv(r, 3)[3] = 0)
EDIT(driver_letters, tlv(r, 3)[0] = 'x')
EDIT(driver_trailing_dot, tlv(r, 3)[8] = '.'; tlv(r, 3)[7] = '.')
EDIT(project_question, tlv(r, 17)[1] = '?')
EDIT(project_empty, memset(tlv(r, 17), 0, 5))
EDIT(nvdec_zero, tlv(r, 11)[0] = 0)
EDIT(pcie_status_odd, tlv(r, 21)[0] = 1)
EDIT(fwid_differs, tlv(r, 20)[5] ^= 1)
EDIT(fwid_absent, put_le16(tlv(r, 20) - 4, 4001))

/* opaque version needs a field of two bytes: type 19 has two */
static int opaque_version(uint8_t *r)
{
    uint8_t *p = tlv(r, 19);
    put_le16(p - 4, 34);
    put_le16(p, 2);
    return 0;
}

static const struct {
    const char *what;
    edit *edit;
    const char *rule;
    size_t zeros, garbage; /* after the signature */
} cases[] = {
    {"good", nothing, NULL, 0, 0},
    {"one zero follows", nothing, NULL, 1, 0},
    {"three zeros follow", nothing, NULL, 3, 0},
    {"four zeros follow", nothing, "report.trailing", 4, 0},
    {"a byte follows", nothing, "report.trailing", 0, 1},
    {"unknown opaque type", opaque_unknown, NULL, 0, 0},
    {"request version", request_version, "report.version", 0, 0},
    {"request code", request_code, "report.request", 0, 0},
    {"unsigned request", unsigned_request, "report.request", 0, 0},
    {"one block asked for", one_block_asked, "report.request", 0, 0},
    {"other slot", other_slot, "report.request", 0, 0},
    {"other nonce", other_nonce, "report.nonce", 0, 0},
    {"response version", response_version, "report.version", 0, 0},
    {"error response", response_error, "report.response", 0, 0},
    {"response parameter", response_param, "report.response", 0, 0},
    {"63 announced", count_63, "report.blocks", 0, 0},
    {"index 0", index_zero, "report.blocks", 0, 0},
    {"index twice", index_twice, "report.blocks", 0, 0},
    {"specification 2", spec_2, "report.blocks", 0, 0},
    {"outer size", outer_size, "report.blocks", 0, 0},
    {"inner size", inner_size, "report.blocks", 0, 0},
    {"raw value", raw_value, "report.blocks", 0, 0},
    {"record past the end", record_past_end, "report.record", 0, 0},
    {"opaque type twice", opaque_twice, "report.opaque", 0, 0},
    {"no driver version", no_driver, "report.field", 0, 0},
    {"no VBIOS version", no_vbios, "report.field", 0, 0},
    {"no NVDEC status", no_nvdec, "report.field", 0, 0},
    {"no chip SKU", no_chip_sku, "report.field", 0, 0},
    {"no project", no_project, "report.field", 0, 0},
    {"no project SKU", no_project_sku, "report.field", 0, 0},
    {"slash in the driver version", driver_slash, "report.text", 0, 0},
    {"NUL in the driver version", driver_nul_inside, "report.text", 0, 0},
    {"letters in the driver version", driver_letters, "report.text", 0, 0},
    {"dots at the end", driver_trailing_dot, "report.text", 0, 0},
    {"question mark in the project", project_question, "report.text", 0, 0},
    {"empty project", project_empty, "report.text", 0, 0},
    {"NVDEC status 0", nvdec_zero, "report.nvdec", 0, 0},
    {"protected-PCIe status 1", pcie_status_odd, "report.pcie", 0, 0},
    {"FWID differs", fwid_differs, "fwid.match", 0, 0},
    {"FWID absent, driver 550", fwid_absent, "fwid.match", 0, 0},
    {"opaque version 2", opaque_version, "report.opaque_version", 0, 0},
};

static char *evidence_of(const uint8_t *report, size_t len, const char *more)
{
    char nonce[65];
    hex_encode(set.nonce, sizeof set.nonce, nonce);
    AUTO_FREE char *r64 = b64_encode(report, len);
    return xasprintf(
        "[{\"arch\":\"HOPPER\",\"nonce\":\"%s\",\"evidence\":\"%s\",\"certificate\":\"%s\"%s}]",
        nonce, r64, set.chain64, more);
}

static struct att_verdict *check(const char *json, struct att_options options)
{
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    struct att_text text = {json, strlen(json), "evidence"};
    options.nonce = set.nonce;
    options.at = MINT_CLOCK;
    options.device_root_pem = set.root;
    assert_int_equal(att_check_report(&options, &text, &v, &err), 0);
    return v;
}

static size_t edited(edit *fn, uint8_t *r)
{
    memcpy(r, set.report, set.len);
    (void)fn(r);
    mint_sign(set.leaf, r, set.len - 96, r + set.len - 96);
    return set.len;
}

static void each_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t r[9000] = {0};
        size_t len = edited(cases[i].edit, r) + cases[i].zeros;
        if (cases[i].garbage)
            r[len++] = 1;
        AUTO_FREE char *json = evidence_of(r, len, "");
        mint_expect(check(json, (struct att_options){0}), cases[i].what, cases[i].rule);
    }
}

static void missing_fwid_is_an_option(void **state)
{
    uint8_t r[9000];
    (void)state;
    size_t len = edited(fwid_absent, r);
    AUTO_FREE char *json = evidence_of(r, len, "");
    mint_expect(check(json, (struct att_options){.missing_fwid = ATT_FWID_OPTIONAL}), "allowed",
                NULL);
    mint_expect(check(json, (struct att_options){.missing_fwid = ATT_FWID_REQUIRED}), "required",
                "fwid.match");
}

static void what_nvml_said_must_agree(void **state)
{
    (void)state;
    AUTO_FREE char *good =
        evidence_of(set.report, set.len,
                    ",\"driver_version\":\"550.90.07\",\"vbios_version\":\"96.00.9f.00.01\"");
    AUTO_FREE char *driver = evidence_of(set.report, set.len, ",\"driver_version\":\"550.90.08\"");
    AUTO_FREE char *vbios =
        evidence_of(set.report, set.len, ",\"vbios_version\":\"96.00.9F.00.02\"");
    mint_expect(check(good, (struct att_options){0}), "equal", NULL);
    mint_expect(check(driver, (struct att_options){0}), "other driver", "report.versions");
    mint_expect(check(vbios, (struct att_options){0}), "other VBIOS", "report.versions");
}

static void numbers_of_devices(void **state)
{
    (void)state;
    AUTO_FREE char *one = evidence_of(set.report, set.len, "");
    AUTO_FREE char *two = xasprintf("%.*s,%s", (int)strlen(one) - 1, one, one + 1);
    mint_expect(check(one, (struct att_options){.gpus = 1}), "one", NULL);
    mint_expect(check(one, (struct att_options){.gpus = 2}), "one of two", "system.count");
    mint_expect(check(one, (struct att_options){.switches = 1}), "no switch", "system.count");
    mint_expect(check(two, (struct att_options){0}), "the same device twice", "system.distinct");
    mint_expect(check(one, (struct att_options){.protected_pcie = true}), "one GPU as a system",
                "topology.count");
}

static void sizes_of_chain_and_hex(void **state)
{
    static const char *const bad[] = {"", "0", "zz", "11e0 01"};
    (void)state;
    AUTO_FREE char *long_pem = xmalloc(ATT_CHAIN_MAX + 2);
    memset(long_pem, '\n', ATT_CHAIN_MAX + 1);
    AUTO_FREE char *long64 = b64_encode((const uint8_t *)long_pem, ATT_CHAIN_MAX + 1);
    char *keep = set.chain64;
    for (int i = 0; i < 2; i++) {
        set.chain64 = i ? long64 : (char[]){""};
        AUTO_FREE char *json = evidence_of(set.report, set.len, "");
        mint_expect(check(json, (struct att_options){0}), "chain", "chain.size");
    }
    set.chain64 = keep;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        struct att_verdict *v = NULL;
        struct att_options options = {
            .nonce = set.nonce, .at = MINT_CLOCK, .device_root_pem = set.root};
        struct att_text hex = {bad[i], strlen(bad[i]), "report"},
                        pem = {set.pem, strlen(set.pem), "chain"};
        assert_int_equal(att_check_report_hex(&options, &hex, &pem, &v, &err), 0);
        mint_expect(v, bad[i], *bad[i] ? "evidence.hex" : "report.size");
    }
}

static void members_of_a_device(void **state)
{
    static const struct {
        const char *json, *rule;
    } bad[] = {{"[1]", "evidence.member"},
               {"[{\"arch\":\"HOPPER\",\"nonce\":\"%s\",\"evidence\":1,\"certificate\":\"\"}]",
                "evidence.member"},
               {"[{\"arch\":\"HOPPER\",\"nonce\":\"%s\",\"evidence\":\"\"}]", "evidence.member"},
               {"[{\"arch\":\"HOPPER\",\"nonce\":\"%s\",\"uuid\":[]}]", "evidence.member"},
               {"[{\"arch\":\"HOPPER\"}]", "evidence.nonce"},
               {"[{\"arch\":\"\",\"nonce\":\"%s\"}]", "evidence.arch"},
               {"{\"device_evidence_list\":[]}", "evidence.list"},
               {"{\"evidences\":{}}", "evidence.list"},
               {"[{},{}]x", "evidence.json"}};
    char nonce[65];
    (void)state;
    hex_encode(set.nonce, sizeof set.nonce, nonce);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *at = strstr(bad[i].json, "%s");
        AUTO_FREE char *json =
            at ? xasprintf("%.*s%s%s", (int)(at - bad[i].json), bad[i].json, nonce, at + 2)
               : xstrdup(bad[i].json);
        mint_expect(check(json, (struct att_options){0}), json, bad[i].rule);
    }
}

/* accepted as evidence, and then nobody who could answer for certificates or RIMs */
static void nothing_is_accepted_without_sources(void **state)
{
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    struct att_options options = {
        .nonce = set.nonce, .at = MINT_CLOCK, .device_root_pem = set.root};
    (void)state;
    AUTO_FREE char *json = evidence_of(set.report, set.len, "");
    struct att_text text = {json, strlen(json), "evidence"};
    assert_int_equal(att_verify(&options, NULL, &text, 1, &v, &err), 0);
    mint_expect(v, "revocation required", "ocsp.source");
    options.revocation = ATT_REVOCATION_OFF;
    assert_int_equal(att_verify(&options, NULL, &text, 1, &v, &err), 0);
    mint_expect(v, "no RIM", "rim.fetch");
    assert_int_equal(att_verify(&options, NULL, &text, 0, &v, &err), 0);
    mint_expect(v, "no evidence", "evidence.list");
    options.nonce = NULL;
    assert_true(att_verify(&options, NULL, &text, 1, &v, &err) < 0);
}

static void every_length_is_refused_or_whole(void **state)
{
    (void)state;
    for (size_t len = 0; len < set.len; len += len < 200 ? 1 : 61) {
        AUTO_FREE char *json = evidence_of(set.report, len, "");
        struct att_verdict *v = check(json, (struct att_options){0});
        if (att_verdict_class(v) != ATT_REJECTED)
            fail_msg("%zu bytes were accepted", len);
        att_verdict_free(v);
    }
}

static int open_set(void **state)
{
    struct err err = ERR_INIT;
    size_t len;
    struct att_bytes bytes = {0};
    (void)state;
    AUTO_FREE char *json = mint_file("tests/data/attest-set/gpu8.json", &len);
    AUTO_FREE char *key = mint_file("tests/data/attest-set/leaf/gpu0.pem", NULL);
    AUTO_JSON struct json_object *list = json_tokener_parse(json);
    struct json_object *item = json_object_array_get_idx(list, 0);
    const char *report = jsonin_string(item, "evidence"), *nonce = jsonin_string(item, "nonce");
    set.root = mint_file("tests/data/attest-set/trust/device-root.pem", NULL);
    set.chain64 = xstrdup(jsonin_string(item, "certificate"));
    if (b64_decode(report, strlen(report), sizeof set.report, &bytes, &err) < 0 ||
        hex_decode(nonce, 64, set.nonce, 32, &err) < 0)
        return -1;
    memcpy(set.report, bytes.data, bytes.len);
    set.len = bytes.len;
    att_bytes_done(&bytes);
    if (b64_decode(set.chain64, strlen(set.chain64), 9000, &bytes, &err) < 0)
        return -1;
    set.pem = xstrndup((const char *)bytes.data, bytes.len);
    att_bytes_done(&bytes);
    BIO *bio = BIO_new_mem_buf(key, -1);
    set.leaf = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return set.leaf ? 0 : -1;
}

static int close_set(void **state)
{
    (void)state;
    EVP_PKEY_free(set.leaf);
    free(set.root);
    free(set.chain64);
    free(set.pem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_rule),
                                       cmocka_unit_test(missing_fwid_is_an_option),
                                       cmocka_unit_test(what_nvml_said_must_agree),
                                       cmocka_unit_test(numbers_of_devices),
                                       cmocka_unit_test(sizes_of_chain_and_hex),
                                       cmocka_unit_test(members_of_a_device),
                                       cmocka_unit_test(nothing_is_accepted_without_sources),
                                       cmocka_unit_test(every_length_is_refused_or_whole)};
    return cmocka_run_group_tests(tests, open_set, close_set);
}
