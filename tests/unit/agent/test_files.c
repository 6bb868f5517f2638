/* Files the agent keeps: orders of the last run, readiness files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/last_node.h"
#include "node-agent/machine.h"
#include "node-agent/validations.h"

static struct host host;
static char root[64];

static int setup(void **state)
{
    struct err err = ERR_INIT;
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/ccnode-files-XXXXXX");
    assert_non_null(mkdtemp(root));
    return host_open(&host, root, &err);
}

static int teardown(void **state)
{
    (void)state;
    host_close(&host);
    AUTO_FREE char *command = xasprintf("rm -rf %s", root);
    return system(command); /* NOLINT: our own path */
}

static bool is_there(const char *path)
{
    AUTO_FREE char *full = xasprintf("%s%s", root, path);
    return access(full, F_OK) == 0;
}

static void orders_survive_and_only_orders(void **state)
{
    (void)state;
    struct last_node last = {0}, again = {0};
    struct err err = ERR_INIT;
    const struct last_source labels[] = {
        {LABEL_MODE, "on"}, {LABEL_MODE_STATE, "off"}, {LABEL_DEPLOY_PREFIX "cc-manager", "true"}};
    const struct last_source annotations[] = {{ANNOTATION_DEVICE_MODES, "{\"a\":\"on\"}"},
                                              {ANNOTATION_STATUS, "[]"}};
    assert_true(last_node_set(&last, "n1", labels, 3, annotations, 2));
    assert_false(last_node_set(&last, "n1", labels, 3, annotations, 2));
    assert_int_equal(last.n_labels, 2); /* the state is a result, not an order */
    assert_false(again.policy_known);
    assert_true(last_node_set_policy(&last, "devtools"));
    assert_false(last_node_set_policy(&last, "devtools"));
    assert_int_equal(last_node_load(&host, "/state", "n1", &again, &err), 0);
    assert_int_equal(last_node_save(&host, "/state", &last, &err), 0);
    assert_int_equal(last_node_load(&host, "/state", "n1", &again, &err), 1);
    assert_true(again.known);
    assert_int_equal(again.n_labels, 2);
    assert_string_equal(again.labels[0].value, "on");
    assert_string_equal(again.annotations[0].value, "{\"a\":\"on\"}");
    assert_true(again.policy_known);
    assert_string_equal(again.policy, "devtools");
    assert_true(last_node_load(&host, "/state", "n2", &again, &err) < 0); /* of another node */
    last_node_done(&last);
    last_node_done(&again);
}

/* An order that is too long is still one: without it the devices would fall back to their default mode. */
static void long_orders_stay_orders(void **state)
{
    (void)state;
    enum { LONG = 20000, MANY = 100 };
    static char text[LONG + 1];
    memset(text, 'x', LONG);
    struct last_node last = {0};
    struct last_source labels[MANY + 1], annotation = {ANNOTATION_DEVICE_MODES, text};
    char keys[MANY][64];
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(keys[i], sizeof keys[i], LABEL_DEPLOY_PREFIX "%zu", i);
        labels[i] = (struct last_source){keys[i], "true"};
    }
    labels[MANY] = (struct last_source){LABEL_MODE, text}; /* after more than there is room for */
    assert_true(last_node_set(&last, "n1", labels, MANY + 1, &annotation, 1));
    assert_string_equal(last.labels[last.n_labels - 1].key, LABEL_MODE);
    assert_int_equal(cc_mode_parse(last.labels[last.n_labels - 1].value), CC_MODE_UNKNOWN);
    assert_int_equal(last.n_annotations, 1);
    assert_true(strlen(last.annotations[0].value) > (size_t)16 * 1024);
    assert_false(last_node_set(&last, "n1", labels, MANY + 1, &annotation, 1));
    last_node_done(&last);
}

static void damaged_orders_are_no_orders(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"node\":\"n1\"}",
        "{\"node\":\"n1\",\"labels\":[],\"annotations\":{}}",
        "{\"node\":\"n1\",\"labels\":{\"nvidia.com/cc.mode\":7},\"annotations\":{}}",
        "{\"node\":\"n1\",\"labels\":{\"other\":\"x\"},\"annotations\":{}}",
        "{\"node\":\"n1\",\"labels\":{\"nvidia.com/cc.mode\":\"on\\u0000x\"},\"annotations\":{}}",
        "{\"node\":\"n1\",\"labels\":{},\"annotations\":{},\"cluster_policy_mode\":1}",
        "{\"node\":\"n1\",\"labels\":{},\"annotations\":{},\"cluster_policy_mode\":\"on\\u0000\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct last_node last = {0};
        struct err err = ERR_INIT;
        assert_true(last_node_parse(bad[i], strlen(bad[i]), "n1", &last, &err) < 0);
        assert_false(last.known);
    }
}

static void a_node_of_another_machine_is_told_apart(void **state)
{
    (void)state;
    static const struct {
        struct machine host, node;
        bool other;
    } table[] = {
        {{"a1", "U-1"}, {"a1", "U-1"}, false},
        {{"a1", "U-1"}, {"A1", "u-2"}, false}, /* a board was changed */
        {{"a1", "U-1"},
         {"b2", "u-1"},
         false}, /* installed anew; the case differs between kernels */
        {{"a1", "U-1"}, {"b2", "U-2"}, true},
        {{"", "U-1"}, {"b2", "U-2"}, true}, /* in a pod without /etc/machine-id */
        {{"a1", ""}, {"b2", "U-2"}, true},
        {{"", "U-1"}, {"b2", ""}, false}, /* nothing that both know */
        {{"", ""}, {"b2", "U-2"}, false},
        {{"a1", "U-1"}, {"", ""}, false},
    };
    char why[240];
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        assert_int_equal(machine_is_other(&table[i].host, &table[i].node, why, sizeof why),
                         table[i].other);
    (void)machine_is_other(&table[3].host, &table[3].node, why, sizeof why);
    assert_string_equal(why, "the Node has machine-id b2, this host has a1");

    struct machine here;
    struct err err = ERR_INIT;
    machine_read(&host, &here);
    assert_true(!*here.id && !*here.uuid);
    assert_int_equal(fs_mkdirs(&host, "/etc", &err), 0);
    assert_int_equal(fs_replace(&host, "/etc", "machine-id", "a1\n", 3, 0644, false, &err), 0);
    machine_read(&host, &here);
    assert_string_equal(here.id, "a1");
}

static void readiness_files_follow_the_truth(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct validations v = {.workload = "vm-passthrough", .vfio_ready = true, .mode_ready = true};
    assert_int_equal(validations_sync(&host, "/v", &v, &err), 0);
    assert_true(is_there("/v/workload-type") && is_there("/v/vfio-pci-ready") &&
                is_there("/v/cc-manager-ready") && is_there("/v/.cc-manager-ctr-ready"));
    v.vfio_ready = false;
    assert_int_equal(validations_sync(&host, "/v", &v, &err), 0);
    assert_false(is_there("/v/vfio-pci-ready"));
    assert_true(is_there("/v/cc-manager-ready"));
    /* somebody else's file is not ours to remove */
    assert_int_equal(fs_replace(&host, "/v", "cc-manager-ready", "x", 1, 0644, false, &err), 0);
    v.mode_ready = false;
    assert_int_equal(validations_sync(&host, "/v", &v, &err), 0);
    assert_true(is_there("/v/cc-manager-ready"));
    assert_false(is_there("/v/.cc-manager-ctr-ready"));
}

static void the_workload_file_goes_with_us(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct validations ours = {.workload = "container"}, nothing = {0},
                       beside = {.leave_mode = true};
    assert_int_equal(validations_sync(&host, "/v", &ours, &err), 0);
    assert_int_equal(validations_sync(&host, "/v", &beside, &err), 0);
    assert_true(is_there("/v/workload-type")); /* the operand beside us wrote the same */
    assert_int_equal(validations_sync(&host, "/v", &nothing, &err), 0);
    assert_false(is_there("/v/workload-type"));
    assert_int_equal(validations_sync(&host, "/v", &nothing, &err), 0);
    assert_int_equal(fs_replace(&host, "/v", "workload-type", "vm-vgpu\n", 8, 0644, false, &err),
                     0);
    assert_int_equal(validations_sync(&host, "/v", &nothing, &err), 0);
    assert_true(is_there("/v/workload-type"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(orders_survive_and_only_orders, setup, teardown),
        cmocka_unit_test(long_orders_stay_orders),
        cmocka_unit_test(damaged_orders_are_no_orders),
        cmocka_unit_test_setup_teardown(a_node_of_another_machine_is_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(readiness_files_follow_the_truth, setup, teardown),
        cmocka_unit_test_setup_teardown(the_workload_file_goes_with_us, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
