/* sysfs that fails while it is read: EIO of a dying device, ENODEV of one that goes between open and read. */
#include "tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"

ssize_t __real_read(int fd, void *buf, size_t n); /* NOLINT: the linker's names */
ssize_t __wrap_read(int fd, void *buf, size_t n); /* NOLINT */

static struct nv_inventory inv;
static const char *failing; /* end of the path of the file whose reads fail */
static int failure;
static int n_failed;

ssize_t __wrap_read(int fd, void *buf, size_t n) /* NOLINT */
{
    char link[40], path[512];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = failing ? readlink(link, path, sizeof path - 1) : -1;
    size_t end = failing ? strlen(failing) : 0;
    if (len < 0 || (size_t)len < end || memcmp(path + len - end, failing, end) != 0)
        return __real_read(fd, buf, n);
    n_failed++;
    errno = failure;
    return -1;
}

static const char *const files[] = {"vendor",          "device", "class",   "numa_node",
                                    "driver_override", "enable", "resource"};
enum { IDENTITY = 3 }; /* without these nobody can tell what it is */

static void unreadable_files(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENODEV, EACCES};
    struct err err = ERR_INIT;
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_device(t, "0000:19:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 2);
    for (size_t f = 0; f < ARRAY_LEN(files); f++) {
        for (size_t e = 0; e < ARRAY_LEN(errors); e++) {
            AUTO_FREE char *path = xasprintf("0000:18:00.0/%s", files[f]);
            failing = path;
            failure = errors[e];
            int r = inventory_scan(&t->host, NULL, &inv, &err);
            failing = NULL;
            assert_int_equal(r, 0); /* the others are served */
            assert_string_equal(inv.devices[inv.n - 1].bdf, "0000:19:00.0");
            if (f >= IDENTITY) {
                assert_int_equal(inv.n, 2);
                continue;
            }
            assert_int_equal(inv.n, 1);
            if (errors[e] != ENODEV) { /* gone is no complaint */
                assert_non_null(strstr(inv.unreadable, "0000:18:00.0"));
                assert_non_null(strstr(inv.unreadable, files[f]));
            }
        }
    }
    assert_true(n_failed >= (int)(IDENTITY * ARRAY_LEN(errors))); /* they really failed */
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(unreadable_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
