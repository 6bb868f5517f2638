#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/auto.h"
#include "fake_node.h"
#include "node-agent/publish.h"

static struct observed node;
static struct intent intent;
static struct plan plan;
static struct publish_device devices[NV_MAX_DEVICES];
static struct config config;
static struct published published;

static int fresh(void **state)
{
    (void)state;
    config_default(&config);
    return 0;
}

static int stale(void **state)
{
    (void)state;
    config_done(&config);
    publish_done(&published);
    return 0;
}

/* Everything in place in @mode and offered. */
static void settle(enum cc_mode mode)
{
    intent = (struct intent){.n = node.n, .serve = true, .mode = mode};
    plan = (struct plan){.n = node.n};
    for (size_t i = 0; i < node.n; i++) {
        bool gpu = node.devices[i].dev.kind == NV_KIND_GPU;
        enum cc_mode mine = gpu || mode == CC_MODE_PPCIE ? mode : CC_MODE_OFF;
        set_mode(&node.devices[i], mine);
        intent.devices[i] =
            (struct device_intent){.managed = true, .mode = mine, .binding = BINDING_VFIO};
        plan.devices[i] = (struct device_plan){.decision = DECISION_IN_PLACE, .serve = true};
        devices[i] = (struct publish_device){.offered = true, .resource = "nvidia.com/X"};
    }
}

static void derive(const char *reason, const char *trouble)
{
    struct publish_input in = {&config, &intent, &node, &plan, devices, reason, trouble, NULL};
    publish_done(&published);
    publish_derive(&in, &published);
}

static void expect(const char *state, const char *ready, const char *status, const char *reason)
{
    derive("", "");
    assert_string_equal(published.mode_state.value, state);
    assert_int_equal(published.ready_state.action, LABEL_SET);
    assert_string_equal(published.ready_state.value, ready);
    assert_string_equal(published.cond_status, status);
    assert_string_equal(published.cond_reason, reason);
}

static void stop_serving(size_t i, enum decision decision)
{
    plan.devices[i] = (struct device_plan){.decision = decision};
    devices[i].offered = false;
}

static void each_mode_has_its_labels(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    settle(CC_MODE_ON);
    expect("on", "true", "True", "Ready");
    assert_true(published.vfio_ready && published.mode_ready);
    assert_string_equal(published.capable.value, "true");
    settle(CC_MODE_OFF);
    expect("off", "false", "False", "NotConfidential");
    settle(CC_MODE_DEVTOOLS);
    expect("devtools", "", "False", "NotConfidential");
    settle(CC_MODE_PPCIE);
    expect("ppcie", "true", "True", "Ready");
}

static void ready_needs_kubelet_and_cdi(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    settle(CC_MODE_ON);
    devices[0].offered = false;
    expect("on", "false", "False", "NotConfidential");
    derive("KubeletUnavailable", "kubelet is away");
    assert_string_equal(published.cond_reason, "KubeletUnavailable");
}

/* Verified, and yet kubelet is told that it is unhealthy: the node says so too, and why. */
static void what_cannot_be_offered_is_told(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    struct publish_input in = {&config, &intent, &node, &plan, devices, "", "", NULL};
    intent.devices[0].binding = BINDING_VFIO;
    devices[0].offered = false;
    devices[0].objection = "its node is missing";
    expect("on", "true", "True", "Ready");
    assert_non_null(strstr(published.cond_message, ": its node is missing"));
    assert_string_equal(publish_health(&in, 0), "failed");
    assert_string_equal(publish_reason(&in, 0), "its node is missing");
    assert_string_equal(publish_health(&in, 1), "healthy");
    devices[1].offered = false;
    expect("on", "false", "False", "NotOffered");
    intent.devices[0].binding = BINDING_LEAVE;
    assert_string_equal(publish_health(&in, 0), "healthy");
    node.devices[0].n_holders = 1;
    assert_string_equal(publish_health(&in, 0), "busy");
    devices[0].objection = NULL;
}

static void what_was_seen_a_while_ago_is_never_ready(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    strcpy(node.stale, "the host cannot be looked at: no /sys");
    expect("on", "false", "Unknown", "HostUnreadable");
    assert_non_null(strstr(published.cond_message, "no /sys"));
    plan.devices[0].decision = DECISION_QUERY;
    derive("", "");
    assert_true(published.decided); /* no answer is to be waited for */
    make_node(&node, 0, 0);
    strcpy(node.stale, "the host cannot be looked at: no /sys");
    settle(CC_MODE_ON);
    derive("", "");
    assert_string_equal(published.cond_reason, "HostUnreadable");
    assert_int_equal(published.ready_state.action, LABEL_DELETE);
    *node.stale = '\0';
}

static void a_change_is_not_ready_from_its_first_moment(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_CHANGE);
    expect("changing", "false", "False", "ChangingMode");
    stop_serving(0, DECISION_ACTING);
    expect("changing", "false", "False", "ChangingMode");
    assert_false(published.mode_ready);
}

/* What waits for the node's turn is still what it was ordered to be before, and the labels say so. */
static void until_its_turn_the_node_says_what_it_offers(void **state)
{
    (void)state;
    make_node(&node, 3, 0);
    settle(CC_MODE_ON);
    for (size_t i = 0; i < node.n; i++) {
        intent.devices[i].mode = CC_MODE_OFF;
        plan.devices[i].decision = DECISION_CHANGE;
    }
    expect("on", "true", "True", "WaitingForLease");
    assert_false(published.mode_ready);
    derive("WaitingForLease", "waiting for a place");
    assert_string_equal(published.cond_message,
                        "3 of 3 devices are to be changed; waiting for a place");
    assert_non_null(strstr(published.status, "\"health\":\"healthy\""));
    assert_null(strstr(published.status, "changing"));

    stop_serving(0, DECISION_BUSY); /* a plain pod must not find ready=false here */
    expect("on", "true", "True", "WaitingForLease");
    node.devices[0].failures = 1;
    stop_serving(0, DECISION_WAIT);
    expect("degraded", "true", "True", "WaitingForLease");
    node.devices[0].failures = 0;
    stop_serving(0, DECISION_CHANGE); /* it has begun, or nobody had ordered what it is */
    expect("changing", "false", "False", "ChangingMode");
}

static void a_retry_or_a_straggler_leaves_the_others_schedulable(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_ACTING);
    devices[0].retrying = true;
    expect("degraded", "true", "True", "DeviceFailed");
    devices[0].retrying = false;
    devices[0].acting_ms = PUBLISH_OVERDUE_MS;
    expect("degraded", "true", "True", "DeviceFailed");
}

static void a_check_is_no_change(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_CHECK);
    expect("on", "true", "True", "Ready");
    stop_serving(1, DECISION_CHECK);
    expect("on", "false", "False", "CheckingDevices"); /* nothing is offered for a moment */
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_CHECK);
    node.devices[0].failures = 1;
    (void)snprintf(node.devices[0].error, sizeof node.devices[0].error, "check-vfio: wedged");
    expect("degraded", "true", "True", "DeviceFailed");
    assert_non_null(strstr(published.cond_message, "0000:10:00.0: check-vfio: wedged"));
}

static void failure_of_some_is_degraded_of_all_is_failed(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_WAIT);
    node.devices[0].failures = 1;
    (void)snprintf(node.devices[0].error, sizeof node.devices[0].error, "reset: no answer");
    expect("degraded", "true", "True", "DeviceFailed");
    assert_non_null(strstr(published.cond_message, "0000:10:00.0: reset: no answer"));
    assert_non_null(
        strstr(published.status, "\"health\":\"failed\",\"reason\":\"reset: no answer\""));
    stop_serving(1, DECISION_REFUSED);
    expect("failed", "", "False", "DeviceFailed");
}

static void ppcie_is_all_or_failed(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    settle(CC_MODE_PPCIE);
    stop_serving(0, DECISION_REFUSED);
    expect("failed", "", "False", "DeviceFailed");
    settle(CC_MODE_PPCIE);
    set_mode(&node.devices[2], CC_MODE_OFF); /* a switch that does not follow */
    derive("", "");
    assert_string_equal(published.mode_state.value, "mixed");
}

static void waiting_is_not_ready(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_BUSY);
    (void)snprintf(plan.devices[0].reason, sizeof plan.devices[0].reason, "in use by pod ml/a");
    expect("waiting-busy", "false", "False", "WaitingForPods"); /* although the other is served */
    assert_int_equal(published.n_offered, 1);
    assert_non_null(strstr(published.cond_message, "0000:10:00.0: in use by pod ml/a"));
    stop_serving(1, DECISION_BUSY);
    expect("waiting-busy", "false", "False", "WaitingForPods");
    config.busy_policy = BUSY_FAIL;
    expect("failed", "", "False", "DeviceFailed");
}

static void mixed_modes_are_called_so(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    set_mode(&node.devices[1], CC_MODE_OFF);
    intent.devices[1].mode = CC_MODE_OFF;
    expect("mixed", "false", "False", "NotConfidential");
    set_mode(&node.devices[1], CC_MODE_DEVTOOLS);
    intent.devices[1].mode = CC_MODE_DEVTOOLS;
    expect("mixed", "", "False", "NotConfidential");
}

static void an_invalid_order_is_told_beside_the_truth(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    settle(CC_MODE_ON);
    intent.devices[0].mode = CC_MODE_UNKNOWN;
    (void)snprintf(intent.problem_reason, sizeof intent.problem_reason, "InvalidMode");
    (void)snprintf(intent.problem, sizeof intent.problem, "\"maybe\" is none of on, off");
    expect("on", "true", "True", "InvalidMode");
    assert_non_null(strstr(published.cond_message, "maybe"));
}

static void nothing_is_said_before_it_is_known(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    stop_serving(0, DECISION_QUERY);
    node.devices[0].knowledge = KNOWN_NOT;
    derive("", "");
    assert_false(published.decided);
    stop_serving(1, DECISION_CHANGE); /* it does not wait for the other one, nor do the labels */
    expect("changing", "false", "False", "ChangingMode");
    assert_true(published.decided);
    plan.devices[1] = (struct device_plan){.decision = DECISION_IN_PLACE, .serve = true};
    node.devices[0].failures = 2;
    derive("", "");
    assert_true(published.decided); /* it could not be read: that is an answer */
    assert_string_equal(published.mode_state.value, "degraded");
}

static void duties_of_others_are_left_to_them(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    settle(CC_MODE_ON);
    intent.stand_back.mode = true;
    derive("", "");
    assert_int_equal(published.mode_state.action, LABEL_KEEP);
    assert_int_equal(published.ready_state.action, LABEL_KEEP);
    assert_string_equal(published.cond_reason, "StandingBack");
    settle(CC_MODE_ON);
    intent.hands_off = true;
    derive("", "");
    assert_int_equal(published.mode_state.action, LABEL_DELETE);
    assert_string_equal(published.cond_reason, "HandsOff");
}

static void a_host_without_tee_is_not_capable(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    node.snp = false;
    settle(CC_MODE_OFF);
    derive("", "");
    assert_int_equal(published.capable.action, LABEL_DELETE);
    make_node(&node, 0, 0);
    settle(CC_MODE_OFF);
    derive("", "");
    assert_int_equal(published.present.action, LABEL_KEEP);
    assert_string_equal(published.cond_reason, "NoDevices");
}

static void a_kubelet_that_is_late_is_no_event(void **state)
{
    (void)state;
    assert_false(publish_is_event("KubeletUnavailable", 2000));
    assert_false(publish_is_event("KubeletUnavailable", PUBLISH_KUBELET_EVENT_MS - 1));
    assert_true(publish_is_event("KubeletUnavailable", PUBLISH_KUBELET_EVENT_MS));
    assert_true(publish_is_event("OfferFailed", 0));
    assert_true(publish_is_event("", 0)); /* that it is over is always told */
}

/* After a restart under running pods the registers cannot be asked. */
static void only_registers_take_capable_away(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    settle(CC_MODE_ON);
    for (size_t i = 0; i < 2; i++) {
        node.devices[i].knowledge = KNOWN_JOURNAL;
        node.devices[i].report.capable_modes = 0;
        add_pod(&node.devices[i], "train");
    }
    derive("", "");
    assert_int_equal(published.capable.action, LABEL_KEEP);
    node.devices[0].knowledge = KNOWN_REGISTERS; /* one that cannot says nothing about the other */
    derive("", "");
    assert_int_equal(published.capable.action, LABEL_KEEP);
    node.devices[1].capable_known = true; /* the journal has what its registers said */
    derive("", "");
    assert_int_equal(published.capable.action, LABEL_DELETE);
    node.devices[1].report.capable_modes = CC_MODE_BIT(CC_MODE_ON);
    derive("", "");
    assert_int_equal(published.capable.action, LABEL_SET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_mode_has_its_labels, fresh, stale),
        cmocka_unit_test_setup_teardown(ready_needs_kubelet_and_cdi, fresh, stale),
        cmocka_unit_test_setup_teardown(what_cannot_be_offered_is_told, fresh, stale),
        cmocka_unit_test_setup_teardown(what_was_seen_a_while_ago_is_never_ready, fresh, stale),
        cmocka_unit_test_setup_teardown(a_change_is_not_ready_from_its_first_moment, fresh, stale),
        cmocka_unit_test_setup_teardown(until_its_turn_the_node_says_what_it_offers, fresh, stale),
        cmocka_unit_test_setup_teardown(a_retry_or_a_straggler_leaves_the_others_schedulable, fresh,
                                        stale),
        cmocka_unit_test_setup_teardown(a_check_is_no_change, fresh, stale),
        cmocka_unit_test_setup_teardown(failure_of_some_is_degraded_of_all_is_failed, fresh, stale),
        cmocka_unit_test_setup_teardown(ppcie_is_all_or_failed, fresh, stale),
        cmocka_unit_test_setup_teardown(waiting_is_not_ready, fresh, stale),
        cmocka_unit_test_setup_teardown(mixed_modes_are_called_so, fresh, stale),
        cmocka_unit_test_setup_teardown(an_invalid_order_is_told_beside_the_truth, fresh, stale),
        cmocka_unit_test_setup_teardown(nothing_is_said_before_it_is_known, fresh, stale),
        cmocka_unit_test_setup_teardown(duties_of_others_are_left_to_them, fresh, stale),
        cmocka_unit_test_setup_teardown(a_host_without_tee_is_not_capable, fresh, stale),
        cmocka_unit_test_setup_teardown(only_registers_take_capable_away, fresh, stale),
        cmocka_unit_test(a_kubelet_that_is_late_is_no_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
