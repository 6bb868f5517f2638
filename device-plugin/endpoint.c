#include "device-plugin/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "device-plugin/service.h"

#define REGISTER_TIMEOUT_MS 15000 /* kubelet dials us before it answers, for up to 10 s */
#define STREAM_TIMEOUT_MS 5000    /* Register answered, but nobody opens the list */
#define END_PATIENCE_MS 300       /* for the end of our own streams */
#define FLAP_MS 10000             /* a registration that ends sooner is suspicious */
#define FLAP_LIMIT_MS 60000
#define REFUSED_LIMIT_MS 30000
#define UNREACHABLE_FIRST_MS                                                                       \
    2 /* kubelet.sock is there before somebody listens, for some microseconds */
#define UNREACHABLE_LIMIT_MS 1000

/* When the list is sent once more after a registration. Kubelets of one generation mark our devices unhealthy when the
 * stream of an older registration of the same resource ends (that of the instance that we replace); it ends within
 * the grace period of a pod. Sending the same list again is harmless and puts it right. */
static const int refresh_after_ms[] = {2000, 30000, 150000};
/* Kubelet takes a list also from a plugin whose resource another one has registered: it would hide that one, who gets the
 * pods all the same. So whoever has made a socket is looked at first (kubelet_view.c: within 3 s). */
#define NEIGHBOUR_MS 5000

static void tell(const struct endpoint *e, enum dp_event_kind kind, const char *text)
{
    struct dp_event event = {.kind = kind, .resource = e->name, .text = text};
    if (e->options->on_event)
        e->options->on_event(e->options->arg, &event);
}

/* Three quarters to all of it, so that plugins of one node do not call in step. */
static int64_t jitter(int64_t ms)
{
    return ms - (int64_t)arc4random_uniform((uint32_t)(ms / 4 + 1));
}

static void retry_in(struct endpoint *e, int64_t ms)
{
    e->retry_at_ms = loop_now_ms(e->loop) + ms;
    e->replan(e->arg);
}

static int64_t doubled(int64_t first, unsigned times, int64_t limit)
{
    int64_t ms = times < 20 ? first << times : limit;
    return ms < limit ? ms : limit;
}

/* ---- lists ---- */

static void send_list(struct endpoint *e, const struct offer *offer)
{
    size_t n = 0;
    AUTO_FREE uint8_t *list = service_list(offer, &n);
    for (size_t i = 0; i < e->n_streams; i++)
        rpc_stream_send(e->streams[i], list, n);
}

void endpoint_offer(struct endpoint *e, struct offer *offer)
{
    size_t n_old = 0, n_new = 0;
    AUTO_FREE uint8_t *before = service_list(e->offer, &n_old);
    AUTO_FREE uint8_t *after = service_list(offer, &n_new);
    dp_offer_free(e->offer);
    e->offer = offer;
    if (n_old != n_new || memcmp(before, after, n_new) != 0)
        send_list(e, offer);
}

static void registered(struct endpoint *e)
{
    e->registered = true;
    e->waiting = false;
    e->refused = false;
    e->attempt = 0;
    e->retry_at_ms = 0;
    e->registered_at_ms = loop_now_ms(e->loop);
    e->refreshes = 0;
    e->put_off = false;
    e->refresh_at_ms = e->registered_at_ms + refresh_after_ms[0];
    e->replan(e->arg);
    tell(e, DP_REGISTERED, "");
}

static void list_opened(void *arg, struct rpc_stream *stream, const uint8_t *in, size_t n)
{
    struct endpoint *e = arg;
    (void)in; /* Empty: whatever is in it means nothing */
    (void)n;
    if (e->n_streams == ENDPOINT_MAX_STREAMS) {
        rpc_stream_finish(stream, RPC_RESOURCE_EXHAUSTED, "too many open lists");
        return;
    }
    e->streams[e->n_streams++] = stream;
    size_t size = 0;
    AUTO_FREE uint8_t *list = service_list(e->offer, &size);
    rpc_stream_send(stream, list, size);
    if (e->accepted && !e->registered)
        registered(e);
}

/* Kubelet ended it while it lives on: because somebody else registered the resource, or for the stream of a
 * registration before ours. */
static void ended_by_kubelet(struct endpoint *e)
{
    bool soon = loop_now_ms(e->loop) - e->registered_at_ms < FLAP_MS;
    e->flaps = soon ? e->flaps + 1 : 0;
    retry_in(e, e->flaps > 1 ? jitter(doubled(500, e->flaps - 2, FLAP_LIMIT_MS)) : 0);
    tell(e, DP_LOST, "kubelet ended the list");
    if (e->flaps == 4)
        tell(e, DP_TROUBLE,
             "kubelet ends the registration again and again: does another device plugin register "
             "the same resource on this node?");
}

static void lost(struct endpoint *e)
{
    bool was = e->registered;
    e->registered = false;
    e->accepted = false;
    e->refresh_at_ms = 0;
    if (e->gone)
        return;
    if (e->ended_because) {
        if (was)
            tell(e, DP_LOST, e->ended_because);
        e->ended_because = NULL;
        e->ending_since_ms = 0;
        retry_in(e, 0);
    } else if (was) {
        ended_by_kubelet(e);
    } else if (!e->call) {
        retry_in(e, UNREACHABLE_LIMIT_MS);
    }
}

static void list_closed(void *arg, struct rpc_stream *stream)
{
    struct endpoint *e = arg;
    for (size_t i = 0; i < e->n_streams; i++) {
        if (e->streams[i] == stream) {
            memmove(&e->streams[i], &e->streams[i + 1],
                    (e->n_streams - i - 1) * sizeof(struct rpc_stream *));
            e->n_streams--;
            break;
        }
    }
    if (e->n_streams == 0)
        lost(e);
    else if (!e->gone)
        send_list(e, e->offer); /* see refresh_after_ms */
}

/* ---- unary methods ---- */

static void get_options(void *arg, const uint8_t *in, size_t n, struct rpc_answer *answer)
{
    (void)arg;
    (void)in;
    (void)n;
    service_options(answer);
}

static void get_preferred(void *arg, const uint8_t *in, size_t n, struct rpc_answer *answer)
{
    const struct endpoint *e = arg;
    service_preferred(e->offer, in, n, answer);
}

static void allocate(void *arg, const uint8_t *in, size_t n, struct rpc_answer *answer)
{
    const struct endpoint *e = arg;
    struct service_asked asked;
    service_allocate(e->offer, e->options, in, n, answer, &asked);
    struct dp_event event = {.kind = answer->status == RPC_OK ? DP_ALLOCATED : DP_ALLOC_FAILED,
                             .resource = e->name,
                             .text = answer->text,
                             .n_ids = asked.n,
                             .ids = (const char *const *)asked.ids};
    if (e->options->on_event)
        e->options->on_event(e->options->arg, &event);
    service_asked_free(&asked);
}

static void pre_start(void *arg, const uint8_t *in, size_t n, struct rpc_answer *answer)
{
    (void)
        arg; /* our options say that we do not want it; a kubelet that calls all the same gets its empty answer */
    (void)in;
    (void)n;
    answer->status = RPC_OK;
}

static const struct rpc_method methods[] = {
    {.path = "/v1beta1.DevicePlugin/GetDevicePluginOptions", .unary = get_options},
    {.path = "/v1beta1.DevicePlugin/ListAndWatch", .opened = list_opened},
    {.path = "/v1beta1.DevicePlugin/GetPreferredAllocation", .unary = get_preferred},
    {.path = "/v1beta1.DevicePlugin/Allocate", .unary = allocate},
    {.path = "/v1beta1.DevicePlugin/PreStartContainer", .unary = pre_start},
};

/* ---- registration ---- */

static struct kubelet_id look_for_kubelet(const struct endpoint *e)
{
    struct kubelet_id id = {.there = false};
    struct err err;
    struct stat st;
    AUTO_CLOSE int dir_fd = host_open_dir(e->options->host, e->options->directory, &err);
    if (dir_fd >= 0 && fstatat(dir_fd, "kubelet.sock", &st, AT_SYMLINK_NOFOLLOW) == 0)
        id = (struct kubelet_id){
            .there = true, .dev = st.st_dev, .ino = st.st_ino, .changed = st.st_ctim};
    return id;
}

static bool same_kubelet(const struct kubelet_id *a, const struct kubelet_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

static void wait_for_kubelet(struct endpoint *e, const char *why, int64_t ms)
{
    retry_in(e, ms);
    if (e->waiting)
        return;
    e->waiting = true;
    tell(e, DP_WAITING, why);
}

static void refused(struct endpoint *e, const struct err *err)
{
    retry_in(e, jitter(doubled(1000, e->attempt++, REFUSED_LIMIT_MS)));
    if (!e->refused)
        tell(e, DP_REFUSED, err->msg);
    e->refused = true;
}

static void register_answered(void *arg, const struct rpc_result *result)
{
    struct endpoint *e = arg;
    e->call = NULL;
    if (result->r == 0) {
        e->accepted = true;
        e->kubelet = e->asked;
        retry_in(e, STREAM_TIMEOUT_MS);
        if (e->n_streams > 0)
            registered(e);
    } else if (result->err.code == ENOENT || result->err.code == ECONNREFUSED ||
               result->err.code == ECONNRESET) {
        int64_t ms = doubled(UNREACHABLE_FIRST_MS, e->attempt++, UNREACHABLE_LIMIT_MS);
        if (ms < UNREACHABLE_LIMIT_MS)
            retry_in(e, ms);
        else
            wait_for_kubelet(e, result->err.msg, jitter(ms));
    } else {
        refused(e, &result->err);
    }
}

static void start_register(struct endpoint *e, int retry_absent_ms)
{
    e->asked = look_for_kubelet(e);
    if (!e->asked.there) {
        wait_for_kubelet(e, "no kubelet.sock in its directory: kubelet does not run yet",
                         retry_absent_ms);
        return;
    }
    if (!same_kubelet(&e->asked, &e->kubelet))
        e->flaps = 0;
    size_t n = 0;
    AUTO_FREE uint8_t *data = service_register(e->name, e->socket, &n);
    AUTO_FREE char *path = xasprintf("%s/kubelet.sock", e->options->directory);
    struct rpc_request request = {.host = e->options->host,
                                  .socket = path,
                                  .method = "/v1beta1.Registration/Register",
                                  .data = data,
                                  .n = n,
                                  .timeout_ms = REGISTER_TIMEOUT_MS,
                                  .max_answer = 64 * 1024};
    e->retry_at_ms = 0;
    e->call = rpc_call(e->rpc, &request, register_answered, e);
}

/* Why the registration that we have is not worth anything any more; NULL: it is. */
static const char *outdated(struct endpoint *e, bool rebound)
{
    if (rebound)
        return "our socket was removed";
    struct kubelet_id now = look_for_kubelet(e);
    if (e->accepted && now.there && !same_kubelet(&now, &e->kubelet))
        return "kubelet was started again";
    return NULL;
}

enum { SOCKET_FINE, SOCKET_REMADE, SOCKET_TAKEN };

static int ensure_socket(struct endpoint *e, struct err *err)
{
    if (!e->server) {
        e->server = rpc_listen(e->rpc, e->options->host, e->options->directory, e->socket,
                               &e->service, err);
        return e->server ? SOCKET_FINE : -err->code;
    }
    enum rpc_presence presence = rpc_server_presence(e->server);
    if (presence == RPC_SOCKET_OURS)
        return SOCKET_FINE;
    if (presence == RPC_SOCKET_TAKEN)
        return SOCKET_TAKEN;
    int r = rpc_server_rebind(e->server, err);
    return r < 0 ? r : SOCKET_REMADE;
}

/* The newer instance has the resource: fighting for the name would leave the node without either. */
static void stand_back(struct endpoint *e, int retry_absent_ms)
{
    retry_in(e, retry_absent_ms);
    if (!e->standing_back)
        tell(e, DP_TROUBLE,
             "another instance of this plugin has taken over the socket; this one waits until it "
             "is gone");
    e->standing_back = true;
}

/* Our own streams end before we register again: the end of an old stream would make kubelet drop the new one. Return:
 * they have ended, or do not want to. */
static bool streams_ended(struct endpoint *e, const char *why)
{
    if (e->n_streams == 0)
        return true;
    int64_t now = loop_now_ms(e->loop);
    if (e->ending_since_ms && now - e->ending_since_ms >= END_PATIENCE_MS)
        return true;
    if (!e->ending_since_ms) {
        e->ending_since_ms = now;
        e->ended_because = why;
        for (size_t i = 0; i < e->n_streams; i++)
            rpc_stream_finish(e->streams[i], RPC_OK, NULL);
    }
    retry_in(e, e->ending_since_ms + END_PATIENCE_MS - now);
    return false;
}

void endpoint_check(struct endpoint *e, int retry_absent_ms)
{
    struct err err;
    if (e->gone)
        return;
    int r = ensure_socket(e, &err);
    if (r < 0) {
        wait_for_kubelet(e, err.msg, retry_absent_ms);
        return;
    }
    if (r == SOCKET_TAKEN) {
        stand_back(e, retry_absent_ms);
        return;
    }
    e->standing_back = false;
    const char *why = outdated(e, r == SOCKET_REMADE);
    if (!why && e->ended_because)
        why = e->ended_because;
    bool good = e->accepted && e->n_streams > 0;
    if (!why && (good || e->call || e->retry_at_ms > loop_now_ms(e->loop)))
        return;
    if (!streams_ended(e, why ? why : "kubelet does not open the list"))
        return;
    rpc_cancel(TAKE(e->call));
    e->accepted = false;
    e->registered = false;
    start_register(e, retry_absent_ms);
}

void endpoint_register_again(struct endpoint *e, const char *why, int retry_absent_ms)
{
    if (e->gone || e->call)
        return;
    if (streams_ended(e, why)) /* else lost() and the planned time go on from here */
        e->accepted = false;
    endpoint_check(e, retry_absent_ms);
}

void endpoint_kubelet_changed(struct endpoint *e)
{
    e->attempt = 0;
    e->refused = false;
    if (!e->call && e->n_streams == 0)
        e->retry_at_ms = 0;
}

void endpoint_neighbour_came(struct endpoint *e)
{
    int64_t after_ms = loop_now_ms(e->loop) + NEIGHBOUR_MS;
    if (e->put_off || e->refresh_at_ms == 0 || e->refresh_at_ms > after_ms)
        return;
    e->put_off = true;
    e->refresh_at_ms = after_ms;
}

int64_t endpoint_due_ms(const struct endpoint *e)
{
    if (e->gone)
        return 0;
    if (!e->retry_at_ms || (e->refresh_at_ms && e->refresh_at_ms < e->retry_at_ms))
        return e->refresh_at_ms;
    return e->retry_at_ms;
}

void endpoint_tick(struct endpoint *e, int64_t now_ms, int retry_absent_ms)
{
    if (e->refresh_at_ms && e->refresh_at_ms <= now_ms) {
        send_list(e, e->offer);
        e->refreshes++;
        e->put_off = false;
        e->refresh_at_ms = e->refreshes < ARRAY_LEN(refresh_after_ms)
                               ? now_ms + refresh_after_ms[e->refreshes]
                               : 0;
    }
    if (e->retry_at_ms && e->retry_at_ms <= now_ms) {
        e->retry_at_ms = 0;
        endpoint_check(e, retry_absent_ms);
    }
}

/* ---- life ---- */

struct endpoint *endpoint_new(struct loop *loop, struct rpc *rpc, const struct dp_options *options,
                              struct offer *offer, void (*replan)(void *arg), void *arg)
{
    struct endpoint *e = xcalloc(1, sizeof *e);
    *e = (struct endpoint){.loop = loop,
                           .rpc = rpc,
                           .options = options,
                           .name = xstrdup(offer->name),
                           .offer = offer,
                           .retry_at_ms = loop_now_ms(loop),
                           .replan = replan,
                           .arg = arg};
    (void)snprintf(e->socket, sizeof e->socket, "ccnode-%s.sock", offer_short_name(offer));
    e->service = (struct rpc_service){
        .n_methods = ARRAY_LEN(methods), .methods = methods, .closed = list_closed, .arg = e};
    return e;
}

static void server_gone(void *arg)
{
    struct endpoint *e = arg;
    e->server = NULL;
    e->end_timer = NULL;
    e->gone(e->arg, e);
}

void endpoint_end(struct endpoint *e, enum dp_stop how,
                  void (*gone)(void *arg, struct endpoint *endpoint))
{
    e->gone = gone;
    rpc_cancel(TAKE(e->call));
    if (how == DP_STOP_WITHDRAW)
        send_list(e, NULL);
    if (e->server)
        rpc_server_stop(e->server, server_gone, e);
    else
        e->end_timer = loop_add_timer(e->loop, 0, server_gone, e);
}

void endpoint_free(struct endpoint *e)
{
    rpc_cancel(e->call);
    loop_cancel(e->end_timer);
    if (e->server)
        rpc_server_kill(e->server);
    dp_offer_free(e->offer);
    free(e->name);
    free(e);
}
