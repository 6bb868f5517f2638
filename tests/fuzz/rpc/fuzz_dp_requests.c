/* What kubelet sends to the device plugin. First byte: which method. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/proto.h"
#include "device-plugin/service.h"
#include "v1beta1.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool may(void *arg, const char *resource, const char *id, char why[DP_MAX_REASON])
{
    (void)arg;
    (void)resource;
    (void)why;
    return strcmp(id, "0000:12:00.0") != 0;
}

static struct offer *make_offer(void)
{
    static const struct dp_device devices[] = {
        {.id = "0000:10:00.0",
         .bdfs = "0000:10:00.0",
         .node = "/dev/vfio/60",
         .healthy = true,
         .partition = "p"},
        {.id = "0000:11:00.0",
         .bdfs = "0000:11:00.0",
         .node = "/dev/vfio/60",
         .healthy = true,
         .numa_node = 1},
        {.id = "0000:12:00.0",
         .node = "/dev/vfio/devices/vfio2",
         .healthy = true,
         .cdi = "nvidia.com/GPU=2"},
        {.id = "3", .node = "/dev/vfio/devices/vfio3", .reason = "why"},
    };
    struct err err;
    struct dp_resource resource = {"nvidia.com/GPU", ARRAY_LEN(devices), devices, NULL};
    struct offer *offer = dp_offer_new(&resource, &err);
    if (!offer)
        abort();
    return offer;
}

/* An answer is either a message of its type or a status with text; never both, never neither. */
static void check(const struct rpc_answer *answer, const ProtobufCMessageDescriptor *type)
{
    AUTO_PROTO struct proto proto = {0};
    if (answer->status == RPC_OK
            ? !proto_unpack(&proto, type, answer->data, answer->n, 1 << 26) || answer->text[0]
            : answer->data || !text_utf8(answer->text, strlen(answer->text)))
        abort();
    free(answer->data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct offer *offer = make_offer();
    struct dp_options options = {.may_allocate = may};
    struct rpc_answer answer = {0};
    if (data[0] & 1) {
        struct service_asked asked;
        service_allocate(offer, &options, data + 1, size - 1, &answer, &asked);
        service_asked_free(&asked);
        check(&answer, &dp__allocate_response__descriptor);
    } else {
        service_preferred(offer, data + 1, size - 1, &answer);
        check(&answer, &dp__preferred_response__descriptor);
    }
    dp_offer_free(offer);
    return 0;
}
