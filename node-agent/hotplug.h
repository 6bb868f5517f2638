/* Notices that devices came, went or changed their driver, without costing anything while nothing happens.
 *
 * Three sources, because each has a hole: kernel uevents over netlink (real kernels only; a container without the host's
 * network still gets them, but a simulated node sends none), inotify on /dev/vfio (nodes come and go with every bind), and
 * every HOTPLUG_POLL_MS one listing of the devices' names, with one readlink per device in every fifth.
 */
#ifndef CCN_AGENT_HOTPLUG_H
#define CCN_AGENT_HOTPLUG_H

#include "base/host.h"
#include "base/loop.h"
#include "node-agent/node_state.h"

#define HOTPLUG_POLL_MS 4000

struct hotplug;
/* @on_change: something may have changed; often more than once for one change. */
struct hotplug *hotplug_new(struct loop *loop, const struct host *host,
                            void (*on_change)(void *arg), void *arg);
void hotplug_free(struct hotplug *hotplug); /* accepts NULL */
/* What the next comparison starts from is what the last look saw. hotplug_look_begins(): names, before the look reads
 * anything; hotplug_look_saw(): the drivers that it found. */
void hotplug_look_begins(struct hotplug *hotplug);
void hotplug_look_saw(struct hotplug *hotplug, const struct observed *observed);
/* hotplug_poll() - the cheap comparison; calls on_change when it differs from the last one. The caller has the timer, so
 * that one wake-up serves several purposes. */
void hotplug_poll(struct hotplug *hotplug);

#endif
