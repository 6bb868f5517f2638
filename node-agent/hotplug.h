/* Notices that devices came, went or changed their driver, without costing anything while nothing happens.
 *
 * Three sources, because each has a hole: kernel uevents over netlink, where the host root shows this kernel's sysfs (the
 * events of devices come to every network namespace of the initial user namespace, a pod's too, since Linux 4.18,
 * lib/kobject_uevent.c; a pod with a user namespace of its own gets none, a simulated node sends none), inotify on /dev/vfio
 * (nodes come and go with every bind), and every hotplug_poll_ms() one listing of the devices' names, with one readlink per
 * device in every fifth.
 */
#ifndef CCN_AGENT_HOTPLUG_H
#define CCN_AGENT_HOTPLUG_H

#include "base/host.h"
#include "base/loop.h"
#include "node-agent/node_state.h"

#define HOTPLUG_POLL_MS 4000       /* without uevents */
#define HOTPLUG_SURE_POLL_MS 30000 /* with them: in case one was lost */

/* hotplug_concerns_pci() - a kernel uevent of the subsystem pci. Pure. */
bool hotplug_concerns_pci(const char *text, size_t len);

struct hotplug;
/* @on_change: something may have changed; often more than once for one change. */
struct hotplug *hotplug_new(struct loop *loop, const struct host *host,
                            void (*on_change)(void *arg), void *arg);
void hotplug_free(struct hotplug *hotplug); /* accepts NULL */
int hotplug_poll_ms(const struct hotplug *hotplug);
/* What the next comparison starts from is what the last look saw. hotplug_look_begins(): names, before the look reads
 * anything; hotplug_look_saw(): the drivers that it found. */
void hotplug_look_begins(struct hotplug *hotplug);
void hotplug_look_saw(struct hotplug *hotplug, const struct observed *observed);
/* hotplug_poll() - the cheap comparison; calls on_change when it differs from the last one. The caller has the timer, so
 * that one wake-up serves several purposes. */
void hotplug_poll(struct hotplug *hotplug);

#endif
