/* The pure parts of the device plugin: ids, offers, choice, service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/proto.h"
#include "device-plugin/ids.h"
#include "device-plugin/preferred.h"
#include "device-plugin/service.h"
#include "v1beta1.pb-c.h"
#include "wire.h"

#define R "nvidia.com/GB202GL_RTX_PRO_6000_BLACKWELL_MAX-Q_WORKSTATION_EDITION"

/* ---- ids ---- */

static void test_ids(void **state)
{
    (void)state;
    char id[64];
    struct dp_names both = {"0000:65:00.0", 12, "vfio3"}, group = {"0000:66:00.0", 13, ""},
                    none = {"0000:67:00.0", -1, ""}, odd = {"0000:68:00.0", 0, "vfiox"};
    dp_id(DP_ID_BDF, &both, id, sizeof id);
    assert_string_equal(id, "0000:65:00.0");
    dp_id(DP_ID_NUMBER, &both, id, sizeof id);
    assert_string_equal(id, "3");
    dp_id(DP_ID_NUMBER, &group, id, sizeof id);
    assert_string_equal(id, "13");
    dp_id(DP_ID_NUMBER, &none, id, sizeof id);
    assert_string_equal(id, "0000:67:00.0");
    dp_id(DP_ID_NUMBER, &odd, id, sizeof id);
    assert_string_equal(id, "0");
    static const char *const mine[] = {"0000:65:00.0", "3", "vfio3", "12"};
    for (size_t i = 0; i < ARRAY_LEN(mine); i++)
        assert_true(dp_id_names(mine[i], &both));
    static const char *const others[] = {"0000:65:00.1", "1", "vfio12", "", "-1", "03"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(dp_id_names(others[i], &both));
    assert_true(dp_id_names("0000:67:00.0", &none));
    assert_false(dp_id_names("-1", &none));
}

/* ---- offers ---- */

static struct offer *offer_of(const struct dp_device *devices, size_t n)
{
    struct err err = ERR_INIT;
    struct dp_resource resource = {R, n, devices, NULL};
    struct offer *offer = dp_offer_new(&resource, &err);
    assert_non_null(offer);
    return offer;
}

static void refused(const char *name, const struct dp_device *device, size_t n, int code,
                    const char *part)
{
    struct err err = ERR_INIT;
    struct dp_resource resource = {name, n, device, NULL};
    assert_null(dp_offer_new(&resource, &err));
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.msg, part));
}

static void test_offers(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        "nvidia.com",
        "nvidia.com/",
        "Nvidia.com/a",
        "nvidia..com/a",
        "-a.com/b",
        "a-.com/b",
        "nvidia.com/a/b",
        "nvidia.com/-a",
        "kubernetes.io/a",
        "x.kubernetes.io/a",
        "requests.nvidia.com/a",
        "nvidia.com/a b",
        "nvidia.com/0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        refused(names[i], NULL, 0, EINVAL, "not a name for an extended resource");
    struct dp_device d = {.id = "a", .node = "/dev/vfio/1", .healthy = true};
    struct dp_device bad = d;
    bad.id = NULL;
    refused(R, &bad, 1, EINVAL, "device id");
    bad.id = "a\tb";
    refused(R, &bad, 1, EINVAL, "device id");
    bad = d;
    bad.node = "/dev/vfio";
    refused(R, &bad, 1, EINVAL, "no VFIO node");
    bad = d;
    bad.reason = "\xff";
    refused(R, &bad, 1, EINVAL, "not UTF-8");
    struct dp_device two[] = {d, d};
    refused(R, two, 2, EINVAL, "device id a is there twice");
    refused(R, two, DP_MAX_DEVICES + 1, E2BIG, "at most 256");
    struct offer *offer = offer_of(&d, 1);
    assert_string_equal(offer_short_name(offer), &R[strlen("nvidia.com/")]);
    assert_int_equal(dp_offer_find(offer, "a", 1), 0);
    assert_int_equal(dp_offer_find(offer, "a\0", 2), -1);
    assert_int_equal(dp_offer_find(offer, NULL, 0), -1);
    dp_offer_free(offer);
}

/* ---- choice ---- */

/* 8 devices: partitions p (0-3) and q (4-7), NUMA 0 0 1 1 0 0 1 1, switches in pairs */
static struct offer *eight(void)
{
    static char bdfs[8][16];
    static const char *const switches[] = {"s0", "s0", "s1", "s1", "s2", "s2", "s3", "s3"};
    struct dp_device devices[8];
    for (int i = 0; i < 8; i++) {
        (void)snprintf(bdfs[i], sizeof bdfs[i], "0000:1%c:00.0", '0' + i);
        devices[i] = (struct dp_device){.id = bdfs[i],
                                        .bdfs = bdfs[i],
                                        .node = "/dev/vfio/1",
                                        .healthy = true,
                                        .numa_node = i / 2 % 2,
                                        .partition = i < 4 ? "p" : "q",
                                        .pcie_switch = switches[i]};
    }
    return offer_of(devices, 8);
}

/* @free, @must: "01234567" digits; returns the chosen ones the same way */
static void choose(const char *available, const char *must, size_t size, const char *want)
{
    struct offer *offer = eight();
    enum preferred_state states[DP_MAX_DEVICES] = {PREFERRED_NO};
    char got[9] = {0};
    for (const char *p = available; *p; p++)
        states[*p - '0'] = PREFERRED_FREE;
    for (const char *p = must; *p; p++)
        states[*p - '0'] = PREFERRED_TAKEN;
    preferred(offer, states, size);
    for (int i = 0; i < 8; i++)
        if (states[i] == PREFERRED_TAKEN)
            got[strlen(got)] = (char)('0' + i);
    assert_string_equal(got, want);
    dp_offer_free(offer);
}

static void test_choice(void **state)
{
    (void)state;
    choose("01234567", "", 2, "01");   /* same switch, lowest addresses */
    choose("01234567", "", 4, "0123"); /* same partition */
    choose("1234567", "", 2, "23");    /* a pair, not 1 and 2 */
    choose("0124567", "", 1, "2");     /* the single one, so that pairs stay */
    choose("0145", "", 3, "014");      /* partition before NUMA node */
    choose("03", "", 2, "03");         /* whatever there is */
    choose("01234567", "6", 2, "67");  /* near to what must be in */
    choose("01234567", "67", 1, "67"); /* more must be in than asked for */
    choose("01", "", 9, "01");         /* fewer than asked for */
    choose("", "", 3, "");
    choose("01", "", 0, "");
}

static void test_choice_of_many_is_quick(void **state)
{
    (void)state;
    static char ids[DP_MAX_DEVICES][16];
    struct dp_device devices[DP_MAX_DEVICES];
    enum preferred_state states[DP_MAX_DEVICES];
    for (int i = 0; i < DP_MAX_DEVICES; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "d%03d", i);
        devices[i] = (struct dp_device){.id = ids[i],
                                        .bdfs = ids[i],
                                        .node = "/dev/vfio/1",
                                        .healthy = true,
                                        .numa_node = i % 3};
        states[i] = PREFERRED_FREE;
    }
    struct offer *offer = offer_of(devices, DP_MAX_DEVICES);
    preferred(offer, states, 100);
    size_t n = 0;
    for (int i = 0; i < DP_MAX_DEVICES; i++)
        n += states[i] == PREFERRED_TAKEN;
    assert_int_equal(n, 100);
    dp_offer_free(offer);
}

/* ---- service ---- */

static bool may(void *arg, const char *resource, const char *id, char why[DP_MAX_REASON])
{
    (void)resource;
    const char *forbidden = arg;
    if (!forbidden || strcmp(forbidden, id) != 0)
        return true;
    memset(why, 'y', DP_MAX_REASON); /* not even terminated */
    return false;
}

static struct offer *three(void)
{
    struct dp_device devices[] = {
        {.id = "b",
         .bdfs = "0000:02:00.0",
         .node = "/dev/vfio/7",
         .healthy = true,
         .numa_node = 1,
         .cdi = R "=b"},
        {.id = "a",
         .bdfs = "0000:01:00.0",
         .node = "/dev/vfio/7",
         .healthy = true,
         .numa_node = -1},
        {.id = "c",
         .bdfs = "0000:03:00.0",
         .node = "/dev/vfio/devices/vfio3",
         .reason = "the mode is off"},
    };
    return offer_of(devices, 3);
}

static void test_list(void **state)
{
    (void)state;
    size_t n = 0;
    struct offer *offer = three();
    AUTO_FREE uint8_t *list = service_list(offer, &n);
    struct wire want = {0}, node = {0}, topology = {0};
    wire_int(&node, 1, 1);
    wire_sub(&topology, 1, &node);
    static const char *const ids[] = {"a", "b", "c"}, *const health[] = {"Healthy", "Healthy",
                                                                         "Unhealthy"};
    for (int i = 0; i < 3; i++) {
        struct wire d = {0};
        wire_text(&d, 1, ids[i]);
        wire_text(&d, 2, health[i]);
        if (i == 1)
            wire_sub(&d, 3, &topology);
        struct wire zero = {0}, numa0 = {0};
        wire_sub(&numa0, 1, &zero); /* NUMA node 0: the default value is not on the wire */
        if (i == 2)
            wire_sub(&d, 3, &numa0);
        wire_sub(&want, 1, &d);
    }
    assert_int_equal(n, want.n);
    assert_memory_equal(list, want.p, n);
    AUTO_FREE uint8_t *empty = service_list(NULL, &n);
    (void)empty; /* freed at the end */
    assert_int_equal(n, 0);
    dp_offer_free(offer);
}

static void test_register(void **state)
{
    (void)state;
    size_t n = 0;
    AUTO_FREE uint8_t *data = service_register(R, "ccnode-x.sock", &n);
    struct wire want = {0}, options = {0};
    wire_int(&options, 2, 1);
    wire_text(&want, 1, "v1beta1");
    wire_text(&want, 2, "ccnode-x.sock");
    wire_text(&want, 3, R);
    wire_sub(&want, 4, &options);
    assert_int_equal(n, want.n);
    assert_memory_equal(data, want.p, n);
}

static struct rpc_answer allocate(const char *forbidden, size_t containers, ...)
{
    struct wire request = {0};
    va_list args;
    va_start(args, containers);
    for (size_t i = 0; i < containers; i++) {
        struct wire container = {0};
        for (const char *id = va_arg(args, const char *); id; id = va_arg(args, const char *))
            wire_text(&container, 1, id);
        wire_sub(&request, 1, &container);
    }
    va_end(args);
    struct offer *offer = three();
    void *arg;
    memcpy(&arg, &forbidden, sizeof arg);
    struct dp_options options = {.may_allocate = may, .arg = arg};
    struct rpc_answer answer = {0};
    struct service_asked asked;
    service_allocate(offer, &options, request.p, request.n, &answer, &asked);
    service_asked_free(&asked);
    dp_offer_free(offer);
    return answer;
}

static void expect_error(struct rpc_answer answer, enum rpc_status status, const char *text)
{
    assert_int_equal(answer.status, status);
    assert_non_null(strstr(answer.text, text));
    assert_null(answer.data);
}

static void test_allocate_refuses(void **state)
{
    (void)state;
    expect_error(allocate(NULL, 0), RPC_INVALID_ARGUMENT, "no container");
    expect_error(allocate(NULL, 1, NULL), RPC_INVALID_ARGUMENT, "a container without devices");
    expect_error(allocate(NULL, 1, "x\x1b[31m", NULL), RPC_INVALID_ARGUMENT,
                 "unknown device x?[31m of " R);
    expect_error(allocate(NULL, 1, "", NULL), RPC_INVALID_ARGUMENT, "unknown device  of");
    expect_error(allocate(NULL, 2, "a", NULL, "a", NULL), RPC_INVALID_ARGUMENT,
                 "device a of " R " is asked for twice");
    expect_error(allocate(NULL, 1, "a", "c", NULL), RPC_FAILED_PRECONDITION,
                 "device c of " R " cannot be given away: the mode is off");
    expect_error(allocate("b", 1, "a", "b", NULL), RPC_FAILED_PRECONDITION,
                 "cannot be given away: yyyy");
}

static void test_allocate_gives(void **state)
{
    (void)state;
    struct rpc_answer answer = allocate("c", 2, "b", "a", NULL, "a", NULL);
    expect_error(answer, RPC_INVALID_ARGUMENT, "twice");
    answer = allocate("c", 1, "b", "a", NULL);
    assert_int_equal(answer.status, RPC_OK);
    AUTO_PROTO struct proto proto = {0};
    const Dp__AllocateResponse *r =
        proto_unpack(&proto, &dp__allocate_response__descriptor, answer.data, answer.n, 65536);
    assert_non_null(r);
    assert_int_equal(r->n_container_responses, 1);
    const Dp__ContainerAllocateResponse *c = r->container_responses[0];
    assert_int_equal(c->n_devices, 2); /* one group for both, and the container node */
    assert_string_equal(c->devices[0]->host_path, "/dev/vfio/vfio");
    assert_string_equal(c->devices[1]->container_path, "/dev/vfio/7");
    assert_string_equal(c->devices[1]->permissions, "mrw");
    assert_int_equal(c->n_cdi_devices, 1);
    assert_string_equal(c->cdi_devices[0]->name, R "=b");
    assert_int_equal(c->n_envs, 1);
    assert_string_equal(
        c->envs[0]->key,
        "PCI_RESOURCE_NVIDIA_COM_GB202GL_RTX_PRO_6000_BLACKWELL_MAX-Q_WORKSTATION_EDITION");
    assert_string_equal(c->envs[0]->value, "0000:02:00.0,0000:01:00.0");
    free(answer.data);
}

static void test_only_together(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct dp_device devices[] = {{.id = "a", .node = "/dev/vfio/1", .healthy = true},
                                  {.id = "b", .node = "/dev/vfio/2", .healthy = true}};
    struct dp_resource resource = {R, 2, devices, "half a fabric is none"};
    struct offer *offer = dp_offer_new(&resource, &err);
    assert_non_null(offer);
    struct dp_options options = {0};
    struct wire container = {0}, request = {0};
    struct rpc_answer answer = {0};
    struct service_asked asked;
    wire_text(&container, 1, "a");
    wire_sub(&request, 1, &container);
    service_allocate(offer, &options, request.p, request.n, &answer, &asked);
    service_asked_free(&asked);
    expect_error(answer, RPC_FAILED_PRECONDITION,
                 "1 of 2 devices asked for, only all together can be had: half");
    answer = (struct rpc_answer){0};
    request.n = 0;
    wire_text(&container, 1, "b");
    wire_sub(&request, 1, &container);
    service_allocate(offer, &options, request.p, request.n, &answer, &asked);
    service_asked_free(&asked);
    assert_int_equal(answer.status, RPC_OK);
    free(answer.data);
    dp_offer_free(offer);
    resource.only_together = "\xff";
    assert_null(dp_offer_new(&resource, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_offers),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_choice_of_many_is_quick),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_register),
        cmocka_unit_test(test_allocate_refuses),
        cmocka_unit_test(test_allocate_gives),
        cmocka_unit_test(test_only_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
