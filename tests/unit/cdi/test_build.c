#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "cdi/cdi.h"

static struct cdi_device gpu(const char *bdf, int group)
{
    struct cdi_device dev = {
        .iommu_group = group, .class = "GH100_H100_PCIE", .indexed_class = "pgpu"};
    (void)snprintf(dev.bdf, sizeof dev.bdf, "%s", bdf);
    return dev;
}

/* How often does @name stand for @node in @spec? */
static int count(const struct cdi_spec *spec, const char *name, const char *node)
{
    AUTO_FREE char *text = xasprintf(
        "{ \"name\": \"%s\",\n      \"containerEdits\": { \"deviceNodes\": [ { \"path\": \"%s\",",
        name, node);
    int n = 0;
    for (const char *p = spec->text; (p = strstr(p, text)); p++)
        n++;
    return n;
}

static bool has_name(const struct cdi_spec *spec, const char *name)
{
    AUTO_FREE char *text = xasprintf("\"name\": \"%s\"", name);
    return strstr(spec->text, text) != NULL;
}

static void test_one_gpu(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device dev = gpu("0000:41:00.0", 65);
    struct cdi_specs specs;
    assert_int_equal(cdi_build(&dev, 1, &specs, &err), 0);
    assert_int_equal(specs.n, 2);
    assert_string_equal(specs.specs[0].file, "nvidia.com-GH100_H100_PCIE.yaml");
    assert_string_equal(specs.specs[1].file, "nvidia.com-pgpu.yaml");
    assert_int_equal(count(&specs.specs[0], "0000:41:00.0", "/dev/vfio/65"), 1);
    assert_int_equal(count(&specs.specs[0], "65", "/dev/vfio/65"), 1);
    assert_int_equal(specs.specs[0].n_entries, 2);
    assert_int_equal(count(&specs.specs[1], "0", "/dev/vfio/65"), 1);
    assert_int_equal(specs.specs[1].n_entries, 3);
    assert_non_null(strstr(specs.specs[1].text, "\"cdiVersion\": \"0.5.0\""));
    assert_non_null(strstr(specs.specs[1].text, "\"kind\": \"nvidia.com/pgpu\""));
    assert_int_equal(specs.specs[1].len, strlen(specs.specs[1].text));
    cdi_specs_free(&specs);
}

static void test_cdev_node(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device dev = gpu("0000:41:00.0", 65);
    (void)snprintf(dev.cdev, sizeof dev.cdev, "vfio7");
    struct cdi_specs specs;
    assert_int_equal(cdi_build(&dev, 1, &specs, &err), 0);
    const struct cdi_spec *spec = &specs.specs[0];
    assert_int_equal(count(spec, "0000:41:00.0", "/dev/vfio/devices/vfio7"), 1);
    assert_int_equal(count(spec, "vfio7", "/dev/vfio/devices/vfio7"), 1);
    assert_int_equal(count(spec, "7", "/dev/vfio/devices/vfio7"), 1);
    assert_null(strstr(spec->text, "/dev/vfio/vfio\""));
    assert_null(strstr(spec->text, "\"/dev/vfio/65\""));
    cdi_specs_free(&specs);
}

static void test_order_does_not_matter(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device ab[2] = {gpu("0000:41:00.0", 65), gpu("0000:18:00.0", 30)};
    struct cdi_device ba[2] = {ab[1], ab[0]};
    struct cdi_specs x, y;
    assert_int_equal(cdi_build(ab, 2, &x, &err), 0);
    assert_int_equal(cdi_build(ba, 2, &y, &err), 0);
    for (size_t i = 0; i < x.n; i++)
        assert_string_equal(x.specs[i].text, y.specs[i].text);
    assert_int_equal(count(&x.specs[1], "0", "/dev/vfio/30"), 1);
    assert_int_equal(count(&x.specs[1], "1", "/dev/vfio/65"), 1);
    cdi_specs_free(&x);
    cdi_specs_free(&y);
}

/* Groups 1 and 0 behind indexes 0 and 1: the number could mean either, so only the index stays. */
static void test_group_numbers_that_equal_indexes(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[3] = {gpu("0000:18:00.0", 1), gpu("0000:41:00.0", 0),
                                 gpu("0000:51:00.0", 90)};
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, 3, &specs, &err), 0);
    const struct cdi_spec *pgpu = &specs.specs[1];
    assert_int_equal(count(pgpu, "0", "/dev/vfio/1"), 1);
    assert_int_equal(count(pgpu, "1", "/dev/vfio/0"), 1);
    assert_int_equal(count(pgpu, "0", "/dev/vfio/0"), 0);
    assert_false(has_name(pgpu, "90")); /* all group numbers of the kind went, not only two */
    assert_int_equal(pgpu->n_entries, 6);
    /* the other kind has no indexes, so its group numbers stay */
    assert_int_equal(count(&specs.specs[0], "1", "/dev/vfio/1"), 1);
    assert_int_equal(count(&specs.specs[0], "90", "/dev/vfio/90"), 1);
    cdi_specs_free(&specs);
}

/* An index that equals the device's own group number is said once. */
static void test_own_group_number_as_index(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[2] = {gpu("0000:18:00.0", 0), gpu("0000:41:00.0", 1)};
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, 2, &specs, &err), 0);
    assert_int_equal(count(&specs.specs[1], "0", "/dev/vfio/0"), 1);
    assert_int_equal(count(&specs.specs[1], "1", "/dev/vfio/1"), 1);
    assert_int_equal(specs.specs[1].n_entries, 4);
    cdi_specs_free(&specs);
}

/* Advertised numbers win over indexes: M-ID-4 of the reference. */
static void test_numbers_as_ids(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[2] = {gpu("0000:18:00.0", 1), gpu("0000:41:00.0", 5)};
    (void)snprintf(devs[0].id, sizeof devs[0].id, "1");
    (void)snprintf(devs[1].id, sizeof devs[1].id, "5");
    for (int i = 0; i < 2; i++)
        (void)snprintf(devs[i].class, sizeof devs[i].class, "pgpu");
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, 2, &specs, &err), 0);
    assert_int_equal(specs.n, 1);
    assert_int_equal(count(&specs.specs[0], "1", "/dev/vfio/1"), 1);
    assert_int_equal(count(&specs.specs[0], "1", "/dev/vfio/5"), 0);
    assert_false(has_name(&specs.specs[0], "0"));
    assert_int_equal(count(&specs.specs[0], "0000:41:00.0", "/dev/vfio/5"), 1);
    assert_int_equal(specs.specs[0].n_entries, 4);
    cdi_specs_free(&specs);
}

static void test_two_devices_in_one_group(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[2] = {gpu("0000:18:00.0", 7), gpu("0000:19:00.0", 7)};
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, 2, &specs, &err), 0);
    assert_false(has_name(&specs.specs[0], "7"));
    assert_int_equal(count(&specs.specs[0], "0000:18:00.0", "/dev/vfio/7"), 1);
    assert_int_equal(count(&specs.specs[0], "0000:19:00.0", "/dev/vfio/7"), 1);
    cdi_specs_free(&specs);
    /* ids of the style "number": the group is one device */
    for (int i = 0; i < 2; i++)
        (void)snprintf(devs[i].id, sizeof devs[i].id, "7");
    assert_int_equal(cdi_build(devs, 2, &specs, &err), 0);
    assert_int_equal(count(&specs.specs[0], "7", "/dev/vfio/7"), 1);
    cdi_specs_free(&specs);
}

/* M-ID-4: a number stays with its device while another one is withdrawn, or the wrong GPU would be passed on. */
static void test_numbers_stay_while_one_is_withdrawn(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[3] = {gpu("0000:18:00.0", 40), gpu("0000:41:00.0", 50),
                                 gpu("0000:51:00.0", 60)};
    struct cdi_specs specs;
    devs[0].withdrawn = true;
    devs[0].iommu_group = -1; /* as it is while unbound from everything */
    assert_int_equal(cdi_build(devs, 3, &specs, &err), 0);
    assert_int_equal(specs.n, 2);
    assert_false(has_name(&specs.specs[1], "0"));
    assert_false(has_name(&specs.specs[1], "0000:18:00.0"));
    assert_int_equal(count(&specs.specs[1], "1", "/dev/vfio/50"), 1);
    assert_int_equal(count(&specs.specs[1], "2", "/dev/vfio/60"), 1);
    assert_int_equal(specs.specs[0].n_entries, 4);
    cdi_specs_free(&specs);

    /* nor does a name of the withdrawn one turn up at another: group 0 is not index 0 */
    devs[1].iommu_group = 0;
    assert_int_equal(cdi_build(devs, 3, &specs, &err), 0);
    assert_false(has_name(&specs.specs[1], "0"));
    assert_int_equal(count(&specs.specs[1], "1", "/dev/vfio/0"), 1);
    cdi_specs_free(&specs);

    for (int i = 0; i < 3; i++)
        devs[i].withdrawn = true;
    assert_int_equal(cdi_build(devs, 3, &specs, &err), 0);
    assert_int_equal(specs.n, 0);
    cdi_specs_free(&specs);
}

/* Ids of the style "number": two functions are one device, whichever of them is offered. */
static void test_withdrawn_function_of_a_group(void **state)
{
    (void)state;
    for (int withdrawn = 0; withdrawn < 2; withdrawn++) {
        struct err err = ERR_INIT;
        struct cdi_device devs[3] = {gpu("0000:18:00.0", 7), gpu("0000:18:00.1", 7),
                                     gpu("0000:41:00.0", 9)};
        for (int i = 0; i < 3; i++)
            (void)snprintf(devs[i].id, sizeof devs[i].id, i < 2 ? "7" : "9");
        devs[withdrawn].withdrawn = true;
        struct cdi_specs specs;
        assert_int_equal(cdi_build(devs, 3, &specs, &err), 0);
        assert_int_equal(count(&specs.specs[0], "7", "/dev/vfio/7"), 1);
        assert_int_equal(count(&specs.specs[1], "0", "/dev/vfio/7"), 1);
        assert_int_equal(count(&specs.specs[1], "1", "/dev/vfio/9"), 1);
        cdi_specs_free(&specs);
    }
}

/* An unbound device with an old number meets a bound one that has it now. */
static void test_old_number_of_a_withdrawn_device(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[2] = {gpu("0000:18:00.0", 7), gpu("0000:41:00.0", 9)};
    for (int i = 0; i < 2; i++)
        (void)snprintf(devs[i].id, sizeof devs[i].id, "7");
    (void)snprintf(devs[1].cdev, sizeof devs[1].cdev, "vfio7");
    devs[0].withdrawn = true;
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, 2, &specs, &err), 0);
    assert_int_equal(count(&specs.specs[0], "7", "/dev/vfio/devices/vfio7"), 1);
    assert_int_equal(count(&specs.specs[1], "1", "/dev/vfio/devices/vfio7"), 1);
    assert_false(has_name(&specs.specs[1], "0"));
    cdi_specs_free(&specs);
}

static void test_same_id_elsewhere_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cdi_device devs[3] = {gpu("0000:18:00.0", 7), gpu("0000:19:00.0", 8),
                                 gpu("0000:20:00.0", 9)};
    for (int i = 0; i < 2; i++)
        (void)snprintf(devs[i].id, sizeof devs[i].id, "same");
    (void)snprintf(devs[2].class, sizeof devs[2].class, "OTHER");
    devs[2].indexed_class[0] = '\0';
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, 3, &specs, &err), -EEXIST);
    assert_non_null(strstr(err.msg, "0000:18:00.0"));
    assert_non_null(strstr(err.msg, "0000:19:00.0"));
    assert_int_equal(specs.n, 1); /* the kind that has nothing to do with it */
    assert_non_null(cdi_specs_find(&specs, "OTHER"));
    assert_null(cdi_specs_find(&specs, "pgpu"));
    cdi_specs_free(&specs);
}

/* What is wrong with one device or kind leaves the others as they are. */
static void expect_refused(const struct cdi_device *wrong, size_t kinds_left)
{
    struct cdi_device devs[2] = {*wrong, gpu("0000:99:00.0", 99)};
    (void)snprintf(devs[1].class, sizeof devs[1].class, "SOUND");
    struct cdi_specs specs;
    struct err err = ERR_INIT;
    assert_int_equal(cdi_build(devs, 2, &specs, &err), -EINVAL);
    assert_int_equal(specs.n, kinds_left);
    const struct cdi_spec *sound = cdi_specs_find(&specs, "SOUND");
    assert_non_null(sound);
    assert_int_equal(count(sound, "0000:99:00.0", "/dev/vfio/99"), 1);
    assert_int_equal(count(cdi_specs_find(&specs, "pgpu"), "1", "/dev/vfio/99"), 1);
    cdi_specs_free(&specs);
}

static void test_illegal_input(void **state)
{
    (void)state;
    static const char *const classes[] = {"",   "10DE", "A B",  "A.B",
                                          "A_", "A/B",  "A\"B", "\xc3\xa4x"};
    struct cdi_device dev;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        dev = gpu("0000:18:00.0", 7);
        (void)snprintf(dev.class, sizeof dev.class, "%s", classes[i]);
        expect_refused(&dev, 2);
    }
    dev = gpu("0000:18:00.0", -1);
    expect_refused(&dev, 2);
    dev = gpu("0000:18:00.0", 1);
    (void)snprintf(dev.cdev, sizeof dev.cdev, "../../mem");
    expect_refused(&dev, 2);
    dev = gpu("0000:18:00.0", 1);
    (void)snprintf(dev.id, sizeof dev.id, "a\",\"b");
    expect_refused(&dev, 2);
    struct cdi_specs specs;
    struct err err = ERR_INIT;
    dev = gpu("0000 18", 1);
    assert_int_equal(cdi_build(&dev, 1, &specs, &err), -EINVAL);
    assert_int_equal(specs.n, 0);
    cdi_specs_free(&specs);
    assert_int_equal(cdi_build(NULL, CDI_MAX_DEVICES + 1, &specs, &err), -E2BIG);
    cdi_specs_free(&specs);
}

/* Any mixture of groups, cdevs and id styles: no name twice in a kind, and ours finds no fault with it. */
static void test_random_nodes_are_always_sound(void **state)
{
    (void)state;
    uint32_t seed = 12345;
    for (int round = 0; round < 300; round++) {
        struct cdi_device devs[12];
        size_t n = 1 + (seed = seed * 1664525 + 1013904223) / 65536 % 12;
        for (size_t i = 0; i < n; i++) {
            AUTO_FREE char *bdf = xasprintf("0000:%02zx:00.0", i + 1);
            seed = seed * 1664525 + 1013904223;
            devs[i] = gpu(bdf, (int)(seed >> 16) % 14);
            if (seed >> 8 & 1)
                (void)snprintf(devs[i].cdev, sizeof devs[i].cdev, "vfio%zu", (i * 5 + 3) % 12);
            devs[i].withdrawn = seed >> 12 & round >> 1 & 1;
            if (round & 1)
                (void)snprintf(devs[i].id, sizeof devs[i].id, "%zu", (i * 7 + 2) % 12);
        }
        struct err err = ERR_INIT;
        struct cdi_specs specs;
        assert_int_equal(cdi_build(devs, n, &specs, &err), 0);
        for (size_t i = 0; i < specs.n; i++) {
            struct cdi_report report = {0};
            cdi_check_text(specs.specs[i].file, specs.specs[i].text, specs.specs[i].len, &report);
            if (report.n > 0)
                fail_msg("%s: %s\n%s", report.findings[0].file, report.findings[0].cause,
                         specs.specs[i].text);
            assert_int_equal(report.n_devices, specs.specs[i].n_entries);
            cdi_report_free(&report);
        }
        cdi_specs_free(&specs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_gpu),
        cmocka_unit_test(test_cdev_node),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_group_numbers_that_equal_indexes),
        cmocka_unit_test(test_own_group_number_as_index),
        cmocka_unit_test(test_numbers_as_ids),
        cmocka_unit_test(test_two_devices_in_one_group),
        cmocka_unit_test(test_numbers_stay_while_one_is_withdrawn),
        cmocka_unit_test(test_withdrawn_function_of_a_group),
        cmocka_unit_test(test_old_number_of_a_withdrawn_device),
        cmocka_unit_test(test_same_id_elsewhere_is_refused),
        cmocka_unit_test(test_illegal_input),
        cmocka_unit_test(test_random_nodes_are_always_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
