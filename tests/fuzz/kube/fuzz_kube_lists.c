/* Lists of Nodes and of Leases, whole answers. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/framing.h"
#include "node-agent/kube/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_nodes(struct json_object *list)
{
    static const char *const keys[] = {"nvidia.com/*", "ccnode.io/cc.mode.devices", NULL};
    struct err err = ERR_INIT;
    struct kube_node node = {0};
    const char *version = NULL;
    int r = node_list_decode(list, "n1", keys, &node, &version, &err);
    if (r == 0 && (!version || !*version))
        abort();
    if (r < 0 && (r != -EBADMSG || !*err.msg || version))
        abort();
    node_done(&node);
}

static void try_leases(struct json_object *list)
{
    struct err err = ERR_INIT;
    struct json_object *items;
    int n = list_items(list, "Leases", &items, &err);
    for (int i = 0; i < n; i++) {
        struct lease_item item;
        if (!lease_item_decode(json_object_array_get_idx(items, (size_t)i), &item))
            continue;
        if (strlen(item.name) > NODE_MAX_TEXT || strlen(item.holder) >= LEASE_HOLDER_SIZE ||
            strlen(item.acquired) >= LEASE_TIME_SIZE || item.duration_s < -1 ||
            item.transitions < -1)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct json_object *list = json_parse_whole((const char *)data, size, &err);
    if (list) {
        try_nodes(list);
        try_leases(list);
    }
    json_object_put(list);
    return 0;
}
