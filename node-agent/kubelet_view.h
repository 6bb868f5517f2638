/* What kubelet has of us, seen from its own answers (PodResources): who is not told has to look.
 *
 * - Another device plugin that registers a resource of ours takes it over without a word: kubelet lets the last one win and
 *   keeps the first one's stream open (kubernetes/kubernetes pkg/kubelet/cm/devicemanager manager.go, PluginConnected). Pods
 *   then get devices that nobody has verified. GetAllocatableResources shows it: ids that are not ours, or none of ours.
 *   It is told, no device counts as offered (cc.ready.state), and the resource is registered again, more and more seldom:
 *   two that fight serve nobody.
 * - Kata's cold-plug asks PodResources Get, which kubelets before 1.34 do not have or have switched off (REF-K M-PR-2).
 *
 * Asked soon after kubelet accepted a resource, 1, 4 and 14 s after a file came or went in the plugin directory, and
 * every minute. A kubelet that does not answer: nothing is claimed.
 */
#ifndef CCN_AGENT_KUBELET_VIEW_H
#define CCN_AGENT_KUBELET_VIEW_H

#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"
#include "node-agent/advice.h"
#include "node-agent/serving.h"

struct kubelet_view_options {
    struct loop *loop;
    struct rpc *rpc;
    const struct host *host;
    struct serving *serving;
    void (*on_change)(void *arg); /* an advice is another one now */
    void *arg;
};

struct kubelet_view;
struct kubelet_view *kubelet_view_new(const struct kubelet_view_options *options);
void kubelet_view_free(struct kubelet_view *view); /* accepts NULL; before its rpc and serving */
/* kubelet_view_configure() - both paths below the host root, copied; @directory "" = no plugin of ours, nothing is asked */
void kubelet_view_configure(struct kubelet_view *view, const char *socket, const char *directory);
/* kubelet_view_registered() - kubelet has just accepted a resource; perhaps it is another kubelet */
void kubelet_view_registered(struct kubelet_view *view);

const struct advice *kubelet_view_rival(const struct kubelet_view *view);
const struct advice *kubelet_view_get(const struct kubelet_view *view);

#endif
