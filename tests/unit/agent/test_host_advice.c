#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/auto.h"
#include "fake_node.h"
#include "node-agent/host_advice.h"

static struct observed node;
static struct intent intent;
static struct plan plan;
static struct advice advice;

static void make(size_t gpus, size_t switches, enum cc_mode mode)
{
    make_node(&node, gpus, switches);
    intent = (struct intent){.n = node.n, .serve = true, .mode = mode};
    plan = (struct plan){.n = node.n};
    advice = (struct advice){0};
    for (size_t i = 0; i < node.n; i++) {
        (void)snprintf(node.devices[i].dev.name, sizeof node.devices[i].dev.name, "%s",
                       i < gpus ? "H100 SXM5 80GB" : "H100 NVSwitch");
        intent.devices[i] = (struct device_intent){.managed = true, .mode = mode};
        plan.devices[i] = (struct device_plan){.decision = DECISION_IN_PLACE, .serve = true};
    }
}

static void judge_switches(void)
{
    advice = (struct advice){0};
    host_advice_switches(&intent, &node, &plan, &advice);
}

static void a_mode_without_tee(void **state)
{
    (void)state;
    make(1, 0, CC_MODE_ON);
    host_advice_tee(&intent, &node, &advice);
    assert_string_equal(advice.text, "");
    node.snp = false;
    host_advice_tee(&intent, &node, &advice);
    assert_true(advice.blocks);
    assert_non_null(strstr(advice.text, "neither SEV-SNP"));
    make(1, 0, CC_MODE_OFF); /* pods of kata-qemu-nvidia-gpu need no TEE */
    node.snp = false;
    host_advice_tee(&intent, &node, &advice);
    assert_string_equal(advice.text, "");
    make(1, 0, CC_MODE_ON); /* somebody else's device */
    node.snp = false;
    intent.devices[0].managed = false;
    host_advice_tee(&intent, &node, &advice);
    assert_string_equal(advice.text, "");
}

static void tdx_and_groups(void **state)
{
    (void)state;
    make(2, 0, CC_MODE_ON);
    host_advice_vfio(&intent, &node, &advice);
    assert_string_equal(advice.text, ""); /* SNP guests take groups */
    node.snp = false;
    node.tdx = true;
    (void)snprintf(node.devices[0].dev.cdev, sizeof node.devices[0].dev.cdev, "vfio0");
    host_advice_vfio(&intent, &node, &advice);
    assert_non_null(strstr(advice.text, "and 1 of these devices"));
    assert_false(advice.blocks);
    advice = (struct advice){0};
    (void)snprintf(node.devices[1].dev.cdev, sizeof node.devices[1].dev.cdev, "vfio1");
    host_advice_vfio(&intent, &node, &advice);
    assert_string_equal(advice.text, "");
    set_driver(&node.devices[1], "nvidia"); /* is bound by the change that comes */
    node.devices[1].dev.cdev[0] = '\0';
    host_advice_vfio(&intent, &node, &advice);
    assert_string_equal(advice.text, "");
}

static void a_whole_board(void **state)
{
    (void)state;
    make(8, 4, CC_MODE_ON);
    judge_switches();
    assert_string_equal(advice.text, "");
    plan.devices[8].decision = DECISION_CHANGE; /* that passes */
    set_driver(&node.devices[8], "");
    judge_switches();
    assert_string_equal(advice.text, "");
    intent.devices[9].managed = false;
    node.devices[10].failures = 1;
    judge_switches();
    assert_false(advice.blocks);
    assert_non_null(strstr(advice.text, "1 of 4 NVSwitches are excluded"));
    assert_non_null(strstr(advice.text, "1 of 4 NVSwitches failed"));
    plan.devices[8].decision = DECISION_IN_PLACE; /* vfio.manage: false */
    intent.mode = CC_MODE_PPCIE;
    judge_switches();
    assert_true(advice.blocks);
    assert_non_null(strstr(advice.text, "2 of 4 NVSwitches failed or are not bound"));
    assert_true(strlen(advice.text) + 1 < sizeof advice.text);
}

static void boards_that_need_none(void **state)
{
    (void)state;
    make(8, 0, CC_MODE_ON);
    judge_switches();
    assert_non_null(strstr(advice.text, "no NVSwitch is on the PCI bus"));
    intent.devices[0].managed = false; /* seven: somebody shares the board out otherwise */
    judge_switches();
    assert_string_equal(advice.text, "");
    make(8, 0, CC_MODE_ON);
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(node.devices[i].dev.name, sizeof node.devices[i].dev.name, "H100 PCIe");
    judge_switches();
    assert_string_equal(advice.text, "");
    make(8, 4, CC_MODE_ON); /* names say nothing, the switches beside do */
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(node.devices[i].dev.name, sizeof node.devices[i].dev.name, "H20");
    intent.devices[8].managed = false;
    judge_switches();
    assert_non_null(strstr(advice.text, "CUDA error 802"));
    for (size_t i = 0; i < 8; i++) /* Blackwell's switches are no PCI devices */
        (void)snprintf(node.devices[i].dev.chip, sizeof node.devices[i].dev.chip, "gb100");
    judge_switches();
    assert_string_equal(advice.text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mode_without_tee),
        cmocka_unit_test(tdx_and_groups),
        cmocka_unit_test(a_whole_board),
        cmocka_unit_test(boards_that_need_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
