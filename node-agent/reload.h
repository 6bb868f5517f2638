/* Notices that the configuration file has another content: also as a ConfigMap volume, where kubelet swaps the symbolic
 * link "..data" of the directory and the file itself is never touched. Watches the directory of the path as given.
 */
#ifndef CCN_AGENT_RELOAD_H
#define CCN_AGENT_RELOAD_H

#include "base/err.h"
#include "base/loop.h"

struct reload;
/* @on_change: once things have been quiet for 100 ms, so that a file being written is read when it is whole.
 * Return: NULL when the directory cannot be watched. */
struct reload *reload_new(struct loop *loop, const char *path, void (*on_change)(void *arg),
                          void *arg, struct err *err);
void reload_free(struct reload *reload); /* accepts NULL */

#endif
