/* OCSP answers in which exactly one thing is wrong. REF-A 3.6, 9.3 */
#include "tests/unit/attestation/mint.h"

#include <openssl/ocsp.h>
#include <string.h>

#include "attestation/ocsp.h"
#include "base/auto.h"

/* chain.cert[0] is the certificate in question, [1] its issuer, [2] the root */
static struct mint_chain chain;
static const uint8_t nonce[OCSP_NONCE_SIZE] = {7};

struct plan {
    const char *what, *rule;
    int status, reason;
    int64_t from, until, produced; /* relative to the clock; until 0: an hour */
    int no_next, no_nonce, other_nonce, other_serial, twice, extra, sha1_id;
    const EVP_MD *(*md)(void);
    enum { BY_DELEGATE, BY_ISSUER, BY_SUBJECT, BY_SUBJECT_CHILD, BY_STRANGER } signer;
    struct mint_cert delegate;
    const char *eku; /* NULL: OCSPSigning; "": none */
    int allow_hold, flip;
};

static const struct plan plans[] = {
    {.what = "good"},
    {.what = "good, SHA-1 id", .sha1_id = 1},
    {.what = "signed by the issuer", .signer = BY_ISSUER},
    {.what = "other certificates too", .extra = 1},
    {.what = "no nextUpdate, fresh", .no_next = 1},
    {.what = "no nextUpdate, an hour and a half old",
     .rule = "ocsp.freshness",
     .no_next = 1,
     .from = -5400},
    {.what = "a little in the future", .from = 200},
    {.what = "in the future", .rule = "ocsp.freshness", .from = 400},
    {.what = "stale within the skew", .from = -7200, .until = -200},
    {.what = "stale", .rule = "ocsp.freshness", .from = -7200, .until = -400},
    {.what = "nextUpdate before thisUpdate", .rule = "ocsp.freshness", .from = 100, .until = 50},
    {.what = "produced in the future", .rule = "ocsp.freshness", .produced = 1000},
    {.what = "revoked", .rule = "ocsp.status", .status = V_OCSP_CERTSTATUS_REVOKED, .reason = 1},
    {.what = "hold", .rule = "ocsp.status", .status = V_OCSP_CERTSTATUS_REVOKED, .reason = 6},
    {.what = "hold, allowed", .status = V_OCSP_CERTSTATUS_REVOKED, .reason = 6, .allow_hold = 1},
    {.what = "key compromise, hold allowed",
     .rule = "ocsp.status",
     .status = V_OCSP_CERTSTATUS_REVOKED,
     .reason = 1,
     .allow_hold = 1},
    {.what = "unknown", .rule = "ocsp.status", .status = V_OCSP_CERTSTATUS_UNKNOWN},
    {.what = "no nonce", .rule = "ocsp.nonce", .no_nonce = 1},
    {.what = "other nonce", .rule = "ocsp.nonce", .other_nonce = 1},
    {.what = "about another certificate", .rule = "ocsp.cert_id", .other_serial = 1},
    {.what = "about it twice", .rule = "ocsp.cert_id", .twice = 1},
    {.what = "responder without purpose", .rule = "ocsp.responder", .eku = ""},
    {.what = "responder for servers", .rule = "ocsp.responder", .eku = "serverAuth"},
    {.what = "responder that may not sign",
     .rule = "ocsp.responder",
     .delegate = {.usage = "critical,keyAgreement"}},
    {.what = "responder expired", .rule = "ocsp.responder", .delegate = {.until = -1}},
    {.what = "responder not yet valid", .rule = "ocsp.responder", .delegate = {.from = 1}},
    {.what = "responder signed by another key",
     .rule = "ocsp.responder",
     .delegate = {.sign_with_other_key = 1}},
    {.what = "responder P-256", .rule = "ocsp.algorithm", .delegate = {.curve = "P-256"}},
    {.what = "the certificate itself answers", .rule = "ocsp.responder", .signer = BY_SUBJECT},
    {.what = "responder issued by the certificate in question",
     .rule = "ocsp.responder",
     .signer = BY_SUBJECT_CHILD},
    {.what = "a stranger answers", .rule = "ocsp.responder", .signer = BY_STRANGER},
    {.what = "SHA-256", .rule = "ocsp.algorithm", .md = EVP_sha256},
    {.what = "signature of something else", .rule = "ocsp.signature", .flip = 1},
};

static ASN1_TIME *at(int64_t offset)
{
    return ASN1_GENERALIZEDTIME_set(NULL, MINT_CLOCK + offset);
}

static void add_status(const struct plan *p, OCSP_BASICRESP *basic, OCSP_CERTID *id)
{
    int64_t from = p->from ? p->from : -60;
    ASN1_TIME *a = at(from), *b = p->no_next ? NULL : at(p->until ? p->until : 3600);
    ASN1_TIME *when = p->status == V_OCSP_CERTSTATUS_REVOKED ? at(-1000) : NULL;
    assert_non_null(OCSP_basic_add1_status(basic, id, p->status, p->reason, when, a, b));
    ASN1_TIME_free(a);
    ASN1_TIME_free(b);
    ASN1_TIME_free(when);
}

/* the delegate: a chain of two or three in which the issuer's key is ours or somebody's */
static void make_delegate(const struct plan *p, struct mint_chain *d)
{
    bool child = p->signer == BY_SUBJECT_CHILD;
    struct mint_cert certs[2] = {p->delegate, {.name = child ? "subject" : "issuer"}};
    certs[0].name = "responder";
    if (p->signer != BY_STRANGER) {
        d->key[1] = chain.key[child ? 0 : 1];
        EVP_PKEY_up_ref(d->key[1]);
    }
    mint_chain(d, certs, 2);
    if (p->eku && !*p->eku)
        return;
    X509_EXTENSION *ext =
        X509V3_EXT_conf_nid(NULL, NULL, NID_ext_key_usage, p->eku ? p->eku : "OCSPSigning");
    X509_add_ext(d->cert[0], ext, -1);
    X509_EXTENSION_free(ext);
    EVP_PKEY *other = p->delegate.sign_with_other_key ? EVP_EC_gen("P-384") : NULL;
    assert_true(X509_sign(d->cert[0], other ? other : d->key[1], EVP_sha384()) > 0);
    EVP_PKEY_free(other);
}

static void respond(const struct plan *p, const struct att_bytes *request, struct att_bytes *ret)
{
    const unsigned char *q = request->data;
    struct mint_chain d = {.n = 0};
    uint8_t wrong[32] = {9};
    OCSP_REQUEST *req = d2i_OCSP_REQUEST(NULL, &q, (long)request->len);
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_CERTID_dup(OCSP_onereq_get0_id(OCSP_request_onereq_get0(req, 0)));
    OCSP_CERTID *other = OCSP_CERTID_dup(id);
    ASN1_INTEGER *serial = NULL;
    OCSP_id_get0_info(NULL, NULL, NULL, &serial, other);
    ASN1_INTEGER_set(serial, 4711);
    if (p->extra)
        add_status(p, basic, other);
    add_status(p, basic, p->other_serial ? other : id);
    if (p->twice)
        add_status(p, basic, id);
    if (p->other_nonce)
        OCSP_basic_add1_nonce(basic, wrong, sizeof wrong);
    else if (!p->no_nonce)
        OCSP_copy_nonce(basic, req);
    make_delegate(p, &d);
    X509 *cert = p->signer == BY_ISSUER    ? chain.cert[1]
                 : p->signer == BY_SUBJECT ? chain.cert[0]
                                           : d.cert[0];
    EVP_PKEY *key = p->signer == BY_ISSUER    ? chain.key[1]
                    : p->signer == BY_SUBJECT ? chain.key[0]
                                              : d.key[0];
    /* OpenSSL would put its own clock there */
    uintptr_t produced = (uintptr_t)OCSP_resp_get0_produced_at(basic);
    assert_non_null(
        ASN1_GENERALIZEDTIME_set((ASN1_GENERALIZEDTIME *)produced, MINT_CLOCK + p->produced));
    assert_int_equal(
        OCSP_basic_sign(basic, cert, key, p->md ? p->md() : EVP_sha384(), NULL, OCSP_NOTIME), 1);
    OCSP_RESPONSE *resp = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    unsigned char *der = NULL;
    int n = i2d_OCSP_RESPONSE(resp, &der);
    if (p->flip) { /* a digit of a time that is signed: 00 seconds become 01 */
        unsigned char *z = memchr(der, 'Z', (size_t)n);
        z[-1] = z[-1] == '0' ? '1' : '0';
    }
    ret->data = xmalloc((size_t)n);
    ret->len = (size_t)n;
    memcpy(ret->data, der, (size_t)n);
    OPENSSL_free(der);
    OCSP_RESPONSE_free(resp);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    OCSP_CERTID_free(other);
    OCSP_REQUEST_free(req);
    mint_done(&d);
}

static const struct cert *pooled(struct certs *pool, X509 *x509)
{
    struct err err = ERR_INIT;
    unsigned char *der = NULL;
    int n = i2d_X509(x509, &der);
    const struct cert *cert = certs_add(pool, der, (size_t)n, &err);
    OPENSSL_free(der);
    assert_non_null(cert);
    return cert;
}

static void each_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        const struct plan *p = &plans[i];
        struct certs *pool = certs_new();
        struct att_verdict *v = trail_new();
        struct att_bytes request = {0}, response = {0};
        struct ocsp_verdict verdict;
        const struct cert *subject = pooled(pool, chain.cert[0]),
                          *issuer = pooled(pool, chain.cert[1]);
        ocsp_request(subject, issuer, p->sha1_id, nonce, &request);
        respond(p, &request, &response);
        bool ok = ocsp_check(pool, &response, &request, subject, issuer, MINT_CLOCK, p->allow_hold,
                             &verdict, v);
        if (ok != !p->rule || verdict.good != ok)
            fail_msg("%s: %d, %s", p->what, ok, att_verdict_message(v));
        mint_expect(v, p->what, p->rule);
        att_bytes_done(&request);
        att_bytes_done(&response);
        certs_free(pool);
    }
}

static void every_length_is_refused(void **state)
{
    struct certs *pool = certs_new();
    struct att_bytes request = {0}, response = {0};
    const struct cert *subject = pooled(pool, chain.cert[0]), *issuer = pooled(pool, chain.cert[1]);
    (void)state;
    ocsp_request(subject, issuer, false, nonce, &request);
    respond(&plans[0], &request, &response);
    for (size_t len = 0; len < response.len; len += 7) {
        struct att_verdict *v = trail_new();
        struct ocsp_verdict verdict;
        struct att_bytes cut = {response.data, len};
        assert_false(
            ocsp_check(pool, &cut, &request, subject, issuer, MINT_CLOCK, false, &verdict, v));
        mint_expect(v, "cut", "ocsp.parse");
    }
    att_bytes_done(&request);
    att_bytes_done(&response);
    certs_free(pool);
}

static struct att_text text_of(const struct att_bytes *bytes, const char *name)
{
    return (struct att_text){(const char *)bytes->data, bytes->len, name};
}

/* check ocsp: files that do not belong together */
static void the_files_must_belong_together(void **state)
{
    struct certs *pool = certs_new();
    struct att_options options = {.at = MINT_CLOCK};
    struct att_bytes request = {0}, other = {0}, response = {0};
    const struct cert *subject = pooled(pool, chain.cert[0]), *issuer = pooled(pool, chain.cert[1]);
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    (void)state;
    ocsp_request(subject, issuer, false, nonce, &request);
    ocsp_request(issuer, pooled(pool, chain.cert[2]), false, nonce, &other);
    respond(&plans[0], &request, &response);
    AUTO_FREE char *leaf = mint_pem(&chain, 0, 1);
    AUTO_FREE char *ca = mint_pem(&chain, 1, 2);
    AUTO_FREE char *root = mint_pem(&chain, 2, 3);
    struct att_text resp = text_of(&response, "response"), req = text_of(&request, "request"),
                    wrong = text_of(&other, "other request"), s = {leaf, strlen(leaf), "subject"},
                    i = {ca, strlen(ca), "issuer"}, r = {root, strlen(root), "root"};
    assert_int_equal(att_check_ocsp(&options, &resp, &req, &s, &i, &v, &err), 0);
    mint_expect(v, "good", NULL);
    assert_int_equal(att_check_ocsp(&options, &resp, &wrong, &s, &i, &v, &err), 0);
    mint_expect(v, "request for another certificate", "ocsp.request");
    assert_int_equal(att_check_ocsp(&options, &resp, &resp, &s, &i, &v, &err), 0);
    mint_expect(v, "response as request", "ocsp.request");
    assert_int_equal(att_check_ocsp(&options, &resp, &req, &s, &r, &v, &err), 0);
    mint_expect(v, "not its issuer", "ocsp.certificates");
    assert_int_equal(att_check_ocsp(&options, &resp, &req, &resp, &i, &v, &err), 0);
    mint_expect(v, "no certificate", "ocsp.certificates");
    att_bytes_done(&request);
    att_bytes_done(&other);
    att_bytes_done(&response);
    certs_free(pool);
}

static int open_chain(void **state)
{
    static const struct mint_cert certs[3] = {
        {.name = "subject"}, {.name = "issuer"}, {.name = "root"}};
    (void)state;
    mint_chain(&chain, certs, 3);
    return 0;
}

static int close_chain(void **state)
{
    (void)state;
    mint_done(&chain);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_plan),
                                       cmocka_unit_test(every_length_is_refused),
                                       cmocka_unit_test(the_files_must_belong_together)};
    return cmocka_run_group_tests(tests, open_chain, close_chain);
}
