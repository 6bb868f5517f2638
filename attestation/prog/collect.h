/* Evidence of this machine's devices, in the order of calls of REF-A 1.5. */
#ifndef CCN_ATTESTATION_PROG_COLLECT_H
#define CCN_ATTESTATION_PROG_COLLECT_H

#include "attestation/prog/nvml.h"
#include "attestation/prog/opts.h"

struct collected {
    char arch[16], uuid[NVML_TEXT], driver[NVML_TEXT], bios[NVML_TEXT];
    struct att_bytes report, chain; /* owned */
    int persistence;                /* of a GPU: 1 on, 0 off, -1 unknown */
};

struct collection {
    struct collected list[ATT_DEVICES_MAX];
    size_t n;
    unsigned gpus, switches;
    uint8_t nonce[ATT_NONCE_SIZE];
};

void collection_done(struct collection *c);

/* collect_check_mode() - production, CC on or a multi-GPU mode; dev-tools only when allowed. Return: 0, -EPERM saying what
 * the mode is. */
int collect_check_mode(const struct nvml_mode *mode, bool allow_devtools, struct err *err);
const char *collect_mode_name(const struct nvml_mode *mode);

/* collect_gpus(), collect_switches() - append; c->nonce is the one to answer */
int collect_gpus(struct nvml *nvml, const struct opts *opts, struct collection *c, struct err *err);
int collect_switches(const struct opts *opts, struct collection *c, struct err *err);

/* collect_same_devices() - count and uuids are still those of @c: REF-A 7.3 rule 7 */
int collect_same_devices(struct nvml *nvml, const struct opts *opts, const struct collection *c,
                         struct err *err);

/* collect_trouble() - when it was the driver that failed, on standard error what usually is missing then (LKCA modules), by
 * name */
void collect_trouble(const struct opts *opts, const struct err *why);
/* collect_warn_persistence() - nobody holds the GPUs: the CC session that was just attested ends with this process */
void collect_warn_persistence(const struct collection *c);

/* collect_json() - NVAT's list, or CoCo's object. The caller's text. */
char *collect_json(const struct collection *c, bool coco);

#endif
