/* What goes to the Node and when, on a client that answers when the test wants and on a clock of its own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/auto.h"
#include "fake_kube.h"
#include "node-agent/intent.h"
#include "node-agent/publisher.h"

static struct fake_kube kube;
static struct loop *loop;
static struct publisher *publisher;
static int64_t now_ms;
static unsigned progress;
static struct published wish;
static char status_text[64];

static int64_t clock_ms(void *arg)
{
    (void)arg;
    return now_ms;
}

static void on_progress(void *arg)
{
    (void)arg;
    progress++;
}

static int fresh(void **state)
{
    (void)state;
    now_ms = 1000000;
    progress = 0;
    kube = (struct fake_kube){0};
    wish = (struct published){0};
    loop = loop_new(clock_ms, NULL);
    publisher = publisher_new(loop, (struct kube *)&kube, on_progress, NULL);
    return 0;
}

static int stale(void **state)
{
    (void)state;
    publisher_free(publisher);
    loop_free(loop);
    return 0;
}

/* in small steps, so that timers set by timers are due as well */
static void pass(int64_t ms)
{
    for (int64_t end = now_ms + ms; now_ms < end;) {
        now_ms += end - now_ms < 10 ? end - now_ms : 10;
        loop_run_once(loop, 0);
    }
}

static void set(struct label_wish *label, const char *value)
{
    label->action = value ? LABEL_SET : LABEL_DELETE;
    (void)snprintf(label->value, sizeof label->value, "%s", value ? value : "");
}

/* The labels of a node with devices; the condition is "True/R/m" or "False/R/m" */
static void want(const char *state, const char *ready, const char *status)
{
    set(&wish.mode_state, state);
    set(&wish.ready_state, ready);
    set(&wish.capable, "true");
    set(&wish.present, "true");
    (void)snprintf(status_text, sizeof status_text, "%s", status);
    wish.status = status_text;
    (void)snprintf(wish.cond_status, sizeof wish.cond_status, "%s",
                   strcmp(ready, "true") == 0 ? "True" : "False");
    (void)snprintf(wish.cond_reason, sizeof wish.cond_reason, "R%s", state);
    (void)snprintf(wish.cond_message, sizeof wish.cond_message, "%s", status);
    publisher_want(publisher, &wish);
}

/* The watch shows a Node; NULL = the label is absent. */
static void see(const char *state, const char *ready, const char *status)
{
    struct kube_pair labels[6], annotation = {ANNOTATION_STATUS, status};
    struct kube_node node = {
        .exists = true, .name = "n1", .labels = labels, .annotations = &annotation};
    const struct kube_pair all[] = {{LABEL_CAPABLE, state ? "true" : NULL},
                                    {LABEL_MODE_STATE, state},
                                    {LABEL_READY_STATE, ready},
                                    {LABEL_PRESENT, state ? "true" : NULL}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].value)
            labels[node.n_labels++] = all[i];
    }
    node.n_annotations = status != NULL;
    publisher_saw_node(publisher, &node);
}

static void answer_both(void)
{
    fake_kube_answer(&kube.patching, 0, -1);
    if (kube.conditioning.pending)
        fake_kube_answer(&kube.conditioning, 0, -1);
}

/* A Node that says what we want: one patch, one condition. */
static void settle(const char *state, const char *ready)
{
    see(NULL, NULL, NULL);
    want(state, ready, "[1]");
    answer_both();
    see(state, ready, "[1]");
    pass(2000);
    assert_true(publisher_is_settled(publisher));
    assert_int_equal(kube.n_patches, 1);
    assert_int_equal(kube.n_conditions, 1);
}

static void all_in_one_patch(void **state)
{
    (void)state;
    want("off", "false", "[1]");
    assert_int_equal(kube.n_patches, 0); /* not before the Node is known */
    see(NULL, NULL, NULL);
    assert_int_equal(kube.n_patches, 1);
    assert_string_equal(kube.patch, "nvidia.com/cc.mode.state=off;nvidia.com/cc.ready.state=false;"
                                    "nvidia.com/cc.capable=true;nvidia.com/gpu.present=true;"
                                    "ccnode.io/status=[1];");
    assert_string_equal(kube.condition, "False/Roff/[1]");
    assert_false(publisher_is_settled(publisher));
    answer_both();
    assert_int_equal(progress, 2);
    assert_true(publisher_is_settled(publisher));
    see("off", "false", "[1]");
    want("off", "false", "[1]");
    pass(20000);
    assert_int_equal(kube.n_patches, 1); /* what is there is not written again */
    assert_int_equal(kube.n_conditions, 1);
}

static void only_what_differs_and_what_is_ours(void **state)
{
    (void)state;
    struct kube_pair labels[] = {{LABEL_MODE_STATE, "on"}, {LABEL_PRESENT, "yes"}};
    struct kube_node node = {.exists = true, .name = "n1", .labels = labels, .n_labels = 2};
    set(&wish.mode_state, "on");
    set(&wish.ready_state, "true");
    set(&wish.present, "true"); /* only when absent */
    set(&wish.capable, NULL);   /* is absent */
    wish.status = NULL;
    publisher_saw_node(publisher, &node);
    publisher_want(publisher, &wish);
    assert_string_equal(kube.patch, "nvidia.com/cc.ready.state=true;");
    fake_kube_answer(&kube.patching, 0, -1);
    wish.ready_state.action = LABEL_KEEP; /* an operand of the GPU Operator writes it */
    labels[1] = (struct kube_pair){LABEL_READY_STATE, "false"};
    pass(2000);
    publisher_saw_node(publisher, &node);
    publisher_want(publisher, &wish);
    pass(110);
    assert_int_equal(kube.n_patches, 2); /* gpu.present has gone meanwhile */
    assert_string_equal(kube.patch, "nvidia.com/gpu.present=true;");
}

static void the_newest_only(void **state)
{
    (void)state;
    see(NULL, NULL, NULL);
    want("changing", "false", "[1]");
    want("off", "false", "[2]");
    want("changing", "false", "[3]");
    want("on", "true", "[4]");
    assert_int_equal(kube.n_patches, 1);
    assert_int_equal(kube.n_conditions, 1);
    answer_both();
    assert_int_equal(kube.n_patches, 2);
    assert_string_equal(kube.patch, "nvidia.com/cc.mode.state=on;nvidia.com/cc.ready.state=true;"
                                    "ccnode.io/status=[4];");
    assert_int_equal(kube.n_conditions, 2);
    assert_string_equal(kube.condition, "True/Ron/[4]");
    answer_both();
    pass(20000);
    assert_int_equal(kube.n_patches, 2);
    assert_int_equal(kube.n_conditions, 2);
}

static void details_wait_and_go_along(void **state)
{
    (void)state;
    settle("off", "false");
    want("off", "false", "[2]"); /* annotation and message alone */
    pass(900);
    want("off", "false", "[3]");
    assert_int_equal(kube.n_patches, 1);
    pass(200);
    assert_int_equal(kube.n_patches, 2);
    assert_string_equal(kube.patch, "ccnode.io/status=[3];");
    assert_string_equal(kube.condition, "False/Roff/[3]");
    answer_both();
    wish.n_changing = 1;
    want("off", "false", "[4]");
    pass(19000);
    assert_int_equal(kube.n_patches, 2); /* longer while devices are being changed */
    want("changing", "false", "[5]");
    assert_int_equal(kube.n_patches, 3); /* a label does not wait and takes the rest along */
    assert_string_equal(kube.patch, "nvidia.com/cc.mode.state=changing;ccnode.io/status=[5];");
    answer_both();
    pass(30000);
    assert_int_equal(kube.n_patches, 3);
    assert_int_equal(kube.n_conditions,
                     3); /* the message that waited went along, and not once more */
    want("changing", "false", "[6]");
    pass(1000);
    wish.n_changing = 0;
    want("changing", "false", "[7]"); /* the change is over: what waited is told soon */
    assert_int_equal(kube.n_patches, 3);
    pass(1100);
    assert_int_equal(kube.n_patches, 4);
    assert_int_equal(kube.n_conditions, 4);
}

static void ready_is_false_before_hardware_is_touched(void **state)
{
    (void)state;
    assert_true(publisher_may_say_ready(publisher)); /* a predecessor may have said it */
    settle("on", "true");
    assert_true(publisher_may_say_ready(publisher));
    want("changing", "false", "[2]");
    assert_true(publisher_may_say_ready(publisher)); /* sent is not said */
    assert_true(publisher_is_telling(publisher));
    pass(PUBLISHER_TELL_MS);
    assert_false(publisher_is_telling(publisher)); /* not for hours */
    assert_true(publisher_may_say_ready(publisher));
    fake_kube_answer(&kube.patching, ETIMEDOUT, -1);
    assert_true(publisher_may_say_ready(publisher));
    assert_string_equal(publisher_error(publisher), "refused by the test");
    pass(1000);
    assert_int_equal(kube.n_patches, 3);
    fake_kube_answer(&kube.patching, 0, -1);
    assert_false(publisher_may_say_ready(publisher));
    assert_string_equal(publisher_error(publisher), "");
}

/* A patch that said "true" and whose answer was lost may have arrived, whatever the watch shows meanwhile. */
static void a_lost_answer_may_have_said_ready(void **state)
{
    (void)state;
    settle("off", "false");
    want("on", "true", "[2]");
    want("off", "false", "[3]"); /* changed its mind */
    fake_kube_answer(&kube.patching, ETIMEDOUT, -1);
    assert_true(publisher_may_say_ready(publisher));
    pass(1000);
    assert_int_equal(kube.n_patches, 3);
    assert_non_null(strstr(kube.patch, "nvidia.com/cc.ready.state=false;")); /* said again */
    fake_kube_answer(&kube.patching, 0, -1);
    assert_false(publisher_may_say_ready(publisher));
}

static void failures_wait_as_the_server_asks(void **state)
{
    (void)state;
    see(NULL, NULL, NULL);
    want("off", "false", "[1]");
    fake_kube_answer(&kube.conditioning, EREMOTEIO, 4000);
    fake_kube_answer(&kube.patching, EREMOTEIO, 4000);
    assert_int_equal(progress, 2);
    want("on", "true", "[2]"); /* no excuse to come earlier */
    see(NULL, NULL, NULL);
    pass(3990);
    assert_int_equal(kube.n_patches, 1);
    assert_int_equal(kube.n_conditions, 1);
    pass(420);
    assert_int_equal(kube.n_patches, 2);
    assert_int_equal(kube.n_conditions, 2);
    assert_string_equal(kube.condition, "True/Ron/[2]");
    for (int i = 0; i < 8; i++) { /* 0.5, 1, 2 … 30 s, at least half of it */
        fake_kube_answer(&kube.patching, ENETUNREACH, -1);
        pass(30000);
    }
    unsigned n = kube.n_patches;
    assert_int_equal(n, 10);
    fake_kube_answer(&kube.patching, ENETUNREACH, -1);
    pass(14000);
    assert_int_equal(kube.n_patches, n);
}

static void a_foreign_writer_is_put_right_but_never_fought(void **state)
{
    (void)state;
    settle("on", "true");
    see("lies", "true", "[1]");
    assert_int_equal(kube.n_patches, 1);
    pass(110);
    assert_int_equal(kube.n_patches, 2);
    assert_string_equal(kube.patch, "nvidia.com/cc.mode.state=on;");
    fake_kube_answer(&kube.patching, 0, -1);
    for (int i = 0; i < 600; i++) { /* 50 times a second for 12 s */
        see(i % 2 ? "lies" : "more", "true", "[1]");
        pass(20);
        if (kube.patching.pending)
            fake_kube_answer(&kube.patching, 0, -1);
    }
    assert_in_range(kube.n_patches, 5, 10); /* we were heard all the same */
    assert_int_equal(kube.n_events, 1);
    assert_string_equal(kube.event, "LabelConflict");
    pass(10010); /* they stopped: ours is the last word */
    if (kube.patching.pending)
        fake_kube_answer(&kube.patching, 0, -1);
    see("on", "true", "[1]");
    pass(2000);
    assert_true(publisher_is_settled(publisher));
}

static void what_the_watch_shows_late_is_not_a_foreign_write(void **state)
{
    (void)state;
    settle("off", "false");
    want("on", "true", "[2]");
    see("off", "false", "[1]"); /* from before our patch */
    fake_kube_answer(&kube.patching, 0, -1);
    pass(50);
    see("off", "false", "[1]"); /* still on the way */
    pass(300);
    see("on", "true", "[2]");
    pass(3000);
    assert_int_equal(kube.n_patches, 2);
    assert_int_equal(kube.n_events, 0);
}

static void transition_only_with_the_status(void **state)
{
    (void)state;
    settle("off", "false");
    int64_t first = kube.transition_ms;
    assert_true(first > 0);
    want("changing", "false", "[2]"); /* another reason, the same status */
    fake_kube_answer(&kube.conditioning, 0, -1);
    assert_int_equal(kube.transition_ms, first);
    struct timespec ts = {0, 3000000};
    (void)nanosleep(&ts, NULL); /* the wall clock is the real one */
    want("on", "true", "[3]");
    assert_string_equal(kube.condition, "True/Ron/[3]");
    assert_true(kube.transition_ms > first);
}

static void a_node_that_is_gone_and_comes_back(void **state)
{
    (void)state;
    settle("on", "true");
    publisher_saw_node(publisher, &(struct kube_node){0});
    assert_false(publisher_may_say_ready(publisher)); /* no Node, no pods */
    want("off", "false", "[2]");
    pass(60000);
    assert_int_equal(kube.n_patches, 1);
    assert_int_equal(kube.n_conditions, 1);
    see(NULL, NULL, NULL);
    assert_int_equal(kube.n_patches, 2);
    assert_int_equal(kube.n_conditions, 2);
    assert_non_null(strstr(kube.patch, "nvidia.com/cc.mode.state=off;"));
}

static void nothing_of_ours_stays(void **state)
{
    (void)state;
    settle("on", "true");
    publisher_withdraw(publisher);
    assert_string_equal(kube.patch, "nvidia.com/cc.mode.state=-;nvidia.com/cc.ready.state=-;"
                                    "nvidia.com/cc.capable=-;ccnode.io/status=-;");
    assert_string_equal(kube.condition, "removed");
    assert_false(publisher_is_settled(publisher));
    answer_both();
    assert_true(publisher_is_settled(publisher));
    assert_false(publisher_may_say_ready(publisher));
}

static void without_a_wish_nothing_is_written(void **state)
{
    (void)state;
    see("on", "true", "[1]");
    pass(60000);
    assert_int_equal(kube.n_patches + kube.n_conditions, 0);
    assert_false(publisher_is_settled(publisher));
    assert_true(publisher_may_say_ready(publisher));
    see("on", "false", "[1]");
    assert_false(publisher_may_say_ready(publisher));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_in_one_patch, fresh, stale),
        cmocka_unit_test_setup_teardown(only_what_differs_and_what_is_ours, fresh, stale),
        cmocka_unit_test_setup_teardown(the_newest_only, fresh, stale),
        cmocka_unit_test_setup_teardown(details_wait_and_go_along, fresh, stale),
        cmocka_unit_test_setup_teardown(ready_is_false_before_hardware_is_touched, fresh, stale),
        cmocka_unit_test_setup_teardown(a_lost_answer_may_have_said_ready, fresh, stale),
        cmocka_unit_test_setup_teardown(failures_wait_as_the_server_asks, fresh, stale),
        cmocka_unit_test_setup_teardown(a_foreign_writer_is_put_right_but_never_fought, fresh,
                                        stale),
        cmocka_unit_test_setup_teardown(what_the_watch_shows_late_is_not_a_foreign_write, fresh,
                                        stale),
        cmocka_unit_test_setup_teardown(transition_only_with_the_status, fresh, stale),
        cmocka_unit_test_setup_teardown(a_node_that_is_gone_and_comes_back, fresh, stale),
        cmocka_unit_test_setup_teardown(nothing_of_ours_stays, fresh, stale),
        cmocka_unit_test_setup_teardown(without_a_wish_nothing_is_written, fresh, stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
