/* Notices that the configuration file has another content: also as a ConfigMap volume, where kubelet swaps the symbolic
 * link "..data" of the directory and the file itself is never touched. Watches the directory of the path as given; where the node has no inotify
 * instance left, it says so and looks at the file every ten seconds.
 */
#ifndef CCN_AGENT_RELOAD_H
#define CCN_AGENT_RELOAD_H

#include "base/loop.h"

struct reload;
/* @on_change: once things have been quiet for 100 ms, so that a file being written is read when it is whole. */
struct reload *reload_new(struct loop *loop, const char *path, void (*on_change)(void *arg),
                          void *arg);
void reload_free(struct reload *reload); /* accepts NULL */

#endif
