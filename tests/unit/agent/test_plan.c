#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/auto.h"
#include "fake_node.h"
#include "node-agent/plan.h"

/* Big structs, one of each for all tests. */
static struct observed node;
static struct intent intent;
static struct plan plan;
static struct journal journal;
static struct plan_options options;

static int fresh(void **state)
{
    (void)state;
    options = (struct plan_options){.vfio_driver = "auto", .manage_vfio = true, .now_ms = 1000000};
    return 0;
}

static void want(enum cc_mode gpus, enum cc_mode switches)
{
    intent = (struct intent){.n = node.n, .serve = true, .mode = gpus};
    for (size_t i = 0; i < node.n; i++)
        intent.devices[i] = (struct device_intent){
            .managed = true,
            .mode = node.devices[i].dev.kind == NV_KIND_GPU ? gpus : switches,
            .binding = BINDING_VFIO,
            .source = "label"};
}

static void make(void)
{
    plan_make(&options, &intent, &node, &journal, &plan);
}

static char *steps_of(const struct plan_step *steps, size_t n)
{
    static char text[512];
    *text = '\0';
    for (size_t i = 0; i < n; i++) {
        size_t at = strlen(text);
        (void)snprintf(text + at, sizeof text - at, "%s%s%s%s%s", i ? ", " : "",
                       steps[i].barrier ? "|" : "", worker_step_name(steps[i].step),
                       *steps[i].argument ? " " : "", steps[i].argument);
    }
    return text;
}

static char *chain(size_t i)
{
    return steps_of(plan.devices[i].steps, plan.devices[i].n_steps);
}

static void nothing_to_do_is_an_empty_plan_that_serves(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    want(CC_MODE_OFF, CC_MODE_OFF);
    make();
    assert_false(plan.changes || plan.queries || plan.together || plan.evict);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(plan.devices[i].decision, DECISION_IN_PLACE);
        assert_true(plan.devices[i].serve);
        assert_int_equal(plan.devices[i].n_steps, 0);
    }
}

static void a_change_is_staged_read_back_reset_verified_bound(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    set_mode(&node.devices[1], CC_MODE_ON);
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_true(plan.changes);
    assert_false(plan.together);
    assert_int_equal(plan.devices[0].decision, DECISION_CHANGE);
    assert_false(plan.devices[0].serve);
    assert_string_equal(chain(0), "unbind, wake, stage on, check-staged on, reset, wait-boot, "
                                  "verify on, sleep, bind auto");
    assert_string_equal(steps_of(plan.devices[0].undo, plan.devices[0].n_undo),
                        "wake, stage off, sleep, bind vfio-pci");
    /* the other one is as wanted: kept, served, untouched */
    assert_true(plan.devices[1].serve);
    assert_int_equal(plan.devices[1].n_steps, 0);
}

static void other_knobs_pending_are_put_back_without_a_reset(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    node.devices[0].report.pending = CC_MODE_ON;
    want(CC_MODE_OFF, CC_MODE_OFF);
    make();
    assert_string_equal(chain(0), "unbind, wake, stage off, check-staged off, sleep, bind auto");
    assert_false(plan.devices[0].serve);
}

static void a_busy_device_holds_up_only_itself(void **state)
{
    (void)state;
    make_node(&node, 3, 0);
    add_pod(&node.devices[0], "train");
    add_holder(&node.devices[1], "qemu", "/dev/vfio/2");
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_BUSY);
    assert_non_null(strstr(plan.devices[0].reason, "pod ml/train"));
    assert_int_equal(plan.devices[1].decision, DECISION_BUSY);
    assert_non_null(strstr(plan.devices[1].reason, "qemu (pid 4242, /dev/vfio/2)"));
    assert_int_equal(plan.devices[2].decision, DECISION_CHANGE);
    assert_false(plan.evict);
    options.busy = BUSY_EVICT;
    make();
    assert_true(plan.evict && plan.devices[0].evict);
    assert_false(plan.devices[1].evict); /* a process without a pod cannot be evicted */
}

static void not_knowing_who_uses_it_is_being_used(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        make_node(&node, 1, 0);
        node.holders_known = k != 0;
        node.pods_known = k == 0;
        want(CC_MODE_ON, CC_MODE_OFF);
        make();
        assert_int_equal(plan.devices[0].decision, DECISION_BUSY);
        assert_int_equal(plan.devices[0].n_steps, 0);
    }
}

static void a_held_device_in_its_mode_stays_served(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    set_mode(&node.devices[0], CC_MODE_ON);
    node.devices[0].knowledge = KNOWN_JOURNAL;
    add_pod(&node.devices[0], "train");
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_IN_PLACE);
    assert_true(plan.devices[0].serve);
    /* the journal vouches only while it is held */
    node.devices[0].n_pods = 0;
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_QUERY);
    assert_false(plan.devices[0].serve);
}

static void ppcie_takes_all_together_with_barriers(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    want(CC_MODE_PPCIE, CC_MODE_PPCIE);
    make();
    assert_true(plan.together);
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(chain(i), "check-staged ppcie, |reset"));
    add_pod(&node.devices[1], "train");
    make();
    assert_false(plan.changes);
    for (size_t i = 0; i < 3; i++)
        assert_false(plan.devices[i].serve);
}

static struct journal_device *remember(size_t i)
{
    struct journal_device *entry = journal_put(&journal, node.devices[i].dev.bdf);
    entry->device_id = node.devices[i].dev.device_id;
    entry->verified_mode = node.devices[i].report.active;
    return entry;
}

static void until_its_turn_what_was_ordered_is_served(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    options.no_turn = true;
    static const enum cc_mode orders[] = {CC_MODE_ON, CC_MODE_PPCIE};
    for (size_t o = 0; o < ARRAY_LEN(orders); o++) {
        journal = (struct journal){0};
        want(orders[o], orders[o] == CC_MODE_PPCIE ? CC_MODE_PPCIE : CC_MODE_OFF);
        make();
        assert_false(plan.devices[0].serve); /* nobody vouches for it */
        for (size_t i = 0; i < node.n; i++)
            (void)remember(i);
        make();
        assert_true(plan.changes);
        for (size_t i = 0; i < node.n; i++)
            assert_true(plan.devices[i].serve);
        assert_non_null(strstr(plan.devices[0].reason, "in mode off until"));
        options.no_turn = false;
        make();
        assert_false(plan.devices[0].serve);
        assert_string_equal(plan.devices[0].reason, "");
        options.no_turn = true;
    }
}

static void until_its_turn_what_is_not_in_order_is_not_served(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "drifted", "found at first sight", "other device", "staged",
        "failed",  "other driver",         "unbound",      "believed"};
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        make_node(&node, 2, 0);
        want(CC_MODE_ON, CC_MODE_OFF);
        options.no_turn = true;
        journal = (struct journal){0};
        (void)remember(1);
        struct journal_device *entry = remember(0);
        struct observed_device *d = &node.devices[0];
        if (c == 0)
            set_mode(d, CC_MODE_DEVTOOLS);
        else if (c == 1)
            entry->unordered = true;
        else if (c == 2)
            entry->device_id++;
        else if (c == 3)
            d->report.pending = CC_MODE_ON;
        else if (c == 4)
            d->failures = 1;
        else if (c == 5)
            options.vfio_driver = "other";
        else if (c == 6)
            set_driver(d, "");
        else
            d->knowledge = KNOWN_JOURNAL;
        make();
        if (plan.devices[0].serve)
            fail_msg("%s", cases[c]);
        if (c != 5)
            assert_true(plan.devices[1].serve);
        options.vfio_driver = "auto";
    }
    journal = (struct journal){0};
}

static void ppcie_to_off_takes_switches_along(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    for (size_t i = 0; i < 3; i++)
        set_mode(&node.devices[i], CC_MODE_PPCIE);
    want(CC_MODE_OFF, CC_MODE_OFF);
    make();
    assert_true(plan.together);
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(chain(i), "stage off, check-staged off, |reset, wait-boot, "
                                         "verify off"));
}

static void a_part_of_the_fabric_is_not_served_in_ppcie(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    for (size_t i = 0; i < 3; i++)
        set_mode(&node.devices[i], CC_MODE_PPCIE);
    want(CC_MODE_UNKNOWN, CC_MODE_UNKNOWN); /* what intent makes of it */
    make();
    assert_true(plan.devices[0].serve && plan.devices[1].serve);
    intent.devices[2].managed = false;
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_IN_PLACE);
    assert_false(plan.devices[0].serve || plan.devices[1].serve);
}

static void an_incapable_device_refuses_before_anything_is_written(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    node.devices[1].report.capable_modes &= ~CC_MODE_BIT(CC_MODE_PPCIE);
    want(CC_MODE_PPCIE, CC_MODE_PPCIE);
    make();
    assert_false(plan.changes);
    assert_int_equal(plan.devices[1].decision, DECISION_REFUSED);
    assert_non_null(strstr(plan.devices[1].reason, "firmware"));
    assert_int_equal(plan.devices[0].decision, DECISION_REFUSED);
    assert_non_null(strstr(plan.devices[0].reason, "0000:11:00.0 stops them"));
}

static void a_failed_device_waits_and_the_others_go_on(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    node.devices[0].retry_at_ms = options.now_ms + 5000;
    node.devices[0].failures = 1;
    (void)snprintf(
        node.devices[0].error, sizeof node.devices[0].error, "query: %.500s; the cure",
        "................................................................................"
        "................................................................................"
        "................................................................................");
    node.devices[1].quarantined = true;
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_WAIT);
    assert_non_null(strstr(plan.devices[0].reason, "the cure"));
    assert_int_equal(plan.devices[1].decision, DECISION_WAIT);
    options.now_ms += 6000;
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_CHANGE);
}

static void a_device_that_is_being_changed_is_left_alone(void **state)
{
    (void)state;
    make_node(&node, 2, 1);
    node.devices[0].acting = true;
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_ACTING);
    assert_int_equal(plan.devices[0].n_steps, 0);
    assert_false(plan.devices[0].serve);
    assert_int_equal(plan.devices[1].decision, DECISION_CHANGE);
    /* a joint change does not begin beside it */
    want(CC_MODE_PPCIE, CC_MODE_PPCIE);
    make();
    assert_false(plan.changes);
    assert_int_equal(plan.devices[1].decision, DECISION_WAIT);
}

static void a_chip_of_the_future_is_refused_by_its_name(void **state)
{
    (void)state;
    static const enum cc_mode wishes[] = {CC_MODE_ON, CC_MODE_OFF};
    make_node(&node, 2, 0);
    node.devices[0].report = (struct nv_report){.booted = true, .unlisted = true};
    for (size_t i = 0; i < 2; i++) {
        want(wishes[i], CC_MODE_OFF);
        make();
        assert_int_equal(plan.devices[0].decision, DECISION_REFUSED);
        assert_non_null(strstr(plan.devices[0].reason, "not known to this release"));
        assert_non_null(strstr(plan.devices[0].reason, "update ccnode"));
        assert_null(strstr(plan.devices[0].reason, "no Confidential Computing"));
        assert_false(plan.devices[0].serve);
        assert_int_not_equal(plan.devices[1].decision, DECISION_REFUSED);
    }
    want(CC_MODE_UNKNOWN, CC_MODE_UNKNOWN);
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_IN_PLACE);
    assert_false(plan.devices[0].serve);
}

static void an_unknown_mode_is_read_first(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    node.devices[0].knowledge = KNOWN_NOT;
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_true(plan.queries);
    assert_false(plan.changes);
    assert_string_equal(chain(0), "query");
}

static void a_released_device_is_checked_before_it_is_served(void **state)
{
    (void)state;
    options.check_released = true;
    make_node(&node, 3, 0);
    node.devices[0].released = true;
    node.devices[2].released = true; /* and taken again */
    add_pod(&node.devices[2], "next");
    want(CC_MODE_OFF, CC_MODE_OFF);
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_CHECK);
    assert_string_equal(chain(0), "check-vfio, wait-boot, verify off, sleep");
    assert_true(plan.checks && !plan.changes && !plan.queries);
    assert_true(!plan.devices[0].serve && plan.devices[1].serve && plan.devices[2].serve);
    node.devices[0].failures = 1; /* a reset may be what it needs */
    make();
    assert_string_equal(chain(0),
                        "reset, wait-boot, sleep, check-vfio, wait-boot, verify off, sleep");
    node.devices[0].retry_at_ms = options.now_ms + 1;
    make();
    assert_int_equal(plan.devices[0].decision, DECISION_WAIT);
    node.devices[0].failures = 0;
    node.devices[0].retry_at_ms = 0;
    node.devices[0].report.capable_modes = 0; /* a chip without modes */
    make();
    assert_string_equal(chain(0), "check-vfio");
    options.check_released = false;
    make();
    assert_true(plan.devices[0].serve && !plan.checks);
}

static void a_check_does_not_disturb_a_change_of_all(void **state)
{
    (void)state;
    options.check_released = true;
    make_node(&node, 2, 1);
    for (size_t i = 0; i < node.n; i++)
        node.devices[i].released = true;
    set_mode(&node.devices[0], CC_MODE_PPCIE);
    want(CC_MODE_PPCIE, CC_MODE_PPCIE);
    make();
    assert_true(plan.together);
    assert_false(plan.checks);
    assert_int_equal(plan.devices[0].decision, DECISION_WAIT);
    assert_int_equal(plan.devices[1].decision, DECISION_CHANGE);
}

static void hold_all_withdraws_all(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    set_mode(&node.devices[0], CC_MODE_ON);
    (void)snprintf(node.devices[1].report.fault, sizeof node.devices[1].report.fault, "mute");
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    assert_true(plan.devices[0].serve);
    options.failure = FAILURE_HOLD_ALL;
    make();
    assert_false(plan.devices[0].serve);
}

static void container_hands_back_only_what_is_idle(void **state)
{
    (void)state;
    make_node(&node, 2, 0);
    add_pod(&node.devices[1], "train");
    want(CC_MODE_UNKNOWN, CC_MODE_UNKNOWN);
    intent.serve = false;
    intent.devices[0].binding = intent.devices[1].binding = BINDING_RELEASE;
    make();
    assert_string_equal(chain(0), "unbind, release");
    assert_int_equal(plan.devices[1].decision, DECISION_BUSY);
    assert_false(plan.devices[0].serve || plan.devices[1].serve);
    struct journal_device *entry = journal_put(&journal, node.devices[0].dev.bdf);
    strcpy(entry->original_driver, "nvidia");
    make();
    assert_string_equal(chain(0), "unbind, release"); /* of another device in that slot */
    entry->device_id = node.devices[0].dev.device_id;
    make();
    assert_string_equal(chain(0), "unbind, release nvidia");
    journal = (struct journal){0};
}

static void binding_alone_needs_no_reset(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    set_driver(&node.devices[0], "nvidia");
    want(CC_MODE_OFF, CC_MODE_OFF);
    make();
    assert_string_equal(chain(0), "unbind, bind auto");
    assert_true(plan.load_vfio);
    assert_string_equal(plan.vfio_module, "vfio-pci");
}

static void both_prints_tell_the_same(void **state)
{
    (void)state;
    make_node(&node, 1, 0);
    want(CC_MODE_ON, CC_MODE_OFF);
    make();
    char *text = NULL, *json = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    plan_print_text(&plan, &intent, &node, out);
    (void)fclose(out);
    out = open_memstream(&json, &len);
    plan_print_json(&plan, &intent, &node, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "0000:10:00.0 H100: change, mode off, wanted on (label)"));
    assert_non_null(strstr(text, "steps: unbind, wake, stage on, check-staged on, reset"));
    assert_non_null(strstr(text, "node: withdraw"));
    assert_non_null(strstr(json, "\"decision\":\"change\""));
    assert_non_null(strstr(json, "\"stage on\""));
    free(text);
    free(json);
}

static void nobody_is_evicted_for_a_joint_change_that_cannot_come(void **state)
{
    (void)state;
    options.busy = BUSY_EVICT;
    make_node(&node, 3, 1);
    add_pod(&node.devices[1], "train");
    want(CC_MODE_PPCIE, CC_MODE_PPCIE);
    make();
    assert_true(plan.evict && plan.devices[1].evict);
    node.devices[0].report.capable_modes &= ~CC_MODE_BIT(CC_MODE_PPCIE);
    make();                        /* refused by another device */
    for (size_t i = 0; i < 4; i++) /* nobody waits for what cannot be */
        assert_int_equal(plan.devices[i].decision, DECISION_REFUSED);
    assert_false(plan.evict || plan.devices[1].evict);
    node.devices[0].report.capable_modes = ALL_MODES;
    node.devices[0].quarantined = true;
    make(); /* another device is stuck */
    assert_false(plan.evict || plan.devices[1].evict);
    node.devices[0].quarantined = false;
    node.devices[0].retry_at_ms = options.now_ms + 5000;
    make(); /* another device has just failed */
    assert_false(plan.evict || plan.devices[1].evict);
    node.devices[0].retry_at_ms = 0;
    node.devices[0].acting = true;
    make(); /* another change is under way */
    assert_false(plan.evict || plan.devices[1].evict);
    node.devices[0].acting = false;
    node.devices[0].knowledge = KNOWN_NOT;
    make(); /* another one is not read yet */
    assert_false(plan.evict || plan.devices[1].evict);
    node.devices[0].knowledge = KNOWN_REGISTERS;
    node.devices[1].knowledge = KNOWN_JOURNAL;
    make(); /* nobody knows what the held one can do */
    assert_false(plan.evict || plan.devices[1].evict);
    node.devices[1].capable_known = true;
    make();
    assert_true(plan.evict && plan.devices[1].evict);
}

static void nobody_is_evicted_from_a_device_that_cannot_follow(void **state)
{
    (void)state;
    options.busy = BUSY_EVICT;
    make_node(&node, 1, 0);
    struct observed_device *d = &node.devices[0];
    add_pod(d, "train");
    d->knowledge = KNOWN_JOURNAL;
    d->report.capable_modes = 0;
    want(CC_MODE_ON, CC_MODE_OFF);
    make(); /* what it can do is not known: it is waited for */
    assert_int_equal(plan.devices[0].decision, DECISION_BUSY);
    assert_false(plan.evict || plan.devices[0].evict);
    d->capable_known = true;
    make(); /* it can do nothing */
    assert_int_equal(plan.devices[0].decision, DECISION_REFUSED);
    assert_non_null(strstr(plan.devices[0].reason, "no Confidential Computing"));
    assert_false(plan.evict || plan.devices[0].evict);
    d->report.capable_modes = ALL_MODES;
    d->quarantined = true;
    make();
    assert_false(plan.evict || plan.devices[0].evict);
    d->quarantined = false;
    make();
    assert_true(plan.evict && plan.devices[0].evict);
    /* off is possible everywhere */
    d->capable_known = false;
    set_mode(d, CC_MODE_ON);
    want(CC_MODE_OFF, CC_MODE_OFF);
    make();
    assert_true(plan.evict && plan.devices[0].evict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_to_do_is_an_empty_plan_that_serves, fresh),
        cmocka_unit_test_setup(a_change_is_staged_read_back_reset_verified_bound, fresh),
        cmocka_unit_test_setup(other_knobs_pending_are_put_back_without_a_reset, fresh),
        cmocka_unit_test_setup(a_busy_device_holds_up_only_itself, fresh),
        cmocka_unit_test_setup(not_knowing_who_uses_it_is_being_used, fresh),
        cmocka_unit_test_setup(a_held_device_in_its_mode_stays_served, fresh),
        cmocka_unit_test_setup(ppcie_takes_all_together_with_barriers, fresh),
        cmocka_unit_test_setup(until_its_turn_what_was_ordered_is_served, fresh),
        cmocka_unit_test_setup(until_its_turn_what_is_not_in_order_is_not_served, fresh),
        cmocka_unit_test_setup(ppcie_to_off_takes_switches_along, fresh),
        cmocka_unit_test_setup(a_part_of_the_fabric_is_not_served_in_ppcie, fresh),
        cmocka_unit_test_setup(an_incapable_device_refuses_before_anything_is_written, fresh),
        cmocka_unit_test_setup(a_failed_device_waits_and_the_others_go_on, fresh),
        cmocka_unit_test_setup(a_device_that_is_being_changed_is_left_alone, fresh),
        cmocka_unit_test_setup(a_chip_of_the_future_is_refused_by_its_name, fresh),
        cmocka_unit_test_setup(an_unknown_mode_is_read_first, fresh),
        cmocka_unit_test_setup(nobody_is_evicted_for_a_joint_change_that_cannot_come, fresh),
        cmocka_unit_test_setup(nobody_is_evicted_from_a_device_that_cannot_follow, fresh),
        cmocka_unit_test_setup(a_released_device_is_checked_before_it_is_served, fresh),
        cmocka_unit_test_setup(a_check_does_not_disturb_a_change_of_all, fresh),
        cmocka_unit_test_setup(hold_all_withdraws_all, fresh),
        cmocka_unit_test_setup(container_hands_back_only_what_is_idle, fresh),
        cmocka_unit_test_setup(binding_alone_needs_no_reset, fresh),
        cmocka_unit_test_setup(both_prints_tell_the_same, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
