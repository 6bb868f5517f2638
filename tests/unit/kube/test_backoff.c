#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/auto.h"
#include "node-agent/kube/backoff.h"

static void test_grows_to_the_limit(void **state)
{
    (void)state;
    static const int full[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000};
    struct backoff low = {.min_ms = 1000, .max_ms = 60000}, high = low;
    for (size_t i = 0; i < ARRAY_LEN(full); i++) {
        assert_int_equal(backoff_next(&low, 0), full[i] / 2);
        assert_int_equal(backoff_next(&high, UINT32_MAX), full[i]);
    }
}

static void test_never_overflows(void **state)
{
    (void)state;
    struct backoff b = {.min_ms = 1, .max_ms = INT32_MAX};
    for (int i = 0; i < 1000; i++) {
        int wait = backoff_next(&b, (uint32_t)i * 2654435761U);
        assert_true(wait >= 0);
    }
}

static void test_server_asks_for_more(void **state)
{
    (void)state;
    struct backoff b = {.min_ms = 1000, .max_ms = 60000};
    assert_int_equal(backoff_wait(&b, 30000, 0), 30000);
    int wait = backoff_wait(&b, 30000, UINT32_MAX);
    assert_in_range(wait, 32900, 33000);
    b.failures = 0;
    assert_int_equal(backoff_wait(&b, -1, 0), 500);
    assert_int_equal(backoff_wait(&b, 0, 0), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_to_the_limit),
        cmocka_unit_test(test_never_overflows),
        cmocka_unit_test(test_server_asks_for_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
