#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/proto.h"
#include "v1beta1.pb-c.h"
#include "wire.h"

static void test_text(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "abc",
                                       "gr\xc3\xbc\xc3\x9f",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80",
                                      "a\nb",
                                      "\x7f",
                                      "\xe2\x82"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(text_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(text_utf8(bad[i], strlen(bad[i])));
    assert_false(text_utf8("a\0b", 3));
}

static void test_a_small_message_cannot_take_much_memory(void **state)
{
    (void)state;
    struct wire many = {0};
    while (many.n < sizeof many.p - 2)
        wire_bytes(&many, 1, NULL, 0); /* empty submessages: two bytes each */
    AUTO_PROTO struct proto proto = {0};
    assert_null(
        proto_unpack(&proto, &dp__list_and_watch_response__descriptor, many.p, many.n, 256 * 1024));
    assert_non_null(proto_unpack(&proto, &dp__list_and_watch_response__descriptor, many.p, many.n,
                                 16 * 1024 * 1024));
}

static void test_broken_messages(void **state)
{
    (void)state;
    static const uint8_t cut[] = {0x0a, 0x05, 'a', 'b'},
                         endless[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f};
    AUTO_PROTO struct proto proto = {0};
    assert_null(proto_unpack(&proto, &dp__allocate_request__descriptor, cut, sizeof cut, 65536));
    assert_null(
        proto_unpack(&proto, &dp__allocate_request__descriptor, endless, sizeof endless, 65536));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_a_small_message_cannot_take_much_memory),
        cmocka_unit_test(test_broken_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
