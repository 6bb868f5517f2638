/* The FUSE face of the node tree: one session, several worker threads, since writes to reset, unbind and remove
 * block as long as Linux blocks them. */
#ifndef CCN_SIMULATOR_TREE_TREEFS_H
#define CCN_SIMULATOR_TREE_TREEFS_H

#include "base/err.h"

/* treefs_mount() - at @dir, readable by everybody; answers only once treefs_serve() runs. */
int treefs_mount(const char *dir, struct err *err);
/* treefs_serve() - blocks until treefs_stop() or the mount is gone. */
int treefs_serve(struct err *err);
/* treefs_announce() - from now on device nodes come and go through the mount; treefs_serve() runs in another thread */
void treefs_announce(const char *dir);
void treefs_stop(void); /* any thread */
void treefs_unmount(void);

#endif
