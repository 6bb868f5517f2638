#include "node-agent/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/bytes.h"

static int parse_unix(const char *path, struct listen_address *ret, struct err *err)
{
    if (path[0] != '/' || strlen(path) >= sizeof ret->u.un.sun_path)
        return err_set(err, EINVAL,
                       "\"unix:%.120s\": the path must begin with / and be shorter than %zu "
                       "characters",
                       path, sizeof ret->u.un.sun_path);
    *ret = (struct listen_address){.len = sizeof ret->u.un};
    ret->u.un.sun_family = AF_UNIX;
    memcpy(ret->u.un.sun_path, path, strlen(path) + 1);
    return 0;
}

int listen_parse(const char *text, struct listen_address *ret, struct err *err)
{
    static const char allowed[] =
        "allowed: 127.0.0.1:9408, [::1]:9408, :9408 (all addresses), unix:/path";
    char host[64] = "";
    uint64_t port;
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, ret, err);
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (!colon || len >= sizeof host || !colon[1] || strspn(colon + 1, "0123456789") > 5 ||
        colon[1 + strspn(colon + 1, "0123456789")] || parse_u64(colon + 1, 65535, &port, err) < 0)
        return err_set(err, EINVAL, "listen address \"%.80s\" has no valid port; %s", text,
                       allowed);
    memcpy(host, text, len);
    host[len] = 0;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
    if (bracketed)
        host[len - 1] = 0;
    struct listen_address a = {0};
    if (len == 0 || (bracketed && inet_pton(AF_INET6, host + 1, &v6.sin6_addr) == 1)) {
        memcpy(&a.u, &v6, sizeof v6); /* all addresses: IPv6 socket that takes IPv4 as well */
        a.len = sizeof v6;
    } else if (!bracketed && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&a.u, &v4, sizeof v4);
        a.len = sizeof v4;
    } else {
        return err_set(err, EINVAL, "listen address \"%.80s\" is not a numeric address; %s", text,
                       allowed);
    }
    *ret = a;
    return 0;
}

/* A socket file that nobody serves is a leftover of a killed process; anything else stays. */
static void remove_stale(const struct listen_address *a)
{
    struct stat st;
    if (lstat(a->u.un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, &a->u.any, a->len) < 0 && errno == ECONNREFUSED)
        (void)unlink(a->u.un.sun_path);
}

int listen_open(const struct listen_address *a, const char *text, struct err *err)
{
    static const int on = 1, off = 0;
    int family = a->u.any.sa_family;
    AUTO_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct listen_address bound = *a;
    if (fd < 0 && family == AF_INET6 && errno == EAFNOSUPPORT && text[0] == ':') {
        /* a kernel without IPv6: all IPv4 addresses */
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        v4.sin_port = ((const struct sockaddr_in6 *)(const void *)&a->u)->sin6_port;
        memcpy(&bound.u, &v4, sizeof v4);
        bound.len = sizeof v4;
        family = AF_INET;
        fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    if (fd < 0)
        return err_errno(err, "socket for %s", text);
    if (family == AF_UNIX)
        remove_stale(a);
    else
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, text[0] == ':' ? &off : &on, sizeof on);
    mode_t mask = umask(0117); /* 0660; one thread binds at start */
    int r = bind(fd, &bound.u.any, bound.len);
    int saved = errno;
    (void)umask(mask);
    errno = saved;
    if (r < 0)
        return err_errno(err, "cannot listen on %s", text);
    if (listen(fd, 32) < 0)
        return err_errno(err, "listen on %s", text);
    return TAKE_FD(fd);
}

char *listen_text(int fd)
{
    struct listen_address a = {.len = sizeof a.u};
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, &a.u.any, &a.len) < 0)
        return xstrdup("?");
    if (a.u.any.sa_family == AF_UNIX)
        return xasprintf("unix:%s", a.u.un.sun_path);
    if (a.u.any.sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &a.u, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
        return xasprintf("%s:%u", host, ntohs(v4.sin_port));
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, &a.u, sizeof v6);
    (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
    return xasprintf("[%s]:%u", host, ntohs(v6.sin6_port));
}
