#include "attestation/claims.h"

#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"

static void put(struct json_object *o, const char *name, struct json_object *value)
{
    json_object_object_add(o, name, value);
}

static void put_bool(struct json_object *o, const char *name, bool value)
{
    put(o, name, json_object_new_boolean(value));
}

/* "" becomes null */
static void put_text(struct json_object *o, const char *name, const char *value)
{
    put(o, name, value && *value ? json_object_new_string(value) : NULL);
}

/* x-nvidia-<kind>-<rest> */
static const char *key(const struct device *d, const char *rest, char ret[96])
{
    (void)snprintf(ret, 96, "x-nvidia-%s-%s", d->kind == ATT_GPU ? "gpu" : "switch", rest);
    return ret;
}

static struct json_object *chain_object(const struct chain_verdict *chain,
                                        const struct revocation *rev)
{
    char until[32] = "";
    struct json_object *o = json_object_new_object();
    if (chain->not_after)
        certs_time(chain->not_after, until);
    bool revoked = strcmp(rev->status, "revoked") == 0 && !rev->complete;
    put_text(o, "x-nvidia-cert-expiration-date", until);
    put_text(o, "x-nvidia-cert-status", revoked ? "revoked" : chain->status);
    put_text(o, "x-nvidia-cert-ocsp-status", rev->status);
    put_text(o, "x-nvidia-cert-revocation-reason", rev->reason);
    put_bool(o, "x-nvidia-cert-ocsp-nonce-matches", rev->nonce_ok);
    put_bool(o, "x-nvidia-cert-ocsp-response-valid", rev->response_valid);
    return o;
}

static const struct chain_verdict no_chain = {false, "invalid", 0};
static const struct revocation no_revocation = {.status = "undefined"};

static bool chain_good(const struct session *s, const struct chain_verdict *chain,
                       const struct revocation *rev)
{
    return chain->valid && (rev->complete || s->options->revocation == ATT_REVOCATION_OFF);
}

/* the seven claims of one RIM; @which: "driver-rim", "vbios-rim", "bios-rim" */
static void put_rim(const struct session *s, struct json_object *o, const struct device *d,
                    const char *which, const struct rim_entry *e, bool version_ok, bool v3)
{
    char name[96], rest[64];
#define RIM_KEY(suffix) ((void)snprintf(rest, sizeof rest, "%s-" suffix, which), key(d, rest, name))
    put_bool(o, RIM_KEY("fetched"), e && e->fetched);
    put_bool(o, RIM_KEY("schema-validated"), e && e->rim.schema_ok);
    put_bool(o, RIM_KEY("signature-verified"), e && e->rim.signature_ok);
    put_bool(o, RIM_KEY("measurements-available"), e && e->loaded);
    if (v3) {
        put(o, RIM_KEY("cert-chain"),
            chain_object(e ? &e->rim.chain_verdict : &no_chain,
                         e ? &e->revocation : &no_revocation));
        put_bool(o, RIM_KEY("version-match"), version_ok);
    } else {
        put_bool(o, RIM_KEY("cert-validated"),
                 e && chain_good(s, &e->rim.chain_verdict, &e->revocation));
    }
#undef RIM_KEY
}

static struct json_object *hex(const uint8_t *p, size_t n)
{
    AUTO_FREE char *text = xmalloc(2 * n + 1);
    hex_encode(p, n, text);
    return json_object_new_string(text);
}

static struct json_object *mismatches(const struct device *d)
{
    const struct comparison *c = &d->comparison;
    if (c->n == 0)
        return NULL;
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < c->n; i++) {
        struct json_object *o = json_object_new_object();
        const struct mismatch *m = &c->list[i];
        put(o, "index", json_object_new_int(m->index));
        put(o, "goldenSize", json_object_new_int(REPORT_DIGEST));
        put(o, "goldenValue", hex(m->golden, REPORT_DIGEST));
        put(o, "runtimeSize", json_object_new_int(m->runtime ? REPORT_DIGEST : 0));
        put(o, "runtimeValue",
            m->runtime ? hex(m->runtime, REPORT_DIGEST) : json_object_new_string("NA"));
        put(o, "measurementSource", json_object_new_string(m->from_driver ? "Driver" : "Firmware"));
        json_object_array_add(list, o);
    }
    return list;
}

static struct json_object *pdis(const struct device *d, unsigned type, size_t n)
{
    const struct opaque *o = d->parsed ? report_opaque(&d->report, type) : NULL;
    if (!o || o->len < 8 * n)
        return NULL;
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < n; i++)
        json_object_array_add(list, hex(o->value + 8 * i, 8));
    return list;
}

static const char *warning(const struct device *d, char ret[160])
{
    const char *held = d->driver && d->driver->revocation.held[0] ? d->driver->revocation.held
                       : d->bios && d->bios->revocation.held[0]   ? d->bios->revocation.held
                                                                  : NULL;
    if (!held)
        return NULL;
    (void)snprintf(ret, 160, "THE CERTIFICATE %s IS REVOKED WITH THE STATUS AS 'CERTIFICATE_HOLD'.",
                   held);
    return ret;
}

static void put_common(struct json_object *o, const struct device *d, const struct att_verdict *v,
                       bool v3)
{
    char text[160];
    put_text(o, "measres", d->ok ? "success" : "fail");
    if (d->ok || v3)
        put(o, "secboot", d->ok ? json_object_new_boolean(true) : NULL);
    if (d->ok || v3)
        put_text(o, "dbgstat", d->ok ? "disabled" : NULL);
    put_text(o, "eat_nonce", v->nonce_hex);
    put_text(o, "hwmodel", d->hwmodel);
    put_text(o, "ueid", d->ueid);
    put_text(o, "x-nvidia-attestation-warning", warning(d, text));
}

static struct json_object *device_claims(const struct session *s, const struct device *d,
                                         const struct att_verdict *v, bool v3)
{
    char name[96];
    struct json_object *o = json_object_new_object();
    bool gpu = d->kind == ATT_GPU;
    put_common(o, d, v, v3);
    put_bool(o, key(d, "arch-check", name), d->arch_ok);
    put_bool(o, key(d, "attestation-report-parsed", name), d->parsed);
    put_bool(o, key(d, "attestation-report-nonce-match", name), d->nonce_ok);
    put_bool(o, key(d, "attestation-report-signature-verified", name), d->signature_ok);
    if (v3) {
        put(o, key(d, "attestation-report-cert-chain", name),
            chain_object(&d->chain_verdict, &d->revocation));
        put_bool(o, key(d, "attestation-report-cert-chain-fwid-match", name), d->fwid_ok);
        put_text(o, "x-nvidia-device-type", gpu ? "gpu" : "nvswitch");
    } else {
        put_bool(o, key(d, "attestation-report-cert-chain-validated", name),
                 chain_good(s, &d->chain_verdict, &d->revocation));
    }
    if (!gpu) {
        put_text(o, "x-nvidia-switch-bios-version", d->report.bios);
        put_rim(s, o, d, "bios-rim", d->bios, d->bios_version_ok, v3);
        if (v3) {
            put(o, "x-nvidia-switch-pdi", pdis(d, OPAQUE_PDI, 1));
            put(o, "x-nvidia-switch-gpu-pdis", pdis(d, OPAQUE_GPU_PDIS, 8));
            put(o, "x-nvidia-mismatch-measurement-records", mismatches(d));
            put_text(o, "x-nvidia-version", "3.0");
        }
        return o;
    }
    put_text(o, "oemid", d->driver ? d->driver->rim.oemid : NULL);
    put_text(o, "x-nvidia-gpu-driver-version", d->report.driver);
    put_text(o, "x-nvidia-gpu-vbios-version", d->report.bios);
    put_rim(s, o, d, "driver-rim", d->driver, d->driver_version_ok, v3);
    put_rim(s, o, d, "vbios-rim", d->bios, d->bios_version_ok, v3);
    put_bool(o, "x-nvidia-gpu-vbios-index-no-conflict", d->comparison.no_conflict);
    if (v3) {
        struct json_object *table = pdis(d, OPAQUE_PDI, 18);
        put(o, "x-nvidia-mismatch-measurement-records", mismatches(d));
        if (table)
            put(o, "x-nvidia-gpu-switch-pdis", table);
        put_text(o, "x-nvidia-gpu-claims-version", "3.0");
    }
    return o;
}

#define N2023(rest) "x-nv-gpu-" rest
const char *const claims_2023_names[CLAIMS_2023_COUNT] = {
    N2023("available"),
    N2023("attestation-report-available"),
    N2023("info-fetched"),
    N2023("arch-check"),
    N2023("root-cert-available"),
    N2023("cert-chain-verified"),
    N2023("ocsp-cert-chain-verified"),
    N2023("ocsp-signature-verified"),
    N2023("cert-ocsp-nonce-match"),
    N2023("cert-check-complete"),
    N2023("measurement-available"),
    N2023("attestation-report-parsed"),
    N2023("nonce-match"),
    N2023("attestation-report-driver-version-match"),
    N2023("attestation-report-vbios-version-match"),
    N2023("attestation-report-verified"),
    N2023("driver-rim-schema-fetched"),
    N2023("driver-rim-schema-validated"),
    N2023("driver-rim-cert-extracted"),
    N2023("driver-rim-signature-verified"),
    N2023("driver-rim-driver-measurements-available"),
    N2023("driver-vbios-rim-fetched"),
    N2023("vbios-rim-schema-validated"),
    N2023("vbios-rim-cert-extracted"),
    N2023("vbios-rim-signature-verified"),
    N2023("vbios-rim-driver-measurements-available"),
    N2023("vbios-index-conflict"), /* true means: no conflict (REF-A 0.1 fact 10) */
    N2023("measurements-match"),
};

static bool each_revocation(const struct device *d, size_t field)
{
    const struct revocation *list[] = {&d->revocation, d->driver ? &d->driver->revocation : NULL,
                                       d->bios ? &d->bios->revocation : NULL};
    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        if (!list[i] || !*(const bool *)((const char *)list[i] + field))
            return false;
    return true;
}

static void rim_2023(const struct rim_entry *e, bool version_ok, bool ret[5])
{
    ret[0] = e && e->fetched;
    ret[1] = e && e->rim.schema_ok;
    ret[2] = e && e->rim.chain_verdict.valid;
    ret[3] = e && e->rim.signature_ok && version_ok;
    ret[4] = e && e->loaded;
}

void claims_2023(const struct session *s, const struct device *d, bool ret[CLAIMS_2023_COUNT])
{
    (void)s;
    const bool first[16] = {true,
                            d->evidence->report.len > 0,
                            d->info_ok,
                            d->arch_ok,
                            d->root_ok,
                            d->chain_verdict.valid,
                            each_revocation(d, offsetof(struct revocation, responder_ok)),
                            each_revocation(d, offsetof(struct revocation, signature_ok)),
                            each_revocation(d, offsetof(struct revocation, nonce_ok)),
                            each_revocation(d, offsetof(struct revocation, complete)),
                            d->parsed,
                            d->parsed,
                            d->nonce_ok,
                            d->info_ok,
                            d->info_ok,
                            d->signature_ok && d->fwid_ok};
    memcpy(ret, first, sizeof first);
    rim_2023(d->driver, d->driver_version_ok, ret + 16);
    rim_2023(d->bios, d->bios_version_ok, ret + 21);
    ret[26] = d->comparison.no_conflict;
    ret[27] = d->comparison.match;
}

static struct json_object *flat_2023(const struct session *s, const struct device *devices,
                                     size_t n)
{
    bool all[CLAIMS_2023_COUNT], one[CLAIMS_2023_COUNT];
    struct json_object *o = json_object_new_object();
    size_t gpus = 0;
    for (size_t i = 0; i < n; i++) {
        if (devices[i].kind != ATT_GPU)
            continue;
        claims_2023(s, &devices[i], one);
        for (size_t k = 0; k < CLAIMS_2023_COUNT; k++)
            all[k] = one[k] && (gpus == 0 || all[k]);
        gpus++;
    }
    for (size_t k = 0; k < CLAIMS_2023_COUNT; k++)
        put_bool(o, claims_2023_names[k], gpus > 0 && all[k]);
    return o;
}

static struct json_object *overall(const struct session *s, const struct att_verdict *v)
{
    const struct att_options *opt = s->options;
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    put_text(o, "sub", "NVIDIA-PLATFORM-ATTESTATION");
    put_text(o, "x-nvidia-ver", "3.0");
    put_bool(o, "x-nvidia-overall-att-result", v->class == ATT_ACCEPTED);
    put_text(o, "eat_nonce", v->nonce_hex);
    const struct {
        bool set;
        const char *name;
    } overrides[] = {{opt->device_root_pem, "device-root"},
                     {opt->rim_root_pem, "rim-root"},
                     {opt->at_replaced, "at"},
                     {opt->revocation == ATT_REVOCATION_OFF, "revocation-off"},
                     {opt->allow_hold, "allow-hold-cert"},
                     {opt->missing_fwid == ATT_FWID_OPTIONAL, "allow-missing-fwid"}};
    for (size_t i = 0; i < ARRAY_LEN(overrides); i++)
        if (overrides[i].set)
            json_object_array_add(list, json_object_new_string(overrides[i].name));
    put(o, "x-ccnode-overrides",
        list); /* what weakened this verification; empty when nothing did */
    return o;
}

void claims_make(const struct session *s, const struct device *devices, size_t n,
                 struct att_verdict *v)
{
    struct json_object *v3 = json_object_new_array(), *v2 = json_object_new_array();
    v->names = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        json_object_array_add(v3, device_claims(s, &devices[i], v, true));
        json_object_array_add(v2, device_claims(s, &devices[i], v, false));
        json_object_array_add(v->names, json_object_new_string(devices[i].name));
    }
    v->claims[ATT_CLAIMS_V3] = v3;
    v->claims[ATT_CLAIMS_V2] = v2;
    v->claims[ATT_CLAIMS_2023] = flat_2023(s, devices, n);
    v->claims[ATT_CLAIMS_OVERALL] = overall(s, v);
    v->n_devices = n;
}
