/* att_verify() and the stages on their own: REF-A 11 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/claims.h"
#include "attestation/humanlog.h"
#include "attestation/system.h"
#include "base/auto.h"
#include "base/bytes.h"

enum depth { EVIDENCE_ONLY, EVERYTHING };

static int check_options(const struct att_options *o, struct err *err)
{
    if (!o->nonce)
        return err_set(err, EINVAL, "a nonce is needed: the one that was sent with the request");
    if (o->at <= 0)
        return err_set(err, EINVAL, "an evaluation time is needed");
    return 0;
}

static void name_devices(const struct evidence_list *list, struct device *devices)
{
    unsigned gpus = 0, switches = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct device *d = &devices[i];
        d->evidence = &list->items[i];
        d->arch = d->evidence->arch;
        d->kind = arch_kind(d->arch);
        bool gpu = d->kind == ATT_GPU;
        (void)snprintf(d->name, sizeof d->name, "%s-%u", gpu ? "GPU" : "SWITCH",
                       gpu ? gpus++ : switches++);
    }
}

static bool judge(struct session *s, struct device *devices, size_t n, enum depth depth)
{
    struct att_verdict *v = s->verdict;
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        trail_subject(v, "%s", devices[i].name);
        ok &= device_check_evidence(s, &devices[i]);
    }
    trail_subject(v, "%s", "");
    if (!ok || !system_check(s->options, devices, n, v))
        return false;
    for (size_t i = 0; depth == EVERYTHING && i < n; i++) {
        trail_subject(v, "%s", devices[i].name);
        ok &= device_check_firmware(s, &devices[i]);
    }
    trail_subject(v, "%s", "");
    return ok;
}

static void add_facts(const struct device *devices, size_t n, struct att_verdict *v)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        const struct device *d = &devices[i];
        struct json_object *o = d->parsed ? report_facts(&d->report) : json_object_new_object();
        char id[128];
        json_object_object_add(o, "name", json_object_new_string(d->name));
        json_object_object_add(o, "arch", json_object_new_string(arch_name(d->arch)));
        json_object_object_add(o, "ueid", json_object_new_string(d->ueid ? d->ueid : ""));
        json_object_object_add(o, "hwmodel", json_object_new_string(d->hwmodel));
        json_object_object_add(o, "signature_valid", json_object_new_boolean(d->signature_ok));
        json_object_object_add(o, "fwid_match", json_object_new_boolean(d->fwid_ok));
        bool blackwell = d->arch == ARCH_BLACKWELL;
        if (d->parsed && d->kind == ATT_GPU &&
            rim_id(&d->report, blackwell, RIM_DRIVER, id, sizeof id))
            json_object_object_add(o, "driver_rim_id", json_object_new_string(id));
        if (d->parsed && rim_id(&d->report, blackwell, RIM_BIOS, id, sizeof id))
            json_object_object_add(o, d->kind == ATT_GPU ? "vbios_rim_id" : "bios_rim_id",
                                   json_object_new_string(id));
        json_object_array_add(list, o);
    }
    v->claims[ATT_CLAIMS_FACTS] = list;
}

static void run(struct session *s, const struct evidence_list *list, enum depth depth)
{
    struct att_verdict *v = s->verdict;
    struct device *devices = xcalloc(list->n ? list->n : 1, sizeof *devices);
    name_devices(list, devices);
    bool ok = list->n > 0 && judge(s, devices, list->n, depth);
    if (!ok && v->class == ATT_ACCEPTED) /* every refusal says why; this is the net below that */
        (void)trail_fail(v, ATT_ERR_INTERNAL, "verify.internal", "refused without a reason");
    if (depth == EVERYTHING) {
        claims_make(s, devices, list->n, v);
        humanlog_make(s, devices, list->n, v);
    } else {
        add_facts(devices, list->n, v);
        v->n_devices = list->n;
    }
    for (size_t i = 0; i < list->n; i++)
        device_done(&devices[i]);
    free(devices);
}

static int verify(const struct att_options *options, const struct att_source *source,
                  const struct att_text *evidence, size_t n, enum depth depth,
                  struct att_verdict **ret, struct err *err)
{
    int r = check_options(options, err);
    if (r < 0)
        return r;
    struct session s;
    struct att_verdict *v = trail_new();
    hex_encode(options->nonce, ATT_NONCE_SIZE, v->nonce_hex);
    if (session_open(&s, options, source, v, err) < 0) {
        (void)trail_fail(v, ATT_ERR_CHAIN, "anchor", "%s", err->msg);
        session_close(&s);
        *ret = v;
        return 0;
    }
    if (depth == EVERYTHING && options->revocation == ATT_REVOCATION_OFF)
        (void)trail_note(v, "option.revocation", "revocation is not checked, as asked for");
    struct evidence_list list = {0};
    bool parsed = n > 0;
    for (size_t i = 0; parsed && i < n; i++)
        parsed = evidence_parse(&evidence[i], options->nonce, &list, v);
    if (n == 0)
        (void)trail_fail(v, ATT_ERR_EVIDENCE, "evidence.list", "no evidence at all");
    if (!parsed)
        evidence_done(&list);
    run(&s, &list, depth);
    evidence_done(&list);
    session_close(&s);
    *ret = v;
    return 0;
}

int att_verify(const struct att_options *options, const struct att_source *source,
               const struct att_text *evidence, size_t n, struct att_verdict **ret, struct err *err)
{
    return verify(options, source, evidence, n, EVERYTHING, ret, err);
}

int att_check_report(const struct att_options *options, const struct att_text *evidence,
                     struct att_verdict **ret, struct err *err)
{
    return verify(options, NULL, evidence, 1, EVIDENCE_ONLY, ret, err);
}
