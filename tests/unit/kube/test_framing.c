#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/framing.h"

static int count_documents(void *arg, struct json_object *doc, struct err *err)
{
    (void)doc;
    (void)err;
    ++*(int *)arg;
    return 0;
}

/* Feeds @text in pieces of @step. Return: documents, or the error. */
static int feed(const char *text, size_t step, size_t max, struct err *err)
{
    int n = 0, r = 0;
    struct framing *f = framing_new(max, count_documents, &n);
    size_t len = strlen(text);
    for (size_t i = 0; r == 0 && i < len; i += step)
        r = framing_feed(f, text + i, len - i < step ? len - i : step, err);
    framing_free(f);
    return r < 0 ? r : n;
}

static void test_any_piece_size(void **state)
{
    (void)state;
    static const char text[] =
        " {\"a\":1}\n{\"b\":[{\"c\":\"}{\\\"\"}]}{\"\xc3\xa4\":\"\xe2\x82\xac\"}\r\n\t{}";
    struct err err = ERR_INIT;
    for (size_t step = 1; step < sizeof text; step++)
        assert_int_equal(feed(text, step, 1000, &err), 4);
}

static void test_partial_is_dropped(void **state)
{
    (void)state;
    int n = 0;
    struct err err = ERR_INIT;
    struct framing *f = framing_new(1000, count_documents, &n);
    assert_int_equal(framing_feed(f, "{}{\"a\":", 7, &err), 0);
    assert_int_equal(n, 1);
    assert_true(framing_is_partial(f));
    framing_free(f);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "}",    "{]",  "<html>", "{\"a\":NuN}", "{\"a\":'1'}",      "{\"a\":1,}",
        "{} x", "1 2", "[1]",    "\"a\"{}",     "{\"a\":\"\xff\"}", "{/**/}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t step = 1; step < 9; step += 7) {
            struct err err = ERR_INIT;
            int r = feed(texts[i], step, 1000, &err);
            if (r != -EBADMSG)
                fail_msg("%s was accepted: %d", texts[i], r);
            assert_true(err.msg[0]);
        }
}

static void test_bounds(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO_FREE char *big = xmalloc(5001);
    memset(big, ' ', 5000);
    memcpy(big, "{\"a\":\"", 6);
    memset(big + 6, 'x', 4000);
    big[5000] = 0;
    assert_int_equal(feed(big, 100, 1000, &err), -EFBIG);
    memset(big, '[', 5000);
    assert_int_equal(feed(big, 5000, 10000, &err), -EBADMSG); /* too deep */
}

static void test_whole(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct json_object *o = json_parse_whole(" {\"a\":1} \n", 10, &err);
    assert_non_null(o);
    json_object_put(o);
    assert_null(json_parse_whole("{} {}", 5, &err));
    assert_null(json_parse_whole("", 0, &err));
    assert_null(json_parse_whole("{\"a\":", 5, &err));
    assert_null(json_parse_whole("[]", 2, &err));
    assert_int_equal(err.code, EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_piece_size), cmocka_unit_test(test_partial_is_dropped),
        cmocka_unit_test(test_refuses),        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
