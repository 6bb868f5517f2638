#include "tests/unit/attestation/mint.h"

#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static void add_raw(X509 *cert, const char *oid, int critical, const uint8_t *data, size_t len)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    assert_int_equal(ASN1_OCTET_STRING_set(value, data, (int)len), 1);
    X509_EXTENSION *ext = X509_EXTENSION_create_by_OBJ(NULL, object, critical, value);
    assert_int_equal(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(object);
}

static X509_NAME *name_of(const char *cn, const char *serial)
{
    X509_NAME *name = X509_NAME_new();
    if (serial)
        X509_NAME_add_entry_by_NID(name, NID_serialNumber, MBSTRING_UTF8,
                                   (const unsigned char *)serial, -1, -1, 0);
    X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)cn, -1,
                               -1, 0);
    return name;
}

static void fill(X509 *cert, const struct mint_cert *plan, int position, X509 *issuer)
{
    int ca = (position > 0 && !plan->not_ca) || plan->is_ca;
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1000 + position);
    ASN1_TIME_set(X509_getm_notBefore(cert), MINT_CLOCK + (plan->from ? plan->from : -1000));
    ASN1_TIME_set(X509_getm_notAfter(cert), MINT_CLOCK + (plan->until ? plan->until : 100000));
    if (!plan->no_constraints)
        add_extension(cert, issuer, NID_basic_constraints,
                      ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    const char *usage = plan->usage ? plan->usage
                        : position  ? "critical,keyCertSign,cRLSign"
                                    : "critical,digitalSignature";
    if (*usage)
        add_extension(cert, issuer, NID_key_usage, usage);
    if (plan->critical_oid)
        add_raw(cert, plan->critical_oid, 1, (const uint8_t *)"\x05\x00", 2);
    if (plan->dice)
        add_raw(cert, "2.23.133.5.4.1", 0, plan->dice, plan->dice_len);
}

void mint_chain(struct mint_chain *chain, const struct mint_cert *plan, int n)
{
    chain->n = n;
    for (int i = n - 1; i >= 0; i--) {
        X509 *cert = chain->cert[i] = X509_new();
        if (!chain->key[i])
            chain->key[i] = EVP_EC_gen(plan[i].curve ? plan[i].curve : "P-384");
        X509 *issuer = i < n - 1 ? chain->cert[i + 1] : cert;
        EVP_PKEY *signer = chain->key[i < n - 1 ? i + 1 : i], *other = NULL;
        X509_NAME *name = name_of(plan[i].name, plan[i].serial_number);
        X509_set_subject_name(cert, name);
        X509_NAME_free(name);
        X509_set_issuer_name(cert, X509_get_subject_name(issuer));
        if (plan[i].issuer_name) {
            name = name_of(plan[i].issuer_name, NULL);
            X509_set_issuer_name(cert, name);
            X509_NAME_free(name);
        }
        X509_set_pubkey(cert, chain->key[i]);
        fill(cert, &plan[i], i, issuer);
        if (plan[i].sign_with_other_key)
            signer = other = EVP_EC_gen("P-384");
        assert_true(X509_sign(cert, signer, plan[i].md ? plan[i].md : EVP_sha384()) > 0);
        EVP_PKEY_free(other);
    }
}

void mint_done(struct mint_chain *chain)
{
    for (int i = 0; i < chain->n; i++) {
        X509_free(chain->cert[i]);
        EVP_PKEY_free(chain->key[i]);
    }
    *chain = (struct mint_chain){.n = 0};
}

char *mint_pem(const struct mint_chain *chain, int from, int to)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    for (int i = from; i < to; i++)
        assert_int_equal(PEM_write_bio_X509(bio, chain->cert[i]), 1);
    long n = BIO_get_mem_data(bio, &text);
    char *copy = xstrndup(text, (size_t)n);
    BIO_free(bio);
    return copy;
}

void mint_sign(EVP_PKEY *key, const uint8_t *data, size_t len, uint8_t rs[96])
{
    uint8_t der[160];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &n, data, len), 1);
    const uint8_t *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, 48);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + 48, 48);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

char *mint_file(const char *name, size_t *len)
{
    const char *source = getenv("CCNODE_SOURCE");
    AUTO_FREE char *path = xasprintf("%s/%s", source ? source : ".", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *data = xmalloc(1 << 20);
    size_t n = fread(data, 1, (1 << 20) - 1, f);
    data[n] = 0;
    (void)fclose(f);
    if (len)
        *len = n;
    return data;
}

const char *mint_first_rule(const struct att_verdict *verdict)
{
    for (size_t i = 0; i < att_verdict_lines(verdict); i++)
        if (att_verdict_line(verdict, i).mark == ATT_FAIL)
            return att_verdict_line(verdict, i).rule;
    return "";
}

void mint_expect(struct att_verdict *verdict, const char *what, const char *rule)
{
    const char *seen = mint_first_rule(verdict);
    bool accepted = att_verdict_class(verdict) == ATT_ACCEPTED;
    if (strcmp(seen, rule ? rule : "") != 0 || accepted != !rule)
        fail_msg("%s: %s (%s), expected %s", what, accepted ? "accepted" : "refused",
                 att_verdict_message(verdict), rule ? rule : "acceptance");
    att_verdict_free(verdict);
}
