#include "attestation/device.h"

#include <openssl/objects.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/bytes.h"

void device_done(struct device *d)
{
    free(d->ueid);
}

static bool check_sizes(const struct device *d, struct att_verdict *v)
{
    size_t chain = d->evidence->chain.len;
    if (chain == 0 || chain > ATT_CHAIN_MAX)
        return trail_fail(v, ATT_ERR_EVIDENCE, "chain.size",
                          "certificate chain of %zu bytes, 1 to %d are possible", chain,
                          ATT_CHAIN_MAX);
    return true;
}

static bool read_chain(struct session *s, struct device *d)
{
    struct err err = ERR_INIT;
    const struct att_bytes *pem = &d->evidence->chain;
    const struct cert *list[8];
    int n = certs_add_pem(s->pool, (const char *)pem->data, pem->len, list, ARRAY_LEN(list), &err);
    if (n < 0)
        return trail_fail(s->verdict, ATT_ERR_CHAIN, "chain.parse", "%s", err.msg);
    if (n != CERTS_CHAIN)
        return trail_fail(s->verdict, ATT_ERR_CHAIN, "chain.count",
                          "%d certificates, exactly %d are expected", n, CERTS_CHAIN);
    memcpy(d->chain, list, sizeof d->chain);
    d->n_chain = CERTS_CHAIN;
    d->ueid = certs_ueid(d->chain[0]);
    if (!certs_subject(d->chain[1], NID_commonName, d->hwmodel, sizeof d->hwmodel))
        d->hwmodel[0] = 0;
    return true;
}

/* subject serialNumber of certificate 1: a type byte (41 GPU, 50 switch) and the PDI in hexadecimal */
static void read_pdi(struct device *d)
{
    char text[32];
    uint8_t bytes[9];
    struct err err = ERR_INIT;
    uint8_t want = d->kind == ATT_GPU ? 0x41 : 0x50;
    d->has_pdi = certs_subject(d->chain[1], NID_serialNumber, text, sizeof text) &&
                 strlen(text) == 18 && hex_decode(text, 18, bytes, sizeof bytes, &err) == 9 &&
                 bytes[0] == want;
    if (d->has_pdi)
        memcpy(d->pdi, bytes + 1, sizeof d->pdi);
}

static bool check_arch(struct session *s, struct device *d)
{
    char leaf[64] = "";
    (void)certs_subject(d->chain[0], NID_commonName, leaf, sizeof leaf);
    if (arch_of_chip(leaf) != d->arch || arch_of_chip(d->hwmodel) != d->arch)
        return trail_fail(s->verdict, ATT_ERR_ARCH, "evidence.arch",
                          "the evidence says %s, the certificates are of %.40s and %.40s",
                          arch_name(d->arch), leaf, d->hwmodel);
    d->arch_ok = true;
    return trail_pass(s->verdict, "evidence.arch", "%s, certificates of %s", arch_name(d->arch),
                      d->hwmodel);
}

static bool check_nonce(struct session *s, struct device *d)
{
    char seen[17];
    if (memcmp(d->report.nonce, s->options->nonce, ATT_NONCE_SIZE) == 0) {
        d->nonce_ok = true;
        return trail_pass(s->verdict, "report.nonce", "the report answers the expected nonce");
    }
    hex_encode(d->report.nonce, 8, seen);
    return trail_fail(s->verdict, ATT_ERR_NONCE, "report.nonce",
                      "the report answers nonce %s…, not the expected one", seen);
}

static bool check_signature(struct session *s, struct device *d)
{
    const struct report *r = &d->report;
    d->signature_ok =
        certs_ecdsa(s->pool, d->chain[0], r->bytes, r->signed_len, r->bytes + r->signed_len);
    if (!d->signature_ok)
        return trail_fail(s->verdict, ATT_ERR_SIGNATURE, "report.signature",
                          "does not verify with the leaf certificate");
    return trail_pass(s->verdict, "report.signature", "verifies with the leaf certificate");
}

/* What the driver said beside the report; absent in most stored evidence. */
static bool check_info(struct session *s, struct device *d)
{
    const struct evidence *e = d->evidence;
    const struct report *r = &d->report;
    bool driver_ok =
        !e->driver_version[0] || d->kind == ATT_SWITCH || strcmp(e->driver_version, r->driver) == 0;
    bool bios_ok = !e->vbios_version[0] || strcasecmp(e->vbios_version, r->bios) == 0;
    if (!driver_ok || !bios_ok)
        return trail_fail(
            s->verdict, driver_ok ? ATT_ERR_VBIOS_RIM_VERSION : ATT_ERR_DRIVER_RIM_VERSION,
            "report.versions", "the driver said %s and %s, the signed report says %s and %s",
            e->driver_version, e->vbios_version, r->driver, r->bios);
    d->info_ok = true;
    return true;
}

bool device_check_evidence(struct session *s, struct device *d)
{
    struct att_verdict *v = s->verdict;
    d->arch = d->evidence->arch;
    d->kind = arch_kind(d->arch);
    d->chain_verdict.status = "invalid";
    d->revocation.status = "undefined";
    if (!check_sizes(d, v))
        return false;
    d->parsed =
        report_parse(d->evidence->report.data, d->evidence->report.len, d->kind, &d->report, v);
    if (!d->parsed || !check_nonce(s, d) || !read_chain(s, d))
        return false;
    read_pdi(d);
    d->root_ok = d->chain[CERTS_CHAIN - 1] == s->device_root;
    d->evidence_ok = check_arch(s, d) &&
                     certs_verify(s->pool, d->chain, d->n_chain, CERTS_CHAIN, s->device_root,
                                  s->options->at, &d->chain_verdict, v) &&
                     check_signature(s, d);
    if (!d->evidence_ok)
        return false;
    d->fwid_ok =
        fwid_check(&d->report, d->arch, d->chain[0], d->chain[1], s->options->missing_fwid, v);
    d->evidence_ok = d->fwid_ok && check_info(s, d);
    return d->evidence_ok;
}

static struct rim_entry *find_rim(struct session *s, const struct device *d, enum rim_role role)
{
    char id[sizeof((struct rim_entry *)0)->id];
    if (!rim_id(&d->report, d->arch == ARCH_BLACKWELL, role, id, sizeof id)) {
        (void)trail_fail(s->verdict, ATT_ERR_RIM_NOT_FOUND, "rim.id", "the RIM id does not fit");
        return NULL;
    }
    return session_rim(s, id);
}

static bool check_rim_revocation(struct session *s, struct rim_entry *entry)
{
    if (!entry->revoked_checked)
        entry->revoked_ok = session_revocation(s, entry->rim.chain, 0, RIM_CHAIN - 2,
                                               s->options->allow_hold, &entry->revocation);
    entry->revoked_checked = true;
    return entry->revoked_ok;
}

static bool use_rim(struct session *s, struct device *d, enum rim_role role,
                    struct rim_entry **slot, bool *version_ok)
{
    struct rim_entry *entry = *slot = find_rim(s, d, role);
    if (!entry)
        return false;
    if (!entry->loaded) { /* why was said, and decided the verdict, when it was looked for */
        (void)trail_note(s->verdict, "rim.use", "%s can't be used", entry->id);
        return false;
    }
    *version_ok = rim_fits(&entry->rim, &d->report, d->arch == ARCH_BLACKWELL, role, s->verdict);
    return *version_ok && check_rim_revocation(s, entry);
}

bool device_check_firmware(struct session *s, struct device *d)
{
    /* the leaf carries the FWID, not an identity: the peers and the service know certificates 1 to 3 */
    d->revocation_ok = session_revocation(s, d->chain, 1, CERTS_CHAIN - 2, false, &d->revocation);
    if (!d->revocation_ok)
        return false;
    if (d->kind == ATT_GPU && !use_rim(s, d, RIM_DRIVER, &d->driver, &d->driver_version_ok))
        return false;
    if (!use_rim(s, d, RIM_BIOS, &d->bios, &d->bios_version_ok))
        return false;
    d->ok = measure_compare(&d->report, d->driver ? &d->driver->rim : NULL, &d->bios->rim,
                            &d->comparison, s->verdict);
    return d->ok;
}
