#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/auto.h"
#include "node-agent/intent.h"
#include "tests/unit/agent/fake_node.h"

/* One node, one configuration, at most one label and one annotation. */
struct scene {
    struct config config;
    struct observed node;
    struct intent intent;
};

static struct scene *scene;

static int setup(void **state)
{
    (void)state;
    scene = calloc(1, sizeof *scene);
    config_default(&scene->config);
    make_node(&scene->node, 3, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    config_done(&scene->config);
    free(scene);
    return 0;
}

static void configure(const char *yaml)
{
    struct err err = ERR_INIT;
    config_done(&scene->config);
    if (config_parse("test", yaml, strlen(yaml), &scene->config, &err) < 0)
        fail_msg("%s", err.msg);
}

static const struct intent *resolve(const char *label_key, const char *label,
                                    const char *annotation)
{
    struct key_value labels[] = {{"a", "b"}, {label_key ? label_key : "c", label ? label : "d"}};
    struct key_value annotations[] = {{ANNOTATION_DEVICE_MODES, annotation}};
    struct node_wish wish = {
        .known = true,
        .cluster_policy = "",
        .n_labels = 2,
        .labels = labels,
        .n_annotations = annotation ? 1 : 0,
        .annotations = annotations,
    };
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    return &scene->intent;
}

static void expect_modes(const char *wanted)
{
    char text[128] = "";
    for (size_t i = 0; i < scene->intent.n; i++) {
        strcat(text, i ? " " : "");
        strcat(text, cc_mode_name(scene->intent.devices[i].mode));
    }
    assert_string_equal(text, wanted);
}

static void expect_problem(const char *reason, const char *part)
{
    assert_string_equal(scene->intent.problem_reason, reason);
    if (!strstr(scene->intent.problem, part))
        fail_msg("problem is: %s", scene->intent.problem);
}

static void label_decides_for_gpus_and_switches_stay_off(void **state)
{
    (void)state;
    const struct intent *in = resolve(LABEL_MODE, "on", NULL);
    expect_modes("on on on off");
    expect_problem("", "");
    assert_int_equal(in->mode, CC_MODE_ON);
    assert_false(in->mixed);
    assert_true(in->serve);
    assert_string_equal(in->devices[0].source, "label");
    assert_int_equal(in->devices[3].binding, BINDING_VFIO);
    resolve(LABEL_MODE, "ppcie", NULL);
    expect_modes("ppcie ppcie ppcie ppcie");
}

static void absent_or_empty_label_means_the_default(void **state)
{
    (void)state;
    configure("mode: {default: devtools}");
    resolve(NULL, NULL, NULL);
    expect_modes("devtools devtools devtools off");
    resolve(LABEL_MODE, "", NULL);
    expect_modes("devtools devtools devtools off");
    assert_string_equal(scene->intent.devices[0].source, "default");
}

static void before_the_node_is_known_the_default_counts(void **state)
{
    (void)state;
    struct node_wish nothing = {0};
    configure("mode: {default: on}");
    intent_resolve(&scene->config, &nothing, &scene->node, &scene->intent);
    expect_modes("on on on off");
}

static void cluster_policy_wins_over_the_configured_default_only(void **state)
{
    (void)state;
    struct key_value label = {LABEL_MODE, "devtools"};
    struct node_wish wish = {.known = true, .cluster_policy = "on"};
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("on on on off");
    wish.labels = &label;
    wish.n_labels = 1;
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("devtools devtools devtools off");
}

/* Until it is known whether a policy overrules the default, the default is nobody's order. */
static void a_default_waits_for_the_cluster_policy(void **state)
{
    (void)state;
    struct key_value label = {LABEL_MODE, "devtools"};
    struct node_wish wish = {.known = true, .cluster_policy = NULL, .labels = &label};
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("unknown unknown unknown unknown");
    assert_string_equal(scene->intent.problem_reason, "");
    wish.n_labels = 1;
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("devtools devtools devtools off");
}

static void modes_that_are_not_managed_are_nobodys_to_change(void **state)
{
    (void)state;
    configure("mode: {default: on, manage: false}");
    resolve(NULL, NULL, NULL);
    expect_modes("unknown unknown unknown unknown");
    resolve(LABEL_MODE, "devtools", "{\"gpus\":\"on\"}");
    expect_modes("unknown unknown unknown unknown");
    assert_true(scene->intent.serve);
}

static void a_cluster_policy_that_is_no_mode_changes_nothing(void **state)
{
    (void)state;
    struct node_wish wish = {.known = true, .cluster_policy = "onn"};
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("unknown unknown unknown unknown");
    assert_string_equal(scene->intent.problem_reason, "InvalidMode");
    assert_non_null(strstr(scene->intent.problem, "\"onn\""));
}

static void host_without_tee_turns_a_default_off_but_honours_a_wish(void **state)
{
    (void)state;
    scene->node.snp = false;
    configure("mode: {default: on}");
    resolve(NULL, NULL, NULL);
    expect_modes("off off off off");
    resolve(LABEL_MODE, "on", NULL);
    expect_modes("on on on off");
    resolve(NULL, NULL, "{\"gpus\":\"on\"}");
    expect_modes("on on on off");
    scene->node.tdx = true;
    resolve(NULL, NULL, NULL);
    expect_modes("on on on off");
}

static void invalid_label_changes_nothing_and_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"On", "\"On\""},
        {"yes", "on, off, devtools, ppcie"},
        {"on ", "\"on \""},
        {"a\nb\x1b[2J", "\"a\\x0ab\\x1b[2J\""},
        {"q\"uote", "\\x22"},
        {"unknown", "none of"},
        {"invalid", "none of"},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxx",
         "xxx...\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        resolve(LABEL_MODE, cases[i].value, NULL);
        expect_modes("unknown unknown unknown unknown");
        expect_problem("InvalidMode", cases[i].shown);
        assert_true(strlen(scene->intent.problem) < 400);
    }
}

static void annotation_wins_over_configuration_wins_over_label(void **state)
{
    (void)state;
    configure("devices: {modes: {\"0000:11:00.0\": off, \"0000:12:00.0\": off}}");
    resolve(LABEL_MODE, "on", "{\"0000:12:00.0\":\"devtools\"}");
    expect_modes("on off devtools off");
    assert_true(scene->intent.mixed);
    assert_int_equal(scene->intent.mode, CC_MODE_UNKNOWN);
    assert_string_equal(scene->intent.devices[0].source, "label");
    assert_string_equal(scene->intent.devices[1].source, "configuration");
    assert_string_equal(scene->intent.devices[2].source, "annotation");
    expect_problem("", "");
}

static void full_address_wins_over_other_selectors_in_any_order(void **state)
{
    (void)state;
    resolve(NULL, NULL, "{\"gpus\":\"on\",\"0000:11:00.0\":\"off\"}");
    expect_modes("on off on off");
    resolve(NULL, NULL, "{\"0000:11:00.0\":\"off\",\"gpus\":\"on\"}");
    expect_modes("on off on off");
    expect_problem("", "");
}

static void contradiction_holds_the_device_and_is_told(void **state)
{
    (void)state;
    resolve(NULL, NULL, "{\"gpus\":\"on\",\"gpus[1]\":\"off\"}");
    expect_modes("on unknown on unknown");
    expect_problem("InvalidDeviceModes", "both on and off for 0000:11:00.0");
}

static void broken_annotation_changes_nothing(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "on",       "{",   "[]", "{\"gpus\":\"on\"} x", "{\"gpus\":{\"a\":{\"b\":{\"c\":1}}}}",
        "\"gpus\"", "null"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        resolve(LABEL_MODE, "on", broken[i]);
        expect_modes("unknown unknown unknown unknown");
        expect_problem("InvalidDeviceModes", "is not a JSON object");
    }
    AUTO_FREE char *huge = xmalloc(20000);
    memset(huge, ' ', 19999);
    huge[19999] = '\0';
    resolve(LABEL_MODE, "on", huge);
    expect_problem("InvalidDeviceModes", "is not a JSON object");
}

static void bad_value_in_annotation_holds_only_its_devices(void **state)
{
    (void)state;
    resolve(LABEL_MODE, "on", "{\"gpus[1]\":\"maybe\"}");
    expect_modes("on unknown on unknown");
    expect_problem("InvalidDeviceModes", "\"maybe\", which is none of");
    resolve(LABEL_MODE, "on", "{\"gpus[1]\":7}");
    expect_modes("on unknown on unknown");
}

static void selector_without_device_is_told_and_holds_nothing(void **state)
{
    (void)state;
    resolve(LABEL_MODE, "on", "{\"0000:99:00.0\":\"off\"}");
    expect_modes("on on on off");
    expect_problem("InvalidDeviceModes", "\"0000:99:00.0\" names no device");
}

static void ppcie_for_some_gpus_changes_nothing(void **state)
{
    (void)state;
    resolve(LABEL_MODE, "on", "{\"gpus[0]\":\"ppcie\"}");
    expect_modes("unknown unknown unknown unknown");
    expect_problem("InvalidDeviceModes", "only 1 of 3 GPUs");
    resolve(LABEL_MODE, "ppcie", "{\"gpus[0]\":\"on\"}");
    expect_modes("unknown unknown unknown unknown");
    expect_problem("InvalidDeviceModes", "only 2 of 3 GPUs");
    resolve(LABEL_MODE, "on", "{\"gpus\":\"ppcie\"}");
    expect_modes("ppcie ppcie ppcie ppcie");
}

static void switch_against_its_gpus_changes_nothing(void **state)
{
    (void)state;
    resolve(LABEL_MODE, "on", "{\"0000:13:00.0\":\"ppcie\"}");
    expect_modes("unknown unknown unknown unknown");
    expect_problem("InvalidDeviceModes", "NVSwitch 0000:13:00.0 is asked to be ppcie");
    resolve(LABEL_MODE, "on", "{\"0000:13:00.0\":\"off\"}");
    expect_modes("on on on off");
}

static void excluded_devices_are_left_alone(void **state)
{
    (void)state;
    configure("devices: {exclude: [\"0000:10:00.0\", nvswitches]}");
    resolve(LABEL_MODE, "ppcie", NULL);
    expect_modes("unknown unknown unknown unknown");
    expect_problem("FabricNotManaged", "0000:10:00.0 (H100) is not managed");
    resolve(LABEL_MODE, "on", NULL);
    expect_modes("unknown on on unknown");
    expect_problem("", "");
    assert_false(scene->intent.devices[0].managed);
    assert_int_equal(scene->intent.devices[0].binding, BINDING_LEAVE);
    assert_int_equal(scene->intent.mode, CC_MODE_ON);
    configure("devices: {include: [\"gpus[0]\", \"0000:77:00.0\"]}");
    resolve(LABEL_MODE, "on", NULL);
    expect_modes("on unknown unknown unknown");
    expect_problem("", "");
}

static void ppcie_needs_every_hopper_gpu_and_switch(void **state)
{
    (void)state;
    static const char *const partial[] = {"devices: {exclude: [nvswitches]}",
                                          "devices: {exclude: [\"0000:11:00.0\"]}",
                                          "devices: {include: [gpus]}"};
    for (size_t i = 0; i < ARRAY_LEN(partial); i++) {
        configure(partial[i]);
        resolve(LABEL_MODE, "ppcie", NULL);
        expect_modes("unknown unknown unknown unknown");
        expect_problem("FabricNotManaged", i == 1 ? "0000:11:00.0 (H100) is not managed"
                                                  : "0000:13:00.0 (NVSwitch) is not managed");
    }
    /* one that ppcie does not concern may be left out */
    (void)snprintf(scene->node.devices[1].dev.chip, sizeof scene->node.devices[1].dev.chip,
                   "gb202");
    configure("devices: {exclude: [\"0000:11:00.0\"]}");
    resolve(LABEL_MODE, "ppcie", NULL);
    expect_modes("ppcie unknown ppcie ppcie");
    expect_problem("", "");
}

static void part_of_several_addresses_manages_none_of_them(void **state)
{
    (void)state;
    configure("devices: {exclude: [\":00.0\"]}");
    resolve(LABEL_MODE, "on", NULL);
    expect_modes("unknown unknown unknown unknown");
    assert_false(scene->intent.devices[0].managed);
    expect_problem("InvalidDevices", "devices.exclude: ':00.0' is part of 0000:10:00.0 and of");
    expect_problem("InvalidDevices", "until then all of them are left alone");
    configure("devices: {include: [\"gpus[0]\", \":00.0\"]}");
    resolve(LABEL_MODE, "on", NULL);
    expect_modes("on unknown unknown unknown");
    expect_problem("InvalidDevices", "devices.include: ':00.0' is part of");
    configure("devicePlugin: {partitions: {\":00.0\": left, \"0000:77:00.0\": right}}");
    resolve(LABEL_MODE, "on", NULL);
    expect_modes("on on on off");
    expect_problem("InvalidDevices", "devicePlugin.partitions: ':00.0' is part of");
}

static void container_workload_releases_and_keeps_the_mode_unless_asked(void **state)
{
    (void)state;
    resolve(LABEL_WORKLOAD, "container", NULL);
    expect_modes("unknown unknown unknown unknown");
    assert_int_equal(scene->intent.devices[0].binding, BINDING_RELEASE);
    assert_false(scene->intent.serve);
    assert_false(scene->intent.hands_off);
    configure("workload: {default: container}");
    resolve(LABEL_MODE, "off", NULL);
    expect_modes("off off off off");
    assert_int_equal(scene->intent.devices[0].binding, BINDING_RELEASE);
}

static void foreign_workload_means_hands_off(void **state)
{
    (void)state;
    resolve(LABEL_WORKLOAD, "vm-vgpu", NULL);
    assert_true(scene->intent.hands_off);
    assert_false(scene->intent.devices[0].managed);
    expect_problem("", "");
    resolve(LABEL_WORKLOAD, "kata", NULL);
    assert_true(scene->intent.hands_off);
    assert_false(scene->intent.serve);
    expect_problem("InvalidWorkload", "\"kata\", which is none of");
}

static void operands_of_the_gpu_operator_keep_their_duties(void **state)
{
    (void)state;
    struct key_value label = {LABEL_MODE, "on"};
    struct node_wish wish = {
        .known = true, .labels = &label, .n_labels = 1, .operands = {.mode = true}};
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("unknown unknown unknown unknown");
    assert_int_equal(scene->intent.devices[0].binding, BINDING_VFIO);
    wish.operands = (struct stand_back){.vfio = true};
    intent_resolve(&scene->config, &wish, &scene->node, &scene->intent);
    expect_modes("on on on off");
    assert_int_equal(scene->intent.devices[0].binding, BINDING_LEAVE);
    configure("vfio: {manage: false}");
    resolve(LABEL_MODE, "on", NULL);
    assert_int_equal(scene->intent.devices[0].binding, BINDING_LEAVE);
}

static void node_without_devices_is_fine(void **state)
{
    (void)state;
    scene->node.n = 0;
    resolve(LABEL_MODE, "on", "{\"gpus\":\"on\"}");
    assert_int_equal(scene->intent.n, 0);
    assert_int_equal(scene->intent.mode, CC_MODE_UNKNOWN);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(label_decides_for_gpus_and_switches_stay_off),
        T(absent_or_empty_label_means_the_default),
        T(before_the_node_is_known_the_default_counts),
        T(cluster_policy_wins_over_the_configured_default_only),
        T(a_default_waits_for_the_cluster_policy),
        T(a_cluster_policy_that_is_no_mode_changes_nothing),
        T(modes_that_are_not_managed_are_nobodys_to_change),
        T(host_without_tee_turns_a_default_off_but_honours_a_wish),
        T(invalid_label_changes_nothing_and_is_told),
        T(annotation_wins_over_configuration_wins_over_label),
        T(full_address_wins_over_other_selectors_in_any_order),
        T(contradiction_holds_the_device_and_is_told),
        T(broken_annotation_changes_nothing),
        T(bad_value_in_annotation_holds_only_its_devices),
        T(selector_without_device_is_told_and_holds_nothing),
        T(ppcie_for_some_gpus_changes_nothing),
        T(switch_against_its_gpus_changes_nothing),
        T(excluded_devices_are_left_alone),
        T(ppcie_needs_every_hopper_gpu_and_switch),
        T(part_of_several_addresses_manages_none_of_them),
        T(container_workload_releases_and_keeps_the_mode_unless_asked),
        T(foreign_workload_means_hands_off),
        T(operands_of_the_gpu_operator_keep_their_duties),
        T(node_without_devices_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
