/* A server: our listening socket, gRPC behind it. */
#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/rpc_internal.h"

#define MAX_STREAMS 64 /* open calls per connection */
#define STOP_PATIENCE_MS                                                                           \
    150 /* for peers to close their connections; then as long for calls that still run */
#define ACCEPT_PAUSE_MS 100 /* out of descriptors: do not spin */

/* A request for the next call of one method, or (method NULL) of any unknown one. Always armed: what no request
 * waits for would hang until the client's deadline. */
struct slot {
    struct rpc_tag tag;
    struct rpc_server *server;
    const struct rpc_method *method;
    void *registered;
    grpc_call *call;
    grpc_metadata_array metadata;
    grpc_call_details details;
    gpr_timespec deadline;
    grpc_byte_buffer *payload;
};

/* A connection, watched through a second descriptor: gRPC does not tell when it closes one. */
struct connection {
    struct rpc_server *server;
    struct connection *prev, *next;
    struct loop_fd *source;
    int fd;
};

struct unary {
    struct rpc_tag tag;
    struct rpc_server *server;
    grpc_call *call;
    int cancelled;
};

struct rpc_stream {
    struct rpc_server *server;
    struct rpc_stream *prev, *next;
    grpc_call *call;
    void *data;
    struct rpc_tag opened, sent, finished, closed;
    int pending;   /* batches that gRPC holds */
    int cancelled; /* written by gRPC */
    bool sending, gone;
    bool finish, finishing; /* wanted; handed to gRPC */
    enum rpc_status status;
    char text[RPC_MAX_TEXT];
    uint8_t *next_data; /* the newest state not yet handed to gRPC */
    size_t next_n;
    bool next_valid;
};

struct rpc_server {
    struct rpc *rpc;
    struct rpc_server *prev, *next;
    const struct host *host;
    const char *dir, *name;
    const struct rpc_service *service; /* NULL: killed */
    int listen_fd;
    struct loop_fd *source;
    struct loop_timer *accept_pause, *stop_limit;
    struct rpc_socket_id id;
    grpc_server *server;
    size_t n_slots;
    struct slot *slots;
    struct connection *connections;
    size_t n_connections;
    struct rpc_stream *streams;
    int held;      /* slots, calls and the shutdown that gRPC still holds */
    bool stopping; /* no new calls */
    bool shutting; /* gRPC was told */
    struct rpc_tag shutdown;
    void (*done)(void *arg);
    void *done_arg;
};

struct rpc_server *rpc_server_next(struct rpc_server *server)
{
    return server->next;
}

/* ---- end ---- */

static void close_connection(struct connection *c)
{
    struct rpc_server *server = c->server;
    loop_remove_fd(c->source);
    (void)close(c->fd);
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        server->connections = c->next;
    server->n_connections--;
    free(c);
}

static void release(struct rpc_server *server)
{
    if (--server->held > 0)
        return;
    loop_cancel(server->stop_limit);
    rpc_eager(server->rpc, -1);
    while (server->connections)
        close_connection(server->connections);
    grpc_server_destroy(server->server);
    if (server->next)
        server->next->prev = server->prev;
    if (server->prev)
        server->prev->next = server->next;
    else
        server->rpc->servers = server->next;
    server->rpc->pending--;
    void (*done)(void *arg) = server->service ? server->done : NULL;
    void *arg = server->done_arg;
    free(server->slots);
    free(server);
    if (done)
        done(arg);
}

/* ---- unary ---- */

static void unary_done(void *owner, bool ok)
{
    struct unary *u = owner;
    (void)ok;
    grpc_call_unref(u->call);
    release(u->server);
    free(u);
}

/* Takes over the call and answer->data. */
static void answer_call(struct rpc_server *server, grpc_call *call, struct rpc_answer *answer)
{
    struct unary *u = xcalloc(1, sizeof *u);
    *u = (struct unary){.server = server, .call = call};
    u->tag = (struct rpc_tag){.fn = unary_done, .owner = u, .lazy = true, .here = true};
    server->held++;
    answer->text[sizeof answer->text - 1] = '\0';
    grpc_slice text = grpc_slice_from_copied_string(answer->text);
    grpc_byte_buffer *message = NULL;
    grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                      {.op = GRPC_OP_RECV_CLOSE_ON_SERVER},
                      {.op = GRPC_OP_SEND_STATUS_FROM_SERVER}};
    size_t n = 3;
    ops[1].data.recv_close_on_server.cancelled = &u->cancelled;
    ops[2].data.send_status_from_server.status = (grpc_status_code)answer->status;
    ops[2].data.send_status_from_server.status_details = &text;
    if (answer->status == RPC_OK) {
        message = rpc_buffer(TAKE(answer->data), answer->n);
        ops[3].op = GRPC_OP_SEND_MESSAGE;
        ops[3].data.send_message.send_message = message;
        n = 4;
    }
    rpc_start(call, ops, n, &u->tag);
    if (message)
        grpc_byte_buffer_destroy(message);
    grpc_slice_unref(text);
    free(TAKE(answer->data));
}

static void refuse(struct rpc_server *server, grpc_call *call, enum rpc_status status,
                   const char *text)
{
    struct rpc_answer answer = {.status = status};
    (void)snprintf(answer.text, sizeof answer.text, "%s", text);
    answer_call(server, call, &answer);
}

/* ---- streams ---- */

static void free_stream_when_done(struct rpc_stream *s)
{
    if (s->pending > 0 || !s->gone)
        return;
    grpc_call_unref(s->call);
    free(s->next_data);
    release(s->server);
    free(s);
}

static void stream_batch(struct rpc_stream *s, const grpc_op *op, struct rpc_tag *tag)
{
    s->pending++;
    rpc_start(s->call, op, 1, tag);
}

/* Hands on what may be handed on now: one message at a time, the status last. */
static void stream_push(struct rpc_stream *s)
{
    if (s->sending || s->gone || s->finishing)
        return;
    if (s->next_valid) {
        grpc_byte_buffer *message = rpc_buffer(TAKE(s->next_data), s->next_n);
        grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
        op.data.send_message.send_message = message;
        s->next_valid = false;
        s->sending = true;
        stream_batch(s, &op, &s->sent);
        grpc_byte_buffer_destroy(message);
    } else if (s->finish) {
        grpc_slice text = grpc_slice_from_copied_string(s->text);
        grpc_op op = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
        op.data.send_status_from_server.status = (grpc_status_code)s->status;
        op.data.send_status_from_server.status_details = &text;
        s->finishing = true;
        stream_batch(s, &op, &s->finished);
        grpc_slice_unref(text);
    }
}

static void stream_sent(void *owner, bool ok)
{
    struct rpc_stream *s = owner;
    (void)ok; /* a failure is followed by stream_closed */
    s->pending--;
    s->sending = false;
    stream_push(s);
    free_stream_when_done(s);
}

static void stream_batch_done(void *owner, bool ok)
{
    struct rpc_stream *s = owner;
    (void)ok;
    s->pending--;
    free_stream_when_done(s);
}

static void stream_closed(void *owner, bool ok)
{
    struct rpc_stream *s = owner;
    struct rpc_server *server = s->server;
    (void)ok;
    s->pending--;
    s->gone = true;
    if (s->next)
        s->next->prev = s->prev;
    if (s->prev)
        s->prev->next = s->next;
    else
        server->streams = s->next;
    if (server->service && server->service->closed)
        server->service->closed(server->service->arg, s);
    free_stream_when_done(s);
}

static struct rpc_stream *stream_new(struct rpc_server *server, grpc_call *call)
{
    struct rpc_stream *s = xcalloc(1, sizeof *s);
    *s = (struct rpc_stream){.server = server, .next = server->streams, .call = call};
    s->opened = (struct rpc_tag){.fn = stream_batch_done, .owner = s};
    s->sent = (struct rpc_tag){.fn = stream_sent, .owner = s};
    s->finished = (struct rpc_tag){.fn = stream_batch_done, .owner = s};
    s->closed = (struct rpc_tag){.fn = stream_closed, .owner = s};
    if (s->next)
        s->next->prev = s;
    server->streams = s;
    server->held++;
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    close.data.recv_close_on_server.cancelled = &s->cancelled;
    stream_batch(s, &close, &s->closed);
    grpc_op head = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    stream_batch(s, &head, &s->opened);
    return s;
}

void rpc_stream_send(struct rpc_stream *stream, const uint8_t *data, size_t n)
{
    free(stream->next_data);
    stream->next_data = n ? xmalloc(n) : NULL;
    if (n)
        memcpy(stream->next_data, data, n);
    stream->next_n = n;
    stream->next_valid = true;
    stream_push(stream);
}

void rpc_stream_finish(struct rpc_stream *stream, enum rpc_status status, const char *text)
{
    if (stream->finish)
        return;
    stream->finish = true;
    stream->status = status;
    (void)snprintf(stream->text, sizeof stream->text, "%s", text ? text : "");
    stream_push(stream);
}

void *rpc_stream_data(const struct rpc_stream *stream)
{
    return stream->data;
}

void rpc_stream_set_data(struct rpc_stream *stream, void *data)
{
    stream->data = data;
}

/* ---- incoming calls ---- */

static void arm(struct slot *slot)
{
    struct rpc_server *server = slot->server;
    grpc_metadata_array_init(&slot->metadata);
    slot->call = NULL;
    slot->payload = NULL;
    server->held++;
    grpc_call_error r;
    if (slot->method) {
        r = grpc_server_request_registered_call(server->server, slot->registered, &slot->call,
                                                &slot->deadline, &slot->metadata, &slot->payload,
                                                server->rpc->cq, server->rpc->cq, &slot->tag);
    } else {
        grpc_call_details_init(&slot->details);
        r = grpc_server_request_call(server->server, &slot->call, &slot->details, &slot->metadata,
                                     server->rpc->cq, server->rpc->cq, &slot->tag);
    }
    if (r != GRPC_CALL_OK)
        abort();
}

static void serve(struct rpc_server *server, const struct rpc_method *method, grpc_call *call,
                  grpc_byte_buffer *payload)
{
    grpc_slice slice = grpc_empty_slice();
    const uint8_t *in = NULL;
    size_t n = 0;
    if (!method) {
        refuse(server, call, RPC_UNIMPLEMENTED, "unknown method");
    } else if (!server->service || server->stopping) {
        refuse(server, call, RPC_UNAVAILABLE, "stopping");
    } else if (!rpc_bytes(payload, &slice, &in, &n)) {
        refuse(server, call, RPC_INVALID_ARGUMENT,
               "request without a message, or one that is too large");
    } else if (method->unary) {
        struct rpc_answer answer = {0};
        method->unary(server->service->arg, in, n, &answer);
        answer_call(server, call, &answer);
    } else {
        method->opened(server->service->arg, stream_new(server, call), in, n);
    }
    grpc_slice_unref(slice);
}

static void call_arrived(void *owner, bool ok)
{
    struct slot *slot = owner;
    struct rpc_server *server = slot->server;
    grpc_call *call = slot->call;
    grpc_byte_buffer *payload = slot->payload;
    grpc_metadata_array_destroy(&slot->metadata);
    if (!slot->method)
        grpc_call_details_destroy(&slot->details);
    if (ok) {
        if (!server->shutting)
            arm(slot); /* before the service runs */
        serve(server, slot->method, call, payload);
    }
    if (payload)
        grpc_byte_buffer_destroy(payload);
    release(server);
}

/* ---- connections ---- */

static void begin_shutdown(struct rpc_server *server);

static void connection_ended(void *arg, int fd, uint32_t events)
{
    struct connection *c = arg;
    struct rpc_server *server = c->server;
    (void)fd;
    if (!(events & (EPOLLHUP | EPOLLERR)))
        return;
    close_connection(c);
    if (server->stopping && !server->shutting && server->n_connections == 0)
        begin_shutdown(server);
}

static void take_connection(struct rpc_server *server, int fd)
{
    int second = server->n_connections < RPC_MAX_CONNECTIONS ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (second < 0) {
        (void)close(fd);
        return;
    }
    struct connection *c = xcalloc(1, sizeof *c);
    *c = (struct connection){.server = server, .next = server->connections, .fd = second};
    if (c->next)
        c->next->prev = c;
    server->connections = c;
    server->n_connections++;
    c->source = loop_add_fd(server->rpc->loop, second, 0, connection_ended, c);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    grpc_server_add_channel_from_fd(server->server, fd, credentials);
    grpc_server_credentials_release(credentials);
}

static void resume_accepting(void *arg)
{
    struct rpc_server *server = arg;
    server->accept_pause = NULL;
    loop_change_fd(server->source, EPOLLIN);
}

static void connection_waits(void *arg, int fd, uint32_t events)
{
    struct rpc_server *server = arg;
    (void)events;
    int r = rpc_socket_accept(fd);
    if (r >= 0) {
        take_connection(server, r);
    } else if (r != -EAGAIN && r != -EPERM) {
        loop_change_fd(server->source, 0);
        server->accept_pause =
            loop_add_timer(server->rpc->loop, ACCEPT_PAUSE_MS, resume_accepting, server);
    }
}

/* ---- life ---- */

static void make_server(struct rpc_server *server)
{
    grpc_arg args[] = {
        rpc_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_MAX_REQUEST),
        rpc_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, MAX_STREAMS),
        rpc_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        rpc_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        /* bit 0: only uncompressed messages; what a small one can unpack to must not be the peer's choice */
        rpc_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
    };
    grpc_channel_args list = {ARRAY_LEN(args), args};
    const struct rpc_service *service = server->service;
    server->server = grpc_server_create(&list, NULL);
    grpc_server_register_completion_queue(server->server, server->rpc->cq, NULL);
    server->n_slots = service->n_methods + 1;
    server->slots = xcalloc(server->n_slots, sizeof *server->slots);
    for (size_t i = 0; i < server->n_slots; i++) {
        struct slot *slot = &server->slots[i];
        *slot = (struct slot){.server = server};
        slot->tag = (struct rpc_tag){
            .fn = call_arrived, .owner = slot, .here = slot->method && slot->method->unary};
        if (i == service->n_methods)
            break;
        slot->method = &service->methods[i];
        slot->tag.here = slot->method->unary != NULL;
        slot->registered = grpc_server_register_method(
            server->server, slot->method->path, NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    }
    grpc_server_start(server->server);
    for (size_t i = 0; i < server->n_slots; i++)
        arm(&server->slots[i]);
}

struct rpc_server *rpc_listen(struct rpc *rpc, const struct host *host, const char *dir,
                              const char *name, const struct rpc_service *service, struct err *err)
{
    struct rpc_socket_id id;
    int fd = rpc_socket_listen(host, dir, name, &id, err);
    if (fd < 0)
        return NULL;
    struct rpc_server *server = xcalloc(1, sizeof *server);
    *server = (struct rpc_server){.rpc = rpc,
                                  .next = rpc->servers,
                                  .host = host,
                                  .dir = dir,
                                  .name = name,
                                  .service = service,
                                  .listen_fd = fd,
                                  .id = id};
    if (server->next)
        server->next->prev = server;
    rpc->servers = server;
    rpc->pending++;
    make_server(server);
    server->source = loop_add_fd(rpc->loop, fd, EPOLLIN, connection_waits, server);
    return server;
}

enum rpc_presence rpc_server_presence(const struct rpc_server *server)
{
    if (rpc_socket_is(server->host, server->dir, server->name, &server->id))
        return RPC_SOCKET_OURS;
    struct err err;
    AUTO_FREE char *path = xasprintf("%s/%s", server->dir, server->name);
    AUTO_CLOSE int fd = rpc_socket_connect(server->host, path, &err);
    return fd >= 0 ? RPC_SOCKET_TAKEN : RPC_SOCKET_GONE;
}

static void stop_listening(struct rpc_server *server)
{
    loop_cancel(TAKE(server->accept_pause));
    loop_remove_fd(TAKE(server->source));
    (void)close(server->listen_fd);
}

int rpc_server_rebind(struct rpc_server *server, struct err *err)
{
    struct rpc_socket_id id;
    int fd = rpc_socket_listen(server->host, server->dir, server->name, &id, err);
    if (fd < 0)
        return fd;
    stop_listening(server);
    server->id = id;
    server->listen_fd = fd;
    server->source = loop_add_fd(server->rpc->loop, fd, EPOLLIN, connection_waits, server);
    return 0;
}

static void shut_down(void *owner, bool ok)
{
    (void)ok;
    release(owner);
}

static void cut_off(void *arg)
{
    struct rpc_server *server = arg;
    server->stop_limit = NULL;
    grpc_server_cancel_all_calls(server->server);
}

static void begin_shutdown(struct rpc_server *server)
{
    server->shutting = true;
    server->shutdown = (struct rpc_tag){.fn = shut_down, .owner = server};
    server->held++;
    loop_cancel(TAKE(server->stop_limit));
    server->stop_limit = loop_add_timer(server->rpc->loop, STOP_PATIENCE_MS, cut_off, server);
    grpc_server_shutdown_and_notify(server->server, server->rpc->cq, &server->shutdown);
}

static void no_more_patience(void *arg)
{
    struct rpc_server *server = arg;
    server->stop_limit = NULL;
    begin_shutdown(server);
}

static void begin_stop(struct rpc_server *server)
{
    server->stopping = true;
    rpc_eager(server->rpc, 1);
    rpc_socket_unlink(server->host, server->dir, server->name, &server->id);
    stop_listening(server);
}

/* gRPC's shutdown sends GOAWAY and PING, after which some peers look at nothing any more, not even at what came before.
 * So the streams end first, and a peer that closes its connection then has seen all. */
void rpc_server_stop(struct rpc_server *server, void (*done)(void *arg), void *arg)
{
    if (server->stopping)
        return;
    server->done = done;
    server->done_arg = arg;
    for (struct rpc_stream *s = server->streams; s; s = s->next)
        rpc_stream_finish(s, RPC_OK, NULL);
    begin_stop(server);
    if (server->n_connections == 0)
        begin_shutdown(server);
    else
        server->stop_limit =
            loop_add_timer(server->rpc->loop, STOP_PATIENCE_MS, no_more_patience, server);
}

void rpc_server_kill(struct rpc_server *server)
{
    server->service = NULL;
    if (!server->stopping)
        begin_stop(server);
    if (!server->shutting)
        begin_shutdown(server);
    loop_cancel(TAKE(server->stop_limit));
    grpc_server_cancel_all_calls(server->server);
}
