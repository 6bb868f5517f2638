#include <errno.h>
#include <openssl/objects.h>
#include <stdio.h>
#include <string.h>

#include "attestation/device.h"
#include "base/auto.h"

int session_open(struct session *s, const struct att_options *options,
                 const struct att_source *source, struct att_verdict *v, struct err *err)
{
    *s = (struct session){.options = options, .source = source, .verdict = v};
    s->pool = certs_new();
    int r = anchors_root(s->pool, ANCHOR_DEVICE, options->device_root_pem, &s->device_root, err);
    if (r < 0)
        return err_wrap(err, r, "device root");
    r = anchors_root(s->pool, ANCHOR_RIM, options->rim_root_pem, &s->rim_root, err);
    if (r < 0)
        return err_wrap(err, r, "RIM root");
    if (options->device_root_pem)
        (void)trail_note(v, "option.device_root", "the pinned device root is replaced");
    if (options->rim_root_pem)
        (void)trail_note(v, "option.rim_root", "the pinned RIM root is replaced");
    return 0;
}

void session_close(struct session *s)
{
    for (size_t i = 0; i < s->n_rims; i++) {
        rim_done(&s->rims[i]->rim);
        free(s->rims[i]);
    }
    certs_free(s->pool);
}

static bool fetch_rim(struct session *s, struct rim_entry *entry)
{
    struct att_verdict *v = s->verdict;
    struct err err = ERR_INIT;
    struct att_bytes xml = {0};
    if (!s->source || !s->source->rim)
        return trail_fail(v, ATT_ERR_RIM_NOT_FOUND, "rim.fetch", "no source of RIMs was given");
    int r = s->source->rim(s->source->arg, entry->id, &xml, &err);
    if (r == -ENOENT)
        return trail_fail(v, ATT_ERR_RIM_NOT_FOUND, "rim.fetch", "there is no such RIM: %s",
                          err.msg);
    if (r == -EBADMSG)
        return trail_fail(v, ATT_ERR_RIM_INTERNAL, "rim.fetch", "%s", err.msg);
    if (r < 0)
        return trail_unavailable(v, ATT_ERR_RIM_INTERNAL, "rim.fetch", "%s", err.msg);
    entry->fetched = true;
    entry->loaded =
        rim_load(s->pool, s->rim_root, s->options->at, xml.data, xml.len, &entry->rim, v);
    att_bytes_done(&xml);
    return entry->loaded;
}

struct rim_entry *session_rim(struct session *s, const char *id)
{
    for (size_t i = 0; i < s->n_rims; i++)
        if (strcmp(s->rims[i]->id, id) == 0)
            return s->rims[i];
    struct rim_entry *entry = xcalloc(1, sizeof *entry);
    (void)snprintf(entry->id, sizeof entry->id, "%s", id);
    entry->rim.chain_verdict.status = "invalid";
    entry->revocation.status = "undefined";
    s->rims[s->n_rims++] = entry;
    char subject[sizeof s->verdict->subject];
    memcpy(subject, s->verdict->subject, sizeof subject);
    trail_subject(s->verdict, "%s", id);
    (void)fetch_rim(s, entry);
    trail_subject(s->verdict, "%s", subject);
    return entry;
}

/* One question and its answer. A responder that does not take SHA-384 ids is asked again with SHA-1. */
static bool ask(struct session *s, const struct cert *cert, const struct cert *issuer,
                bool allow_hold, bool sha1, struct ocsp_verdict *ret)
{
    struct att_verdict *v = s->verdict;
    struct err err = ERR_INIT;
    uint8_t nonce[OCSP_NONCE_SIZE];
    struct att_bytes request = {0}, response = {0};
    *ret = (struct ocsp_verdict){.status = "undefined"};
    if (!s->source || !s->source->ocsp || !s->source->random)
        return trail_fail(v, ATT_ERR_OCSP_SERVER, "ocsp.source", "no OCSP responder was given");
    if (s->source->random(s->source->arg, nonce, sizeof nonce, &err) < 0)
        return trail_unavailable(v, ATT_ERR_INTERNAL, "ocsp.nonce", "%s", err.msg);
    ocsp_request(cert, issuer, sha1, nonce, &request);
    int r = s->source->ocsp(s->source->arg, request.data, request.len, &response, &err);
    bool ok = false;
    if (r == -EBADMSG)
        ok = trail_fail(v, ATT_ERR_OCSP_RESPONSE, "ocsp.fetch", "%s", err.msg);
    else if (r < 0)
        ok = trail_unavailable(v, ATT_ERR_OCSP_SERVER, "ocsp.fetch", "%s", err.msg);
    else
        ok = ocsp_check(s->pool, &response, &request, cert, issuer, s->options->at, allow_hold, ret,
                        v);
    att_bytes_done(&request);
    att_bytes_done(&response);
    return ok;
}

/* Forget what the SHA-384 attempt said: it was a question of the responder's abilities, not a verdict. */
static bool ask_both(struct session *s, const struct cert *cert, const struct cert *issuer,
                     bool allow_hold, struct ocsp_verdict *ret)
{
    struct att_verdict *v = s->verdict, before = *v;
    if (ask(s, cert, issuer, allow_hold, false, ret))
        return true;
    if (!ret->retry_sha1)
        return false;
    v->class = before.class;
    v->code = before.code;
    memcpy(v->message, before.message, sizeof v->message);
    v->n_lines = before.n_lines;
    (void)trail_note(v, "ocsp.cert_id", "the responder refused a SHA-384 id; asked with SHA-1");
    return ask(s, cert, issuer, allow_hold, true, ret);
}

static const struct ocsp_verdict *answer(struct session *s, const struct cert *cert,
                                         const struct cert *issuer, bool allow_hold)
{
    for (size_t i = 0; i < s->n_ocsp; i++)
        if (s->ocsp[i].cert == cert)
            return &s->ocsp[i].verdict;
    char subject[sizeof s->verdict->subject], name[40] = "certificate";
    memcpy(subject, s->verdict->subject, sizeof subject);
    (void)certs_subject(cert, NID_commonName, name, sizeof name);
    trail_subject(s->verdict, "%s", name);
    struct ocsp_entry *entry = &s->ocsp[s->n_ocsp++];
    entry->cert = cert;
    (void)ask_both(s, cert, issuer, allow_hold, &entry->verdict);
    trail_subject(s->verdict, "%s", subject);
    return &entry->verdict;
}

bool session_revocation(struct session *s, const struct cert *const *chain, size_t from, size_t to,
                        bool allow_hold, struct revocation *ret)
{
    *ret = (struct revocation){.status = "undefined"};
    if (s->options->revocation == ATT_REVOCATION_OFF)
        return true;
    *ret = (struct revocation){true, true, true, true, true, "good", NULL, ""};
    for (size_t i = from; i <= to; i++) {
        const struct ocsp_verdict *o = answer(s, chain[i], chain[i + 1], allow_hold);
        ret->complete &= o->good;
        ret->nonce_ok &= o->nonce_ok;
        ret->response_valid &= o->response_valid;
        ret->responder_ok &= o->responder_ok;
        ret->signature_ok &= o->signature_ok;
        if (strcmp(o->status, "good") != 0 && strcmp(ret->status, "good") == 0) {
            ret->status = o->status;
            ret->reason = o->reason;
        }
        if (o->held)
            (void)certs_subject(chain[i], NID_commonName, ret->held, sizeof ret->held);
        if (!o->good)
            return false;
    }
    return true;
}
