#include "node-agent/bus_view.h"

#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"

struct bus_view {
    struct workers *workers;
    struct worker *worker; /* NULL: no look is under way */
    void (*on_seen)(void *arg);
    void *arg;
    bool failed; /* told */
    size_t n;
    struct bus_device devices[NV_MAX_DEVICES];
};

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

static int64_t number_of(struct json_object *object, const char *key)
{
    struct json_object *value;
    if (!json_object_object_get_ex(object, key, &value) ||
        !json_object_is_type(value, json_type_int))
        return -1;
    int64_t n = json_object_get_int64(value);
    return n < 0 ? -1 : n;
}

size_t bus_view_parse(const struct worker_answer *answer,
                      struct bus_device ret[static NV_MAX_DEVICES])
{
    struct json_object *list;
    size_t n = 0;
    if (!answer->ok || !answer->members ||
        !json_object_object_get_ex(answer->members, "devices", &list) ||
        !json_object_is_type(list, json_type_array))
        return 0;
    for (size_t i = 0; i < json_object_array_length(list) && n < NV_MAX_DEVICES; i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        if (!json_object_is_type(one, json_type_object) || !*text_of(one, "bdf"))
            continue;
        struct bus_device *d = &ret[n++];
        *d = (struct bus_device){
            .speed = number_of(one, "speed"),
            .max_speed = number_of(one, "max_speed"),
            .width = number_of(one, "width"),
            .max_width = number_of(one, "max_width"),
            .correctable = number_of(one, "correctable"),
            .nonfatal = number_of(one, "nonfatal"),
            .fatal = number_of(one, "fatal"),
        };
        (void)snprintf(d->bdf, sizeof d->bdf, "%s", text_of(one, "bdf"));
        (void)snprintf(d->power, sizeof d->power, "%s", text_of(one, "power"));
    }
    return n;
}

static void on_answer(void *arg, const struct worker_answer *answer)
{
    struct bus_view *view = arg;
    worker_close(view->worker);
    view->worker = NULL;
    view->n = bus_view_parse(answer, view->devices);
    if (!answer->ok && !view->failed)
        log_warning("metrics come without PCIe links and errors", "error", answer->error, NULL);
    view->failed = !answer->ok;
    view->on_seen(view->arg);
}

struct bus_view *bus_view_new(struct workers *workers, void (*on_seen)(void *arg), void *arg)
{
    struct bus_view *view = xcalloc(1, sizeof *view);
    view->workers = workers;
    view->on_seen = on_seen;
    view->arg = arg;
    return view;
}

void bus_view_free(struct bus_view *view)
{
    if (!view)
        return;
    worker_close(view->worker);
    free(view);
}

bool bus_view_look(struct bus_view *view)
{
    struct err err = ERR_INIT;
    if (view->worker)
        return true;
    view->worker = worker_open(view->workers, WORKER_BUS, &err);
    if (!view->worker) { /* an earlier look is still stuck in the kernel: it was told */
        view->n = 0;
        return false;
    }
    worker_step(view->worker, WORKER_PCI, NULL, on_answer, view);
    return true;
}

const struct bus_device *bus_view_find(const struct bus_view *view, const char *bdf)
{
    for (size_t i = 0; view && i < view->n; i++) {
        if (strcmp(view->devices[i].bdf, bdf) == 0)
            return &view->devices[i];
    }
    return NULL;
}
