/* gRPC over unix sockets: a server for kubelet, calls to kubelet and to the container runtime. Bytes in, bytes out.
 *
 * Built on gRPC core's C API (libgrpc_unsecure). One relay thread waits for gRPC and hands events to the loop; every callback
 * below runs on the loop's thread, and every function is called there. One exception that no callback need care for: while
 * the loop sleeps, the relay borrows it (loop_borrow()) and runs rpc_method.unary itself; never are two of them at once.
 *
 * What gRPC core would do wrong is kept away from it: it never sees a path. We bind, listen, connect and unlink
 * ourselves, below the host root, also where the whole path is longer than sun_path (107 bytes, unix(7)), and unlink only
 * a socket that is still ours. Peers other than root and our own user are refused (SO_PEERCRED).
 *
 * Block the signals that loop_add_signal() is to deliver before rpc_new(): gRPC's threads inherit the mask. Start
 * children with posix_spawn() only: gRPC does not survive fork() without exec.
 *
 * Status numbers and the limits of a message: grpc/grpc doc/statuscodes.md; kubelet's client accepts 4 MiB.
 */
#ifndef CCN_BASE_RPC_H
#define CCN_BASE_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "base/loop.h"

#define RPC_MAX_REQUEST (256 * 1024) /* bytes of one message that a server of ours accepts */
#define RPC_MAX_TEXT 512       /* bytes of a status message, ours or theirs; longer ones are cut */
#define RPC_MAX_CONNECTIONS 32 /* per server; further ones are closed at once */

enum rpc_status {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
};
/* "OK", "NOT_FOUND", …; numbers outside the list are "UNKNOWN" as the specification wants. */
const char *rpc_status_name(uint32_t status);

struct rpc;
/**
 * rpc_new() - gRPC and its relay thread, for @loop
 * A process needs one. Return: NULL with @err when the thread cannot be started.
 */
struct rpc *rpc_new(struct loop *loop, struct err *err);
/* rpc_free() - cancels open calls and kills servers (no callback comes any more), ends the thread; waits some
 * milliseconds. Not from a callback of this module. Accepts NULL. */
void rpc_free(struct rpc *rpc);

/* ---- server ---- */

/* What a service answers to a unary call. Zeroed when it gets it: RPC_OK and no bytes is a complete answer. */
struct rpc_answer {
    enum rpc_status status;
    char text[RPC_MAX_TEXT]; /* for people, with a status other than RPC_OK; UTF-8 */
    uint8_t *data;           /* malloc'ed; the transport frees it */
    size_t n;
};

struct rpc_stream;

/* One method of a service. Exactly one of the two functions is set; both are pure of transport. */
struct rpc_method {
    const char *path; /* "/v1beta1.DevicePlugin/Allocate" */
    void (*unary)(void *arg, const uint8_t *in, size_t n, struct rpc_answer *answer);
    /* A server stream was asked for. It lives until closed() below has been called for it. */
    void (*opened)(void *arg, struct rpc_stream *stream, const uint8_t *in, size_t n);
};

struct rpc_service {
    size_t n_methods;
    const struct rpc_method
        *methods; /* other methods are answered UNIMPLEMENTED; kept by reference */
    /* The stream is gone, whoever ended it; @stream is invalid afterwards. May be NULL without streams. */
    void (*closed)(void *arg, struct rpc_stream *stream);
    void *arg;
};

struct rpc_server;
/**
 * rpc_listen() - serve @service on the socket @dir/@name below the host root (mode 0600)
 * It appears under its name only when it answers. Whatever was there is replaced in one step, also the socket of an old
 * instance that still runs (and will not unlink ours).
 * @host, @dir, @name, @service: kept by reference
 */
struct rpc_server *rpc_listen(struct rpc *rpc, const struct host *host, const char *dir,
                              const char *name, const struct rpc_service *service, struct err *err);
enum rpc_presence {
    RPC_SOCKET_OURS,
    RPC_SOCKET_GONE,  /* no file, or one behind which nobody listens */
    RPC_SOCKET_TAKEN, /* somebody else listens under the name: a newer instance */
};
enum rpc_presence rpc_server_presence(const struct rpc_server *server);
/* rpc_server_rebind() - a new socket under the same name, after someone removed it; connections and streams go on. */
int rpc_server_rebind(struct rpc_server *server, struct err *err);
/**
 * rpc_server_stop() - refuse new calls, end streams with OK, let running answers out, unlink the socket if it is ours
 * @done: once, from the loop, when nothing of the server is left; the server is then freed. May be NULL.
 */
void rpc_server_stop(struct rpc_server *server, void (*done)(void *arg), void *arg);
/* rpc_server_kill() - the same at once and without a word: no callback of the service (nor a done) comes any more. */
void rpc_server_kill(struct rpc_server *server);

/* rpc_stream_send() - one message. Streams carry states, not events: a message that could not be sent yet (the peer does
 * not read) is replaced by the newer one. @data is copied. */
void rpc_stream_send(struct rpc_stream *stream, const uint8_t *data, size_t n);
/* rpc_stream_finish() - end of the stream after what was sent; closed() follows. @text may be NULL. */
void rpc_stream_finish(struct rpc_stream *stream, enum rpc_status status, const char *text);
/* A place for the service: NULL until set. */
void *rpc_stream_data(const struct rpc_stream *stream);
void rpc_stream_set_data(struct rpc_stream *stream, void *data);

/* ---- calls ---- */

/* The end of a call; valid inside the callback only. */
struct rpc_result {
    int r;                  /* 0, or the negative code that is in err */
    enum rpc_status status; /* what the peer (or the transport) said */
    const uint8_t *data;    /* the answer's bytes when r == 0; may be NULL with n == 0 */
    size_t n;
    /* ENOENT no such socket, ECONNREFUSED nobody listens, ECONNRESET the peer went away or does not talk gRPC,
     * ETIMEDOUT silent until the deadline, ENOSYS it does not know the method (UNIMPLEMENTED), EREMOTEIO it said no (its
     * number in device_status, its text in the message), EFBIG more than allowed, EBADMSG no message. All name the
     * method and the socket. */
    struct err err;
};

struct rpc_request {
    const struct host *host;
    const char *socket; /* path below the host root: "/run/containerd/containerd.sock" */
    const char *method; /* "/runtime.v1.RuntimeService/Version" */
    const uint8_t *data;
    size_t n;
    int timeout_ms;    /* > 0; whole call, connecting included */
    size_t max_answer; /* bytes */
};

struct rpc_call;
/**
 * rpc_call() - a unary call on a connection of its own (a channel that failed once would back off for seconds)
 * @request: and what it points to: copied, but host
 * @cb: exactly once, from the loop, never from inside rpc_call(), unless rpc_cancel() came first
 * Return: handle, valid until the callback has been called.
 */
struct rpc_call *rpc_call(struct rpc *rpc, const struct rpc_request *request,
                          void (*cb)(void *arg, const struct rpc_result *result), void *arg);
/* rpc_cancel() - forget a call; its callback will not come. Accepts NULL. */
void rpc_cancel(struct rpc_call *call);

#endif
