/* A changed configuration is noticed, also where the node has no inotify instance left. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/auto.h"
#include "node-agent/reload.h"

int __real_inotify_init1(int flags); /* NOLINT: the linker's names */
int __wrap_inotify_init1(int flags); /* NOLINT */

static bool exhausted;
static int64_t now_ms;
static int n_changes;

int __wrap_inotify_init1(int flags) /* NOLINT */
{
    if (!exhausted)
        return __real_inotify_init1(flags);
    errno = EMFILE;
    return -1;
}

static int64_t clock_ms(void *arg)
{
    (void)arg;
    return now_ms;
}

static void on_change(void *arg)
{
    (void)arg;
    n_changes++;
}

static void save(const char *dir, const char *text)
{
    AUTO_FREE char *fresh = xasprintf("%s/fresh", dir);
    AUTO_FREE char *path = xasprintf("%s/ccnode.yaml", dir);
    FILE *f = fopen(fresh, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(fresh, path), 0);
}

static void pass(struct loop *loop, int64_t ms)
{
    now_ms += ms;
    for (int i = 0; i < 3; i++)
        loop_run_once(loop, 0);
}

static void try_it(bool without, int64_t late_ms)
{
    char dir[] = "/tmp/ccnode-reload-XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *path = xasprintf("%s/ccnode.yaml", dir);
    save(dir, "mode: {}\n");
    exhausted = without;
    n_changes = 0;
    struct loop *loop = loop_new(clock_ms, NULL);
    struct reload *reload = reload_new(loop, path, on_change, NULL);
    assert_non_null(reload);
    pass(loop, 60000);
    assert_int_equal(n_changes, 0);
    save(dir, "mode: { default: \"on\" }\n");
    pass(loop, 0); /* inotify tells */
    pass(loop, late_ms);
    assert_int_equal(n_changes, 1);
    pass(loop, 60000);
    assert_int_equal(n_changes, 1);
    assert_int_equal(unlink(path), 0); /* told too: whoever reads it names what is missing */
    pass(loop, 0);
    pass(loop, late_ms);
    assert_int_equal(n_changes, 2);
    reload_free(reload);
    loop_free(loop);
    assert_int_equal(rmdir(dir), 0);
}

static void noticed_by_inotify(void **state)
{
    (void)state;
    try_it(false, 100);
}

static void noticed_without_inotify(void **state)
{
    (void)state;
    try_it(true, 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noticed_by_inotify),
        cmocka_unit_test(noticed_without_inotify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
