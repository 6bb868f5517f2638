/* Directories of the host in which something came, went or was written: one inotify instance for several directories.
 *
 * On busy nodes other programs use up what one user may have (fs.inotify.max_user_instances, 128 by default), and a
 * directory may not be there yet: who watches has to look by itself now and then, and adds its directories at every look.
 */
#ifndef CCN_BASE_DIR_WATCH_H
#define CCN_BASE_DIR_WATCH_H

#include <stdbool.h>

#include "base/host.h"
#include "base/loop.h"

struct dir_watch;
/* @on_change: from the loop, once for what came together; which directory is not told. */
struct dir_watch *dir_watch_new(struct loop *loop, const struct host *host,
                                void (*on_change)(void *arg), void *arg);
void dir_watch_free(struct dir_watch *watch); /* accepts NULL */
/* dir_watch_ignore() - files whose coming, going and changing is nobody's business; a name as in the directory */
void dir_watch_ignore(struct dir_watch *watch, bool (*is_noise)(const char *name));
/* dir_watch_add() - one that is watched already stays watched. Return: whether it is. */
bool dir_watch_add(struct dir_watch *watch, const char *dir);

#endif
