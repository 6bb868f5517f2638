/* Bytes of a watch: the first byte chooses the size of the pieces. */
#include <json-c/json.h>
#include <stdlib.h>

#include "node-agent/kube/framing.h"
#include "node-agent/kube/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_document(void *arg, struct json_object *doc, struct err *err)
{
    static const char *const keys[] = {"nvidia.com/*", NULL};
    struct json_object *object = NULL;
    struct kube_node node = {0};
    enum watch_event event;
    (void)arg;
    int r = watch_event_decode(doc, &event, &object, err);
    if (r < 0 || !object)
        return r;
    if (node_decode(object, "n1", keys, &node, err) == 0) {
        if (!node_is_same(&node, &node))
            abort();
        node_done(&node);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    if (size < 2)
        return 0;
    size_t step = data[0] ? data[0] : 1;
    int r = 0;
    struct framing *f = framing_new(4096, on_document, NULL);
    for (size_t i = 1; i < size && r == 0; i += step)
        r = framing_feed(f, (const char *)data + i, size - i < step ? size - i : step, &err);
    framing_free(f);
    return 0;
}
