#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/auto.h"
#include "node-agent/config.h"
#include "node-agent/config_keys.h"

static int parse(const char *text, struct config *ret, struct err *err)
{
    return config_parse("c.yaml", text, strlen(text), ret, err);
}

static void empty_file_means_the_documented_defaults(void **state)
{
    (void)state;
    static const char *const empties[] = {"", "# nothing\n", "---\n", "{}\n", "mode:\ncdi: {}\n"};
    for (size_t i = 0; i < ARRAY_LEN(empties); i++) {
        struct config c = {0};
        struct err err = ERR_INIT;
        assert_int_equal(parse(empties[i], &c, &err), 0);
        assert_int_equal(c.default_mode, CC_MODE_OFF);
        assert_int_equal(c.include.n, 2);
        assert_string_equal(c.include.items[1], "nvswitches");
        assert_int_equal(c.exclude.n, 0);
        assert_int_equal(c.evict_timeout_ms, 300000);
        assert_true(c.vfio_manage && c.plugin_enabled && c.cdi_enabled && c.validations_enabled);
        assert_string_equal(c.plugin_directory, "/var/lib/kubelet/device-plugins");
        assert_string_equal(c.cdi_directory, "/var/run/cdi");
        assert_string_equal(c.http_listen, "127.0.0.1:9408");
        assert_int_equal(c.log_level, LOG_LEVEL_INFO);
        config_done(&c);
    }
}

static void every_key_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "mode:        { default: on, manage: false }\n"
        "workload:    { default: container }\n"
        "devices:     { include: ['gpus[0:4]'], exclude: "
        "[\"0000:18:00.0\"], modes: {gpus: devtools}, "
        "verifyInterval: 90s }\n"
        "busy:        { policy: evict, evictTimeout: 250ms }\n"
        "failure:     { policy: hold-all }\n"
        "vfio:        { manage: false, driver: nvgrace-gpu-vfio-pci }\n"
        "devicePlugin:\n"
        "  enabled: false\n"
        "  directory: /k/dp\n"
        "  naming: alias\n"
        "  names:\n"
        "    \"10de:2331\": MY_H100\n"
        "  partitions: { \"gpus[0:4]\": left, \"0000:18:00.0\": right }\n"
        "  gpuAlias: g\n"
        "  switchAlias: s\n"
        "  deviceIdStyle: number\n"
        "  cdiDevices: true\n"
        "cdi:         { enabled: false, directory: /c }\n"
        "podResources: { socket: /p.sock }\n"
        "validations: { enabled: false, directory: /v }\n"
        "cri:         { socket: \"\" }\n"
        "concurrency: { max: 3, lease: my-lease }\n"
        "recovery:    { rescan: true, loadModules: false, checkReleased: false }\n"
        "state:       { directory: /s }\n"
        "http:        { listen: \"[::1]:80\" }\n"
        "log:         { level: debug, format: json }\n";
    struct config c, defaults;
    struct err err = ERR_INIT;
    if (parse(text, &c, &err) != 0)
        fail_msg("%s", err.msg);
    config_default(&defaults);
    for (size_t i = 0; i < config_n_keys;
         i++) { /* the text above differs from the default in every key */
        if (config_key_equal(&config_keys[i], &c, &defaults))
            fail_msg("%s.%s was not read", config_keys[i].section, config_keys[i].name);
    }
    assert_int_equal(c.default_mode, CC_MODE_ON);
    assert_string_equal(c.modes.pairs[0].key, "gpus");
    assert_int_equal(c.verify_interval_ms, 90000);
    assert_int_equal(c.evict_timeout_ms, 250);
    assert_string_equal(c.names.pairs[0].value, "MY_H100");
    assert_string_equal(c.cri_socket, "");
    assert_int_equal(c.concurrency_max, 3);
    config_done(&c);
    config_done(&defaults);
}

static void every_mistake_names_place_key_and_cure(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"devicePlugin:\n  namimg: model\n",
         "c.yaml:2:3: devicePlugin.namimg: unknown key, did you mean naming?"},
        {"mdoe: {default: on}\n", "c.yaml:1:1: mdoe: unknown key, did you mean mode"},
        {"log: {zzzzzzzz: 1}\n",
         "c.yaml:1:7: log.zzzzzzzz: unknown key, allowed are: level, format"},
        {"mode: {default: On}\n",
         "c.yaml:1:17: mode.default: \"On\" is not allowed: must be one of on, "
         "off, devtools, ppcie"},
        {"vfio: {manage: yes}\n", "must be true or false"},
        {"vfio: {manage: \"true\"}\n", "must be true or false, without quotes"},
        {"concurrency: {max: -1}\n", "a whole number from 0 to 10000"},
        {"concurrency: {max: 99999999999999999999}\n", "a whole number"},
        {"busy: {evictTimeout: 5}\n", "must be a duration such as"},
        {"busy: {evictTimeout: 25h}\n", "must be a duration such as"},
        {"busy: {evictTimeout: 5 m}\n", "must be a duration such as"},
        {"cdi: {directory: cdi}\n",
         "cdi.directory: \"cdi\" is not allowed: must be an absolute path"},
        {"cdi: {directory: /a/../b}\n", "an absolute path"},
        {"cdi: {directory: [a]}\n", "a single value is expected"},
        {"cdi: {directory: }\n", "cdi.directory: has no value"},
        {"cdi: {directory: /a, directory: /b}\n", "cdi.directory: is there twice"},
        {"cdi: {}\ncdi: {}\n", "c.yaml:2:1: cdi: is there twice"},
        {"devices: {include: gpus}\n", "devices.include: must be a list"},
        {"devices: {include: [\"rm -rf\"]}\n", "must be one device selector"},
        {"devices:\n  exclude: [\"gpu[0]\"]\n",
         "c.yaml:2:13: devices.exclude: \"gpu[0]\" is not allowed: must be one device selector: "
         "gpus, "
         "nvswitches, gpus[0], gpus[0:4], a BDF (0000:18:00.0) or a part of it, or vendor:device"},
        {"devices: {exclude: [nvswitch]}\n", "\"nvswitch\" is not allowed: must be one device"},
        {"devices: {exclude: [\"gpus[\"]}\n", "must be one device selector"},
        {"devices: {exclude: [\"gpus[1:1]\"]}\n", "must be one device selector"},
        {"devices: {exclude: [\"gpus[0],gpus[1]\"]}\n", "must be one device selector"},
        {"devices: {exclude: [\"0000:18:00:0\"]}\n", "must be one device selector"},
        {"devices: {exclude: [\"10de:233\"]}\n", "must be one device selector"},
        {"devices: {exclude: [\"0000:18:00.00\"]}\n", "must be one device selector"},
        {"devices: {include: [\"\"]}\n", "must be one device selector"},
        {"devices: {modes: {\"gpu[0]\": on}}\n", "must be one device selector"},
        {"devicePlugin: {partitions: {\"gpu[0]\": left}}\n", "must be one device selector"},
        {"devices: {modes: [a]}\n", "devices.modes: must be a map"},
        {"devices: {modes: {gpus: no}}\n", "must be one of on, off, devtools, ppcie"},
        {"devices: {modes: {gpus: on, gpus: off}}\n", "\"gpus\" is there twice"},
        {"devicePlugin: {gpuAlias: a/b}\n", "must be a resource name"},
        {"devicePlugin: {gpuAlias: my.gpu}\n",
         "\"my.gpu\" is not allowed: must be a resource name without \"nvidia.com/\": letters, "
         "digits, - "
         "and _ (at most 63), a letter first, a letter or digit last"},
        {"devicePlugin: {switchAlias: 4switches}\n", "must be a resource name"},
        {"devicePlugin: {names: {\"10de:2331\": \"10DE\"}}\n", "must be a resource name"},
        {"devicePlugin: {names: {h100: X}}\n", "must be vendor:device"},
        {"http: {listen: 9408}\n", "ADDRESS:PORT"},
        {"http: {listen: \"127.0.0.1:99999\"}\n", "ADDRESS:PORT"},
        {"cri: {socket: docker}\n", "auto, \"\" or an absolute path"},
        {"concurrency: {lease: Big}\n", "lower-case"},
        {"a: &x 1\n", "unknown key"},
        {"mode: &x {default: on}\n", "anchors and aliases are not allowed"},
        {"mode: *x\n", "anchors and aliases are not allowed"},
        {"mode: !!map {default: on}\n", "tags are not allowed"},
        {"mode: {default: on}\n---\nmode: {default: on}\n", "c.yaml:2:1: only one document"},
        {"- a\n", "must be a map of sections"},
        {"mode: on\n", "mode: must be a map of keys"},
        {"mode: {default: \"o\\x07n\"}\n", "control characters"},
        {"mode: {default: [[[[[[[[[[on]]]]]]]]]]}\n", "a single value"},
        {"mode: {default: on\n", "c.yaml:2:1: "},
        {"\tmode: x\n", "c.yaml:1:1: "},
        {"mode: \x01\n", "this is not a YAML text file"},
        {"\x7f"
         "ELF\x02\x01\x01",
         "this is not a YAML text file"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config c;
        memset(&c, 0x5a, sizeof c);
        struct config before = c;
        struct err err = ERR_INIT;
        if (parse(cases[i].text, &c, &err) != -EINVAL)
            fail_msg("accepted: %s", cases[i].text);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("%s\ngives: %s\nnot: %s", cases[i].text, err.msg, cases[i].message);
        assert_memory_equal(&c, &before, sizeof c);
    }
}

static void every_form_of_selector_is_allowed(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    if (parse(
            "devices: {exclude: [gpus, nvswitches, GPUS, \"gpus[0]\", \"gpus[0:4]\", \"gpus[2:]\", "
            "\"nvswitches[:2]\", \"0000:18:00.0\", \"18:00.0\", \"18:00\", \"ab\", "
            "\"10000:e1:00.0\", "
            "\"10de:2331\"]}",
            &c, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(c.exclude.n, 13);
    config_done(&c);
}

static void ten_megabytes_are_refused_unread(void **state)
{
    (void)state;
    size_t n = 10 << 20;
    AUTO_FREE char *text = xmalloc(n);
    memset(text, ' ', n);
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(config_parse("big.yaml", text, n, &c, &err), -EFBIG);
    assert_non_null(strstr(err.msg, "big.yaml"));
}

static void missing_file_is_named(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(config_load("/nonexistent/ccnode.yaml", &c, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/ccnode.yaml"));
    assert_true(config_load("/dev", &c, &err) < 0);
}

static void lists_are_bounded(void **state)
{
    (void)state;
    AUTO_FREE char *text = xmalloc(2000);
    strcpy(text, "devices: {exclude: [");
    for (int i = 0; i < CONFIG_MAX_ENTRIES + 1; i++)
        strcat(text, "gpus,");
    strcat(text, "]}");
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(parse(text, &c, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "at most 64"));
}

static void only_some_keys_need_a_restart(void **state)
{
    (void)state;
    struct config a, b;
    struct err err = ERR_INIT;
    config_default(&a);
    assert_int_equal(parse("mode: {default: on}\nbusy: {policy: fail}\n", &b, &err), 0);
    assert_null(config_needs_restart(&a, &b));
    config_done(&b);
    assert_int_equal(parse("state: {directory: /x}\n", &b, &err), 0);
    assert_string_equal(config_needs_restart(&a, &b), "state.directory");
    config_done(&b);
    config_done(&a);
    config_done(&a); /* an emptied one may be emptied again */
}

static void help_names_every_key(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    config_print_help(out);
    assert_int_equal(fclose(out), 0);
    for (size_t i = 0; i < config_n_keys; i++)
        assert_non_null(strstr(text, config_keys[i].name));
    assert_non_null(strstr(text, "on | off | devtools | ppcie; default off"));
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_file_means_the_documented_defaults),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(every_mistake_names_place_key_and_cure),
        cmocka_unit_test(every_form_of_selector_is_allowed),
        cmocka_unit_test(ten_megabytes_are_refused_unread),
        cmocka_unit_test(missing_file_is_named),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(only_some_keys_need_a_restart),
        cmocka_unit_test(help_names_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
