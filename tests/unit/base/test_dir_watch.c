/* Directories that are watched, that come late, that cannot be watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/auto.h"
#include "base/dir_watch.h"
#include "base/fs.h"

static struct host host;
static char root[] = "/tmp/ccnode-watch-XXXXXX";
static struct loop *loop;
static unsigned changes;
static bool exhausted;

int __real_inotify_init1(int flags);
int __wrap_inotify_init1(int flags);

int __wrap_inotify_init1(int flags)
{
    if (!exhausted)
        return __real_inotify_init1(flags);
    errno = EMFILE;
    return -1;
}

static void on_change(void *arg)
{
    (void)arg;
    changes++;
}

static void put(const char *dir, const char *name)
{
    struct err err = ERR_INIT;
    assert_int_equal(fs_replace(&host, dir, name, "x", 1, 0644, false, &err), 0);
}

static bool is_noise(const char *name)
{
    return strstr(name, "noise"); /* and its temporary file */
}

static void changes_are_told(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct dir_watch *watch = dir_watch_new(loop, &host, on_change, NULL);
    assert_false(dir_watch_add(watch, "/a")); /* not there yet */
    assert_int_equal(fs_mkdirs(&host, "/a", &err), 0);
    exhausted = true;
    assert_false(dir_watch_add(watch, "/a"));
    exhausted = false;
    assert_true(dir_watch_add(watch, "/a") && dir_watch_add(watch, "/a"));
    assert_int_equal(fs_mkdirs(&host, "/b", &err), 0);
    loop_run_once(loop, 0);
    assert_int_equal(changes, 0);
    put("/a", "one");
    put("/a", "two");
    loop_run_once(loop, 1000);
    assert_int_equal(changes, 1); /* together */
    put("/b", "one");
    loop_run_once(loop, 0);
    assert_int_equal(changes, 1); /* not watched */
    assert_true(dir_watch_add(watch, "/b"));
    assert_int_equal(fs_remove(&host, "/b", "one", &err), 1);
    loop_run_once(loop, 1000);
    assert_int_equal(changes, 2);
    dir_watch_ignore(watch, is_noise);
    put("/a", "noise");
    loop_run_once(loop, 100);
    assert_int_equal(changes, 2);
    put("/a", "noise");
    put("/a", "newer");
    loop_run_once(loop, 1000);
    assert_int_equal(changes, 3);
    changes = 2;
    dir_watch_free(watch);
    put("/a", "three");
    loop_run_once(loop, 0);
    assert_int_equal(changes, 2);
    dir_watch_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(changes_are_told)};
    struct err err = ERR_INIT;
    if (!mkdtemp(root) || host_open(&host, root, &err) < 0)
        return 1;
    loop = loop_new(NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(loop);
    host_close(&host);
    AUTO_FREE char *command = xasprintf("rm -r %s", root);
    return system(command) || failed;
}
