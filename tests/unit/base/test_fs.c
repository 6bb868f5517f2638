/* Temporary files: whose writer is gone they go, all others stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"

struct fixture {
    char root[64];
    struct host host;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct err err = ERR_INIT;
    (void)snprintf(f->root, sizeof f->root, "/tmp/ccnode-fs-XXXXXX");
    if (!mkdtemp(f->root) || host_open(&f->host, f->root, &err) < 0)
        return -1;
    *state = f;
    return fs_mkdirs(&f->host, "/d", &err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *command = xasprintf("rm -rf %s", f->root);
    int r = system(command); /* a fixed path of our own */
    host_close(&f->host);
    free(f);
    return r;
}

static bool exists(const struct fixture *f, const char *name)
{
    struct stat st;
    AUTO_FREE char *path = xasprintf("%s/d/%s", f->root, name);
    return lstat(path, &st) == 0;
}

static void put(const struct fixture *f, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/d/%s", f->root, name);
    AUTO_CLOSE int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
}

static void what_the_dead_left_is_removed(void **state)
{
    const struct fixture *f = *state;
    AUTO_FREE char *ours = xasprintf(".journal.json.%d.tmp", (int)getpid());
    AUTO_FREE char *parents = xasprintf(".journal.json.%d.tmp", (int)getppid());
    const char *const go[] = {".journal.json.999999999.tmp", ".x.999999999.tmp", ours};
    const char *const stay[] = {parents,
                                "journal.json",
                                ".journal.json",
                                ".journal.json.tmp",
                                ".journal.json.0.tmp",
                                ".journal.json.99999999999999999999.tmp",
                                ".journal.json.999999999.tmp2",
                                ".journal999999999.tmp",
                                "journal.json.999999999.tmp",
                                ".999999999.tmp",
                                ".tmp"};
    for (size_t i = 0; i < ARRAY_LEN(go); i++)
        put(f, go[i]);
    for (size_t i = 0; i < ARRAY_LEN(stay); i++)
        put(f, stay[i]);
    fs_remove_stale(&f->host, "/d", "", ".tmp");
    for (size_t i = 0; i < ARRAY_LEN(go); i++)
        assert_false(exists(f, go[i]));
    for (size_t i = 0; i < ARRAY_LEN(stay); i++)
        assert_true(exists(f, stay[i]));
}

static void only_what_starts_so(void **state)
{
    const struct fixture *f = *state;
    put(f, ".a.sock.999999999");
    put(f, ".b.sock.999999999");
    put(f, ".a.sock.999999999.tmp");
    put(f, ".a.sock");
    fs_remove_stale(&f->host, "/d", "a.sock", "");
    assert_false(exists(f, ".a.sock.999999999"));
    assert_true(exists(f, ".b.sock.999999999"));
    assert_true(exists(f, ".a.sock.999999999.tmp"));
    assert_true(exists(f, ".a.sock"));
    fs_remove_stale(&f->host, "/nowhere", "", ".tmp"); /* no directory, nothing left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_the_dead_left_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(only_what_starts_so, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
