#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node-agent/kube/http.h"

static void test_retry_after(void **state)
{
    (void)state;
    assert_int_equal(http_retry_after(" 7", 0), 7000);
    assert_int_equal(http_retry_after("0", 0), 0);
    assert_int_equal(http_retry_after("99999999999999999999", 0), 600000);
    assert_int_equal(http_retry_after("700", 0), 600000);
    assert_int_equal(http_retry_after("Fri, 02 Jan 2026 03:04:05 GMT", 1767323040), 5000);
    assert_int_equal(http_retry_after("Fri, 02 Jan 2026 03:04:05 GMT", 1767323099), 0);
    assert_int_equal(http_retry_after("soon", 0), -1);
    assert_int_equal(http_retry_after("-5", 0), -1);
    assert_int_equal(http_retry_after("", 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_retry_after)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
