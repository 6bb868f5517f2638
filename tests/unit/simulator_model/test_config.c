/* Configuration space: contents, what is writable, what writing does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

static uint32_t get(struct bench *b, int hw, unsigned at)
{
    return model_config_read(b->m, hw, at, 4);
}

/* the chains, as a driver walks them */
static unsigned capability(struct bench *b, int hw, unsigned id)
{
    unsigned at = model_config_read(b->m, hw, 0x34, 1);
    for (int i = 0; i < 48 && at; i++) {
        uint32_t head = get(b, hw, at & 0xfc);
        if ((head & 0xff) == id)
            return at;
        at = head >> 8 & 0xff;
    }
    return 0;
}

static unsigned extended_capability(struct bench *b, int hw, unsigned id)
{
    unsigned at = 0x100;
    for (int i = 0; i < 96 && at; i++) {
        uint32_t head = get(b, hw, at);
        if ((head & 0xffff) == id)
            return at;
        at = head >> 20 & 0xffc;
    }
    return 0;
}

static void identity_and_capabilities(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(get(&b, b.h100, 0), 0x233110de);
    assert_int_equal(get(&b, b.h100, 8), 0x030200a1);
    assert_int_equal(get(&b, b.h100, 0x2c), 0x162610de);
    assert_int_equal(model_config_read(b.m, b.h100, 0xf0, 2), 0);
    int all[] = {b.h100, b.b200, b.gb202, b.ls10, b.a100};
    for (int i = 0; i < 5; i++) {
        unsigned pcie = capability(&b, all[i], 0x10);
        assert_int_equal(capability(&b, all[i], 0x01), 0x40);
        assert_int_equal(pcie, 0x60);
        assert_true(get(&b, all[i], pcie + 4) & 1u << 28); /* FLR */
        assert_int_not_equal(extended_capability(&b, all[i], 0x01), 0);
        assert_true(model_config_read(b.m, all[i], 4, 2) & 2);
    }
    assert_int_equal(extended_capability(&b, b.b200, 0x23), 0xaf0);
    assert_int_equal(get(&b, b.b200, 0xaf4), 0x01c010de);
    assert_int_equal(get(&b, b.b200, 0xaf8), 0);
    assert_int_equal(get(&b, b.h100, 0x2b4), 0);
    /* the bridge: type 1, root port, link up */
    assert_int_equal(model_config_read(b.m, b.port, 0x0e, 1), 1);
    assert_int_equal(get(&b, b.port, 0x60) >> 20 & 0xf, 4);
    assert_true(model_config_read(b.m, b.port, 0x72, 2) & 1u << 13);
    assert_int_equal(get(&b, b.port, 0x18), 0x00181817);
    bench_free(&b);
}

/* against the configuration space of a real H100 SXM, where that is at hand */
static void agrees_with_real_hardware(void **state)
{
    (void)state;
    uint8_t real[4096];
    char path[4096];
    const char *shared = getenv("CCNODE_SHARED"), *source = getenv("CCNODE_SOURCE");
    if (shared)
        (void)snprintf(path, sizeof path, "%s/testdata/pci/hgx-h100-guest/gpu0.config", shared);
    else
        (void)snprintf(path, sizeof path, "%s/../shared/testdata/pci/hgx-h100-guest/gpu0.config",
                       source ? source : ".");
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        print_message("SKIPPED: no %s\n", path);
        skip();
    }
    assert_int_equal(read(fd, real, sizeof real), sizeof real);
    (void)close(fd);
    struct bench b = bench_new();
    int hw = add(b.m, "0000:2a:00.0", 0x2330, 0x030200, -1);
    /* everything but what software set there, addresses, subsystem, and ids the hypervisor hid */
    static const struct {
        unsigned first, last;
    } same[] = {{0x00, 0x03},   {0x08, 0x0f},   {0x34, 0x34},   {0x40, 0x47},
                {0x48, 0x4b},   {0x60, 0x77},   {0x84, 0x93},   {0xb4, 0xbb},
                {0x103, 0x12f}, {0x1b8, 0x1bb}, {0x2a4, 0x2c7}, {0xf0, 0xff}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        for (unsigned at = same[i].first; at <= same[i].last; at++) {
            unsigned ours = model_config_read(b.m, hw, at, 1);
            if (at == 0x1ba || at == 0x1bb) /* the link that led to a hidden capability */
                continue;
            if (ours != real[at])
                fail_msg("offset 0x%x is 0x%02x, hardware has 0x%02x", at, ours, real[at]);
        }
    assert_int_equal(model_bar(b.m, hw, 0).size, 16 << 20);
    assert_int_equal(model_bar(b.m, hw, 2).size, 128ull << 30);
    assert_int_equal(model_bar(b.m, hw, 4).size, 32 << 20);
    bench_free(&b);
}

static void only_writable_bits_change(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(model_config_write(b.m, b.h100, 0, 4, 0), 0);
    assert_int_equal(get(&b, b.h100, 0), 0x233110de);
    assert_int_equal(model_config_write(b.m, b.h100, 4, 2, 0xffff), 0);
    assert_int_equal(get(&b, b.h100, 4), 0x00100547);
    /* NoSoftReset is read-only */
    assert_int_equal(model_config_write(b.m, b.h100, 0x44, 2, 0), 0);
    assert_int_equal(model_config_read(b.m, b.h100, 0x44, 2), 8);
    bench_free(&b);
}

static void bars_are_sized_as_every_driver_does(void **state)
{
    (void)state;
    struct bench b = bench_new();
    for (int i = 0; i < 6; i += 2) {
        struct model_bar bar = model_bar(b.m, b.h100, i);
        unsigned at = 0x10 + 4 * (unsigned)i;
        uint32_t low = get(&b, b.h100, at), high = get(&b, b.h100, at + 4);
        assert_int_equal((uint64_t)high << 32 | (low & ~0xfu), bar.base);
        assert_int_equal(low & 0xf, 0xc);
        (void)model_config_write(b.m, b.h100, at, 4, 0xffffffff);
        (void)model_config_write(b.m, b.h100, at + 4, 4, 0xffffffff);
        uint64_t mask = (uint64_t)get(&b, b.h100, at + 4) << 32 | (get(&b, b.h100, at) & ~0xfu);
        assert_int_equal(~mask + 1, bar.size);
        (void)model_config_write(b.m, b.h100, at, 4, low);
        (void)model_config_write(b.m, b.h100, at + 4, 4, high);
        assert_int_equal(get(&b, b.h100, at), low);
    }
    bench_free(&b);
}

static void bad_accesses_are_refused(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(model_config_read(b.m, b.h100, 1, 2), 0xffff);
    assert_int_equal(model_config_read(b.m, b.h100, 2, 4), 0xffffffff);
    assert_int_equal(model_config_read(b.m, b.h100, 4096, 1), 0xff);
    assert_int_equal(model_config_read(b.m, b.h100, 0, 3), 0xffffffff);
    assert_int_equal(model_config_read(b.m, 99, 0, 4), 0xffffffff);
    assert_int_equal(model_config_read(b.m, -1, 0, 4), 0xffffffff);
    assert_int_equal(model_config_write(b.m, b.h100, 1, 2, 0), -EINVAL);
    assert_int_equal(model_config_write(b.m, b.h100, 0xfffffffc, 4, 0), -EINVAL);
    assert_int_equal(model_config_write(b.m, 99, 0, 4, 0), -EINVAL);
    bench_free(&b);
}

static void flr_by_the_control_bit(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(model_config_write(b.m, b.h100, 0x68, 2, 0x8000 | 0x513e), 0);
    assert_int_equal(get(&b, b.h100, 0), 0xffff0001);
    assert_int_equal(model_config_read(b.m, b.h100, 0x34, 1), 0xff);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0), 0xffffffff);
    ms(b.m, 60);
    assert_int_equal(get(&b, b.h100, 0), 0x233110de);
    assert_int_equal(model_config_read(b.m, b.h100, 4, 2), 0);
    assert_int_equal(get(&b, b.h100, 0x10), 0xc); /* not assigned */
    assert_int_equal(model_config_read(b.m, b.h100, 0x68, 2) & 0x8000, 0);
    assert_int_equal(model_counters(b.m, b.h100).flr, 1);
    assert_int_equal(model_counters(b.m, b.b200).resets, 0);
    bench_free(&b);
}

static void sbr_by_the_bridge(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_bar_write(b.m, b.h100, 0, 0x1458, 1);
    model_bar_write(b.m, b.h100, 0, 0x91288, 1);
    (void)model_config_write(b.m, b.port, 0x3e, 2, 0x40);
    (void)model_config_write(b.m, b.port, 0x3e, 2, 0x40); /* held, not reset again */
    assert_int_equal(get(&b, b.h100, 0), 0xffffffff);     /* held */
    assert_int_equal(model_config_read(b.m, b.port, 0x72, 2) & 1u << 13, 0);
    ms(b.m, 5000);
    assert_int_equal(get(&b, b.h100, 0), 0xffffffff);
    (void)model_config_write(b.m, b.port, 0x3e, 2, 0);
    assert_int_equal(model_config_read(b.m, b.port, 0x72, 2) & 1u << 13, 0); /* trains */
    ms(b.m, 60);
    assert_true(model_config_read(b.m, b.port, 0x72, 2) & 1u << 13);
    assert_int_equal(get(&b, b.h100, 0), 0x233110de);
    assert_int_equal(model_counters(b.m, b.h100).sbr, 1);
    assert_int_equal(model_counters(b.m, b.b200).sbr, 0);
    (void)model_config_write(b.m, b.h100, 4, 2, 2);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x200bc), 0);
    ms(b.m, 1500);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x200bc), 0xff);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x1458), 0);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x91288), 0);
    bench_free(&b);
}

static void a_virtual_function_has_no_ids(void **state)
{
    (void)state;
    struct bench b = bench_new();
    struct err err = ERR_INIT;
    struct model_desc d = {.bdf = "0000:3b:00.4",
                           .vendor_id = 0x10de,
                           .device_id = 0x2335,
                           .class_code = 0x030200,
                           .parent = -1,
                           .vf = true};
    int vf = model_add(b.m, &d, &err);
    assert_true(vf >= 0);
    assert_int_equal(get(&b, vf, 0), 0xffffffff);
    assert_int_equal(get(&b, vf, 0x10), 0);
    assert_int_equal(model_knob(b.m, vf, 8), -1);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity_and_capabilities),
        cmocka_unit_test(agrees_with_real_hardware),
        cmocka_unit_test(only_writable_bits_change),
        cmocka_unit_test(bars_are_sized_as_every_driver_does),
        cmocka_unit_test(bad_accesses_are_refused),
        cmocka_unit_test(flr_by_the_control_bit),
        cmocka_unit_test(sbr_by_the_bridge),
        cmocka_unit_test(a_virtual_function_has_no_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
