#include "attestation/snp.h"

#include <errno.h>
#include <openssl/objects.h>
#include <stdio.h>
#include <string.h>

#include "attestation/anchors.h"
#include "base/auto.h"
#include "base/bytes.h"

#define PRODUCTS 3
#define POLICY_DEBUG (1ull << 19)
#define POLICY_RESERVED_ONE (1ull << 17)

bool snp_parse(const uint8_t *bytes, size_t len, struct snp_report *ret, struct att_verdict *v)
{
    if (len != SNP_REPORT_SIZE)
        return trail_fail(v, ATT_ERR_SNP, "snp.size", "report of %zu bytes, %d are expected", len,
                          SNP_REPORT_SIZE);
    struct snp_report r = {
        .bytes = bytes,
        .version = get_le32(bytes),
        .policy = get_le32(bytes + 8) | (uint64_t)get_le32(bytes + 12) << 32,
        .vmpl = get_le32(bytes + 0x30),
        .signing_key = get_le32(bytes + 0x48) >> 2 & 7,
        .data = bytes + 0x50,
        .measurement = bytes + 0x90,
        .host_data = bytes + 0xc0,
        .reported_tcb = bytes + 0x180,
        .chip_id = bytes + 0x1a0,
        .family = bytes[0x188],
        .model = bytes[0x189],
    };
    if (r.version < 2 || r.version > 5)
        return trail_fail(v, ATT_ERR_SNP, "snp.version", "report version %u, 2 to 5 are known",
                          r.version);
    if (get_le32(bytes + 0x34) != 1)
        return trail_fail(v, ATT_ERR_SNP, "snp.algorithm",
                          "signature algorithm %u, 1 (ECDSA P-384 with SHA-384) is expected",
                          get_le32(bytes + 0x34));
    if ((r.policy & POLICY_DEBUG) || !(r.policy & POLICY_RESERVED_ONE))
        return trail_fail(v, ATT_ERR_SNP, "snp.policy",
                          "guest policy 0x%llx: debugging by the host is allowed, or bit 17 is "
                          "clear",
                          (unsigned long long)r.policy);
    if (r.vmpl != 0)
        return trail_fail(v, ATT_ERR_SNP, "snp.vmpl", "report of VMPL %u, 0 is expected", r.vmpl);
    if (r.signing_key > 1)
        return trail_fail(v, ATT_ERR_SNP, "snp.signing_key",
                          "signing key %u, 0 (VCEK) or 1 (VLEK) is expected", r.signing_key);
    *ret = r;
    return trail_pass(v, "snp.parse", "version %u, %s, VMPL 0, not debuggable", r.version,
                      r.signing_key ? "VLEK" : "VCEK");
}

/* value of extension 1.3.6.1.4.1.3704.1.<suffix>, NULL when absent */
static const ASN1_OCTET_STRING *extension(const struct cert *leaf, const char *suffix)
{
    char want[64], oid[64];
    (void)snprintf(want, sizeof want, "1.3.6.1.4.1.3704.1.%s", suffix);
    for (int i = 0; i < X509_get_ext_count(leaf->x509); i++) {
        X509_EXTENSION *ext = X509_get_ext(leaf->x509, i);
        if (OBJ_obj2txt(oid, sizeof oid, X509_EXTENSION_get_object(ext), 1) > 0 &&
            strcmp(oid, want) == 0)
            return X509_EXTENSION_get_data(ext);
    }
    return NULL;
}

/* a DER INTEGER of 0 to 255; -1 when it is none */
static int small_integer(const ASN1_OCTET_STRING *value)
{
    if (!value)
        return -1;
    const uint8_t *p = ASN1_STRING_get0_data(value);
    int n = ASN1_STRING_length(value);
    if (n == 3 && p[0] == 2 && p[1] == 1 && p[2] < 0x80)
        return p[2];
    if (n == 4 && p[0] == 2 && p[1] == 2 && p[2] == 0 && p[3] >= 0x80)
        return p[3];
    return -1;
}

static bool check_tcb(const struct snp_report *r, const struct cert *leaf, bool turin,
                      struct att_verdict *v)
{
    static const struct {
        const char *suffix, *name;
        unsigned at, at_turin;
    } parts[] = {{"3.1", "boot loader", 0, 1},
                 {"3.2", "TEE", 1, 2},
                 {"3.3", "SNP", 6, 3},
                 {"3.8", "microcode", 7, 7},
                 {"3.9", "FMC", 8, 0}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        unsigned at = turin ? parts[i].at_turin : parts[i].at;
        if (at > 7) /* FMC exists on Turin only */
            continue;
        int spl = small_integer(extension(leaf, parts[i].suffix));
        if (spl != r->reported_tcb[at])
            return trail_fail(v, ATT_ERR_SNP, "snp.tcb",
                              "%s level: certificate %d, reported TCB %u", parts[i].name, spl,
                              r->reported_tcb[at]);
    }
    return trail_pass(v, "snp.tcb", "the certificate is of the reported TCB");
}

/* raw 64 bytes in older certificates, a DER OCTET STRING in newer ones */
static bool check_chip(const struct snp_report *r, const struct cert *leaf, struct att_verdict *v)
{
    const ASN1_OCTET_STRING *ext = extension(leaf, "4");
    const uint8_t *p = ext ? ASN1_STRING_get0_data(ext) : NULL;
    int n = ext ? ASN1_STRING_length(ext) : 0;
    if (n == 66 && p[0] == 4 && p[1] == 64) {
        p += 2;
        n -= 2;
    }
    if (n != 64 || memcmp(p, r->chip_id, 64) != 0)
        return trail_fail(v, ATT_ERR_SNP, "snp.chip_id",
                          "the certificate is of another processor than the report");
    return trail_pass(v, "snp.chip_id", "the certificate is of this processor");
}

static bool check_link(struct certs *pool, const struct cert *cert, const struct cert *issuer,
                       const char *what, int64_t at, struct att_verdict *v)
{
    int digest = NID_undef, kind = NID_undef;
    if (at < cert->not_before || at > cert->not_after)
        return trail_fail(v, ATT_ERR_SNP, "snp.chain", "%s is not valid at the evaluation time",
                          what);
    if (X509_get_signature_info(cert->x509, &digest, &kind, NULL, NULL) != 1 ||
        digest != NID_sha384 || kind != NID_rsassaPss)
        return trail_fail(v, ATT_ERR_SNP, "snp.chain",
                          "%s is not signed with RSASSA-PSS and SHA-384", what);
    if (X509_NAME_cmp(X509_get_issuer_name(cert->x509), X509_get_subject_name(issuer->x509)) != 0 ||
        !certs_signed_by(pool, cert, issuer))
        return trail_fail(v, ATT_ERR_SNP, "snp.chain", "%s is not signed by its issuer", what);
    return true;
}

/* family 0x19: Milan and Genoa, 0x1a: Turin; REF-A 8.3 */
static const char *product_of_cpuid(const struct snp_report *r)
{
    unsigned m = r->model;
    if (r->family == 0x19)
        return m <= 0x0f                                              ? "Milan"
               : (m >= 0x10 && m <= 0x1f) || (m >= 0xa0 && m <= 0xaf) ? "Genoa"
                                                                      : "";
    return r->family == 0x1a && m <= 0x11 ? "Turin" : "";
}

/* The pinned chain whose intermediate names itself as the issuer of the leaf. */
static bool find_chain(struct certs *pool, const struct snp_report *r, const struct cert *leaf,
                       struct amd_chain *ret, struct att_verdict *v)
{
    struct err err = ERR_INIT;
    for (unsigned i = 0; i < PRODUCTS; i++) {
        if (anchors_amd(pool, i, ret, &err) < 0)
            return trail_fail(v, ATT_ERR_INTERNAL, "snp.anchor", "%s", err.msg);
        const struct cert *issuer = r->signing_key ? ret->asvk : ret->ask;
        if (X509_NAME_cmp(X509_get_issuer_name(leaf->x509), X509_get_subject_name(issuer->x509)) ==
            0)
            return true;
    }
    return trail_fail(v, ATT_ERR_SNP, "snp.chain",
                      "the issuer of the certificate is no %s of Milan, Genoa or Turin",
                      r->signing_key ? "ASVK" : "ASK");
}

static bool check_chain(struct certs *pool, const struct snp_report *r, const struct cert *leaf,
                        int64_t at, struct amd_chain *chain, struct att_verdict *v)
{
    char name[32] = "";
    const char *want = r->signing_key ? "SEV-VLEK" : "SEV-VCEK";
    (void)certs_subject(leaf, NID_commonName, name, sizeof name);
    if (strcmp(name, want) != 0 || !certs_is_p384(leaf))
        return trail_fail(v, ATT_ERR_SNP, "snp.chain",
                          "the certificate is of \"%s\"; %s with a P-384 key is expected", name,
                          want);
    if (!find_chain(pool, r, leaf, chain, v))
        return false;
    const struct cert *issuer = r->signing_key ? chain->asvk : chain->ask;
    if (!check_link(pool, leaf, issuer, want, at, v) ||
        !check_link(pool, issuer, chain->ark, "the intermediate", at, v))
        return false;
    if (r->version >= 3 && strcmp(product_of_cpuid(r), chain->product) != 0)
        return trail_fail(v, ATT_ERR_SNP, "snp.product",
                          "the report is of family 0x%02x model 0x%02x, the certificate of %s",
                          r->family, r->model, chain->product);
    return trail_pass(v, "snp.chain", "%s, pinned %s root", want, chain->product);
}

/* r and s: 72 bytes each, little endian, of which 48 may be used */
static bool check_signature(struct certs *pool, const struct snp_report *r, const struct cert *leaf,
                            struct att_verdict *v)
{
    uint8_t rs[96], rest = 0;
    for (unsigned half = 0; half < 2; half++) {
        const uint8_t *p = r->bytes + SNP_SIGNED_SIZE + (size_t)72 * half;
        for (unsigned i = 0; i < 48; i++)
            rs[48 * half + i] = p[47 - i];
        for (unsigned i = 48; i < 72; i++)
            rest |= p[i];
    }
    if (rest || !certs_ecdsa(pool, leaf, r->bytes, SNP_SIGNED_SIZE, rs))
        return trail_fail(v, ATT_ERR_SNP, "snp.signature",
                          "the report does not verify with the certificate");
    return trail_pass(v, "snp.signature", "verifies with the certificate");
}

bool snp_verify(struct certs *pool, const struct snp_report *report, const struct cert *leaf,
                const uint8_t *data, int64_t at, struct att_verdict *v)
{
    struct amd_chain chain;
    if (!check_chain(pool, report, leaf, at, &chain, v) ||
        !check_tcb(report, leaf, strcmp(chain.product, "Turin") == 0, v) ||
        (report->signing_key == 0 && !check_chip(report, leaf, v)) ||
        !check_signature(pool, report, leaf, v))
        return false;
    if (data && memcmp(report->data, data, SNP_DATA_SIZE) != 0)
        return trail_fail(v, ATT_ERR_SNP, "snp.report_data",
                          "REPORT_DATA is not bound to what was expected");
    return !data || trail_pass(v, "snp.report_data", "REPORT_DATA is the expected one");
}

static void add_facts(const struct snp_report *r, struct att_verdict *v)
{
    static const struct {
        const char *name;
        unsigned at, len;
    } fields[] = {{"report_data", 0x50, 64},   {"measurement", 0x90, 48},  {"host_data", 0xc0, 32},
                  {"id_key_digest", 0xe0, 48}, {"reported_tcb", 0x180, 8}, {"chip_id", 0x1a0, 64}};
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    char hex[129];
    json_object_object_add(o, "version", json_object_new_int64(r->version));
    json_object_object_add(o, "guest_svn", json_object_new_int64(get_le32(r->bytes + 4)));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        hex_encode(r->bytes + fields[i].at, fields[i].len, hex);
        json_object_object_add(o, fields[i].name, json_object_new_string(hex));
    }
    json_object_array_add(list, o);
    v->claims[ATT_CLAIMS_FACTS] = list;
}

int att_check_snp(const struct att_options *options, const struct att_text *report,
                  const struct att_text *leaf, const uint8_t *report_data, struct att_verdict **ret,
                  struct err *err)
{
    if (options->at <= 0)
        return err_set(err, EINVAL, "an evaluation time is needed");
    struct certs *pool = certs_new();
    struct att_verdict *v = *ret = trail_new();
    struct snp_report r;
    struct err why = ERR_INIT;
    const struct cert *cert = NULL;
    if (leaf->len && (uint8_t)leaf->text[0] == 0x30)
        cert = certs_add(pool, (const uint8_t *)leaf->text, leaf->len, &why);
    else if (certs_add_pem(pool, leaf->text, leaf->len, &cert, 1, &why) != 1)
        cert = NULL;
    if (snp_parse((const uint8_t *)report->text, report->len, &r, v)) {
        add_facts(&r, v);
        if (!cert)
            (void)trail_fail(v, ATT_ERR_SNP, "snp.chain", "%s: %s", leaf->name, why.msg);
        else
            (void)snp_verify(pool, &r, cert, report_data, options->at, v);
    }
    certs_free(pool);
    return 0;
}
