/* "127.0.0.1:9408", "[::1]:9408", ":9408", "unix:/run/x.sock" to a listening socket. */
#ifndef CCN_HTTP_LISTEN_H
#define CCN_HTTP_LISTEN_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

struct listen_address {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
        struct sockaddr_un un;
    } u;
    socklen_t len;
};

/* listen_parse() - pure; numeric addresses only (no names: what a name means can change). Return: 0, -EINVAL. */
int listen_parse(const char *text, struct listen_address *ret, struct err *err);

/* listen_open() - a stale unix socket (nobody answers there) is replaced. Return: fd, negative. */
int listen_open(const struct listen_address *address, const char *text, struct err *err);

/* listen_text() - where @fd listens; the caller's */
char *listen_text(int fd);

#endif
