#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/node.h"

static const char *const keys[] = {"nvidia.com/*", "one", NULL};

static struct json_object *json(const char *text)
{
    struct json_object *o = json_tokener_parse(text);
    assert_non_null(o);
    return o;
}

static int decode(const char *text, struct kube_node *ret, struct err *err)
{
    struct json_object *o = json(text);
    int r = node_decode(o, "n1", keys, ret, err);
    json_object_put(o);
    return r;
}

static void test_decode(void **state)
{
    (void)state;
    struct kube_node n = {0};
    struct err err = ERR_INIT;
    int r = decode(
        "{\"metadata\":{\"name\":\"n1\",\"uid\":\"u\",\"resourceVersion\":\"5\",\"labels\":{"
        "\"one\":\"1\","
        "\"nvidia.com/"
        "cc.mode\":\"on\",\"ones\":\"no\",\"zone\":\"no\"},\"annotations\":{\"one\":\"x\"}}}",
        &n, &err);
    assert_int_equal(r, 0);
    assert_int_equal(n.n_labels, 2);
    assert_string_equal(kube_node_label(&n, "nvidia.com/cc.mode"), "on");
    assert_null(kube_node_label(&n, "zone"));
    assert_string_equal(kube_node_annotation(&n, "one"), "x");
    assert_string_equal(n.labels[0].key, "nvidia.com/cc.mode"); /* sorted */
    node_done(&n);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "{\"metadata\":null}",
        "{\"metadata\":{\"name\":\"n1\"}}",
        "{\"metadata\":{\"name\":\"n2\",\"resourceVersion\":\"5\"}}",
        "{\"metadata\":{\"name\":\"n1\",\"resourceVersion\":5}}",
        "{\"metadata\":{\"name\":\"n1\",\"resourceVersion\":\"5\",\"labels\":[]}}",
        "{\"metadata\":{\"name\":\"n1\",\"resourceVersion\":\"5\",\"labels\":{\"one\":1}}}",
        ("{\"metadata\":{\"name\":\"n1\",\"resourceVersion\":\"5\",\"labels\":{\"one\":"
         "\"a\\u0000b\"}}}"),
        "{\"metadata\":{\"name\":\"n1\",\"resourceVersion\":\"5\",\"annotations\":{\"one\":null}}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct kube_node n = {.n_labels = 99};
        struct err err = ERR_INIT;
        if (decode(texts[i], &n, &err) != -EBADMSG)
            fail_msg("accepted: %s", texts[i]);
        assert_int_equal(n.n_labels, 99); /* untouched */
    }
}

static void test_sameness(void **state)
{
    (void)state;
    static const char *const base = "{\"metadata\":{\"name\":\"n1\",\"uid\":\"u\","
                                    "\"resourceVersion\":\"5\",\"labels\":{\"one\":\"1\"}}}";
    static const struct {
        const char *text;
        bool same;
    } cases[] = {
        {"{\"metadata\":{\"name\":\"n1\",\"uid\":\"u\",\"resourceVersion\":\"6\",\"labels\":{"
         "\"one\":\"1\",\"x\":\"2\"}}}",
         true},
        {"{\"metadata\":{\"name\":\"n1\",\"uid\":\"v\",\"resourceVersion\":\"5\",\"labels\":{"
         "\"one\":\"1\"}}}",
         false},
        {"{\"metadata\":{\"name\":\"n1\",\"uid\":\"u\",\"resourceVersion\":\"5\",\"labels\":{"
         "\"one\":\"2\"}}}",
         false},
        {"{\"metadata\":{\"name\":\"n1\",\"uid\":\"u\",\"resourceVersion\":\"5\"}}", false},
        {"{\"metadata\":{\"name\":\"n1\",\"uid\":\"u\",\"resourceVersion\":\"5\",\"labels\":{"
         "\"one\":\"1\"},\"annotations\":{\"one\":\"\"}}}",
         false},
    };
    struct err err = ERR_INIT;
    struct kube_node a = {0}, gone = {0};
    assert_int_equal(decode(base, &a, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_node b = {0};
        assert_int_equal(decode(cases[i].text, &b, &err), 0);
        assert_int_equal(node_is_same(&a, &b), cases[i].same);
        node_done(&b);
    }
    assert_false(node_is_same(&a, &gone));
    assert_true(node_is_same(&gone, &gone));
    node_done(&a);
}

static void test_events(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int r;
        enum watch_event event;
    } cases[] = {
        {"{\"type\":\"ADDED\",\"object\":{}}", 0, WATCH_CHANGED},
        {"{\"type\":\"MODIFIED\",\"object\":{}}", 0, WATCH_CHANGED},
        {"{\"type\":\"DELETED\",\"object\":{}}", 0, WATCH_DELETED},
        {"{\"type\":\"BOOKMARK\",\"object\":{}}", 0, WATCH_BOOKMARK},
        {"{\"type\":\"ERROR\",\"object\":{\"code\":410}}", 0, WATCH_EXPIRED},
        {"{\"type\":\"ERROR\",\"object\":{\"reason\":\"Expired\"}}", 0, WATCH_EXPIRED},
        {"{\"type\":\"ERROR\",\"object\":{\"code\":500}}", 0, WATCH_ERROR},
        {"{\"type\":\"ERROR\",\"object\":{\"code\":\"410\"}}", 0, WATCH_ERROR},
        {"{\"type\":\"added\",\"object\":{}}", -EBADMSG, WATCH_ERROR},
        {"{\"type\":\"ADDED\"}", -EBADMSG, WATCH_ERROR},
        {"{\"type\":5,\"object\":{}}", -EBADMSG, WATCH_ERROR},
        {"{\"type\":\"ADDED\",\"object\":[]}", -EBADMSG, WATCH_ERROR},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_object *doc = json(cases[i].text), *object = NULL;
        enum watch_event event = WATCH_ERROR;
        struct err err = ERR_INIT;
        assert_int_equal(watch_event_decode(doc, &event, &object, &err), cases[i].r);
        assert_int_equal(event, cases[i].event);
        assert_int_equal(err.code != 0,
                         cases[i].r < 0 || event == WATCH_EXPIRED || event == WATCH_ERROR);
        json_object_put(doc);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   "A",  "a/b",  "a b", "-a", "a-",
                                      ".a", "a.", "a%2F", "a?b", "a\n"};
    struct err err = ERR_INIT;
    assert_int_equal(node_name_check("ip-10-0-0-1.eu-central-1.compute.internal", &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(node_name_check(bad[i], &err), -EINVAL);
    char longest[255];
    memset(longest, 'a', sizeof longest);
    longest[254] = 0;
    assert_int_equal(node_name_check(longest, &err), -EINVAL);
    assert_int_equal(node_name_check(longest + 1, &err), 0);
}

static void test_who_may_be_evicted(void **state)
{
    (void)state;
    static const struct {
        const char *owners, *annotations;
        bool may;
    } cases[] = {
        {"[]", "{}", true},
        {"[{\"kind\":\"ReplicaSet\",\"name\":\"r\",\"controller\":true}]", "{}", true},
        {"[{\"kind\":\"DaemonSet\",\"name\":\"d\",\"controller\":true}]", "{}", false},
        {"[{\"kind\":\"DaemonSet\",\"name\":\"d\"}]", "{}", false},
        {"[{\"kind\":\"Job\",\"name\":\"j\",\"controller\":true},{\"kind\":\"DaemonSet\",\"name\":"
         "\"d\"}]",
         "{}", false},
        {"[{\"kind\":\"Node\",\"name\":\"n\",\"controller\":true}]", "{}", false},
        {"null", "{\"kubernetes.io/config.mirror\":\"x\"}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text =
            xasprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\",\"uid\":\"u\","
                      "\"ownerReferences\":%s,\"annotations\":%s}}",
                      cases[i].owners, cases[i].annotations);
        struct json_object *o = json(text);
        struct kube_pod pod;
        struct err err = ERR_INIT;
        const char *why = NULL;
        assert_int_equal(pod_decode(o, &pod, &err), 0);
        assert_int_equal(kube_pod_may_be_evicted(&pod, &why), cases[i].may);
        assert_int_equal(why == NULL, cases[i].may);
        json_object_put(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),   cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_sameness), cmocka_unit_test(test_events),
        cmocka_unit_test(test_names),    cmocka_unit_test(test_who_may_be_evicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
