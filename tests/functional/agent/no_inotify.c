/* Preloaded into ccnode-agent: the instances of inotify that the machine allows a user are used up by others. */
#include <errno.h>
#include <sys/inotify.h>

int inotify_init1(int flags)
{
    (void)flags;
    errno = EMFILE;
    return -1;
}
