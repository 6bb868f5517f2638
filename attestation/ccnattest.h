/* libccnattest: is this GPU or NVSwitch genuine, is its firmware the published one, is it in CC mode?
 *
 * Everything a relying party needs to judge evidence it was given. Pure apart from the callbacks in struct att_source:
 * no files, no network, no clock, no environment, no global state. One verdict belongs to one thread; several threads
 * may each have their own. Out of memory aborts; every length from outside is bounded first.
 *
 * Failures come in two kinds that are never mixed up:
 *   - the function returns a negative code with struct err: the call itself was wrong (no nonce, no clock, an anchor
 *     that is no certificate authority);
 *   - the function returns 0 and a verdict: att_verdict_class() says whether evidence was accepted, rejected, or could
 *     not be judged because a service did not answer. Nothing but ATT_ACCEPTED means yes.
 *
 * Facts and limits: REF-A (gpu-attestation.md), cited as "REF-A n.n" in the sources.
 */
#ifndef CCN_ATTESTATION_CCNATTEST_H
#define CCN_ATTESTATION_CCNATTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define ATT_NONCE_SIZE 32   /* REF-A 1.6 */
#define ATT_REPORT_MAX 8192 /* NVML buffer, REF-A 1.3 */
#define ATT_CHAIN_MAX 5120  /* likewise */
#define ATT_EVIDENCE_MAX (4u << 20)
#define ATT_RIM_MAX (1u << 20) /* REF-A 4.5 step 1 */
#define ATT_OCSP_MAX (64u << 10)
#define ATT_DEVICES_MAX 32
#define ATT_ISSUER_DEFAULT "CCNODE-ATTEST" /* iss of our own tokens */

/* A block of memory that the receiver frees with att_bytes_done(). */
struct att_bytes {
    uint8_t *data;
    size_t len;
};
void att_bytes_done(struct att_bytes *bytes);

/* What the verifier asks the caller for. Each callback returns 0 and a block, or a negative code with a sentence:
 *   rim    -ENOENT: there is no such RIM (a rejection); -EBADMSG: the answer is wrong (a rejection); anything else: no
 *          answer (a service failure). @id consists of [0-9A-Za-z._] only and never starts with a dot.
 *   ocsp   @request is DER; -EBADMSG and other codes as above.
 *   random fills @buf from a cryptographic source; needed for OCSP nonces and tokens.
 * Callbacks run on the calling thread, one at a time, never twice for the same id or certificate in one call. */
struct att_source {
    int (*rim)(void *arg, const char *id, struct att_bytes *ret, struct err *err);
    int (*ocsp)(void *arg, const uint8_t *request, size_t len, struct att_bytes *ret,
                struct err *err);
    int (*random)(void *arg, uint8_t *buf, size_t len, struct err *err);
    void *arg;
};

enum att_kind { ATT_GPU, ATT_SWITCH };
enum att_revocation { ATT_REVOCATION_REQUIRED, ATT_REVOCATION_OFF };
enum att_missing_fwid {                     /* a GPU report without opaque type 20, REF-A 3.4 */
                        ATT_FWID_BY_DRIVER, /* accepted below driver 550 */
                        ATT_FWID_REQUIRED,
                        ATT_FWID_OPTIONAL
};

struct att_options {
    const uint8_t
        *nonce; /* ATT_NONCE_SIZE bytes: the one the caller chose; never taken from the evidence */
    int64_t at; /* evaluation time, seconds since 1970 */
    bool at_replaced; /* @at is not the clock: recorded in the claims */
    const char
        *device_root_pem; /* NULL: the pinned NVIDIA Device Identity CA; otherwise replaces it */
    const char
        *rim_root_pem; /* NULL: the pinned NVIDIA CoRIM signing Root CA; otherwise replaces it */
    enum att_revocation revocation;
    bool allow_hold; /* RIM signers only, reason certificateHold only, with a warning claim */
    enum att_missing_fwid missing_fwid;
    unsigned gpus;       /* number of GPUs that must be there; 0: any */
    unsigned switches;   /* likewise */
    bool protected_pcie; /* 8 GPUs, 4 switches, all in protected-PCIe mode, topology closed */
};

/* Verdicts ------------------------------------------------------------------------------------------------------- */

enum att_class {
    ATT_ACCEPTED,
    ATT_REJECTED,    /* evidence, RIM, token: judged and refused */
    ATT_UNAVAILABLE, /* a service did not answer; never an acceptance */
    ATT_POLICY       /* genuine, but the policy says no */
};

/* Result codes: the numbers of nvattest (REF-A 5.9), 0 = accepted. */
enum att_code {
    ATT_OK = 0,
    ATT_ERR_INTERNAL = 2,
    ATT_ERR_ARGUMENT = 4,
    ATT_ERR_POLICY = 11,
    ATT_ERR_OVERALL = 12,
    ATT_ERR_JSON = 13,
    ATT_ERR_RIM_FORBIDDEN = 101,
    ATT_ERR_RIM_INTERNAL = 102,
    ATT_ERR_RIM_NOT_FOUND = 104,
    ATT_ERR_RIM_SIGNATURE = 105,
    ATT_ERR_RIM_SCHEMA = 106,
    ATT_ERR_RIM_MEASUREMENT = 107,
    ATT_ERR_RIM_CONFLICT = 108,
    ATT_ERR_OCSP_RESPONSE = 201,
    ATT_ERR_OCSP_SERVER = 202,
    ATT_ERR_OCSP_REQUEST = 203,
    ATT_ERR_OCSP_STATUS = 204,
    ATT_ERR_SPDM_PARSE = 401,
    ATT_ERR_SPDM_OPAQUE = 402,
    ATT_ERR_SPDM_MEASUREMENTS = 403,
    ATT_ERR_SPDM_REQUEST = 404,
    ATT_ERR_SPDM_FIELD = 405,
    ATT_ERR_ARCH = 502,
    ATT_ERR_EVIDENCE = 503,
    ATT_ERR_NONCE = 504,
    ATT_ERR_DRIVER_RIM_VERSION = 505,
    ATT_ERR_VBIOS_RIM_VERSION = 506,
    ATT_ERR_FWID = 507,
    ATT_ERR_SIGNATURE = 508,
    ATT_ERR_MODE = 509,
    ATT_ERR_FIRMWARE = 510,
    ATT_ERR_TOKEN = 701,
    ATT_ERR_FWID_ABSENT = 800,
    ATT_ERR_CHAIN = 802,
    /* own, above nvattest's */
    ATT_ERR_TOPOLOGY = 900,
    ATT_ERR_DEVICES = 901,
    ATT_ERR_SNP = 910
};

enum att_mark { ATT_PASS, ATT_FAIL, ATT_NOTE };

/* One rule that was applied. Borrowed from the verdict. */
struct att_line {
    enum att_mark mark;
    const char *subject; /* "GPU-0", "SWITCH-2", a file, or "" */
    const char *
        rule; /* stable name: "report.nonce", "rim.signature", … (docs/attestation.md lists them) */
    const char *text; /* what was seen */
};

struct att_verdict;
void att_verdict_free(struct att_verdict *verdict); /* accepts NULL */
enum att_class att_verdict_class(const struct att_verdict *verdict);
enum att_code att_verdict_code(const struct att_verdict *verdict);
const char *att_verdict_message(const struct att_verdict *verdict); /* the first failure, or "" */
size_t att_verdict_lines(const struct att_verdict *verdict);
struct att_line att_verdict_line(const struct att_verdict *verdict, size_t i);
size_t att_verdict_devices(const struct att_verdict *verdict);

/* Claims as JSON text, borrowed; "[]" or "{}" when the call makes none. */
enum att_claims {
    ATT_CLAIMS_V3,      /* array, one object a device: nvattest and NRAS names */
    ATT_CLAIMS_V2,      /* array, one object a device: claims 2.0 */
    ATT_CLAIMS_2023,    /* object, the 28 names of July 2023, AND over all GPUs */
    ATT_CLAIMS_OVERALL, /* object: the overall claims without times */
    ATT_CLAIMS_FACTS    /* array, one object a device: everything parsed (att_check_report only) */
};
const char *att_verdict_claims(const struct att_verdict *verdict, enum att_claims which);

/* The human log of the 2023 guide (REF-A 5.10). Borrowed text with newlines. */
const char *att_verdict_log(const struct att_verdict *verdict);

/* Verification --------------------------------------------------------------------------------------------------- */

/* A JSON document: evidence list (REF-A 1.7), nvattest's or CoCo's wrapping of it. Not terminated. */
struct att_text {
    const char *text;
    size_t len;
    const char *name; /* for messages, e.g. the file */
};

/**
 * att_verify() - the whole of REF-A 11 for all devices of one run
 * @evidence: one or more documents; together they are one system
 * @ret: the verdict; the caller's
 * Return: 0, -EINVAL when options or anchors are unusable.
 */
int att_verify(const struct att_options *options, const struct att_source *source,
               const struct att_text *evidence, size_t n, struct att_verdict **ret,
               struct err *err);

/* Stages on their own. Each makes a verdict with one line per rule. */
int att_check_report(const struct att_options *options, const struct att_text *evidence,
                     struct att_verdict **ret, struct err *err);
/* @report_hex: text; @chain_pem: text. The architecture is read from the chain. */
int att_check_report_hex(const struct att_options *options, const struct att_text *report_hex,
                         const struct att_text *chain_pem, struct att_verdict **ret,
                         struct err *err);
int att_check_chain(const struct att_options *options, const struct att_text *chain_pem,
                    struct att_verdict **ret, struct err *err);
/* @evidence may be NULL; with it identity, version and measurements are compared too. */
int att_check_rim(const struct att_options *options, const struct att_text *rim,
                  const struct att_text *evidence, struct att_verdict **ret, struct err *err);
/* A reply of the RIM service for @id: members, digest, and then the RIM itself. */
int att_check_rim_reply(const struct att_options *options, const struct att_text *reply,
                        const char *id, struct att_verdict **ret, struct err *err);
int att_check_ocsp(const struct att_options *options, const struct att_text *response,
                   const struct att_text *request, const struct att_text *subject_pem,
                   const struct att_text *issuer_pem, struct att_verdict **ret, struct err *err);
/* AMD SEV-SNP report against a VCEK or VLEK (DER or PEM), REF-A 8.2, 8.3. @report_data: 64 bytes or NULL. */
int att_check_snp(const struct att_options *options, const struct att_text *report,
                  const struct att_text *leaf, const uint8_t *report_data, struct att_verdict **ret,
                  struct err *err);

/* att_rim_reply_decode() - the RIM out of a service reply (REF-A 4.2): id, format, base64 and digest checked.
 * Return: 0, -EBADMSG with the member that is wrong. */
int att_rim_reply_decode(const char *reply, size_t len, const char *id, struct att_bytes *ret,
                         struct err *err);

/* Policy --------------------------------------------------------------------------------------------------------- */

/**
 * att_check_policy() - a JSON policy (1.0 flat; 2.0 and later) against claims
 * @policy: JSON, or the text of a .rego file, which is refused with what to do instead
 * @claims: one or two documents: flat claims, overall and detached claims, a detached EAT, or ccnode-attest's JSON
 */
int att_check_policy(const struct att_text *policy, const struct att_text *claims, size_t n_claims,
                     struct att_verdict **ret, struct err *err);
/* att_appraise() - a policy against the claims of a verdict; sets its class to ATT_POLICY when it says no.
 * @policy NULL: the built-in policy (every chain valid, revocation good, measurements equal). */
int att_appraise(struct att_verdict *verdict, const struct att_text *policy, struct err *err);

/* Tokens --------------------------------------------------------------------------------------------------------- */

struct att_key; /* a P-384 key pair for ES384 */
int att_key_generate(struct att_key **ret, struct err *err);
void att_key_free(struct att_key *key);
/* The public half as canonical JWK text (sorted members, no spaces) and its RFC 7638 thumbprint; borrowed. */
const char *att_key_jwk(const struct att_key *key);
const char *att_key_kid(const struct att_key *key);

/**
 * att_token_make() - detached EAT of a verdict: [["JWT", overall], {"GPU-0": jwt, …}], ES384
 * @issuer: NULL: "CCNODE-ATTEST"; @extra: JSON object merged into the overall claims, or NULL
 * @ret: JSON text, the caller's
 */
int att_token_make(const struct att_verdict *verdict, const struct att_key *key, const char *issuer,
                   int64_t now, const struct att_source *source, const char *extra, char **ret,
                   struct err *err);

struct att_token_options {
    const uint8_t *nonce; /* NULL: the tokens must agree with one another only; said in a note */
    int64_t at;
    const char *issuer; /* required iss of every token */
    unsigned devices;   /* number of submodules asked for; 0: any but none */
};
/* att_check_token() - every check of REF-A 6.3 and 9.4. Claims of the verdict are those of the token. */
int att_check_token(const struct att_token_options *options, const struct att_text *token,
                    const struct att_text *jwks, struct att_verdict **ret, struct err *err);
/**
 * att_check_tee() - a token made with an SEV-SNP report (attest --with-tee): the report is the only trust root, no key set
 * is needed. Token as att_check_token(), with the key that the report covers; nonce, key and GPU evidence against
 * REPORT_DATA (REF-A 8.5); the report against its certificate and AMD's pinned roots.
 * @options: nonce is the relying party's own and required
 * @vcek: DER or PEM; NULL: from the host's table in the token
 */
int att_check_tee(const struct att_token_options *options, const struct att_text *token,
                  const struct att_text *vcek, struct att_verdict **ret, struct err *err);

#endif
