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
#include "node-agent/plan.h"

struct serving;

struct serving_options {
    struct loop *loop;
    struct rpc *rpc; /* NULL: no device plugin, CDI only */
    const struct host *host;
    void (*on_event)(void *arg, const struct dp_event *event);
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

/* serving_has() - kubelet has the device as healthy (or there is no plugin of ours) and CDI resolves it */
bool serving_has(const struct serving *serving, const char *bdf);
/* serving_wants() - it would be offered, but kubelet has not accepted its resource yet */
bool serving_wants(const struct serving *serving, const char *bdf);

#endif
