/* The relay: one thread that waits for gRPC and hands what is done to the loop. gRPC core does I/O only while
 * somebody waits in the completion queue, and offers no descriptor that a loop could watch. A unary call that comes while
 * the loop sleeps is answered by the relay itself, with the loop borrowed: the way to the loop and back would cost two
 * switches between threads, more than all the rest of the call. */
#include "base/rpc.h"

#include <errno.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/support/log.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/rpc_clock.h"
#include "base/rpc_internal.h"

/* What gRPC wants to tell, mostly about peers that break the protocol: what concerns us comes as a status as well. */
static void grpc_says(gpr_log_func_args *args)
{
    log_debug("gRPC says", "text", args->message, NULL);
}

static void wake(const struct rpc *rpc)
{
    uint64_t one = 1;
    if (write(rpc->wake_fd, &one, sizeof one) != sizeof one)
        abort(); /* an eventfd of our own with room for 2^64 - 2 */
}

void rpc_deliver(struct rpc *rpc, struct rpc_tag *tag, bool ok)
{
    tag->ok = ok;
    tag->next = NULL;
    (void)pthread_mutex_lock(&rpc->lock);
    bool needed = !rpc->woken && (!tag->lazy || rpc->eager > 0);
    rpc->woken |= needed;
    *rpc->ready_end = tag;
    rpc->ready_end = &tag->next;
    (void)pthread_mutex_unlock(&rpc->lock);
    if (needed)
        wake(rpc);
}

void rpc_eager(struct rpc *rpc, int change)
{
    (void)pthread_mutex_lock(&rpc->lock);
    rpc->eager += change;
    bool needed = rpc->eager > 0 && rpc->ready && !rpc->woken;
    rpc->woken |= needed;
    (void)pthread_mutex_unlock(&rpc->lock);
    if (needed)
        wake(rpc);
}

static void run_ready(struct rpc *rpc)
{
    (void)pthread_mutex_lock(&rpc->lock);
    struct rpc_tag *tag = rpc->ready;
    rpc->woken = false;
    rpc->ready = NULL;
    rpc->ready_end = &rpc->ready;
    (void)pthread_mutex_unlock(&rpc->lock);
    while (tag) {
        struct rpc_tag *next = tag->next; /* fn frees the tag or starts it again */
        tag->fn(tag->owner, tag->ok);
        tag = next;
    }
}

/* What waits already is the loop's, in its order, except lazy ends of such calls, which go along. */
static bool run_here(struct rpc *rpc, struct rpc_tag *tag, bool ok)
{
    if (!tag->here || !loop_borrow(rpc->loop))
        return false;
    (void)pthread_mutex_lock(&rpc->lock);
    bool mine = !rpc->woken && rpc->eager == 0;
    if (mine) {
        tag->ok = ok;
        tag->next = NULL;
        *rpc->ready_end = tag;
        rpc->ready_end = &tag->next;
    }
    (void)pthread_mutex_unlock(&rpc->lock);
    if (mine)
        run_ready(rpc);
    loop_give_back(rpc->loop);
    return mine;
}

static void *relay(void *arg)
{
    struct rpc *rpc = arg;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(rpc->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (!run_here(rpc, event.tag, event.success))
            rpc_deliver(rpc, event.tag, event.success);
    }
}

static void dispatch(void *arg, int fd, uint32_t events)
{
    struct rpc *rpc = arg;
    (void)events;
    uint64_t n;
    if (read(fd, &n, sizeof n) == sizeof n)
        run_ready(rpc);
}

struct rpc *rpc_new(struct loop *loop, struct err *err)
{
    gpr_set_log_function(grpc_says);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        (void)err_errno(err, "make an eventfd for gRPC");
        return NULL;
    }
    rpc_clock_begin();
    grpc_init();
    struct rpc *rpc = xcalloc(1, sizeof *rpc);
    *rpc = (struct rpc){.loop = loop, .wake_fd = fd, .holder = grpc_server_create(NULL, NULL)};
    rpc_clock_settle();
    rpc->ready_end = &rpc->ready;
    (void)pthread_mutex_init(&rpc->lock, NULL);
    rpc->cq = grpc_completion_queue_create_for_next(NULL);
    int r = pthread_create(&rpc->thread, NULL, relay, rpc);
    if (r != 0) {
        (void)err_set(err, r, "start the gRPC thread: %s", strerror(r));
        grpc_server_destroy(rpc->holder);
        grpc_completion_queue_shutdown(rpc->cq);
        grpc_completion_queue_destroy(rpc->cq);
        grpc_shutdown();
        (void)close(fd);
        free(rpc);
        return NULL;
    }
    rpc->source = loop_add_fd(loop, fd, EPOLLIN, dispatch, rpc);
    return rpc;
}

void rpc_free(struct rpc *rpc)
{
    if (!rpc)
        return;
    for (struct rpc_server *server = rpc->servers, *next; server; server = next) {
        next = rpc_server_next(server);
        rpc_server_kill(server);
    }
    while (rpc->calls)
        rpc_cancel(rpc->calls);
    while (rpc->pending > 0) {
        struct pollfd wait = {.fd = rpc->wake_fd, .events = POLLIN};
        (void)poll(&wait, 1, -1);
        dispatch(rpc, rpc->wake_fd, EPOLLIN);
    }
    loop_remove_fd(rpc->source);
    grpc_server_destroy(rpc->holder);
    grpc_completion_queue_shutdown(rpc->cq);
    (void)pthread_join(rpc->thread, NULL);
    grpc_completion_queue_destroy(rpc->cq);
    grpc_shutdown();
    (void)close(rpc->wake_fd);
    (void)pthread_mutex_destroy(&rpc->lock);
    free(rpc);
}

void rpc_start(grpc_call *call, const grpc_op *ops, size_t n, struct rpc_tag *tag)
{
    if (grpc_call_start_batch(call, ops, n, tag, NULL) != GRPC_CALL_OK)
        abort();
}

grpc_arg rpc_arg(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .value.integer = value};
    memcpy(&arg.key, &key, sizeof key);
    return arg;
}

bool rpc_bytes(grpc_byte_buffer *buffer, grpc_slice *ret_slice, const uint8_t **ret, size_t *ret_n)
{
    grpc_byte_buffer_reader reader;
    if (!buffer || !grpc_byte_buffer_reader_init(&reader, buffer))
        return false;
    *ret_slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    *ret = GRPC_SLICE_START_PTR(*ret_slice);
    *ret_n = GRPC_SLICE_LENGTH(*ret_slice);
    return true;
}

grpc_byte_buffer *rpc_buffer(uint8_t *data, size_t n)
{
    grpc_slice slice = data ? grpc_slice_new(data, n, free) : grpc_empty_slice();
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}
