/* Device chains in which exactly one thing is wrong. REF-A 3.3, 9.1 row 12 */
#include "tests/unit/attestation/mint.h"

#include <stdio.h>
#include <string.h>

#include "attestation/anchors.h"
#include "attestation/certs.h"
#include "attestation/fwid.h"
#include "base/auto.h"

static const struct mint_cert ordinary[6] = {{.name = "GH100 A01 GSP FMC LF"},
                                             {.name = "GH100 A01 GSP BROM"},
                                             {.name = "ICA"},
                                             {.name = "Identity"},
                                             {.name = "Root"},
                                             {.name = "Rooter"}};

struct plan {
    const char *what, *rule;
    int at; /* certificate that is different */
    struct mint_cert cert;
    int n; /* certificates; 0: five */
    int reversed, other_root;
};

static const struct plan plans[] = {
    {.what = "good"},
    {.what = "six", .rule = "chain.count", .n = 6},
    {.what = "four", .rule = "chain.count", .n = 4},
    {.what = "reversed", .rule = "chain.root", .reversed = 1},
    {.what = "other root", .rule = "chain.root", .other_root = 1},
    {.what = "leaf is a CA", .rule = "chain.ca", .cert = {.is_ca = 1}},
    {.what = "leaf may not sign data",
     .rule = "chain.usage",
     .cert = {.usage = "critical,keyAgreement"}},
    {.what = "leaf without key usage", .cert = {.usage = ""}},
    {.what = "issuer is no CA", .rule = "chain.ca", .at = 1, .cert = {.not_ca = 1}},
    {.what = "issuer without constraints",
     .rule = "chain.ca",
     .at = 2,
     .cert = {.no_constraints = 1}},
    {.what = "issuer may not sign certificates",
     .rule = "chain.usage",
     .at = 3,
     .cert = {.usage = "critical,digitalSignature"}},
    {.what = "P-256 leaf", .rule = "chain.key", .cert = {.curve = "P-256"}},
    {.what = "P-256 issuer", .rule = "chain.key", .at = 2, .cert = {.curve = "P-256"}},
    {.what = "P-521 leaf", .rule = "chain.key", .cert = {.curve = "P-521"}},
    {.what = "signed with SHA-256", .rule = "chain.algorithm", .at = 1, .cert = {.md = NULL}},
    {.what = "leaf expired", .rule = "chain.validity", .cert = {.until = -1}},
    {.what = "leaf not yet valid", .rule = "chain.validity", .cert = {.from = 1}},
    {.what = "ICA expired", .rule = "chain.validity", .at = 2, .cert = {.until = -1}},
    {.what = "root expired", .rule = "chain.validity", .at = 4, .cert = {.until = -1}},
    {.what = "unknown critical extension",
     .rule = "chain.path",
     .cert = {.critical_oid = "1.2.3.4"}},
    {.what = "issued by somebody of another name",
     .rule = "chain.path",
     .at = 1,
     .cert = {.issuer_name = "nobody"}},
    {.what = "signed by another key",
     .rule = "chain.path",
     .at = 2,
     .cert = {.sign_with_other_key = 1}},
    {.what = "leaf signed by another key",
     .rule = "chain.path",
     .cert = {.sign_with_other_key = 1}},
};

static void each_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        const struct plan *p = &plans[i];
        struct mint_cert certs[6];
        struct mint_chain chain = {.n = 0}, stranger = {.n = 0};
        int n = p->n ? p->n : 5;
        memcpy(certs, ordinary, sizeof certs);
        certs[p->at] = p->cert;
        certs[p->at].name = ordinary[p->at].name;
        if (strstr(p->what, "SHA-256"))
            certs[p->at].md = EVP_sha256();
        mint_chain(&chain, certs, n);
        mint_chain(&stranger, ordinary, 5);
        if (p->reversed)
            for (int k = 0; k < n / 2; k++) {
                X509 *swap = chain.cert[k];
                chain.cert[k] = chain.cert[n - 1 - k];
                chain.cert[n - 1 - k] = swap;
            }
        AUTO_FREE char *pem = mint_pem(&chain, 0, n);
        AUTO_FREE char *root = p->other_root ? mint_pem(&stranger, 4, 5)
                               : p->reversed ? mint_pem(&chain, 0, 1)
                                             : mint_pem(&chain, n - 1, n);
        struct att_options options = {.at = MINT_CLOCK, .device_root_pem = root};
        struct att_text text = {pem, strlen(pem), "chain"};
        struct att_verdict *v = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(att_check_chain(&options, &text, &v, &err), 0);
        mint_expect(v, p->what, p->rule);
        mint_done(&chain);
        mint_done(&stranger);
    }
}

static void a_root_must_be_one(void **state)
{
    struct mint_chain chain = {.n = 0};
    (void)state;
    mint_chain(&chain, ordinary, 5);
    AUTO_FREE char *pem = mint_pem(&chain, 0, 5);
    for (int i = 0; i < 5; i++) {
        AUTO_FREE char *root = mint_pem(&chain, i, i + 1);
        struct att_options options = {.at = MINT_CLOCK, .device_root_pem = root};
        struct att_text text = {pem, strlen(pem), "chain"};
        struct att_verdict *v = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(att_check_chain(&options, &text, &v, &err), 0);
        mint_expect(v, "anchor", i < 4 ? "anchor" : NULL);
    }
    mint_done(&chain);
}

/* SEQUENCE { 1, SubjectPublicKeyInfo of @key, SEQUENCE { sha384, OCTET STRING of 48 } } */
static size_t dice(EVP_PKEY *key, uint8_t fill, uint8_t *ret)
{
    static const uint8_t tail[] = {0x30, 0x3d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                   0x65, 0x03, 0x04, 0x02, 0x02, 0x04, 0x30};
    unsigned char *spki = NULL;
    int n = i2d_PUBKEY(key, &spki);
    uint8_t head[] = {0x30, 0x81, (uint8_t)(3 + n + 63), 0x02, 0x01, 0x01};
    memcpy(ret, head, sizeof head);
    memcpy(ret + sizeof head, spki, (size_t)n);
    memcpy(ret + sizeof head + n, tail, sizeof tail);
    memset(ret + sizeof head + n + sizeof tail, fill, 48);
    OPENSSL_free(spki);
    return sizeof head + (size_t)n + sizeof tail + 48;
}

static void fwid_binds_firmware_and_brom_key(void **state)
{
    static const struct {
        const char *what, *rule;
        int extension;   /* 0 none, 1 good, 2 of another key, 3 cut short, 4 with a byte more */
        uint8_t claimed; /* what the report says; 0: nothing */
        const char *driver;
        enum att_missing_fwid missing;
    } cases[] = {
        {"good", NULL, 1, 7, "550.90.07", ATT_FWID_BY_DRIVER},
        {"no extension", "fwid.extension", 0, 7, "550.90.07", ATT_FWID_BY_DRIVER},
        {"cut short", "fwid.extension", 3, 7, "550.90.07", ATT_FWID_BY_DRIVER},
        {"a byte more", "fwid.extension", 4, 7, "550.90.07", ATT_FWID_BY_DRIVER},
        {"another key", "fwid.brom_key", 2, 7, "550.90.07", ATT_FWID_BY_DRIVER},
        {"other digest", "fwid.match", 1, 8, "550.90.07", ATT_FWID_BY_DRIVER},
        {"none in an old report", NULL, 1, 0, "545.00", ATT_FWID_BY_DRIVER},
        {"another key, old report", "fwid.brom_key", 2, 0, "545.00", ATT_FWID_BY_DRIVER},
        {"none in an old report, required", "fwid.match", 1, 0, "545.00", ATT_FWID_REQUIRED},
        {"none in a new report", "fwid.match", 1, 0, "550.00", ATT_FWID_BY_DRIVER},
        {"none in a new report, optional", NULL, 1, 0, "580.95.05", ATT_FWID_OPTIONAL}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct mint_chain chain = {.n = 0}, other = {.n = 0};
        struct mint_cert certs[5];
        uint8_t ext[300] = {0}, value[48];
        struct err err = ERR_INIT;
        memcpy(certs, ordinary, sizeof certs);
        mint_chain(&other, ordinary, 2);
        chain.key[1] = EVP_EC_gen("P-384");
        size_t len = dice(cases[i].extension == 2 ? other.key[1] : chain.key[1], 7, ext);
        if (cases[i].extension) {
            certs[0].dice = ext;
            certs[0].dice_len = len - (cases[i].extension == 3) + (cases[i].extension == 4);
        }
        mint_chain(&chain, certs, 5);
        struct certs *pool = certs_new();
        const struct cert *list[5];
        AUTO_FREE char *pem = mint_pem(&chain, 0, 5);
        assert_int_equal(certs_add_pem(pool, pem, strlen(pem), list, 5, &err), 5);
        struct report report = {.kind = ATT_GPU};
        (void)snprintf(report.driver, sizeof report.driver, "%s", cases[i].driver);
        memset(value, cases[i].claimed, sizeof value);
        if (cases[i].claimed)
            report.opaque[report.n_opaque++] = (struct opaque){OPAQUE_FWID, 48, value};
        struct att_verdict *v = trail_new();
        (void)fwid_check(&report, ARCH_HOPPER, list[0], list[1], cases[i].missing, v);
        mint_expect(v, cases[i].what, cases[i].rule);
        certs_free(pool);
        mint_done(&chain);
        mint_done(&other);
    }
}

static void pem_text_is_strict(void **state)
{
    static const char *const bad[] = {
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct certs *pool = certs_new();
        const struct cert *list[5];
        struct err err = ERR_INIT;
        if (certs_add_pem(pool, bad[i], strlen(bad[i]), list, 5, &err) >= 0)
            fail_msg("\"%s\" was accepted", bad[i]);
        certs_free(pool);
    }
}

static void each_signature_is_checked_once(void **state)
{
    struct mint_chain chain = {.n = 0};
    struct certs *pool = certs_new();
    struct att_verdict *v;
    struct chain_verdict verdict;
    struct err err = ERR_INIT;
    const struct cert *list[5];
    (void)state;
    mint_chain(&chain, ordinary, 5);
    AUTO_FREE char *pem = mint_pem(&chain, 0, 5);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(certs_add_pem(pool, pem, strlen(pem), list, 5, &err), 5);
        v = trail_new();
        assert_true(certs_verify(pool, list, 5, 5, list[4], MINT_CLOCK, &verdict, v));
        att_verdict_free(v);
    }
    assert_int_equal(pool->n, 5);
    assert_int_equal(pool->signatures, 4);
    certs_free(pool);
    mint_done(&chain);
}

static void pinned_roots_are_the_published_ones(void **state)
{
    struct certs *pool = certs_new();
    struct err err = ERR_INIT;
    const struct cert *root;
    struct amd_chain amd;
    (void)state;
    assert_int_equal(anchors_root(pool, ANCHOR_DEVICE, NULL, &root, &err), 0);
    assert_int_equal(anchors_root(pool, ANCHOR_RIM, NULL, &root, &err), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(anchors_amd(pool, i, &amd, &err), 0);
    certs_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_plan),
                                       cmocka_unit_test(a_root_must_be_one),
                                       cmocka_unit_test(fwid_binds_firmware_and_brom_key),
                                       cmocka_unit_test(pem_text_is_strict),
                                       cmocka_unit_test(each_signature_is_checked_once),
                                       cmocka_unit_test(pinned_roots_are_the_published_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
