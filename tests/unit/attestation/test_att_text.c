/* Strict JSON and base64. */
#include "tests/unit/attestation/mint.h"

#include <errno.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/jsonin.h"
#include "base/auto.h"

static void json_accepts_what_rfc_8259_does(void **state)
{
    static const char *const good[] = {"{}",
                                       " [1, -2.5e+3, true, false, null, \"a\\u00e9\\n\"] ",
                                       "{\"a\":{\"a\":1}}",
                                       "\"\xc3\xa9\"",
                                       "0",
                                       "12"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct err err = ERR_INIT;
        struct json_object *o = NULL;
        if (jsonin_parse(good[i], strlen(good[i]), 1000, &o, &err) < 0)
            fail_msg("%s: %s", good[i], err.msg);
        json_object_put(o);
    }
}

static void json_refuses_the_rest(void **state)
{
    static const struct {
        const char *text, *why;
    } bad[] = {{"", "ends too early"},
               {"{\"a\":1,\"a\":2}", "same name"},
               {"{\"b\":{\"a\":1,\"a\":1}}", "same name"},
               {"\"a\\u0000\"", "NUL"},
               {"\"a\nb\"", "control character"},
               {"\"\xc0\xaf\"", "UTF-8"},
               {"\"\xed\xa0\x80\"", "UTF-8"},
               {"[1] x", "follows"},
               {"[1]{}", "follows"},
               {"[1,]", "digit"},
               {"01", "follows"},
               {"'a'", "digit"},
               {"NaN", "digit"},
               {"// a\n1", "digit"},
               {"{\"a\" 1}", "colon"},
               {"[1 2]", "comma"},
               {"\"\\x\"", "escape"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        struct json_object *o = (void *)&err;
        assert_true(jsonin_parse(bad[i].text, strlen(bad[i].text), 1000, &o, &err) < 0);
        if (!strstr(err.msg, bad[i].why))
            fail_msg("%s: %s", bad[i].text, err.msg);
        assert_ptr_equal(o, &err); /* untouched */
    }
}

static void json_is_bounded(void **state)
{
    struct err err = ERR_INIT;
    struct json_object *o = NULL;
    char deep[201];
    (void)state;
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_int_equal(jsonin_parse(deep, 200, 1000, &o, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "deeply"));
    assert_int_equal(jsonin_parse("[1]", 3, 2, &o, &err), -EFBIG);
}

static void base64_round_trip(void **state)
{
    (void)state;
    for (size_t n = 0; n < 70; n++) {
        uint8_t bytes[70];
        struct err err = ERR_INIT;
        struct att_bytes back = {0};
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(i * 37 + n);
        AUTO_FREE char *text = b64_encode(bytes, n);
        AUTO_FREE char *url = b64url_encode(bytes, n);
        assert_int_equal(b64_decode(text, strlen(text), 70, &back, &err), 0);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.data, bytes, n);
        att_bytes_done(&back);
        assert_int_equal(b64url_decode(url, strlen(url), 70, &back, &err), 0);
        assert_memory_equal(back.data, bytes, n);
        att_bytes_done(&back);
    }
}

static void base64_is_strict(void **state)
{
    static const char *const bad[] = {"A",    "AA",   "AAA",  "AA=A", "A===", "AAAA=",    "AA\nA",
                                      "AAA!", "AB==", "AAF=", "AA-_", "====", "AAAA AAAA"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        struct att_bytes bytes = {0};
        if (b64_decode(bad[i], strlen(bad[i]), 100, &bytes, &err) == 0)
            fail_msg("%s was accepted", bad[i]);
    }
    struct err err = ERR_INIT;
    struct att_bytes bytes = {0};
    assert_int_equal(b64_decode("AAAAAAAA", 8, 5, &bytes, &err), -EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_accepts_what_rfc_8259_does),
        cmocka_unit_test(json_refuses_the_rest),
        cmocka_unit_test(json_is_bounded),
        cmocka_unit_test(base64_round_trip),
        cmocka_unit_test(base64_is_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
