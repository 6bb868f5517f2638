#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "node-agent/cli/preflight.h"

static void test_key(void **state)
{
    (void)state;
    static const char toml[] = "[hypervisor.qemu]\n"
                               "# cold_plug_vfio = \"no-port\"\n"
                               "cold_plug_vfio_x = \"wrong\"\n"
                               "  cold_plug_vfio = \"root-port\"  # why\n"
                               "empty = \"\"\n"
                               "number=20m # more\n"
                               "yaml: value\n"
                               "quoted: 'a # b'\n"
                               "last = end";
    char value[64] = "?";
    assert_true(preflight_key(toml, "cold_plug_vfio", value, sizeof value));
    assert_string_equal(value, "root-port");
    assert_true(preflight_key(toml, "empty", value, sizeof value));
    assert_string_equal(value, "");
    assert_true(preflight_key(toml, "number", value, sizeof value));
    assert_string_equal(value, "20m");
    assert_true(preflight_key(toml, "yaml", value, sizeof value));
    assert_string_equal(value, "value");
    assert_true(preflight_key(toml, "quoted", value, sizeof value));
    assert_string_equal(value, "a # b");
    assert_true(preflight_key(toml, "last", value, sizeof value));
    assert_string_equal(value, "end");
    assert_false(preflight_key(toml, "cold_plug", value, sizeof value));
    assert_false(preflight_key("", "a", value, sizeof value));
    assert_false(preflight_key("a", "a", value, sizeof value));
}

static void test_key_is_bounded(void **state)
{
    (void)state;
    char value[4];
    assert_true(preflight_key("k = \"abcdefgh", "k", value, sizeof value));
    assert_string_equal(value, "abc");
}

static void test_word(void **state)
{
    (void)state;
    assert_true(preflight_has_word("quiet iommu=pt\n", "iommu=pt"));
    assert_true(preflight_has_word("iommu=pt", "iommu=pt"));
    assert_false(preflight_has_word("intel_iommu=pt", "iommu=pt"));
    assert_false(preflight_has_word("iommu=pt2 xiommu=pt", "iommu=pt"));
    assert_true(preflight_has_word("iommu=pt2 iommu=pt", "iommu=pt"));
}

static void test_tee_cure(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"AuthenticAMD", "quiet iommu=pt", "iommu=pt"},
        {"AuthenticAMD", "iommu.passthrough=1", "iommu=pt"},
        {"AuthenticAMD", "amd_iommu=pgtbl_v2", "pgtbl_v2"},
        {"AuthenticAMD", "quiet", "kvm_amd.sev_snp=1"},
        {"GenuineIntel", "iommu=pt", "kvm_intel.tdx=1"},
        {"", "iommu=pt", "deploy/host --check"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_non_null(strstr(preflight_tee_cure(rows[i][0], rows[i][1]), rows[i][2]));
}

static void test_go_duration(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"20m0s", 1200000},
        {"1h30m", 5400000},
        {"1.5h", 5400000},
        {"500ms", 500},
        {"20m", 1200000},
        {"0s", 0},
        {"0", 0},
        {"+2m", 120000},
        {".5s", 500},
        {"1.s", 1000},
        {"1500us", 1},
        {"3000\u00b5s", 3},
        {"1h2m3.004s", 3723004},
    };
    static const char *const bad[] = {"",
                                      "20",
                                      "m",
                                      "1 m",
                                      "20m0",
                                      "-1s",
                                      "abc",
                                      "1.5",
                                      "1..s",
                                      "1h 30m",
                                      "20 minutes",
                                      ".s",
                                      "1d",
                                      "1m;",
                                      "1e3s",
                                      "9999999999h",
                                      "999999999999999999999h"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (preflight_go_duration(good[i].text) != good[i].ms)
            fail_msg("%s", good[i].text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (preflight_go_duration(bad[i]) >= 0)
            fail_msg("accepted: %s", bad[i]);
}

static void test_toml_number(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "_1", "-1", "1.5", "12 s", "x"};
    assert_int_equal(preflight_toml_number("1200"), 1200);
    assert_int_equal(preflight_toml_number("1_200_000"), 1200000);
    assert_true(preflight_toml_number("99999999999999999999999") > 1200000);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(preflight_toml_number(bad[i]) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key),         cmocka_unit_test(test_key_is_bounded),
        cmocka_unit_test(test_word),        cmocka_unit_test(test_tee_cure),
        cmocka_unit_test(test_go_duration), cmocka_unit_test(test_toml_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
