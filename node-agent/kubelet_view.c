#include "node-agent/kubelet_view.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/dir_watch.h"
#include "base/log.h"
#include "node-agent/kubelet/pod_resources.h"

#define SOON_MS 1000
#define AGAIN_MS 60000
#define UNWATCHED_MS 10000 /* the plugin directory cannot be watched */
#define SUSPECT_MS 2000    /* ours may be missing for a moment only: a list is under way */
#define ANSWER_MS 5000
#define PEACE_MS 600000 /* as long without a rival, and the tries are counted anew */
/* A resource is taken back again after SUSPECT_MS << tries. Two that fight serve nobody: up to 8.5 minutes. When nobody
 * has it, the other one is most likely gone: 16 s at most. */
#define MAX_TRIES_FOREIGN 8
#define MAX_TRIES_MISSING 3

struct kubelet_view {
    struct kubelet_view_options options;
    char *socket, *directory; /* directory "" = nothing is asked */
    struct pod_resources_query *list_query, *get_query;
    struct loop_timer *timer;
    int64_t due_ms; /* of the timer */
    struct dir_watch *watch;
    bool watched;
    unsigned left;    /* of after_change_ms */
    bool get_asked;   /* of this kubelet */
    bool suspect;     /* ours were missing at the last look */
    unsigned tries;   /* to take a resource back, in this quarrel */
    int64_t rival_ms; /* when one was seen last; 0 = never */
    int64_t taken_ms; /* when a resource was taken back last; 0 = never */
    struct advice rival, get;
};

/* A plugin makes its socket first and registers then, perhaps after a while. The last look comes first. */
static const int after_change_ms[] = {10000, 3000};

static void look_in(struct kubelet_view *view, int64_t delay_ms);

static void set_advice(struct kubelet_view *view, struct advice *advice, const struct advice *now)
{
    if (strcmp(advice->text, now->text) == 0)
        return;
    *advice = *now;
    view->options.on_change(view->options.arg);
}

/* ---- Get ---- */

static void on_get(void *arg, enum pod_resources_get get, const struct err *err)
{
    struct kubelet_view *view = arg;
    struct advice now = {0};
    view->get_query = NULL;
    view->get_asked = get != POD_RESOURCES_GET_UNKNOWN;
    if (get == POD_RESOURCES_GET_MISSING)
        advice_add(&now,
                   "Kata cannot ask kubelet for a sandbox's devices: PodResources has no Get here "
                   "(%.120s); needs kubelet 1.34, or the feature gate KubeletPodResourcesGet",
                   err->msg);
    if (view->get_asked)
        set_advice(view, &view->get, &now);
}

/* ---- the rival ---- */

/* Other sockets beside ours: the most useful hint at who it is. */
static void list_sockets(const struct kubelet_view *view, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    size_t n = 0;
    *ret = '\0';
    int fd = host_openat(view->options.host, view->directory, O_RDONLY | O_DIRECTORY, &ignored);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        const char *name = entry->d_name;
        if (entry->d_type != DT_SOCK || strncmp(name, "ccnode-", 7) == 0 ||
            strcmp(name, "kubelet.sock") == 0 || n + strlen(name) + 3 > room)
            continue;
        n += (size_t)snprintf(ret + n, room - n, "%s%s", n > 0 ? ", " : "", name);
    }
    (void)closedir(dir);
    for (char *c = ret; *c; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    }
}

static int64_t patience_ms(const struct kubelet_view *view, enum serving_seen seen)
{
    unsigned most = seen == SERVING_MISSING ? MAX_TRIES_MISSING : MAX_TRIES_FOREIGN;
    return (int64_t)SUSPECT_MS << (view->tries < most ? view->tries : most);
}

static void take_back(struct kubelet_view *view, enum serving_seen seen, const char *resource)
{
    int64_t now_ms = loop_now_ms(view->options.loop);
    if (view->rival_ms == 0 || now_ms - view->rival_ms > PEACE_MS)
        view->tries = 0;
    view->rival_ms = now_ms;
    if (view->tries > 0 && now_ms - view->taken_ms < patience_ms(view, seen))
        return;
    log_warning("the resource is registered again", "resource", resource, NULL);
    view->tries++;
    view->taken_ms = now_ms;
    serving_register_again(view->options.serving, resource);
}

static void found_rival(struct kubelet_view *view, const char *resource, const char *what)
{
    struct advice now = {.blocks = true};
    char sockets[100];
    list_sockets(view, sockets, sizeof sockets);
    advice_add(&now,
               "another device plugin has registered %s at kubelet, which now has %s; pods may get "
               "devices that are not verified. Remove it%s%s%s",
               resource, what, *sockets ? " (other sockets in the plugin directory: " : "", sockets,
               *sockets ? ")" : "");
    set_advice(view, &view->rival, &now);
}

static void on_list(void *arg, int r, const struct pod_list *list, const struct err *err)
{
    struct kubelet_view *view = arg;
    struct advice none = {0};
    char resource[80], what[200];
    (void)err; /* kubelet restarts, or is too old for the question */
    view->list_query = NULL;
    enum serving_seen seen = SERVING_AS_OFFERED;
    if (r == 0)
        seen = serving_compare(view->options.serving, list, resource, what, sizeof what);
    if (seen == SERVING_FOREIGN || (seen == SERVING_MISSING && view->suspect)) {
        found_rival(view, resource, what);
        take_back(view, seen, resource);
    } else if (r == 0 && seen == SERVING_AS_OFFERED) {
        set_advice(view, &view->rival, &none);
    }
    view->suspect = seen == SERVING_MISSING;
    if (seen != SERVING_AS_OFFERED)
        look_in(view, patience_ms(view, seen));
    else if (view->left > 0)
        look_in(view, after_change_ms[--view->left]);
    else
        look_in(view, view->watched ? AGAIN_MS : UNWATCHED_MS);
}

/* ---- asking ---- */

static void on_due(void *arg)
{
    struct kubelet_view *view = arg;
    const struct kubelet_view_options *o = &view->options;
    view->timer = NULL;
    view->watched = dir_watch_add(view->watch, view->directory);
    if (!view->list_query)
        view->list_query =
            pod_resources_allocatable(o->rpc, o->host, view->socket, ANSWER_MS, on_list, view);
    if (!view->get_query && !view->get_asked)
        view->get_query =
            pod_resources_probe_get(o->rpc, o->host, view->socket, ANSWER_MS, on_get, view);
}

static void look_in(struct kubelet_view *view, int64_t delay_ms)
{
    int64_t due_ms = loop_now_ms(view->options.loop) + delay_ms;
    if (!*view->directory || (view->timer && view->due_ms <= due_ms))
        return;
    loop_cancel(view->timer);
    view->due_ms = due_ms;
    view->timer = loop_add_timer(view->options.loop, delay_ms, on_due, view);
}

/* Kubelet writes its checkpoint there at every list and allocation, of whatever plugin. */
static bool is_checkpoint(const char *name)
{
    return *name == '.' || strncmp(name, "kubelet_internal_checkpoint", 27) == 0;
}

static void on_directory(void *arg)
{
    struct kubelet_view *view = arg;
    view->left = ARRAY_LEN(after_change_ms);
    look_in(view, SOON_MS);
}

void kubelet_view_registered(struct kubelet_view *view)
{
    view->get_asked = false;
    look_in(view, SOON_MS);
}

/* ---- life ---- */

struct kubelet_view *kubelet_view_new(const struct kubelet_view_options *options)
{
    struct kubelet_view *view = xcalloc(1, sizeof *view);
    view->options = *options;
    view->socket = xstrdup("");
    view->directory = xstrdup("");
    view->watch = dir_watch_new(view->options.loop, view->options.host, on_directory, view);
    dir_watch_ignore(view->watch, is_checkpoint);
    return view;
}

static void forget_questions(struct kubelet_view *view)
{
    pod_resources_cancel(view->list_query);
    pod_resources_cancel(view->get_query);
    view->list_query = view->get_query = NULL;
    loop_cancel(view->timer);
    view->timer = NULL;
}

void kubelet_view_free(struct kubelet_view *view)
{
    if (!view)
        return;
    forget_questions(view);
    dir_watch_free(view->watch);
    free(view->socket);
    free(view->directory);
    free(view);
}

void kubelet_view_configure(struct kubelet_view *view, const char *socket, const char *directory)
{
    struct advice none = {0};
    if (strcmp(view->socket, socket) == 0 && strcmp(view->directory, directory) == 0)
        return;
    forget_questions(view);
    free(view->socket);
    free(view->directory);
    view->socket = xstrdup(socket);
    view->directory = xstrdup(directory);
    view->get_asked = view->suspect = false;
    set_advice(view, &view->rival, &none);
    set_advice(view, &view->get, &none);
    look_in(view, SOON_MS);
}

const struct advice *kubelet_view_rival(const struct kubelet_view *view)
{
    return &view->rival;
}

const struct advice *kubelet_view_get(const struct kubelet_view *view)
{
    return &view->get;
}
