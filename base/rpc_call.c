/* Unary calls: one connection, one channel, one batch each. */
#include <errno.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <string.h>

#include "base/auto.h"
#include "base/proto.h"
#include "base/rpc_internal.h"

struct rpc_call {
    struct rpc *rpc;
    struct rpc_call *prev, *next;
    struct rpc_tag tag;
    void (*cb)(void *arg, const struct rpc_result *result); /* NULL: cancelled */
    void *arg;
    char *socket, *method;
    size_t max_answer;
    grpc_channel *channel; /* NULL: connecting failed, connect_err says why */
    grpc_call *call;
    struct err connect_err;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *answer;
    grpc_status_code status;
    grpc_slice details;
};

static void unlink_call(struct rpc_call *c)
{
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        c->rpc->calls = c->next;
}

static void free_call(struct rpc_call *c)
{
    c->rpc->pending--;
    if (c->channel) {
        grpc_metadata_array_destroy(&c->initial);
        grpc_metadata_array_destroy(&c->trailing);
        if (c->answer)
            grpc_byte_buffer_destroy(c->answer);
        grpc_slice_unref(c->details);
        grpc_call_unref(c->call);
        grpc_channel_destroy(c->channel);
    }
    free(c->socket);
    free(c->method);
    free(c);
}

/* The peer's words, safe to print: cut, without control characters, and ASCII where they are not UTF-8 (any more). */
static void copy_text(char *ret, size_t room, grpc_slice details)
{
    const uint8_t *p = GRPC_SLICE_START_PTR(details);
    size_t n = GRPC_SLICE_LENGTH(details), i = 0;
    for (; i < n && i + 1 < room; i++)
        ret[i] = (char)(p[i] < 0x20 || p[i] == 0x7f ? ' ' : p[i]);
    ret[i] = '\0';
    bool good = text_utf8(ret, i);
    for (char *c = ret; !good && *c; c++)
        *c = (char)((uint8_t)*c < 0x80 ? *c : '?');
}

static int explain(const struct rpc_call *c, struct err *err)
{
    char text[300];
    copy_text(text, sizeof text, c->details);
    switch (c->status) {
    case GRPC_STATUS_DEADLINE_EXCEEDED:
        return err_set(err, ETIMEDOUT, "%s on %s: no answer in time", c->method, c->socket);
    case GRPC_STATUS_UNIMPLEMENTED:
        return err_set(err, ENOSYS, "%s on %s: not known there (%s)", c->method, c->socket, text);
    case GRPC_STATUS_UNAVAILABLE:
        return err_set(err, ECONNRESET, "%s on %s: connection lost (%s)", c->method, c->socket,
                       text);
    default:
        /* gRPC's own words, of our side about the answer or of the peer's about the request */
        if (strncmp(text, "Received message larger than max", 32) == 0)
            return err_set(err, EFBIG, "%s on %s: too large (%s)", c->method, c->socket, text);
        (void)err_set(err, EREMOTEIO, "%s on %s: %s: %s", c->method, c->socket,
                      rpc_status_name(c->status), text);
        err->device_status = c->status;
        return -EREMOTEIO;
    }
}

static void finished(void *owner, bool ok)
{
    struct rpc_call *c = owner;
    (void)
        ok; /* a client's batch with RECV_STATUS always succeeds; what happened is in the status */
    struct rpc_result result = {.err = c->connect_err, .status = RPC_UNAVAILABLE};
    grpc_slice slice = grpc_empty_slice();
    if (!c->cb) {
        free_call(c);
        return;
    }
    unlink_call(c);
    if (!c->channel) {
        result.r = -result.err.code;
    } else if (c->status != GRPC_STATUS_OK) {
        result.status = (enum rpc_status)c->status;
        result.r = explain(c, &result.err);
    } else if (!rpc_bytes(c->answer, &slice, &result.data, &result.n)) {
        result.r =
            err_set(&result.err, EBADMSG, "%s on %s: OK without a message", c->method, c->socket);
    } else {
        result.status = RPC_OK;
    }
    c->cb(c->arg, &result);
    grpc_slice_unref(slice);
    free_call(c);
}

static void start(struct rpc_call *c, int fd, const struct rpc_request *request)
{
    char authority[] = "localhost";
    grpc_arg args[] = {
        rpc_arg(GRPC_ARG_DEFAULT_AUTHORITY, 0),
        rpc_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)c->max_answer),
        rpc_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        rpc_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
    };
    args[0].type = GRPC_ARG_STRING;
    args[0].value.string = authority;
    grpc_channel_args list = {ARRAY_LEN(args), args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    c->channel = grpc_channel_create_from_fd("localhost", fd, credentials, &list);
    grpc_channel_credentials_release(credentials);
    gpr_timespec deadline = gpr_time_add(
        gpr_now(GPR_CLOCK_MONOTONIC),
        gpr_time_from_millis(request->timeout_ms > 0 ? request->timeout_ms : 1, GPR_TIMESPAN));
    grpc_slice method = grpc_slice_from_copied_string(c->method);
    c->call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->rpc->cq,
                                       method, NULL, deadline, NULL);
    grpc_slice_unref(method);
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    uint8_t *copy = request->n ? xmalloc(request->n) : NULL;
    if (copy)
        memcpy(copy, request->data, request->n);
    grpc_byte_buffer *message = rpc_buffer(copy, request->n);
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},  {.op = GRPC_OP_SEND_MESSAGE},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_MESSAGE},           {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};
    ops[1].data.send_message.send_message = message;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    ops[4].data.recv_message.recv_message = &c->answer;
    ops[5].data.recv_status_on_client.trailing_metadata = &c->trailing;
    ops[5].data.recv_status_on_client.status = &c->status;
    ops[5].data.recv_status_on_client.status_details = &c->details;
    rpc_start(c->call, ops, ARRAY_LEN(ops), &c->tag);
    grpc_byte_buffer_destroy(message);
}

struct rpc_call *rpc_call(struct rpc *rpc, const struct rpc_request *request,
                          void (*cb)(void *arg, const struct rpc_result *result), void *arg)
{
    struct rpc_call *c = xcalloc(1, sizeof *c);
    *c = (struct rpc_call){.rpc = rpc, .next = rpc->calls, .cb = cb, .arg = arg};
    c->tag = (struct rpc_tag){.fn = finished, .owner = c};
    c->socket = xstrdup(request->socket);
    c->method = xstrdup(request->method);
    c->max_answer = request->max_answer;
    if (c->next)
        c->next->prev = c;
    rpc->calls = c;
    rpc->pending++;
    int fd = rpc_socket_connect(request->host, request->socket, &c->connect_err);
    if (fd < 0)
        rpc_deliver(rpc, &c->tag, false);
    else
        start(c, fd, request);
    return c;
}

void rpc_cancel(struct rpc_call *call)
{
    if (!call || !call->cb)
        return;
    call->cb = NULL;
    unlink_call(call);
    if (call->call)
        (void)grpc_call_cancel(call->call, NULL);
}
