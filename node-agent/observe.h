/* Looks at the node without changing anything: sysfs inventory, who uses what (a "holders" step of a node worker),
 * which pods were given what (PodResources), host TEE and lockdown state. Registers are not read here: that is a
 * DECISION_QUERY of the plan, since it wakes a device.
 */
#ifndef CCN_AGENT_OBSERVE_H
#define CCN_AGENT_OBSERVE_H

#include "base/rpc.h"
#include "node-agent/config.h"
#include "node-agent/gpu/functions.h"
#include "node-agent/journal.h"
#include "node-agent/kubelet_age.h"
#include "node-agent/node_state.h"
#include "node-agent/workers.h"

/* What a process remembers of a device between two looks; cleared when the device vanishes or changes hands. */
struct memory_device {
    char bdf[BDF_SIZE];
    uint16_t device_id;
    char name[64], resource[64]; /* of a model that is not in our table; "" = not asked yet */
    bool report_valid;
    struct nv_report report;
    int64_t read_at_ms;
    bool released; /* as in struct observed_device */
    bool was_held; /* seen in use since the report: it is then void */
    unsigned failures;
    unsigned busy_tries; /* times in a row that it could not be had, and that is no failure yet */
    bool locked;         /* a worker that is not ours keeps it; ends with the lock */
    bool dead;           /* the last failure reads like a device that is faulty or off the bus */
    int64_t retry_at_ms;
    char error[640];
};

struct memory {
    struct kubelet_age kubelet;
    struct pci_functions functions; /* what the inventory need not read again */
    size_t n;
    struct memory_device devices[NV_MAX_DEVICES];
};

void memory_done(struct memory *memory);
struct memory_device *memory_put(struct memory *memory, const struct nv_device *dev);

struct observe_request {
    struct rpc *rpc;                  /* NULL: no kubelet to ask; pods_known is then true */
    const char *pod_resources_socket; /* below the host root */
};

struct look;

/* memory_find() - Return: the entry of @bdf or NULL. memory_read() - a worker has just read @report. */
struct memory_device *memory_find(struct memory *memory, const char *bdf);
void memory_read(struct memory *memory, const char *bdf, const struct nv_report *report,
                 int64_t now_ms);
/* memory_failed() - one more failure in a row: not again before 1, 2, 4 … 60 s have passed, plus up to a quarter.
 * memory_succeeded() - forgets them. */
void memory_failed(struct memory *memory, const char *bdf, const char *error, int64_t now_ms);
void memory_succeeded(struct memory *memory, const char *bdf);

/* observe_quarantine() - fills d->quarantined and d->stuck_pid, from the worker and locks of this moment. A lock that was
 * let go of is the end of that failure. */
void observe_quarantine(const struct workers *workers, struct memory *memory,
                        struct observed_device *d);

/**
 * observe_now() - what sysfs tells, at once; who uses what is taken over from @previous (NULL: not known)
 * @memory: read for reports and failures, updated: devices that went are forgotten, held ones are marked
 * Return: 0; negative: sysfs could not be read at all, @ret is then empty.
 */
int observe_now(const struct workers *workers, const struct host *host, struct memory *memory,
                const struct journal *journal, const struct observed *previous,
                struct observed *ret, struct err *err);

/**
 * observe_start() - the same, and who uses what: a scan of /proc by a process of its own, and PodResources
 * The users are those of a time between the call and the callback; sysfs is read right before the callback, and the
 * users are attached to the devices that it has.
 * @cb: once, from the loop; @observed is valid inside the callback only, NULL when r < 0.
 */
struct look *observe_start(struct workers *workers, const struct host *host, struct loop *loop,
                           const struct observe_request *request, struct memory *memory,
                           const struct journal *journal,
                           void (*cb)(void *arg, int r, const struct observed *observed,
                                      const struct err *err),
                           void *arg);
/* observe_holders() - the answer to the step "holders" into @observed. Pure.
 * Return: whether all of it was understood; if not there may be users that nobody knows of. */
bool observe_holders(struct observed *observed, const struct worker_answer *answer);
/* observe_cancel() - no callback any more; accepts NULL. The handle is gone once the callback was called. */
void observe_cancel(struct look *look);

#endif
