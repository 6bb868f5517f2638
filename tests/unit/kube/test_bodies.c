#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"

#define T0 1767323045678901LL /* 2026-01-02T03:04:05.678901Z */

static void expect(char *owned, const char *want)
{
    assert_string_equal(owned, want);
    free(owned);
}

static void test_times(void **state)
{
    (void)state;
    char text[32];
    time_text(T0, text);
    assert_string_equal(text, "2026-01-02T03:04:05Z");
    micro_time_text(T0, text);
    assert_string_equal(text, "2026-01-02T03:04:05.678901Z");
    micro_time_text(1000000, text);
    assert_string_equal(text, "1970-01-01T00:00:01.000000Z");
}

static void test_patch(void **state)
{
    (void)state;
    const struct kube_pair labels[] = {
        {"nvidia.com/cc.mode.state", "on"}, {"a", ""}, {"old", NULL}};
    const struct kube_pair notes[] = {{"ccnode.io/status", "{\"x\":\"\\\"}"}};
    struct kube_patch p = {.n_labels = 3, .labels = labels};
    expect(body_patch(&p), "{\"metadata\":{\"labels\":{\"nvidia.com/"
                           "cc.mode.state\":\"on\",\"a\":\"\",\"old\":null}}}");
    p = (struct kube_patch){.n_annotations = 1, .annotations = notes, .resource_version = "77"};
    expect(body_patch(&p), "{\"metadata\":{\"resourceVersion\":\"77\",\"annotations\":{"
                           "\"ccnode.io/status\":\"{\\\"x\\\":\\\"\\\\\\\"}\"}}}");
}

static void test_condition(void **state)
{
    (void)state;
    struct kube_condition c = {.type = "ConfidentialGPUsReady",
                               .status = "False",
                               .reason = "Changing",
                               .message = "one\ntwo\x01\xff",
                               .transition_ms = 1000};
    expect(body_condition(&c, T0),
           "{\"status\":{\"conditions\":[{\"type\":\"ConfidentialGPUsReady\",\"status\":\"False\","
           "\"lastHeartbeatTime\":\"2026-01-02T03:04:05Z\","
           "\"lastTransitionTime\":\"1970-01-01T00:00:01Z\","
           "\"reason\":\"Changing\",\"message\":\"one two??\"}]}}");
}

static void test_event(void **state)
{
    (void)state;
    char note[3000];
    memset(note, 'x', sizeof note);
    note[sizeof note - 1] = 0;
    struct event_text e = {.name = "n1.1",
                           .node = "n1",
                           .type = "Normal",
                           .reason = "R",
                           .action = "A",
                           .note = note,
                           .instance = "n1"};
    AUTO_FREE char *body = body_event(&e, T0);
    assert_non_null(strstr(body, "\"eventTime\":\"2026-01-02T03:04:05.678901Z\""));
    assert_non_null(strstr(body, "\"regarding\":{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":"
                                 "\"n1\",\"uid\":\"n1\"}"));
    const char *x = strstr(body, "xxx");
    assert_int_equal(strspn(x, "x"), BODY_NOTE_MAX);
    expect(body_event_series(3, T0),
           "{\"series\":{\"count\":3,\"lastObservedTime\":\"2026-01-02T03:04:05.678901Z\"}}");
}

static void test_eviction_carries_the_uid(void **state)
{
    (void)state;
    expect(body_eviction("ns", "p", "u1"),
           "{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"p\","
           "\"namespace\":\"ns\"},\"deleteOptions\":{\"preconditions\":{\"uid\":\"u1\"}}}");
}

static void test_lease(void **state)
{
    (void)state;
    struct lease_text l = {.namespace_ = "d",
                           .name = "s-0",
                           .semaphore = "s",
                           .resource_version = "5",
                           .holder = "n1",
                           .duration_s = 60,
                           .transitions = 2,
                           .acquire_time = "X"};
    expect(body_lease(&l, T0),
           "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":"
           "\"s-0\",\"namespace\":\"d\",\"labels\":{\"ccnode.io/semaphore\":\"s\"},"
           "\"resourceVersion\":\"5\"},\"spec\":{\"holderIdentity\":\"n1\","
           "\"leaseDurationSeconds\":60,\"leaseTransitions\":2,\"acquireTime\":\"X\","
           "\"renewTime\":\"2026-01-02T03:04:05.678901Z\"}}");
}

static void test_clean(void **state)
{
    (void)state;
    expect(text_clean(NULL, 5), "");
    expect(text_clean("abc", 2), "ab");
    expect(text_clean("a\xc3\xa4z", 2), "a"); /* not half a character */
    expect(text_clean("a\xc3\xa4z", 3), "a\xc3\xa4");
    expect(text_clean("\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80", 50),
           "?????????"); /* overlong, surrogate, too high */
    expect(text_clean("\xf0\x9f\x98\x80\xe2\x82", 50), "\xf0\x9f\x98\x80??");
}

static void test_escape(void **state)
{
    (void)state;
    expect(url_escape("az-AZ_0.9~"), "az-AZ_0.9~");
    expect(url_escape("../a b&c=\xff%"), "..%2Fa%20b%26c%3D%FF%25");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),     cmocka_unit_test(test_patch),
        cmocka_unit_test(test_condition), cmocka_unit_test(test_event),
        cmocka_unit_test(test_lease),     cmocka_unit_test(test_eviction_carries_the_uid),
        cmocka_unit_test(test_clean),     cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
