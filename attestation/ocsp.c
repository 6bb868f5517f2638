#include "attestation/ocsp.h"

#include <inttypes.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "base/auto.h"

static void auto_id(OCSP_CERTID **p)
{
    OCSP_CERTID_free(*p);
}
static void auto_request(OCSP_REQUEST **p)
{
    OCSP_REQUEST_free(*p);
}
static void auto_response(OCSP_RESPONSE **p)
{
    OCSP_RESPONSE_free(*p);
}
static void auto_basic(OCSP_BASICRESP **p)
{
    OCSP_BASICRESP_free(*p);
}

void ocsp_request(const struct cert *cert, const struct cert *issuer, bool sha1,
                  const uint8_t nonce[OCSP_NONCE_SIZE], struct att_bytes *ret)
{
    AUTO(auto_request) OCSP_REQUEST *req = OCSP_REQUEST_new();
    OCSP_CERTID *id = OCSP_cert_to_id(sha1 ? EVP_sha1() : EVP_sha384(), cert->x509, issuer->x509);
    uint8_t copy[OCSP_NONCE_SIZE]; /* OpenSSL's parameter is not const */
    memcpy(copy, nonce, sizeof copy);
    if (!req || !id || !OCSP_request_add0_id(req, id) ||
        OCSP_request_add1_nonce(req, copy, sizeof copy) != 1)
        abort();
    unsigned char *der = NULL;
    int n = i2d_OCSP_REQUEST(req, &der);
    if (n <= 0)
        abort();
    ret->data = xmalloc((size_t)n);
    ret->len = (size_t)n;
    memcpy(ret->data, der, (size_t)n);
    OPENSSL_free(der);
}

static OCSP_REQUEST *decode_request(const struct att_bytes *request)
{
    const uint8_t *p = request->data;
    OCSP_REQUEST *req = d2i_OCSP_REQUEST(NULL, &p, (long)request->len);
    if (req && (p != request->data + request->len || OCSP_request_onereq_count(req) != 1)) {
        OCSP_REQUEST_free(req);
        return NULL;
    }
    return req;
}

/* The request must ask for this certificate: the id is computed anew with the request's hash and compared. */
static OCSP_CERTID *requested_id(OCSP_REQUEST *req, const struct cert *cert,
                                 const struct cert *issuer)
{
    ASN1_OBJECT *hash = NULL;
    OCSP_CERTID *id = OCSP_onereq_get0_id(OCSP_request_onereq_get0(req, 0));
    if (!OCSP_id_get0_info(NULL, &hash, NULL, NULL, id))
        return NULL;
    const EVP_MD *md = EVP_get_digestbyobj(hash);
    OCSP_CERTID *mine = md ? OCSP_cert_to_id(md, cert->x509, issuer->x509) : NULL;
    if (mine && OCSP_id_cmp(mine, id) != 0) {
        OCSP_CERTID_free(mine);
        return NULL;
    }
    return mine;
}

static OCSP_BASICRESP *decode_response(const struct att_bytes *response, struct ocsp_verdict *ret,
                                       struct att_verdict *v)
{
    const uint8_t *p = response->data;
    AUTO(auto_response) OCSP_RESPONSE *resp = NULL;
    if (response->len <= ATT_OCSP_MAX)
        resp = d2i_OCSP_RESPONSE(NULL, &p, (long)response->len);
    if (!resp || p != response->data + response->len) {
        (void)trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.parse",
                         "%zu bytes that are no OCSP response", response->len);
        return NULL;
    }
    int status = OCSP_response_status(resp);
    bool busy =
        status == OCSP_RESPONSE_STATUS_TRYLATER || status == OCSP_RESPONSE_STATUS_INTERNALERROR;
    if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        const char *text = OCSP_response_status_str(status);
        ret->retry_sha1 = status == OCSP_RESPONSE_STATUS_MALFORMEDREQUEST ||
                          status == OCSP_RESPONSE_STATUS_UNAUTHORIZED;
        if (busy)
            (void)trail_unavailable(v, ATT_ERR_OCSP_SERVER, "ocsp.response_status",
                                    "the responder says %s; try again later", text);
        else
            (void)trail_fail(v, ATT_ERR_OCSP_REQUEST, "ocsp.response_status",
                             "the responder says %s", text);
        return NULL;
    }
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(resp);
    if (!basic)
        (void)trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.parse", "no basic OCSP response");
    return basic;
}

/* The responder is the issuer itself, or has a certificate of the issuer for exactly this purpose. */
static const struct cert *find_responder(struct certs *pool, OCSP_BASICRESP *basic,
                                         const struct cert *issuer, int64_t at,
                                         struct att_verdict *v)
{
    X509 *signer = NULL;
    struct err err = ERR_INIT;
    STACK_OF(X509) *extra = sk_X509_new_null();
    if (!extra || !sk_X509_push(extra, issuer->x509))
        abort();
    int found = OCSP_resp_get0_signer(basic, &signer, extra);
    sk_X509_free(extra);
    if (found != 1) {
        (void)trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.responder",
                         "no certificate of the responder");
        return NULL;
    }
    unsigned char *der = NULL;
    int n = i2d_X509(signer, &der);
    const struct cert *cert = n > 0 ? certs_add(pool, der, (size_t)n, &err) : NULL;
    OPENSSL_free(der);
    if (!cert || cert == issuer)
        return cert;
    uint32_t usage = X509_get_extended_key_usage(cert->x509);
    const char *why = NULL;
    if (usage == UINT32_MAX || !(usage & XKU_OCSP_SIGN))
        why = "lacks the extended key usage OCSPSigning";
    else if (!(X509_get_key_usage(cert->x509) & KU_DIGITAL_SIGNATURE))
        why = "may not sign data";
    else if (at < cert->not_before || at > cert->not_after)
        why = "is not valid at the evaluation time";
    else if (X509_check_issued(issuer->x509, cert->x509) != X509_V_OK ||
             !certs_signed_by(pool, cert, issuer))
        why = "was not issued by the issuer of the certificate in question";
    if (why) {
        (void)trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.responder", "the responder %s", why);
        return NULL;
    }
    return cert;
}

static bool check_signature(struct certs *pool, OCSP_BASICRESP *basic, const struct cert *responder,
                            struct att_verdict *v)
{
    const X509_ALGOR *alg = OCSP_resp_get0_tbs_sigalg(basic);
    const ASN1_OBJECT *oid = NULL;
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    if (OBJ_obj2nid(oid) != NID_ecdsa_with_SHA384 || !certs_is_p384(responder))
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.algorithm",
                          "signed with %s, ECDSA P-384 with SHA-384 is expected",
                          OBJ_nid2sn(OBJ_obj2nid(oid)));
    STACK_OF(X509) *signer = sk_X509_new_null();
    if (!signer || !sk_X509_push(signer, responder->x509))
        abort();
    pool->signatures++;
    /* the responder's certificate was judged above; what is left is the signature */
    bool ok = OCSP_basic_verify(basic, signer, NULL, OCSP_TRUSTOTHER | OCSP_NOCHAIN) == 1;
    sk_X509_free(signer);
    if (!ok)
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.signature",
                          "the signature of the response does not verify");
    return true;
}

static bool seconds_of(const ASN1_GENERALIZEDTIME *time, int64_t *ret)
{
    struct tm tm = {0};
    if (!time || ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret = (int64_t)timegm(&tm);
    return true;
}

static bool check_times(const ASN1_GENERALIZEDTIME *this_update,
                        const ASN1_GENERALIZEDTIME *next_update, int64_t at, struct att_verdict *v)
{
    int64_t from, until;
    char a[32], b[32];
    if (!seconds_of(this_update, &from))
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.freshness", "thisUpdate is unreadable");
    if (!next_update)
        until = from + OCSP_NO_NEXT_UPDATE;
    else if (!seconds_of(next_update, &until) || until < from)
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.freshness",
                          "nextUpdate is unreadable or before thisUpdate");
    certs_time(from, a);
    certs_time(until, b);
    if (from > at + OCSP_SKEW)
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.freshness",
                          "the answer is from the future: thisUpdate %s", a);
    if (until < at - OCSP_SKEW)
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.freshness",
                          "the answer is stale: good from %s to %s", a, b);
    return true;
}

static const char *reason_name(int reason)
{
    static const char *const names[] = {
        "unspecified",     "key_compromise",         "ca_compromise",    "affiliation_changed",
        "superseded",      "cessation_of_operation", "certificate_hold", NULL,
        "remove_from_crl", "privilege_withdrawn",    "aa_compromise"};
    const char *name = reason >= 0 && reason < (int)ARRAY_LEN(names) ? names[reason] : NULL;
    return name ? name : "unspecified";
}

static bool judge_status(int status, int reason, bool allow_hold, struct ocsp_verdict *ret,
                         struct att_verdict *v)
{
    if (status == V_OCSP_CERTSTATUS_GOOD) {
        ret->status = "good";
        ret->good = true;
        return trail_pass(v, "ocsp.status", "good");
    }
    if (status != V_OCSP_CERTSTATUS_REVOKED) {
        ret->status = "unknown";
        return trail_fail(v, ATT_ERR_OCSP_STATUS, "ocsp.status",
                          "the responder does not know the certificate");
    }
    ret->status = "revoked";
    ret->reason = reason_name(reason);
    ret->held = reason == OCSP_REVOKED_STATUS_CERTIFICATEHOLD;
    if (!ret->held || !allow_hold)
        return trail_fail(v, ATT_ERR_OCSP_STATUS, "ocsp.status", "revoked: %s", ret->reason);
    ret->good = true;
    return trail_note(v, "ocsp.status", "revoked: certificate_hold, tolerated as asked for");
}

/* the one SingleResponse for @id; two of them would leave the choice to the responder */
static OCSP_SINGLERESP *single(OCSP_BASICRESP *basic, OCSP_CERTID *id, struct att_verdict *v)
{
    int at = OCSP_resp_find(basic, id, -1);
    if (at < 0 || OCSP_resp_find(basic, id, at) >= 0) {
        (void)trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.cert_id", "%s",
                         at < 0 ? "the answer is about another certificate"
                                : "the answer speaks about the certificate twice");
        return NULL;
    }
    return OCSP_resp_get0(basic, at);
}

static bool check_answer(OCSP_REQUEST *req, OCSP_BASICRESP *basic, OCSP_CERTID *id, int64_t at,
                         bool allow_hold, struct ocsp_verdict *ret, struct att_verdict *v)
{
    int reason = -1;
    int64_t produced;
    ASN1_GENERALIZEDTIME *this_update = NULL, *next_update = NULL;
    ret->nonce_ok = OCSP_check_nonce(req, basic) == 1;
    if (!ret->nonce_ok)
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.nonce",
                          "the nonce is missing or not the one that was sent");
    OCSP_SINGLERESP *one = single(basic, id, v);
    if (!one)
        return false;
    int status = OCSP_single_get0_status(one, &reason, NULL, &this_update, &next_update);
    if (!check_times(this_update, next_update, at, v))
        return false;
    if (!seconds_of(OCSP_resp_get0_produced_at(basic), &produced) || produced > at + OCSP_SKEW)
        return trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.freshness",
                          "the answer was produced in the future");
    ret->response_valid = true;
    (void)trail_pass(v, "ocsp.response", "responder, signature, nonce, certificate and times fit");
    return judge_status(status, reason, allow_hold, ret, v);
}

bool ocsp_check(struct certs *pool, const struct att_bytes *response,
                const struct att_bytes *request, const struct cert *cert, const struct cert *issuer,
                int64_t at, bool allow_hold, struct ocsp_verdict *ret, struct att_verdict *v)
{
    *ret = (struct ocsp_verdict){.status = "undefined"};
    AUTO(auto_request) OCSP_REQUEST *req = decode_request(request);
    AUTO(auto_id) OCSP_CERTID *id = req ? requested_id(req, cert, issuer) : NULL;
    if (!id)
        return trail_fail(v, ATT_ERR_OCSP_REQUEST, "ocsp.request",
                          "the request does not ask for this certificate of this issuer");
    AUTO(auto_basic) OCSP_BASICRESP *basic = decode_response(response, ret, v);
    if (!basic)
        return false;
    const struct cert *responder = find_responder(pool, basic, issuer, at, v);
    ret->responder_ok = responder != NULL;
    if (!responder)
        return false;
    ret->signature_ok = check_signature(pool, basic, responder, v);
    return ret->signature_ok && check_answer(req, basic, id, at, allow_hold, ret, v);
}
