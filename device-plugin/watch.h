/* What changes in kubelet's directory: its socket, our sockets. */
#ifndef CCN_DEVICE_PLUGIN_WATCH_H
#define CCN_DEVICE_PLUGIN_WATCH_H

#include <stdbool.h>

#include "base/host.h"
#include "base/loop.h"

struct dp_watch;
/* dp_watch_new() - @cb: a file of that name came or went; NULL: anything may have changed (overflow, directory gone) */
struct dp_watch *dp_watch_new(struct loop *loop, const struct host *host, const char *dir,
                              void (*cb)(void *arg, const char *name), void *arg);
/* dp_watch_try() - watch, if it does not already. Return: it does */
bool dp_watch_try(struct dp_watch *watch);
void dp_watch_free(struct dp_watch *watch); /* accepts NULL; not from its callback */

#endif
