/* Profiles: what is read, what is refused and with which words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/auto.h"
#include "simulator/tree/profile.h"

static struct profile profile;
static struct err err;

static int parse(const char *text)
{
    err = ERR_INIT;
    return profile_parse(text, strlen(text), &profile, &err);
}

static void defaults_and_order_of_keys(void **state)
{
    (void)state;
    assert_int_equal(
        parse("devices:\n- {bdf: '0000:18:00.0', model: h100-pcie}\ndriver: vfio-pci\n"), 0);
    assert_int_equal(profile.n_devices, 1);
    const struct profile_device *d = &profile.devices[0];
    assert_string_equal(d->driver, "vfio-pci");
    assert_string_equal(d->path, "pci0000:17/0000:17:01.0");
    assert_string_equal(d->mode, "off");
    assert_int_equal(d->numa, -1);
    assert_int_equal(d->group, -1);
    assert_true(profile.iommu && profile.idle_d3 && profile.tee_enabled);
    assert_false(profile.cdev);
    assert_string_equal(profile.lockdown, "none");
}

static void every_key(void **state)
{
    (void)state;
    assert_int_equal(
        parse("tee: tdx\ntee_enabled: false\nlockdown: integrity\niommu: false\ncdev: "
              "true\nidle_d3: false\n"
              "release: 6.1.0\ndelays: {flr: 7}\ndriver: none\ndescription: a/b\ndevices:\n"
              "- {bdf: '0000:18:00.0', model: other, vendor: 0x15b3, device: 0x1021, class: "
              "0x020000, numa: 3, "
              "group: 9, driver: mlx5_core, mode: ppcie, ppcie: false, plugged: false, path: "
              "'pci0000:10'}\n"
              "- {bdf: '0000:18:00.4', model: vf, physfn: '0000:18:00.0'}\n"),
        0);
    const struct profile_device *d = &profile.devices[0];
    assert_int_equal(d->vendor_id, 0x15b3);
    assert_int_equal(d->class_code, 0x020000);
    assert_int_equal(d->numa, 3);
    assert_int_equal(d->group, 9);
    assert_true(d->no_ppcie && d->unplugged);
    assert_string_equal(d->driver, "mlx5_core");
    assert_string_equal(profile.devices[1].driver, "");
    assert_string_equal(profile.tee, "tdx");
    assert_false(profile.tee_enabled || profile.iommu || profile.idle_d3);
    assert_int_equal(profile.delays[0].ms, 7);
}

static void shipped_profiles(void **state)
{
    static const struct {
        const char *name;
        size_t devices;
    } all[] = {
        {"h100-pcie", 1}, {"hgx-h100", 12}, {"hgx-b200", 8}, {"rtx-pro-6000", 4}, {"mixed", 11}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        err = ERR_INIT;
        if (profile_load(all[i].name, &profile, &err) < 0)
            fail_msg("%s", err.msg);
        assert_int_equal(profile.n_devices, all[i].devices);
    }
    assert_int_equal(profile_load("no-such", &profile, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "hgx-h100"));
}

static void refused(void **state)
{
    static const struct {
        const char *text, *says;
    } all[] = {
        {"- a\n", "mapping"},
        {"devices: 3\n", "list"},
        {"tee: snp\n", "no devices"},
        {"devices: []\nnonsense: 1\n", "line 2, column 1: unknown key: nonsense"},
        {"devices:\n- {bdf: '18:00.0', model: b200}\n", "not a PCI address"},
        {"devices:\n- {bdf: '0000:18:00.8', model: b200}\n", "not a PCI address"},
        {"devices:\n- {model: b200}\n", "needs bdf and model"},
        {"devices:\n- {bdf: '0000:18:00.0', model: h900}\n", "'h900', allowed are h100-pcie"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200, colour: red}\n",
         "unknown key of a device: colour"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200, numa: 5000}\n", "number in range: 5000"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200, ppcie: maybe}\n", "true or false"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200, driver: ../../etc}\n", "not a name"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200, path: ../x}\n", "not a name"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200, path: 'pci0000:17/x'}\n", "path is not"},
        {"devices:\n- {bdf: '0000:18:00.0', model: vf}\n", "physfn"},
        {"devices:\n- {bdf: '0000:18:00.0', model: other}\n", "needs vendor"},
        {"devices:\n- {bdf: '0000:18:00.0', model: b200}\n- {bdf: '0000:18:00.0', model: b200}\n",
         "taken"},
        {"release: '../../x'\ndevices: []\n", "not a name"},
        {"release: [a]\ndevices: []\n", "one value"},
        {"delays: {flr: soon}\ndevices: []\n", "milliseconds"},
        {"description: \"a\\x01\"\ndevices: []\n", "control character"},
        {"a: [\n", "line 2"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        profile.n_devices = 77;
        assert_int_equal(parse(all[i].text), -EINVAL);
        if (!strstr(err.msg, all[i].says))
            fail_msg("row %zu says '%s', not '%s'", i, err.msg, all[i].says);
        assert_int_equal(profile.n_devices, 77); /* untouched on failure */
    }
}

static void too_many_and_too_long(void **state)
{
    (void)state;
    AUTO_FREE char *text = xmalloc(PROFILE_MAX_BYTES + 2);
    memset(text, '#', PROFILE_MAX_BYTES + 1);
    text[PROFILE_MAX_BYTES + 1] = '\0';
    assert_int_equal(parse(text), -E2BIG);
    char *at = text + sprintf(text, "devices:\n");
    for (int i = 0; i < 65; i++)
        at += sprintf(at, "- {bdf: '0000:%02x:00.0', model: b200}\n", 2 * i + 1);
    assert_int_equal(parse(text), -EINVAL);
    assert_non_null(strstr(err.msg, "more than 64"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_order_of_keys), cmocka_unit_test(every_key),
        cmocka_unit_test(shipped_profiles),           cmocka_unit_test(refused),
        cmocka_unit_test(too_many_and_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
