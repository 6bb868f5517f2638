/* RIMs in which exactly one thing is wrong, each validly signed by its own chain unless the signature is the point. */
#include "tests/unit/attestation/mint.h"

#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/rim.h"
#include "base/auto.h"

#define DS "http://www.w3.org/2000/09/xmldsig#"
#define C14 "http://www.w3.org/2006/12/xml-c14n11"
#define MORE "http://www.w3.org/2001/04/xmldsig-more#"
#define H                                                                                          \
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899aabbccdd" \
    "eeff"

static struct mint_chain chain;
static char *root_pem;

struct plan {
    const char *what, *rule;
    const char *resources;          /* instead of the ordinary ones */
    const char *meta;               /* attributes of Meta, instead of the ordinary ones */
    const char *in_root;            /* after Payload */
    const char *find, *put;         /* edit of the signed document */
    const char *sig_find, *sig_put; /* edit of SignedInfo before it is signed */
    int drop_cert, duplicate_cert;
};

#define RES(index, active, alternatives, size, hashes)                                             \
    "<r:Resource type=\"Measurement\" index=\"" index "\" active=\"" active                        \
    "\" alternatives=\"" alternatives "\" name=\"M\" size=\"" size "\" " hashes "/>"
#define ONE RES("0", "True", "1", "48", "h:Hash0=\"" H "\"")
#define META(version, product, edition)                                                            \
    "colloquialVersion=\"" version "\" product=\"" product "\" edition=\"" edition                 \
    "\" revision=\"r1\" t:FirmwareManufacturerId=\"5703\""

static const struct plan plans[] = {
    {.what = "good"},
    {.what = "two alternatives",
     .resources = RES("0", "True", "2", "48", "h:Hash0=\"" H "\" h:Hash1=\"" H "\"")},
    {.what = "upper-case digits",
     .resources = RES("0", "True", "1", "48",
                      "h:Hash0="
                      "\"00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF0011223344"
                      "5566778899AABBCCDDEEFF\"")},
    {.what = "changed afterwards", .rule = "rim.digest", .find = "550.90.07", .put = "550.90.08"},
    {.what = "nothing active",
     .rule = "rim.active",
     .resources = RES("0", "False", "1", "48", "h:Hash0=\"" H "\"")},
    {.what = "no resource", .rule = "rim.active", .resources = ""},
    {.what = "active is true",
     .rule = "rim.active",
     .resources = RES("0", "true", "1", "48", "h:Hash0=\"" H "\"")},
    {.what = "index twice", .rule = "rim.index", .resources = ONE ONE},
    {.what = "index -1",
     .rule = "rim.index",
     .resources = RES("-1", "True", "1", "48", "h:Hash0=\"" H "\"")},
    {.what = "index 255",
     .rule = "rim.index",
     .resources = RES("255", "True", "1", "48", "h:Hash0=\"" H "\"")},
    {.what = "index of text",
     .rule = "rim.index",
     .resources = RES("1x", "True", "1", "48", "h:Hash0=\"" H "\"")},
    {.what = "size 32",
     .rule = "rim.size",
     .resources = RES("0", "True", "1", "32", "h:Hash0=\"" H "\"")},
    {.what = "no alternative",
     .rule = "rim.alternatives",
     .resources = RES("0", "True", "0", "48", "h:Hash0=\"" H "\"")},
    {.what = "65 alternatives",
     .rule = "rim.alternatives",
     .resources = RES("0", "True", "65", "48", "h:Hash0=\"" H "\"")},
    {.what = "hash missing",
     .rule = "rim.hash",
     .resources = RES("0", "True", "2", "48", "h:Hash0=\"" H "\"")},
    {.what = "hash too many",
     .rule = "rim.hash",
     .resources = RES("0", "True", "1", "48", "h:Hash0=\"" H "\" h:Hash1=\"" H "\"")},
    {.what = "hash misnamed",
     .rule = "rim.hash",
     .resources = RES("0", "True", "1", "48", "h:Hash1=\"" H "\"")},
    {.what = "hash in no namespace",
     .rule = "rim.hash",
     .resources = RES("0", "True", "1", "48", "Hash0=\"" H "\"")},
    {.what = "hash with a foreign digit",
     .rule = "rim.hash",
     .resources = RES("0", "True", "1", "48",
                      "h:Hash0="
                      "\"0011223344556677g899aabbccddeeff00112233445566778899aabbccddeeff0011223344"
                      "5566778899aabbccddeeff\"")},
    {.what = "hash too short",
     .rule = "rim.hash",
     .resources = RES("0", "True", "1", "48", "h:Hash0=\"0011\"")},
    {.what = "other type",
     .rule = "rim.resource",
     .resources = "<r:Resource type=\"File\" index=\"0\" active=\"True\" alternatives=\"1\" "
                  "name=\"M\" size=\"48\" h:Hash0=\"" H "\"/>"},
    {.what = "other element", .rule = "rim.resource", .resources = ONE "<r:File index=\"1\"/>"},
    {.what = "text in Payload", .rule = "rim.structure", .resources = ONE "text"},
    {.what = "no version", .rule = "rim.meta", .meta = "product=\"GH100\" edition=\"GPU\""},
    {.what = "unknown product", .rule = "rim.product", .meta = META("1", "GA100", "GPU")},
    {.what = "GPU of edition SWITCH", .rule = "rim.product", .meta = META("1", "GH100", "SWITCH")},
    {.what = "switch", .meta = META("96.10.55.00.01", "LS10", "SWITCH")},
    {.what = "second Payload", .rule = "rim.structure", .in_root = "<r:Payload/>"},
    {.what = "document type",
     .rule = "rim.bounds",
     .find = "<SoftwareIdentity",
     .put = "<!DOCTYPE a><SoftwareIdentity"},
    {.what = "processing instruction",
     .rule = "rim.bounds",
     .find = "<r:Entity",
     .put = "<?a b?><r:Entity"},
    {.what = "CDATA", .rule = "rim.bounds", .find = "<r:Entity", .put = "<![CDATA[ ]]><r:Entity"},
    {.what = "other root element",
     .rule = "rim.xml",
     .find = "<SoftwareIdentity",
     .put = "<SoftwareIdentitY"},
    {.what = "root of another namespace",
     .rule = "rim.root",
     .find = "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\"",
     .put = "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2009/schema.xsd\""},
    {.what = "unsigned Object",
     .rule = "rim.signature_form",
     .find = "</d:Signature>",
     .put = "<d:Object/></d:Signature>"},
    {.what = "attribute of Signature",
     .rule = "rim.signature_form",
     .find = "<d:Signature ",
     .put = "<d:Signature Id=\"a\" "},
    {.what = "KeyValue",
     .rule = "rim.signature_form",
     .find = "<d:KeyInfo>",
     .put = "<d:KeyInfo><d:KeyValue/>"},
    {.what = "RetrievalMethod",
     .rule = "rim.signature_form",
     .find = "</d:KeyInfo>",
     .put = "<d:RetrievalMethod URI=\"\"/></d:KeyInfo>"},
    {.what = "second X509Data",
     .rule = "rim.signature_form",
     .find = "</d:KeyInfo>",
     .put = "<d:X509Data/></d:KeyInfo>"},
    {.what = "second Signature",
     .rule = "rim.structure",
     .find = "</SoftwareIdentity>",
     .put = "<d:Signature xmlns:d=\"" DS "\"/></SoftwareIdentity>"},
    {.what = "comment in the value",
     .rule = "rim.signature_form",
     .find = "<d:SignatureValue>",
     .put = "<d:SignatureValue><!-- a -->"},
    {.what = "SHA-256",
     .rule = "rim.signature_form",
     .sig_find = MORE "sha384",
     .sig_put = "http://www.w3.org/2001/04/xmlenc#sha256"},
    {.what = "ECDSA-SHA1",
     .rule = "rim.signature_form",
     .sig_find = MORE "ecdsa-sha384",
     .sig_put = MORE "ecdsa-sha1"},
    {.what = "HMAC",
     .rule = "rim.signature_form",
     .sig_find = MORE "ecdsa-sha384",
     .sig_put = MORE "hmac-sha384"},
    {.what = "C14N 1.0",
     .rule = "rim.signature_form",
     .sig_find = "Method Algorithm=\"" C14,
     .sig_put = "Method Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315"},
    {.what = "reference to a part",
     .rule = "rim.signature_form",
     .sig_find = "URI=\"\"",
     .sig_put = "URI=\"#a\""},
    {.what = "reference to a file",
     .rule = "rim.signature_form",
     .sig_find = "URI=\"\"",
     .sig_put = "URI=\"file:///etc/passwd\""},
    {.what = "typed reference",
     .rule = "rim.signature_form",
     .sig_find = "URI=\"\"",
     .sig_put = "URI=\"\" Type=\"" DS "Manifest\""},
    {.what = "no transforms",
     .rule = "rim.signature_form",
     .sig_find = "<d:Transform Algorithm=\"" DS "enveloped-signature\"></d:Transform>",
     .sig_put = ""},
    {.what = "XSLT",
     .rule = "rim.signature_form",
     .sig_find = DS "enveloped-signature",
     .sig_put = "http://www.w3.org/TR/1999/REC-xslt-19991116"},
    {.what = "three certificates", .rule = "rim.signature_form", .drop_cert = 1},
    {.what = "five certificates", .rule = "rim.signature_form", .duplicate_cert = 1},
};

/* @text with the first @find replaced; the caller's */
static char *replaced(const char *text, const char *find, const char *put)
{
    const char *at = find ? strstr(text, find) : NULL;
    if (!find)
        return xstrdup(text);
    if (!at)
        fail_msg("%s is not there", find);
    return xasprintf("%.*s%s%s", (int)(at - text), text, put, at + strlen(find));
}

static char *digest64(const char *xml)
{
    uint8_t digest[48];
    xmlChar *canonical = NULL;
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NOERROR);
    assert_non_null(doc);
    int n = xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_1, NULL, 0, &canonical);
    assert_true(n > 0);
    assert_int_equal(EVP_Digest(canonical, (size_t)n, digest, NULL, EVP_sha384(), NULL), 1);
    xmlFree(canonical);
    xmlFreeDoc(doc);
    return b64_encode(digest, sizeof digest);
}

static char *certificates(const struct plan *p)
{
    char *all = xstrdup("");
    for (int i = 0; i < 4; i++) {
        unsigned char *der = NULL;
        int n = i2d_X509(chain.cert[i], &der);
        AUTO_FREE char *b64 = b64_encode(der, (size_t)n);
        OPENSSL_free(der);
        for (int k = 0; k < (i == 1 && p->drop_cert        ? 0
                             : i == 1 && p->duplicate_cert ? 2
                                                           : 1);
             k++) {
            char *more = xasprintf("%s<d:X509Certificate>%s</d:X509Certificate>", all, b64);
            free(all);
            all = more;
        }
    }
    return all;
}

/* The document is written in canonical form, so that SignedInfo can be signed as text. */
static char *rim_of(const struct plan *p)
{
    AUTO_FREE char *body = xasprintf(
        "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" "
        "xmlns:h=\"http://www.w3.org/2001/04/xmlenc#sha384\" "
        "xmlns:r=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" "
        "xmlns:t=\"https://trustedcomputinggroup.org/resource/"
        "tcg-reference-integrity-manifest-rim-information-model/\" name=\"x\">"
        "<r:Entity name=\"N\"/><r:Meta %s/><r:Payload>%s</r:Payload>%s",
        p->meta ? p->meta : META("550.90.07", "GH100", "GPU"), p->resources ? p->resources : ONE,
        p->in_root ? p->in_root : "");
    AUTO_FREE char *whole = xasprintf("%s</SoftwareIdentity>", body);
    AUTO_FREE char *digest = digest64(whole);
    AUTO_FREE char *plain =
        xasprintf("<d:CanonicalizationMethod Algorithm=\"" C14 "\"></d:CanonicalizationMethod>"
                  "<d:SignatureMethod Algorithm=\"" MORE "ecdsa-sha384\"></d:SignatureMethod>"
                  "<d:Reference URI=\"\"><d:Transforms>"
                  "<d:Transform Algorithm=\"" DS "enveloped-signature\"></d:Transform>"
                  "<d:Transform Algorithm=\"" C14 "\"></d:Transform></d:Transforms>"
                  "<d:DigestMethod Algorithm=\"" MORE "sha384\"></d:DigestMethod>"
                  "<d:DigestValue>%s</d:DigestValue></d:Reference></d:SignedInfo>",
                  digest);
    AUTO_FREE char *info = replaced(plain, p->sig_find, p->sig_put);
    AUTO_FREE char *signed_text =
        xasprintf("<d:SignedInfo xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" "
                  "xmlns:d=\"" DS "\" xmlns:h=\"http://www.w3.org/2001/04/xmlenc#sha384\" "
                  "xmlns:r=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" "
                  "xmlns:t=\"https://trustedcomputinggroup.org/resource/"
                  "tcg-reference-integrity-manifest-rim-information-model/\">%s",
                  info);
    uint8_t rs[96];
    mint_sign(chain.key[0], (const uint8_t *)signed_text, strlen(signed_text), rs);
    AUTO_FREE char *value = b64_encode(rs, sizeof rs);
    AUTO_FREE char *certs = certificates(p);
    AUTO_FREE char *xml = xasprintf(
        "%s<d:Signature xmlns:d=\"" DS "\"><d:SignedInfo>%s<d:SignatureValue>%s</d:SignatureValue>"
        "<d:KeyInfo><d:X509Data>%s</d:X509Data></d:KeyInfo></d:Signature></SoftwareIdentity>",
        body, info, value, certs);
    return replaced(xml, p->find, p->put);
}

static struct att_verdict *check(const char *xml)
{
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    struct att_options options = {.at = MINT_CLOCK, .rim_root_pem = root_pem};
    struct att_text text = {xml, strlen(xml), "RIM"};
    assert_int_equal(att_check_rim(&options, &text, NULL, &v, &err), 0);
    return v;
}

static void each_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        AUTO_FREE char *xml = rim_of(&plans[i]);
        mint_expect(check(xml), plans[i].what, plans[i].rule);
    }
}

static void signer_profile(void **state)
{
    static const struct {
        const char *what, *rule;
        struct mint_cert leaf;
    } leaves[] = {
        {"good", NULL, {.name = "L4"}},
        {"expired", "chain.validity", {.name = "L4", .until = -1}},
        {"not yet valid", "chain.validity", {.name = "L4", .from = 1}},
        {"may not sign data", "chain.usage", {.name = "L4", .usage = "critical,keyAgreement"}},
        {"is a CA", "chain.ca", {.name = "L4", .is_ca = 1}}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
        struct mint_cert certs[4] = {
            leaves[i].leaf, {.name = "L3"}, {.name = "CA"}, {.name = "Root"}};
        struct mint_chain keep = chain;
        char *keep_pem = root_pem;
        chain = (struct mint_chain){.n = 0};
        mint_chain(&chain, certs, 4);
        root_pem = mint_pem(&chain, 3, 4);
        AUTO_FREE char *xml = rim_of(&plans[0]);

        mint_expect(check(xml), leaves[i].what, leaves[i].rule);
        free(root_pem);
        mint_done(&chain);
        chain = keep;
        root_pem = keep_pem;
    }
}

static void raw_text_is_bounded(void **state)
{
    const char *why = NULL;
    static char many[200000], deep[100000];
    (void)state;
    size_t n = (size_t)sprintf(many, "<a ");
    for (int i = 0; i < 20000; i++)
        n += (size_t)sprintf(many + n, "b%d='' ", i);
    many[n++] = '>';
    assert_false(rim_bounds(many, n, &why));
    assert_non_null(strstr(why, "attributes"));
    for (n = 0; n + 3 < sizeof deep; n += 3)
        memcpy(deep + n, "<a>", 3);
    assert_false(rim_bounds(deep, n, &why));
    assert_non_null(strstr(why, "deeply"));
    assert_false(rim_bounds("<a\0>", 4, &why));
    assert_false(rim_bounds("<a b='", 6, &why));
    static const char fine[] = "<?xml version=\"1.0\"?>\n<a b='>'><!-- <b> --><c/></a>\n";
    assert_true(rim_bounds(fine, sizeof fine - 1, &why));
}

static int open_chain(void **state)
{
    static const struct mint_cert certs[4] = {
        {.name = "L4"}, {.name = "L3"}, {.name = "CA"}, {.name = "Root"}};
    (void)state;
    mint_chain(&chain, certs, 4);
    root_pem = mint_pem(&chain, 3, 4);
    return 0;
}

static int close_chain(void **state)
{
    (void)state;
    mint_done(&chain);
    free(root_pem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_plan),
                                       cmocka_unit_test(signer_profile),
                                       cmocka_unit_test(raw_text_is_bounded)};
    return cmocka_run_group_tests(tests, open_chain, close_chain);
}
