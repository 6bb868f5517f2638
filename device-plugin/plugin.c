/* All resources together: what is to be offered, the directory, one timer. */
#include "device-plugin/device_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "device-plugin/endpoint.h"
#include "device-plugin/watch.h"

#define TOGETHER_MS 100          /* what is due so soon is done at once: one wake-up for all */
#define ABSENT_UNWATCHED_MS 1000 /* no directory to watch */
#define ABSENT_WATCHED_MS 5000   /* the watch tells; this is for what it might miss */

struct dp {
    struct loop *loop;
    struct rpc *rpc;
    struct dp_options options;
    struct dp_watch *watch;
    struct endpoint *endpoints;
    struct endpoint *leaving;
    struct loop_timer *timer;
    bool stopping;
    void (*done)(void *arg);
    void *done_arg;
    struct loop_timer *done_timer;
};

static void tick(void *arg);

static void plan(struct dp *dp)
{
    if (dp->stopping)
        return;
    int64_t due = 0;
    for (const struct endpoint *e = dp->endpoints; e; e = e->next) {
        int64_t t = endpoint_due_ms(e);
        if (t && (!due || t < due))
            due = t;
    }
    loop_cancel(TAKE(dp->timer));
    if (due)
        dp->timer = loop_add_timer(dp->loop, due - loop_now_ms(dp->loop), tick, dp);
}

static int absent_ms(struct dp *dp)
{
    return dp_watch_try(dp->watch) ? ABSENT_WATCHED_MS : ABSENT_UNWATCHED_MS;
}

/* Each endpoint once, whatever callbacks do to the list meanwhile. */
static void mark_all(struct dp *dp)
{
    for (struct endpoint *e = dp->endpoints; e; e = e->next)
        e->marked = true;
}

static struct endpoint *next_marked(struct dp *dp)
{
    struct endpoint *e = dp->endpoints;
    while (e && !e->marked)
        e = e->next;
    if (e)
        e->marked = false;
    return e;
}

static void tick(void *arg)
{
    struct dp *dp = arg;
    dp->timer = NULL;
    int retry = absent_ms(dp); /* first watch, then look: nothing is missed in between */
    int64_t now = loop_now_ms(dp->loop);
    mark_all(dp);
    for (struct endpoint *e = next_marked(dp); e; e = next_marked(dp))
        endpoint_tick(e, now + TOGETHER_MS, retry);
    plan(dp);
}

/* A socket that is neither ours nor kubelet's, and is there: not kubelet's checkpoint, which is written all the time. */
static bool is_neighbour(const struct dp *dp, const char *name)
{
    struct err ignored = ERR_INIT;
    struct stat st;
    if (!name || strncmp(name, "ccnode-", 7) == 0 || strcmp(name, "kubelet.sock") == 0)
        return false;
    AUTO_CLOSE int dir_fd = host_open_dir(dp->options.host, dp->options.directory, &ignored);
    return dir_fd >= 0 && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISSOCK(st.st_mode);
}

/* A file came or went. */
static void changed(void *arg, const char *name)
{
    struct dp *dp = arg;
    bool kubelet = !name || strcmp(name, "kubelet.sock") == 0;
    bool neighbour = is_neighbour(dp, name);
    int retry = absent_ms(dp);
    mark_all(dp);
    for (struct endpoint *e = next_marked(dp); e; e = next_marked(dp)) {
        if (kubelet)
            endpoint_kubelet_changed(e);
        if (neighbour)
            endpoint_neighbour_came(e);
        if (kubelet || strcmp(name, e->socket) == 0)
            endpoint_check(e, retry);
    }
    plan(dp);
}

/* endpoints plan their own next time; the loop's timer has to follow */
static void replan(void *arg)
{
    plan(arg);
}

struct dp *dp_new(struct loop *loop, struct rpc *rpc, const struct dp_options *options)
{
    struct dp *dp = xcalloc(1, sizeof *dp);
    *dp = (struct dp){.loop = loop, .rpc = rpc, .options = *options};
    dp->watch = dp_watch_new(loop, options->host, options->directory, changed, dp);
    return dp;
}

/* ---- what is offered ---- */

static struct endpoint *find(const struct dp *dp, const char *resource)
{
    struct endpoint *e = dp->endpoints;
    while (e && strcmp(e->name, resource) != 0)
        e = e->next;
    return e;
}

static void take_out(struct endpoint **list, const struct endpoint *endpoint)
{
    while (*list != endpoint)
        list = &(*list)->next;
    *list = endpoint->next;
}

static void all_gone(void *arg)
{
    struct dp *dp = arg;
    dp->done_timer = NULL;
    dp->done(dp->done_arg);
}

static void endpoint_gone(void *arg, struct endpoint *e)
{
    struct dp *dp = arg;
    take_out(&dp->leaving, e);
    endpoint_free(e);
    if (dp->stopping && !dp->leaving)
        all_gone(dp);
}

static void let_go(struct dp *dp, struct endpoint *e, enum dp_stop how)
{
    take_out(&dp->endpoints, e);
    e->next = dp->leaving;
    dp->leaving = e;
    endpoint_end(e, how, endpoint_gone);
}

static struct offer *find_offer(struct offer *const *offers, size_t n, const char *resource)
{
    for (size_t i = 0; i < n; i++)
        if (offers[i] && strcmp(offers[i]->name, resource) == 0)
            return offers[i];
    return NULL;
}

/* All or nothing: every resource is checked before one is used. */
static int check(const struct dp_resource *resources, size_t n, struct offer **offers,
                 struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        offers[i] = dp_offer_new(&resources[i], err);
        if (!offers[i])
            return -err->code;
        for (size_t k = 0; k < i; k++)
            if (strcmp(offer_short_name(offers[k]), offer_short_name(offers[i])) == 0)
                return err_set(err, EINVAL, "resources %s and %s would share a socket",
                               offers[k]->name, offers[i]->name);
    }
    return 0;
}

static void apply(struct dp *dp, struct offer **offers, size_t n)
{
    for (struct endpoint *e = dp->endpoints, *next; e; e = next) {
        next = e->next;
        if (!find_offer(offers, n, e->name))
            let_go(dp, e, DP_STOP_WITHDRAW);
    }
    for (size_t i = 0; i < n; i++) {
        struct endpoint *e = find(dp, offers[i]->name);
        if (e) {
            endpoint_offer(e, TAKE(offers[i]));
            continue;
        }
        e = endpoint_new(dp->loop, dp->rpc, &dp->options, TAKE(offers[i]), replan, dp);
        e->next = dp->endpoints;
        dp->endpoints = e;
    }
    plan(dp);
}

int dp_set(struct dp *dp, const struct dp_resource *resources, size_t n, struct err *err)
{
    if (n > DP_MAX_RESOURCES)
        return err_set(err, E2BIG, "%zu resources, at most %d are possible", n, DP_MAX_RESOURCES);
    if (dp->stopping)
        return err_set(err, EINVAL, "the device plugin is stopping");
    AUTO_FREE struct offer **offers = xcalloc(n + 1, sizeof(struct offer *));
    int r = check(resources, n, offers, err);
    if (r == 0)
        apply(dp, offers, n);
    for (size_t i = 0; i < n; i++)
        dp_offer_free(offers[i]);
    return r;
}

bool dp_registered(const struct dp *dp, const char *resource)
{
    const struct endpoint *e = find(dp, resource);
    return e && e->registered;
}

void dp_register_again(struct dp *dp, const char *resource, const char *why)
{
    struct endpoint *e = find(dp, resource);
    if (dp->stopping || !e || !e->registered)
        return;
    endpoint_register_again(e, why, absent_ms(dp));
    plan(dp);
}

/* ---- end ---- */

void dp_stop(struct dp *dp, enum dp_stop how, void (*done)(void *arg), void *arg)
{
    dp->stopping = true;
    dp->done = done;
    dp->done_arg = arg;
    loop_cancel(TAKE(dp->timer));
    dp_watch_free(TAKE(dp->watch));
    while (dp->endpoints)
        let_go(dp, dp->endpoints, how);
    if (!dp->leaving)
        dp->done_timer = loop_add_timer(dp->loop, 0, all_gone, dp);
}

static void free_all(struct endpoint *e)
{
    while (e) {
        struct endpoint *next = e->next;
        endpoint_free(e);
        e = next;
    }
}

void dp_free(struct dp *dp)
{
    if (!dp)
        return;
    loop_cancel(dp->timer);
    loop_cancel(dp->done_timer);
    dp_watch_free(dp->watch);
    free_all(dp->endpoints);
    free_all(dp->leaving);
    free(dp);
}
