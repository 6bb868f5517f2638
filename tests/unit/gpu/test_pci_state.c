/* Link, errors and power as sysfs tells them, and files that do not. */
#include "tree.h"

#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/pci_state.h"

#define GPU "0000:18:00.0"

static struct tree *t;
static struct pci_state now;

static int fresh(void **state)
{
    (void)state;
    t = tree_new();
    tree_device(t, GPU, "0x10de\n", "0x2331\n", "0x030200\n", 1);
    return 0;
}

static int stale(void **state)
{
    (void)state;
    tree_free(t);
    return 0;
}

static void put(const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("/sys/bus/pci/devices/" GPU "/%s", name);
    tree_file(t, path, text);
}

static void look(void)
{
    pci_state_read(&t->host, GPU, &now);
}

static void as_linux_writes_them(void **state)
{
    (void)state;
    put("power_state", "D0\n");
    put("current_link_speed", "16.0 GT/s PCIe\n");
    put("max_link_speed", "2.5 GT/s PCIe\n");
    put("current_link_width", "8\n");
    put("max_link_width", "16\n");
    put("aer_dev_correctable", "RxErr 1\nBadTLP 7\nTOTAL_ERR_COR 8\n");
    put("aer_dev_nonfatal", "Undefined 0\nTOTAL_ERR_NONFATAL 0\n");
    put("aer_dev_fatal", "DLP 18446744073\nTOTAL_ERR_FATAL 18446744073\n");
    look();
    assert_string_equal(now.power, "D0");
    assert_int_equal(now.speed, 16000);
    assert_int_equal(now.max_speed, 2500);
    assert_int_equal(now.width, 8);
    assert_int_equal(now.max_width, 16);
    assert_int_equal(now.correctable, 8);
    assert_int_equal(now.nonfatal, 0);
    assert_int_equal(now.fatal, 18446744073);
    put("current_link_speed", "8 GT/s\n"); /* before 5.8 */
    look();
    assert_int_equal(now.speed, 8000);
}

static void nothing_is_there(void **state)
{
    (void)state;
    look();
    const int64_t all[] = {now.speed,       now.max_speed, now.width, now.max_width,
                           now.correctable, now.nonfatal,  now.fatal};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_int_equal(all[i], -1);
    assert_string_equal(now.power, "");
    pci_state_read(&t->host, "0000:99:00.0", &now);
    assert_int_equal(now.speed, -1);
}

static void odd_values_are_no_values(void **state)
{
    (void)state;
    static const char *const speeds[] = {"Unknown\n", "",           "x GT/s\n",    "-8 GT/s\n",
                                         "8\n",       "8.0 GB/s\n", "9999 GT/s\n", "\n"};
    static const char *const totals[] = {
        "RxErr 5\n",          "TOTAL_ERR_COR\n",    "TOTAL_ERR_COR x\n",
        "TOTAL_ERR_COR -1\n", "TOTAL_ERR_COR 1x\n", "TOTAL_ERR_COR 99999999999999999999\n"};
    static const char *const widths[] = {"0\n", "63\n", "255\n", "x16\n"};
    for (size_t i = 0; i < ARRAY_LEN(speeds); i++) {
        put("current_link_speed", speeds[i]);
        look();
        assert_int_equal(now.speed, -1);
    }
    for (size_t i = 0; i < ARRAY_LEN(totals); i++) {
        put("aer_dev_correctable", totals[i]);
        look();
        assert_int_equal(now.correctable, -1);
    }
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        put("max_link_width", widths[i]);
        look();
        assert_int_equal(now.max_width, -1);
    }
    put("power_state", "D9\"bad\n");
    look();
    assert_string_equal(now.power, "");
}

static void a_device_in_d3cold_is_let_sleep(void **state)
{
    (void)state;
    put("power_state", "D3cold\n");
    put("current_link_speed", "16.0 GT/s PCIe\n");
    put("aer_dev_fatal", "TOTAL_ERR_FATAL 2\n");
    look();
    assert_string_equal(now.power, "D3cold");
    assert_int_equal(now.speed, -1);
    assert_int_equal(now.fatal, 2); /* the kernel's own count */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_linux_writes_them, fresh, stale),
        cmocka_unit_test_setup_teardown(nothing_is_there, fresh, stale),
        cmocka_unit_test_setup_teardown(odd_values_are_no_values, fresh, stale),
        cmocka_unit_test_setup_teardown(a_device_in_d3cold_is_let_sleep, fresh, stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
