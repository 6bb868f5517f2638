/* The host as an object: where its root is, and what time it is there.
 *
 * Every path that names something of the host (sys, dev, proc, run, var, etc) is resolved below one root
 * directory, also through absolute symbolic links (openat2 RESOLVE_IN_ROOT: a link to "/run" inside the host
 * tree stays inside it). Nothing is global: two hosts can live in one process. Read-only after host_open();
 * may be shared between threads.
 */
#ifndef CCN_BASE_HOST_H
#define CCN_BASE_HOST_H

#include <stdint.h>

#include "base/err.h"

struct host {
    int root_fd; /* O_PATH */
    const char
        *root; /* text of the root, "/" or without a slash at the end; borrowed from host_open() */
    int64_t (*now_ms)(void *arg); /* monotonic clock */
    void *clock_arg;
};

/**
 * host_open() - the host below @root
 * @root: kept by reference, must outlive the host
 * Return: 0; -errno when @root cannot be opened as a directory.
 */
int host_open(struct host *host, const char *root, struct err *err);
void host_close(struct host *host);

/* host_now_ms() - monotonic milliseconds of this host's clock */
int64_t host_now_ms(const struct host *host);

/**
 * host_openat() - open @path ("/sys/…", leading slashes ignored) below the root
 * @flags: as open(2); O_CLOEXEC is added
 * Return: fd; -errno with a message that quotes the path.
 */
int host_openat(const struct host *host, const char *path, int flags, struct err *err);

/* host_open_dir() - O_PATH directory fd of @path; for the *at() calls */
int host_open_dir(const struct host *host, const char *path, struct err *err);

/* host_path() - @path with the root in front, for messages and for children; the caller's */
char *host_path(const struct host *host, const char *path);

#endif
