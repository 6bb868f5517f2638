/* What cannot be re-observed, kept across restarts (design 3.4): <state directory>/journal.json.
 *
 * One JSON object {"version":2,"checksum":"sha256 of the rest"…}; written whole by fs_replace(durable) before
 * hardware is written and after it was verified. Version 1, which did not have
 * capable_modes, is read too. A journal that is truncated, has another checksum or a newer version is set aside as journal.json.bad-<n> (at most a few are kept), reported by the caller, never trusted: the agent
 * then starts from observation alone.
 */
#ifndef CCN_AGENT_JOURNAL_H
#define CCN_AGENT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"
#include "node-agent/kubelet_age.h"

struct journal_device {
    char bdf[BDF_SIZE];
    uint16_t device_id;         /* another device in the slot: the entry does not count */
    char original_driver[32];   /* before we first bound it to VFIO; "" = none */
    enum cc_mode verified_mode; /* UNKNOWN = none */
    bool settled;               /* pending equalled active when it was verified */
    enum cc_mode changing_to;   /* a change is under way; UNKNOWN = none */
    bool
        unordered; /* nobody has ordered verified_mode: found at first sight, or changed by somebody else */
    bool capable_known;     /* its registers were read in this boot */
    unsigned capable_modes; /* and said so: set of CC_MODE_BIT(), 0 = no CC */
};

struct journal {
    char boot_id[40];       /* of the boot in which verified modes were recorded */
    char removed[BDF_SIZE]; /* taken from the bus, which must be scanned again; "" = none */
    bool registered; /* kubelet took a resource of ours in this boot: pods may have devices */
    char kubelet[KUBELET_NAME_SIZE]; /* the first that did, "" = not known: kubelet_age_name() */
    size_t n;
    struct journal_device devices[NV_MAX_DEVICES];
};

/* journal_find() - Return: the entry of @bdf or NULL. journal_put() - the entry of @bdf, made when absent; when the
 * journal is full the oldest entry that is neither verified nor changing goes. */
const struct journal_device *journal_find(const struct journal *journal, const char *bdf);
struct journal_device *journal_put(struct journal *journal, const char *bdf);

/* journal_verified_mode() - the mode the journal vouches for: same boot, same device, settled, no change under way;
 * else CC_MODE_UNKNOWN. */
enum cc_mode journal_verified_mode(const struct journal *journal, const struct nv_device *dev,
                                   const char *boot_id);

/* journal_capable_modes() - what the device can do, as its registers said in this boot. Return: whether that is known. */
bool journal_capable_modes(const struct journal *journal, const struct nv_device *dev,
                           const char *boot_id, unsigned *ret);
/* journal_may_have_given() - may kubelet have given a device to a pod in the boot @boot_id ("" = not known)? */
bool journal_may_have_given(const struct journal *journal, const char *boot_id);
/* journal_begin_boot() - what was verified or read in an earlier boot says nothing about this one */
void journal_begin_boot(struct journal *journal, const char *boot_id);

/* Pure halves, fuzzed. journal_format(): text is the caller's. */
char *journal_format(const struct journal *journal);
int journal_parse(const char *text, size_t len, struct journal *ret, struct err *err);

/**
 * journal_load() - the journal of @dir below the host root
 * Return: 1 read; 0 there is none (ret empty); negative: unusable and set aside, ret empty, @err says what and where.
 */
int journal_load(const struct host *host, const char *dir, struct journal *ret, struct err *err);
int journal_save(const struct host *host, const char *dir, const struct journal *journal,
                 struct err *err);

#endif
