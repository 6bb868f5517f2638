/* One device from bytes to results, in the order of REF-A 11, and what all devices of a call share. */
#ifndef CCN_ATTESTATION_DEVICE_H
#define CCN_ATTESTATION_DEVICE_H

#include "attestation/anchors.h"
#include "attestation/evidence.h"
#include "attestation/measure.h"
#include "attestation/ocsp.h"

/* Revocation of a whole chain: the first answer that is not good decides the status. */
struct revocation {
    bool complete; /* every certificate good, or an allowed hold */
    bool nonce_ok, response_valid, responder_ok, signature_ok;
    const char *status, *reason;
    char held[80]; /* common name of a certificate on hold, or "" */
};

struct rim_entry {
    char id[128];
    bool fetched, loaded; /* loaded: rim_load() said yes */
    struct rim rim;
    struct revocation revocation;
    bool revoked_checked;
    bool revoked_ok;
};

struct ocsp_entry {
    const struct cert *cert;
    struct ocsp_verdict verdict;
};

struct session {
    const struct att_options *options;
    const struct att_source *source;
    struct certs *pool;
    const struct cert *device_root, *rim_root;
    struct att_verdict *verdict;
    struct rim_entry *rims[2 * ATT_DEVICES_MAX];
    size_t n_rims;
    struct ocsp_entry ocsp[CERTS_MAX];
    size_t n_ocsp;
};

struct device {
    char name[24]; /* "GPU-0", "SWITCH-1" */
    enum arch arch;
    enum att_kind kind;
    const struct evidence *evidence;
    const struct cert *chain[CERTS_CHAIN];
    size_t n_chain;
    struct chain_verdict chain_verdict;
    struct revocation revocation;
    struct report report;
    struct rim_entry *driver, *bios; /* NULL until looked for; driver stays NULL on a switch */
    bool driver_version_ok, bios_version_ok;
    struct comparison comparison;
    char hwmodel[64];
    char *ueid; /* owned */
    bool has_pdi;
    uint8_t pdi[8]; /* from certificate 1, REF-A 3.5 */
    bool parsed, nonce_ok, arch_ok, root_ok, signature_ok, fwid_ok, info_ok;
    bool revocation_ok;
    bool evidence_ok; /* everything above */
    bool ok;          /* and RIMs, revocation, measurements */
};

/* session_open() - pool and anchors. Return: 0, -EINVAL. */
int session_open(struct session *s, const struct att_options *options,
                 const struct att_source *source, struct att_verdict *v, struct err *err);
void session_close(struct session *s);

/* device_check_evidence() - parse, nonce, chain, signature, FWID, stated versions */
bool device_check_evidence(struct session *s, struct device *d);
/* device_check_firmware() - revocation, RIMs, measurements; after device_check_evidence() said yes */
bool device_check_firmware(struct session *s, struct device *d);
void device_done(struct device *d);

/* session_rim() - the RIM of an id, fetched and judged once per call */
struct rim_entry *session_rim(struct session *s, const char *id);
/* session_revocation() - OCSP for chain[from..to]; each certificate is asked for once per call */
bool session_revocation(struct session *s, const struct cert *const *chain, size_t from, size_t to,
                        bool allow_hold, struct revocation *ret);

#endif
