/* Shared by the files of base/rpc*.c only. */
#ifndef CCN_BASE_RPC_INTERNAL_H
#define CCN_BASE_RPC_INTERNAL_H

#include <grpc/grpc.h>
#include <pthread.h>
#include <sys/types.h>

#include "base/rpc.h"

/* What gRPC hands back when something is done. Lives inside the thing that waits. */
struct rpc_tag {
    struct rpc_tag *next;
    void (*fn)(void *owner, bool ok);
    void *owner;
    bool ok;
    bool lazy; /* nobody waits for it: it goes along with the next one that matters */
    bool here; /* the relay thread may run it itself while the loop sleeps: unary calls */
};

struct rpc {
    struct loop *loop;
    struct loop_fd *source;
    int wake_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* of the four below */
    struct rpc_tag *ready, **ready_end;
    bool woken; /* wake_fd has been written */
    int eager;  /* servers that are ending: every tag counts */
    grpc_completion_queue *cq;
    grpc_server *
        holder; /* never used: keeps gRPC's event engine, which would come and go with each channel */
    struct rpc_server *servers; /* all, ending ones too */
    struct rpc_call *calls;     /* those whose callback is still to come */
    int pending;                /* servers and calls that gRPC still holds */
};

/* rpc_deliver() - from any thread: tag->fn on the loop's thread, later */
void rpc_deliver(struct rpc *rpc, struct rpc_tag *tag, bool ok);
/* rpc_eager() - +1 or -1: as long as the sum is positive nothing is lazy */
void rpc_eager(struct rpc *rpc, int change);
/* rpc_start() - a batch; what gRPC refuses is a mistake of ours and aborts. */
void rpc_start(grpc_call *call, const grpc_op *ops, size_t n, struct rpc_tag *tag);

/* rpc_arg() - a whole-number setting of a channel or server; gRPC wants the key without const and only reads it */
grpc_arg rpc_arg(const char *key, int value);

/* rpc_bytes() - contents of a received buffer, borrowed from @ret_slice; false when there is none. */
bool rpc_bytes(grpc_byte_buffer *buffer, grpc_slice *ret_slice, const uint8_t **ret, size_t *ret_n);
/* rpc_buffer() - malloc'ed bytes as a message; takes them over. */
grpc_byte_buffer *rpc_buffer(uint8_t *data, size_t n);

struct rpc_server *rpc_server_next(struct rpc_server *server);

/* A socket file of ours, recognised by its inode. */
struct rpc_socket_id {
    dev_t dev;
    ino_t ino;
};

/* rpc_socket_listen() - Return: listening, non-blocking descriptor, visible as @dir/@name; -errno */
int rpc_socket_listen(const struct host *host, const char *dir, const char *name,
                      struct rpc_socket_id *ret, struct err *err);
bool rpc_socket_is(const struct host *host, const char *dir, const char *name,
                   const struct rpc_socket_id *id);
/* rpc_socket_unlink() - only when it is the one; call before closing the listening descriptor, which pins the inode. */
void rpc_socket_unlink(const struct host *host, const char *dir, const char *name,
                       const struct rpc_socket_id *id);
/* rpc_socket_accept() - Return: descriptor; -EAGAIN nobody waits; -EPERM a peer of another user was turned away */
int rpc_socket_accept(int listen_fd);
int rpc_socket_connect(const struct host *host, const char *path, struct err *err);

#endif
