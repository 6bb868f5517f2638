/* What kubelet's PodResources API answers. */
#include <stdlib.h>
#include <string.h>

#include "base/proto.h"
#include "node-agent/kubelet/pod_resources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int r, struct pod_list list, const struct err *err)
{
    if (r < 0) {
        if (list.n || list.held || !err->code)
            abort();
        return;
    }
    for (size_t i = 0; i < list.n; i++) {
        const struct pod_held *held = &list.held[i];
        const char *all[] = {held->namespace_, held->pod, held->container, held->resource,
                             held->id};
        for (size_t k = 0; k < 5; k++)
            if (!text_utf8(all[k], strlen(all[k])))
                abort();
    }
    pod_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct pod_list list = {0};
    int r = pod_list_decode(data, size, &list, &err);
    check(r, list, &err);
    list = (struct pod_list){0};
    r = pod_allocatable_decode(data, size, &list, &err);
    check(r, list, &err);
    return 0;
}
