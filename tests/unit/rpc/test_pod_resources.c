#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "base/auto.h"
#include "node-agent/kubelet/pod_resources.h"
#include "wire.h"

static void container(struct wire *pod, const char *name, const char *resource, const char *first,
                      const char *second)
{
    struct wire c = {0}, devices = {0};
    wire_text(&devices, 1, resource);
    wire_text(&devices, 2, first);
    if (second)
        wire_text(&devices, 2, second);
    wire_text(&c, 1, name);
    wire_sub(&c, 2, &devices);
    wire_int(&c, 3, 7); /* cpu_ids and what may come: skipped */
    wire_sub(pod, 3, &c);
}

static void test_list(void **state)
{
    (void)state;
    struct wire answer = {0}, pod = {0}, claim = {0}, dynamic = {0}, c = {0};
    struct err err = ERR_INIT;
    struct pod_list list;
    wire_text(&pod, 1, "vm");
    wire_text(&pod, 2, "team");
    container(&pod, "main", "nvidia.com/GPU", "0000:65:00.0", "66");
    container(&pod, "side", "intel.com/qat", "q0", NULL);
    wire_text(&claim, 2, "gpu.nvidia.com");
    wire_text(&claim, 3, "node1");
    wire_text(&claim, 4, "gpu-vfio-0");
    wire_sub(&dynamic, 4, &claim);
    wire_text(&c, 1, "dra");
    wire_sub(&c, 5, &dynamic);
    wire_sub(&pod, 3, &c);
    wire_sub(&answer, 1, &pod);
    assert_int_equal(pod_list_decode(answer.p, answer.n, &list, &err), 0);
    assert_int_equal(list.n, 4);
    assert_string_equal(list.held[1].namespace_, "team");
    assert_string_equal(list.held[1].pod, "vm");
    assert_string_equal(list.held[1].container, "main");
    assert_string_equal(list.held[1].resource, "nvidia.com/GPU");
    assert_string_equal(list.held[1].id, "66");
    assert_string_equal(list.held[2].resource, "intel.com/qat");
    assert_true(list.held[3].claim);
    assert_string_equal(list.held[3].resource, "gpu.nvidia.com/node1");
    assert_string_equal(list.held[3].id, "gpu-vfio-0");
    pod_list_free(&list);
    assert_int_equal(pod_list_decode(NULL, 0, &list, &err), 0); /* nobody holds anything */
    assert_int_equal(list.n, 0);
    pod_list_free(&list);
}

static void test_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct pod_list list = {.n = 77};
    struct wire answer = {0}, pod = {0};
    assert_int_equal(pod_list_decode((const uint8_t *)"\x0a\x7f", 2, &list, &err), -EBADMSG);
    wire_text(&pod, 1, "vm");
    container(&pod, "main", "nvidia.com/GPU", "ok", "not\nok");
    wire_sub(&answer, 1, &pod);
    assert_int_equal(pod_list_decode(answer.p, answer.n, &list, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "device id"));
    struct wire many = {0}, devices = {0}, c = {0}, p = {0};
    for (int i = 0; i <= POD_RESOURCES_MAX_HELD; i++)
        wire_text(&devices, 2, "d");
    wire_sub(&c, 2, &devices);
    wire_sub(&p, 3, &c);
    wire_sub(&many, 1, &p);
    assert_int_equal(pod_list_decode(many.p, many.n, &list, &err), -EFBIG);
    assert_int_equal(list.n, 77); /* outputs are untouched on failure */
}

static void test_allocatable(void **state)
{
    (void)state;
    struct wire answer = {0}, devices = {0};
    struct err err = ERR_INIT;
    struct pod_list list;
    wire_text(&devices, 1, "nvidia.com/GPU");
    wire_text(&devices, 2, "0000:65:00.0");
    wire_text(&devices, 2, "0000:66:00.0");
    wire_sub(&answer, 1, &devices);
    assert_int_equal(pod_allocatable_decode(answer.p, answer.n, &list, &err), 0);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.held[1].resource, "nvidia.com/GPU");
    assert_string_equal(list.held[1].id, "0000:66:00.0");
    assert_string_equal(list.held[1].pod, "");
    pod_list_free(&list);
    wire_text(&devices, 2, "not\nok");
    struct wire bad = {0};
    wire_sub(&bad, 1, &devices);
    assert_int_equal(pod_allocatable_decode(bad.p, bad.n, &list, &err), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_allocatable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
