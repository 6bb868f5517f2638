#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/proto.h"
#include "node-agent/kubelet/pod_resources.h"
#include "podresources.pb-c.h"

#define BUDGET                                                                                     \
    (64 * 1024 *                                                                                   \
     1024) /* memory for an answer of at most 16 MiB; a real one takes about as much as its bytes */
#define MAX_TEXT                                                                                   \
    8192 /* names have at most 253 bytes, resources 317; ids of other plugins are their affair */

/* Text that proto_text() has let pass. */
static char *copy(const ProtobufCBinaryData *text)
{
    return xstrndup(text->len ? (const char *)text->data : "", text->len);
}

static void free_text(const char *text)
{
    char *p;
    memcpy(&p, &text, sizeof p);
    free(p);
}

void pod_list_free(struct pod_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct pod_held *held = &list->held[i];
        free_text(held->namespace_);
        free_text(held->pod);
        free_text(held->container);
        free_text(held->resource);
        free_text(held->id);
    }
    for (size_t i = 0; i < list->n_pods; i++) {
        free_text(list->pods[i].namespace_);
        free_text(list->pods[i].pod);
    }
    struct pod_held *held;
    struct pod_name *pods;
    memcpy(&held, &list->held, sizeof(void *)); /* the list owns what others may only read */
    memcpy(&pods, &list->pods, sizeof(void *));
    free(held);
    free(pods);
    *list = (struct pod_list){0};
}

struct reading {
    struct pod_held *held;
    size_t n, room;
    struct pod_name *pods;
    size_t n_pods;
    const Podres__Pod *pod;
    const Podres__Container *container;
    struct err *err;
};

static int add(struct reading *r, char *resource, const ProtobufCBinaryData *id, bool claim)
{
    if (r->n == POD_RESOURCES_MAX_HELD) {
        free(resource);
        return err_set(r->err, EFBIG, "kubelet lists more than %d device ids in use",
                       POD_RESOURCES_MAX_HELD);
    }
    if (r->n == r->room) {
        r->room = r->room ? r->room * 2 : 16;
        r->held = xrealloc(r->held, r->room, sizeof *r->held);
    }
    r->held[r->n++] = (struct pod_held){.namespace_ = copy(&r->pod->namespace_),
                                        .pod = copy(&r->pod->name),
                                        .container = copy(&r->container->name),
                                        .resource = resource,
                                        .id = copy(id),
                                        .claim = claim};
    return 0;
}

static int bad_text(struct reading *r, const char *what)
{
    return err_set(r->err, EBADMSG, "kubelet's pod list has a %s that is not text or too long",
                   what);
}

static int read_devices(struct reading *r, const Podres__ContainerDevices *devices)
{
    if (!proto_text(&devices->resource_name, MAX_TEXT))
        return bad_text(r, "resource name");
    for (size_t i = 0; i < devices->n_device_ids; i++) {
        if (!proto_text(&devices->device_ids[i], MAX_TEXT))
            return bad_text(r, "device id");
        int k = add(r, copy(&devices->resource_name), &devices->device_ids[i], false);
        if (k < 0)
            return k;
    }
    return 0;
}

static int read_claim(struct reading *r, const Podres__ClaimResource *claim)
{
    if (!proto_text(&claim->driver_name, MAX_TEXT) || !proto_text(&claim->pool_name, MAX_TEXT) ||
        !proto_text(&claim->device_name, MAX_TEXT))
        return bad_text(r, "claim");
    AUTO_FREE char *driver = copy(&claim->driver_name);
    AUTO_FREE char *pool = copy(&claim->pool_name);
    return add(r, xasprintf("%s/%s", driver, pool), &claim->device_name, true);
}

static int read_container(struct reading *r)
{
    const Podres__Container *c = r->container;
    int k = 0;
    if (!proto_text(&c->name, MAX_TEXT))
        return bad_text(r, "container name");
    for (size_t i = 0; k == 0 && i < c->n_devices; i++)
        k = read_devices(r, c->devices[i]);
    for (size_t i = 0; k == 0 && i < c->n_dynamic_resources; i++)
        for (size_t m = 0; k == 0 && m < c->dynamic_resources[i]->n_claim_resources; m++)
            k = read_claim(r, c->dynamic_resources[i]->claim_resources[m]);
    return k;
}

static int read_pods(struct reading *r, const Podres__ListResponse *response)
{
    int k = 0;
    if (response->n_pods > POD_RESOURCES_MAX_PODS)
        return err_set(r->err, EFBIG, "kubelet lists %zu pods", response->n_pods);
    r->pods = xcalloc(response->n_pods + 1, sizeof *r->pods);
    for (size_t i = 0; k == 0 && i < response->n_pods; i++) {
        r->pod = response->pods[i];
        if (!proto_text(&r->pod->name, MAX_TEXT) || !proto_text(&r->pod->namespace_, MAX_TEXT))
            return bad_text(r, "pod name");
        r->pods[r->n_pods++] =
            (struct pod_name){.namespace_ = copy(&r->pod->namespace_), .pod = copy(&r->pod->name)};
        for (size_t m = 0; k == 0 && m < r->pod->n_containers; m++) {
            r->container = r->pod->containers[m];
            k = read_container(r);
        }
    }
    return k;
}

static int finish(struct reading *r, int k, struct pod_list *ret)
{
    struct pod_list list = {.n = r->n, .held = r->held, .n_pods = r->n_pods, .pods = r->pods};
    if (k < 0)
        pod_list_free(&list);
    else
        *ret = list;
    return k;
}

int pod_list_decode(const uint8_t *data, size_t n, struct pod_list *ret, struct err *err)
{
    AUTO_PROTO struct proto proto = {0};
    const Podres__ListResponse *response =
        proto_unpack(&proto, &podres__list_response__descriptor, data, n, BUDGET);
    if (!response)
        return err_set(err, EBADMSG, "kubelet's pod list cannot be decoded (%zu bytes)", n);
    struct reading r = {.err = err};
    return finish(&r, read_pods(&r, response), ret);
}

int pod_allocatable_decode(const uint8_t *data, size_t n, struct pod_list *ret, struct err *err)
{
    AUTO_PROTO struct proto proto = {0};
    const Podres__AllocatableResponse *response =
        proto_unpack(&proto, &podres__allocatable_response__descriptor, data, n, BUDGET);
    if (!response)
        return err_set(err, EBADMSG, "kubelet's device list cannot be decoded (%zu bytes)", n);
    const Podres__Pod nobody = PODRES__POD__INIT;
    const Podres__Container none = PODRES__CONTAINER__INIT;
    struct reading r = {.err = err, .pod = &nobody, .container = &none};
    int k = 0;
    for (size_t i = 0; k == 0 && i < response->n_devices; i++)
        k = read_devices(&r, response->devices[i]);
    return finish(&r, k, ret);
}
