/* What is offered: the device plugin's lists and the CDI files, always in the order that keeps both true: a device is
 * taken from kubelet before its CDI entry goes, and resolvable by CDI before kubelet hears of it.
 *
 * A managed device stays in kubelet's list as Unhealthy while it is changed, busy or broken; it leaves the list when it
 * is no longer managed, unbound for good, or gone (REF-K D4).
 */
#ifndef CCN_AGENT_SERVING_H
#define CCN_AGENT_SERVING_H

#include <stdbool.h>

#include "base/rpc.h"
#include "device-plugin/device_plugin.h"
#include "node-agent/kubelet/pod_resources.h"
#include "node-agent/plan.h"

struct serving;

struct serving_options {
    struct loop *loop;
    struct rpc *rpc; /* NULL: no device plugin, CDI only */
    const struct host *host;
    void (*on_event)(void *arg, const struct dp_event *event);
    /* A CDI file of ours was changed or removed by somebody else, and is written again. */
    void (*on_restored)(void *arg, const char *dir, const char *file);
    void *arg;
};

struct serving *serving_new(const struct serving_options *options);
/* serving_stop() - as dp_stop(); CDI files stay (REF-K M-CDI-7). @done may be called at once when there is no plugin. */
void serving_stop(struct serving *serving, enum dp_stop how, void (*done)(void *arg), void *arg);
void serving_free(struct serving *serving); /* accepts NULL */

/**
 * serving_set() - bring both to what @plan allows (device_plan.serve)
 * Return: 0; negative: CDI files or lists could not be made as they must be, @err says which and the cure; nothing
 * is then offered that cannot be resolved.
 */
int serving_set(struct serving *serving, const struct config *config, const struct intent *intent,
                const struct observed *observed, const struct plan *plan, struct err *err);

/* serving_cdi_stale() - somebody has touched our CDI files since, or a foreign one stood in the way: serving_set() is due.
 * Cheap: some calls of stat. */
bool serving_cdi_stale(struct serving *serving);

enum serving_seen {
    SERVING_AS_OFFERED,
    SERVING_MISSING, /* a healthy device of ours is not there: a list may be under way */
    SERVING_FOREIGN, /* a device is there that we never offered */
};
/* serving_compare() - what kubelet says it has of our registered resources, with what it was given. When they differ, the
 * @resource, and @what it has instead, in words. */
enum serving_seen serving_compare(const struct serving *serving, const struct pod_list *list,
                                  char resource[static 80], char *what, size_t room);
/* serving_register_again() - as dp_register_again() */
void serving_register_again(struct serving *serving, const char *resource);

/* serving_objection() - why a device that is as wanted is not offered all the same; "" = it is, or the plan says why not.
 * Valid until the next serving_set(). */
const char *serving_objection(const struct serving *serving, const char *bdf);
/* serving_has() - kubelet has the device as healthy (or there is no plugin of ours) and CDI resolves it */
bool serving_has(const struct serving *serving, const char *bdf);
/* serving_wants() - it would be offered, but kubelet has not accepted its resource yet */
bool serving_wants(const struct serving *serving, const char *bdf);

#endif
