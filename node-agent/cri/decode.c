#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cri/internal.h"
#include "runtime.pb-c.h"

#define BUDGET (64 * 1024 * 1024) /* memory for an answer of at most CRI_MAX_ANSWER */

static int bad(struct err *err, const char *what)
{
    return err_set(err, EBADMSG, "the container runtime's %s cannot be decoded", what);
}

static void replace(const char **text, char *by)
{
    cri_free_text(*text);
    *text = by;
}

/* No string of a runtime is NULL. */
static void complete(struct cri_runtime *runtime)
{
    const char **all[] = {&runtime->socket, &runtime->name, &runtime->version, &runtime->api,
                          &runtime->not_ready_why};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (!*all[i])
            *all[i] = xstrdup("");
}

int cri_decode_version(const uint8_t *data, size_t n, struct cri_runtime *runtime, struct err *err)
{
    AUTO_PROTO struct proto proto = {0};
    const Cri__VersionResponse *v =
        proto_unpack(&proto, &cri__version_response__descriptor, data, n, BUDGET);
    if (!v || !proto_text(&v->runtime_name, 256) || !proto_text(&v->runtime_version, 256) ||
        !proto_text(&v->runtime_api_version, 256))
        return bad(err, "version");
    complete(runtime);
    replace(&runtime->name, cri_copy(&v->runtime_name));
    replace(&runtime->version, cri_copy(&v->runtime_version));
    replace(&runtime->api, cri_copy(&v->runtime_api_version));
    return 0;
}

static void read_condition(struct cri_runtime *runtime, const Cri__RuntimeCondition *c)
{
    AUTO_FREE char *type = cri_copy(&c->type);
    if (strcmp(type, "RuntimeReady") != 0)
        return;
    runtime->ready = c->status;
    AUTO_FREE char *reason =
        proto_text(&c->reason, CRI_MAX_TEXT) ? cri_copy(&c->reason) : xstrdup("");
    AUTO_FREE char *message =
        proto_text(&c->message, CRI_MAX_TEXT) ? cri_copy(&c->message) : xstrdup("");
    replace(&runtime->not_ready_why,
            c->status ? xstrdup("")
                      : xasprintf("%s: %s", reason[0] ? reason : "no reason", message));
}

static int read_handlers(struct cri_runtime *runtime, const Cri__StatusResponse *s, struct err *err)
{
    if (s->n_runtime_handlers == 0)
        return 0;
    struct strings handlers = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < s->n_runtime_handlers; i++) {
        const ProtobufCBinaryData *name = &s->runtime_handlers[i]->name;
        AUTO_FREE char *text = proto_text(name, CRI_MAX_TEXT) ? cri_copy(name) : NULL;
        if (!text || handlers.n == CRI_MAX_HANDLERS)
            r = text ? err_set(err, EFBIG, "more than %d runtime handlers", CRI_MAX_HANDLERS)
                     : bad(err, "list of handlers");
        else if (text[0]) /* the default is listed once more without a name */
            strings_add(&handlers, text);
    }
    if (r == 0)
        cri_set_handlers(runtime, &handlers);
    strings_free(&handlers);
    return r;
}

static bool is_key(const ProtobufCBinaryData *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->data, text, key->len) == 0;
}

int cri_decode_status(const uint8_t *data, size_t n, struct cri_runtime *runtime, struct err *err)
{
    AUTO_PROTO struct proto proto = {0};
    const Cri__StatusResponse *s =
        proto_unpack(&proto, &cri__status_response__descriptor, data, n, BUDGET);
    if (!s)
        return bad(err, "status");
    complete(runtime);
    replace(&runtime->not_ready_why, xstrdup("it does not say"));
    for (size_t i = 0; s->status && i < s->status->n_conditions; i++)
        if (proto_text(&s->status->conditions[i]->type, 256))
            read_condition(runtime, s->status->conditions[i]);
    int r = read_handlers(runtime, s, err);
    for (size_t i = 0; r == 0 && i < s->n_info; i++)
        if (is_key(&s->info[i]->key, "config"))
            cri_read_config(runtime, &s->info[i]->value);
    return r;
}

/* ---- sandboxes ---- */

void cri_sandboxes_free(struct cri_sandboxes *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct cri_sandbox *s = &list->sandboxes[i];
        cri_free_text(s->id);
        cri_free_text(s->namespace_);
        cri_free_text(s->pod);
        cri_free_text(s->uid);
        cri_free_text(s->handler);
    }
    void *array;
    memcpy(&array, &list->sandboxes, sizeof array);
    free(array);
    *list = (struct cri_sandboxes){0};
}

static bool good_sandbox(const Cri__PodSandbox *s)
{
    return proto_text(&s->id, 256) && proto_text(&s->runtime_handler, CRI_MAX_TEXT) &&
           (!s->metadata ||
            (proto_text(&s->metadata->name, 1024) && proto_text(&s->metadata->uid, 256) &&
             proto_text(&s->metadata->namespace_, 256)));
}

int cri_decode_sandboxes(const uint8_t *data, size_t n, struct cri_sandboxes *ret, struct err *err)
{
    static const ProtobufCBinaryData none;
    AUTO_PROTO struct proto proto = {0};
    const Cri__ListPodSandboxResponse *list =
        proto_unpack(&proto, &cri__list_pod_sandbox_response__descriptor, data, n, BUDGET);
    if (!list)
        return bad(err, "list of sandboxes");
    if (list->n_items > CRI_MAX_SANDBOXES)
        return err_set(err, EFBIG, "more than %d sandboxes", CRI_MAX_SANDBOXES);
    for (size_t i = 0; i < list->n_items; i++)
        if (!good_sandbox(list->items[i]))
            return bad(err, "list of sandboxes");
    struct cri_sandbox *sandboxes = xcalloc(list->n_items + 1, sizeof *sandboxes);
    for (size_t i = 0; i < list->n_items; i++) {
        const Cri__PodSandbox *s = list->items[i];
        const Cri__PodSandboxMetadata *m = s->metadata;
        sandboxes[i] = (struct cri_sandbox){.id = cri_copy(&s->id),
                                            .namespace_ = cri_copy(m ? &m->namespace_ : &none),
                                            .pod = cri_copy(m ? &m->name : &none),
                                            .uid = cri_copy(m ? &m->uid : &none),
                                            .handler = cri_copy(&s->runtime_handler),
                                            .ready = s->state == 0};
    }
    *ret = (struct cri_sandboxes){.n = list->n_items, .sandboxes = sandboxes};
    return 0;
}
