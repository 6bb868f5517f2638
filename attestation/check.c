/* Stages on their own, for operators who debug and for acceptance checks. */
#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "attestation/b64.h"
#include "attestation/device.h"
#include "attestation/jsonin.h"
#include "base/auto.h"
#include "base/bytes.h"

/* Return: true; false when @ret is finished already (an anchor that can't be one) or on a wrong call. */
static bool open_stage(struct session *s, const struct att_options *options,
                       struct att_verdict **ret, int *result, struct err *err)
{
    *result = options->at > 0 ? 0 : err_set(err, EINVAL, "an evaluation time is needed");
    if (*result < 0)
        return false;
    struct att_verdict *v = *ret = trail_new();
    if (session_open(s, options, NULL, v, err) < 0) {
        (void)trail_fail(v, ATT_ERR_CHAIN, "anchor", "%s", err->msg);
        session_close(s);
        return false;
    }
    return true;
}

/* PEM certificates of a file, or one DER certificate */
static const struct cert *one_cert(struct certs *pool, const struct att_text *text, struct err *err)
{
    const struct cert *cert = NULL;
    if (text->len && (uint8_t)text->text[0] == 0x30)
        return certs_add(pool, (const uint8_t *)text->text, text->len, err);
    return certs_add_pem(pool, text->text, text->len, &cert, 1, err) == 1 ? cert : NULL;
}

int att_check_chain(const struct att_options *options, const struct att_text *chain_pem,
                    struct att_verdict **ret, struct err *err)
{
    struct session s;
    struct chain_verdict verdict;
    const struct cert *chain[8];
    int r;
    if (!open_stage(&s, options, ret, &r, err))
        return r;
    int n =
        chain_pem->len <= ATT_EVIDENCE_MAX
            ? certs_add_pem(s.pool, chain_pem->text, chain_pem->len, chain, ARRAY_LEN(chain), err)
            : err_set(err, EFBIG, "too large");
    if (n < 0)
        (void)trail_fail(*ret, ATT_ERR_CHAIN, "chain.parse", "%s", err->msg);
    else /* four certificates are a RIM's chain, everything else is judged as a device's */
        (void)certs_verify(s.pool, chain, (size_t)n,
                           n == RIM_CHAIN && chain[n - 1] == s.rim_root ? RIM_CHAIN : CERTS_CHAIN,
                           n == RIM_CHAIN && chain[n - 1] == s.rim_root ? s.rim_root
                                                                        : s.device_root,
                           options->at, &verdict, *ret);
    session_close(&s);
    return 0;
}

static bool hex_text(const struct att_text *text, uint8_t *ret, size_t room, size_t *len,
                     struct att_verdict *v)
{
    struct err err = ERR_INIT;
    size_t n = text->len;
    while (n && isspace((unsigned char)text->text[n - 1]))
        n--;
    int r = hex_decode(text->text, n, ret, room, &err);
    if (r < 0)
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.hex", "%s: %s", text->name, err.msg);
    *len = (size_t)r;
    return true;
}

/* The architecture of a bare report is what its chain says; the chain is verified afterwards like any other. */
static enum arch arch_of_chain(const struct att_text *pem)
{
    struct certs *pool = certs_new();
    struct err err = ERR_INIT;
    const struct cert *chain[8];
    char name[64];
    enum arch arch = ARCH_UNKNOWN;
    if (certs_add_pem(pool, pem->text, pem->len, chain, ARRAY_LEN(chain), &err) > 0 &&
        certs_subject(chain[0], NID_commonName, name, sizeof name))
        arch = arch_of_chip(name);
    certs_free(pool);
    return arch;
}

int att_check_report_hex(const struct att_options *options, const struct att_text *report_hex,
                         const struct att_text *chain_pem, struct att_verdict **ret,
                         struct err *err)
{
    if (!options->nonce)
        return err_set(err, EINVAL, "a nonce is needed");
    size_t len = 0;
    char nonce[2 * ATT_NONCE_SIZE + 1];
    AUTO_FREE uint8_t *report = xmalloc(2 * ATT_REPORT_MAX);
    struct att_verdict *v = trail_new();
    enum arch arch = arch_of_chain(chain_pem);
    bool ok = hex_text(report_hex, report, 2 * ATT_REPORT_MAX, &len, v);
    if (ok && arch == ARCH_UNKNOWN)
        ok = trail_fail(v, ATT_ERR_ARCH, "evidence.arch", "%s: no leaf certificate of a known chip",
                        chain_pem->name);
    if (!ok) {
        *ret = v;
        return 0;
    }
    att_verdict_free(v);
    hex_encode(options->nonce, ATT_NONCE_SIZE, nonce);
    AUTO_FREE char *evidence = b64_encode(report, len);
    AUTO_FREE char *chain = b64_encode((const uint8_t *)chain_pem->text, chain_pem->len);
    AUTO_FREE char *json = xasprintf("[{\"arch\":\"%s\",\"nonce\":\"%s\",\"evidence\":\"%s\","
                                     "\"certificate\":\"%s\"}]",
                                     arch_name(arch), nonce, evidence, chain);
    struct att_text text = {json, strlen(json), report_hex->name};
    return att_check_report(options, &text, ret, err);
}

/* The document's role is the first one whose version it has: driver or BIOS. */
static enum rim_role role_of(const struct rim *rim, const struct report *report)
{
    return report->kind == ATT_GPU && strcmp(rim->version, report->driver) == 0 ? RIM_DRIVER
           : report->kind == ATT_GPU && strlen(rim->version) != 14              ? RIM_DRIVER
                                                                                : RIM_BIOS;
}

static void compare_with(struct session *s, const struct rim *rim, const struct evidence_list *list)
{
    struct att_verdict *v = s->verdict;
    (void)trail_note(v, "rim.evidence",
                     "the evidence is taken as it is; check report and verify judge it");
    for (size_t i = 0; i < list->n; i++) {
        const struct evidence *e = &list->items[i];
        struct report report;
        struct comparison comparison;
        bool blackwell = e->arch == ARCH_BLACKWELL;
        trail_subject(v, "device %zu", i);
        if (!report_parse(e->report.data, e->report.len, arch_kind(e->arch), &report, v))
            continue;
        enum rim_role role = role_of(rim, &report);
        if (rim_fits(rim, &report, blackwell, role, v))
            (void)measure_compare(&report, NULL, rim, &comparison, v);
    }
    trail_subject(v, "%s", "");
}

static void check_rim(struct session *s, const uint8_t *xml, size_t len,
                      const struct att_text *evidence)
{
    struct rim rim = {0};
    struct evidence_list list = {0};
    bool ok = rim_load(s->pool, s->rim_root, s->options->at, xml, len, &rim, s->verdict);
    if (ok && evidence && evidence_parse(evidence, NULL, &list, s->verdict))
        compare_with(s, &rim, &list);
    evidence_done(&list);
    rim_done(&rim);
}

int att_check_rim(const struct att_options *options, const struct att_text *rim,
                  const struct att_text *evidence, struct att_verdict **ret, struct err *err)
{
    struct session s;
    int r;
    if (!open_stage(&s, options, ret, &r, err))
        return r;
    check_rim(&s, (const uint8_t *)rim->text, rim->len, evidence);
    session_close(&s);
    return 0;
}

int att_check_rim_reply(const struct att_options *options, const struct att_text *reply,
                        const char *id, struct att_verdict **ret, struct err *err)
{
    struct session s;
    struct att_bytes xml = {0};
    struct err why = ERR_INIT;
    int r;
    if (!open_stage(&s, options, ret, &r, err))
        return r;
    if (att_rim_reply_decode(reply->text, reply->len, id, &xml, &why) < 0) {
        (void)trail_fail(*ret, ATT_ERR_RIM_INTERNAL, "rim.reply", "%s", why.msg);
    } else {
        (void)trail_pass(*ret, "rim.reply", "id, format and digest fit");
        check_rim(&s, xml.data, xml.len, NULL);
    }
    att_bytes_done(&xml);
    session_close(&s);
    return 0;
}

static bool sha256_is(const struct att_bytes *bytes, const char *hex)
{
    uint8_t digest[32], want[32];
    struct err err = ERR_INIT;
    return EVP_Digest(bytes->data, bytes->len, digest, NULL, EVP_sha256(), NULL) == 1 &&
           hex_decode(hex, strlen(hex), want, sizeof want, &err) == sizeof want &&
           memcmp(digest, want, sizeof want) == 0;
}

int att_rim_reply_decode(const char *reply, size_t len, const char *id, struct att_bytes *ret,
                         struct err *err)
{
    AUTO_JSON struct json_object *root = NULL;
    struct att_bytes xml = {0};
    if (jsonin_parse(reply, len, 2 * ATT_RIM_MAX, &root, err) < 0)
        return -(err->code = EBADMSG);
    const char *got_id = jsonin_string(root, "id"), *rim = jsonin_string(root, "rim");
    const char *digest = jsonin_string(root, "sha256"), *format = jsonin_string(root, "rim_format");
    if (!got_id || strcmp(got_id, id) != 0)
        return err_set(err, EBADMSG, "the service answered with RIM \"%.60s\" when asked for %s",
                       got_id ? got_id : "", id);
    if ((jsonin_member(root, "rim_format") && !format) ||
        (format && strcasecmp(format, "SWID") != 0 && strcasecmp(format, "TCG_SWID") != 0 &&
         strcasecmp(format, "SWID_TCG") != 0 && strcasecmp(format, "TCG") != 0))
        return err_set(err, EBADMSG, "RIM format \"%.40s\" is not supported, SWID XML is",
                       format ? format : "(no text)");
    if (!rim)
        return err_set(err, EBADMSG, "the answer has no member rim");
    if (b64_decode(rim, strlen(rim), ATT_RIM_MAX, &xml, err) < 0) {
        err->code = EBADMSG;
        return err_wrap(err, -EBADMSG, "member rim");
    }
    if ((jsonin_member(root, "sha256") && !digest) || (digest && !sha256_is(&xml, digest))) {
        att_bytes_done(&xml);
        return err_set(err, EBADMSG, "member sha256 is not the digest of the RIM");
    }
    *ret = xml;
    return 0;
}

int att_check_ocsp(const struct att_options *options, const struct att_text *response,
                   const struct att_text *request, const struct att_text *subject_pem,
                   const struct att_text *issuer_pem, struct att_verdict **ret, struct err *err)
{
    struct session s;
    struct ocsp_verdict verdict;
    struct err why = ERR_INIT;
    int r;
    if (!open_stage(&s, options, ret, &r, err))
        return r;
    const struct cert *subject = one_cert(s.pool, subject_pem, &why);
    const struct cert *issuer = subject ? one_cert(s.pool, issuer_pem, &why) : NULL;
    struct att_bytes resp = {xmalloc(response->len + 1), response->len};
    struct att_bytes req = {xmalloc(request->len + 1), request->len};
    memcpy(resp.data, response->text, response->len);
    memcpy(req.data, request->text, request->len);
    if (!subject || !issuer)
        (void)trail_fail(*ret, ATT_ERR_CHAIN, "ocsp.certificates", "%s: %s",
                         subject ? issuer_pem->name : subject_pem->name, why.msg);
    else if (!certs_signed_by(s.pool, subject, issuer))
        (void)trail_fail(*ret, ATT_ERR_CHAIN, "ocsp.certificates",
                         "the subject is not signed by the issuer");
    else
        (void)ocsp_check(s.pool, &resp, &req, subject, issuer, options->at, options->allow_hold,
                         &verdict, *ret);
    att_bytes_done(&resp);
    att_bytes_done(&req);
    session_close(&s);
    return 0;
}
