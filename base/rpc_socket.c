/* Unix sockets below a host root. Names are reached through /proc/self/fd, which is short, stays inside the root and
 * names one directory for bind, rename and unlink. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "base/rpc_internal.h"

static int set_address(struct sockaddr_un *address, int fd, const char *name, struct err *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d%s%s", fd,
                     name ? "/" : "", name ? name : "");
    if (n < 0 || (size_t)n >= sizeof address->sun_path)
        return err_set(err, ENAMETOOLONG, "socket name \"%.80s…\" is too long for a unix socket",
                       name);
    return 0;
}

/* A listening socket under a name that nobody looks for. */
static int listen_hidden(int dir_fd, const char *hidden, struct err *err)
{
    struct sockaddr_un address;
    int r = set_address(&address, dir_fd, hidden, err);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "make a socket");
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return err_errno(err, "bind socket %s", hidden);
    if (fchmodat(dir_fd, hidden, 0600, 0) < 0 || listen(fd, 16) < 0) {
        r = err_errno(err, "listen on socket %s", hidden);
        (void)unlinkat(dir_fd, hidden, 0);
        return r;
    }
    return TAKE_FD(fd);
}

int rpc_socket_listen(const struct host *host, const char *dir, const char *name,
                      struct rpc_socket_id *ret, struct err *err)
{
    AUTO_CLOSE int dir_fd = host_open_dir(host, dir, err);
    if (dir_fd < 0)
        return dir_fd;
    fs_remove_stale(host, dir, name, "");
    AUTO_FREE char *hidden = xasprintf(".%s.%d", name, (int)getpid());
    AUTO_CLOSE int fd = listen_hidden(dir_fd, hidden, err);
    if (fd < 0)
        return err_wrap(err, fd, "in %s", dir);
    struct stat st;
    if (fstatat(dir_fd, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        renameat(dir_fd, hidden, dir_fd, name) < 0) {
        int r = err_errno(err, "publish socket %s/%s", dir, name);
        (void)unlinkat(dir_fd, hidden, 0);
        return r;
    }
    *ret = (struct rpc_socket_id){.dev = st.st_dev, .ino = st.st_ino};
    return TAKE_FD(fd);
}

static bool is_there(int dir_fd, const char *name, const struct rpc_socket_id *id)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == id->dev &&
           st.st_ino == id->ino;
}

bool rpc_socket_is(const struct host *host, const char *dir, const char *name,
                   const struct rpc_socket_id *id)
{
    struct err err;
    AUTO_CLOSE int dir_fd = host_open_dir(host, dir, &err);
    return dir_fd >= 0 && is_there(dir_fd, name, id);
}

void rpc_socket_unlink(const struct host *host, const char *dir, const char *name,
                       const struct rpc_socket_id *id)
{
    struct err err;
    AUTO_CLOSE int dir_fd = host_open_dir(host, dir, &err);
    if (dir_fd >= 0 && is_there(dir_fd, name, id))
        (void)unlinkat(dir_fd, name, 0);
}

int rpc_socket_accept(int listen_fd)
{
    AUTO_CLOSE int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? -EAGAIN : -errno;
    struct ucred peer = {0};
    socklen_t n = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 ||
        (peer.uid != 0 && peer.uid != geteuid()))
        return -EPERM;
    return TAKE_FD(fd);
}

int rpc_socket_connect(const struct host *host, const char *path, struct err *err)
{
    AUTO_CLOSE int file = host_openat(host, path, O_PATH, err);
    if (file < 0)
        return file;
    struct stat st;
    if (fstat(file, &st) < 0 || !S_ISSOCK(st.st_mode))
        return err_set(err, ENOTSOCK, "%s is not a socket", path);
    struct sockaddr_un address;
    int r = set_address(&address, file, NULL, err);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "make a socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return TAKE_FD(fd);
    if (errno == EAGAIN) /* unix(7): the backlog is full */
        return err_set(err, ECONNREFUSED, "%s does not take connections: its queue is full", path);
    return err_errno(err, "connect to %s", path);
}
