/* What needs a kernel but no device: users of device nodes, locks, the bus error guard. */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/users.h"

/* The bus error guard: a file that shrinks under its mapping behaves as a BAR that the kernel takes away. */
static void revoked_mapping_is_an_error(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tree *t = tree_new();
    tree_file(t, "/bar", "");
    AUTO_CLOSE int fd = host_openat(&t->host, "/bar", O_RDWR, &err);
    assert_int_equal(ftruncate(fd, 8192), 0);
    uint8_t *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    uint32_t v = 1;
    assert_int_equal(mmio_write(map + 4096, 0x12345678, &err), 0);
    assert_int_equal(mmio_read(map + 4096, &v, &err), 0);
    assert_int_equal(v, 0x12345678);
    assert_int_equal(ftruncate(fd, 4096), 0);
    for (int i = 0; i < 3; i++) { /* and again: the signal does not stay blocked */
        assert_int_equal(mmio_read(map + 4096, &v, &err), -EBUSY);
        assert_int_equal(mmio_write(map + 4096, 1, &err), -EBUSY);
        assert_non_null(strstr(err.msg, "taken away"));
    }
    assert_int_equal(mmio_read(map, &v, &err), 0);
    assert_int_equal(v, 0);
    (void)munmap(map, 8192);
    tree_free(t);
}

static void one_lock_per_device(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char pid[32];
    struct tree *t = tree_new();
    int a = lock_take(&t->host, "/run/ccnode/lock", "0000:18:00.0", &err);
    assert_true(a >= 0);
    AUTO_CLOSE int other = lock_take(&t->host, "/run/ccnode/lock", "0000:19:00.0", &err);
    assert_true(other >= 0);
    assert_int_equal(lock_take(&t->host, "/run/ccnode/lock", "0000:18:00.0", &err), -EBUSY);
    (void)snprintf(pid, sizeof pid, "pid %d", (int)getpid());
    assert_non_null(strstr(err.msg, pid));
    (void)close(a);
    tree_file(t, "/run/ccnode/lock/0000:18:00.0", "garbage\nmore");
    AUTO_CLOSE int again = lock_take(&t->host, "/run/ccnode/lock", "0000:18:00.0", &err);
    assert_true(again >= 0);
    tree_free(t);
}

/* ---- users: another program that holds things (this one is its own and is never reported) ---- */

struct holder {
    pid_t pid;
    int in;
};

static struct holder hold(struct tree *t, const char *script)
{
    int to[2], from[2];
    struct holder h = {0};
    char c;
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    h.pid = fork();
    if (h.pid == 0) {
        (void)dup2(to[0], 0);
        (void)dup2(from[1], 1);
        for (int fd = 3; fd < 64; fd++)
            (void)close(fd);
        if (chdir(t->root) == 0)
            (void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(1);
    }
    (void)close(to[0]);
    (void)close(from[1]);
    h.in = to[1];
    assert_int_equal(read(from[0], &c, 1), 1);
    (void)close(from[0]);
    return h;
}

static void let_go(struct holder h)
{
    (void)close(h.in);
    (void)waitpid(h.pid, NULL, 0);
}

static struct users found;

static void look(struct tree *t)
{
    static struct nv_inventory inv;
    struct err err = ERR_INIT;
    assert_int_equal(inventory_scan(&t->host, NULL, &inv, &err), 0);
    int r = users_scan(&t->host, inv.devices, inv.n, &found, &err);
    if (r < 0)
        fail_msg("%s", err.msg);
}

static struct tree *new_node(void)
{
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 7);
    tree_device(t, "0000:19:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 8);
    tree_driver(t, "0000:18:00.0", "vfio-pci");
    tree_driver(t, "0000:19:00.0", "nvidia");
    tree_file(t, "/dev/vfio/7", "");
    tree_file(t, "/dev/vfio/17", "");
    tree_file(t, "/elsewhere/dev/vfio/7", "");
    tree_file(t, "/elsewhere/dev/nvidia1", "");
    tree_file(t, "/elsewhere/0000:18:00.0/resource0", "");
    tree_file(t, "/dev/vfio/devices/vfio0", "");
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/vfio-dev/vfio0/dev", "252:0\n");
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/resource0", "");
    tree_file(t, "/sys/devices/pci0000:00/0000:19:00.0/resource0", "");
    tree_file(t, "/dev/nvidia0", "");
    tree_file(t, "/dev/nvidia1", "");
    tree_dir(t, "/proc");
    return t;
}

/* A unit test mounts nothing: the process is laid out by hand below the fake root, from the real /proc. */
static void borrow(struct tree *t, pid_t pid)
{
    char from[64], to[128], command[512];
    (void)snprintf(from, sizeof from, "/proc/%d", (int)pid);
    (void)snprintf(to, sizeof to, "/proc/%d/fd", (int)pid);
    tree_dir(t, to);
    (void)snprintf(command, sizeof command,
                   "cd %s/proc/%d && for f in %s/fd/*; do t=$(readlink $f); case $t in /*) ln -s "
                   "\"$t\" fd/${f##*/};; esac; "
                   "done; cat %s/maps > maps; cat %s/comm > comm",
                   t->root, (int)pid, from, from, from);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): test only */
}

static void expect_one(pid_t pid, const char *bdf, const char *what)
{
    if (found.n != 1 || found.list[0].holder.pid != pid || strcmp(found.list[0].bdf, bdf) != 0 ||
        strcmp(found.list[0].holder.what, what) != 0)
        fail_msg("%zu users, first: %s %d %s; wanted %s %d %s", found.n, found.list[0].bdf,
                 found.list[0].holder.pid, found.list[0].holder.what, bdf, (int)pid, what);
    assert_string_equal(found.list[0].holder.comm, "sh");
}

static void every_way_to_hold_is_seen(void **state)
{
    (void)state;
    static const struct {
        const char *path, *bdf, *what;
    } ways[] = {
        {"dev/vfio/7", "0000:18:00.0", "/dev/vfio/7"},
        {"dev/vfio/devices/vfio0", "0000:18:00.0", "/dev/vfio/devices/vfio0"},
        {"sys/devices/pci0000:00/0000:18:00.0/resource0", "0000:18:00.0", "resource0"},
        {"sys/devices/pci0000:00/0000:19:00.0/resource0", "0000:19:00.0", "resource0"},
        {"dev/nvidia1", "0000:19:00.0", "/dev/nvidia1"},
        {"dev/vfio/17", NULL, NULL},          /* not a group of ours */
        {"elsewhere/dev/vfio/7", NULL, NULL}, /* another host's, or a container's own file */
        {"elsewhere/dev/nvidia1", NULL, NULL},
        {"elsewhere/0000:18:00.0/resource0", NULL, NULL},
        {"sys/devices/pci0000:00/0000:18:00.0/enable", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        char script[160];
        struct tree *t = new_node();
        (void)snprintf(script, sizeof script, "exec 5<>%s; echo x; read y", ways[i].path);
        struct holder h = hold(t, script);
        borrow(t, h.pid);
        look(t);
        if (ways[i].bdf)
            expect_one(h.pid, ways[i].bdf, ways[i].what);
        else
            assert_int_equal(found.n, 0);
        let_go(h);
        tree_free(t);
    }
}

/* the driver knows which number its device has */
static void nvidia_minor_tells_devices_apart(void **state)
{
    (void)state;
    struct tree *t = new_node();
    tree_file(t, "/proc/driver/nvidia/gpus/0000:19:00.0/information",
              "Model: H100\nDevice Minor: \t 0\n");
    struct holder h = hold(t, "exec 5<>dev/nvidia1; echo x; read y");
    borrow(t, h.pid);
    look(t);
    assert_int_equal(found.n, 0);
    tree_file(t, "/proc/driver/nvidia/gpus/0000:19:00.0/information", "Device Minor: 1\n");
    look(t);
    expect_one(h.pid, "0000:19:00.0", "/dev/nvidia1");
    let_go(h);
    tree_free(t);
}

/* Left behind by an agent before us, perhaps stuck in the kernel: what it has open is its work. */
static void a_worker_of_another_image_is_no_user(void **state)
{
    (void)state;
    static const char *const locks[] = {"0000:18:00.0", "0000:19:00.0"};
    for (size_t i = 0; i < ARRAY_LEN(locks); i++) {
        char script[160];
        struct tree *t = new_node();
        tree_file(t, "/run/ccnode/lock/0000:18:00.0", "1\n");
        tree_file(t, "/run/ccnode/lock/0000:19:00.0", "1\n");
        (void)snprintf(script, sizeof script,
                       "exec 5<>sys/devices/pci0000:00/0000:18:00.0/resource0 "
                       "6<>run/ccnode/lock/%s; echo x; read y",
                       locks[i]);
        struct holder h = hold(t, script);
        borrow(t, h.pid);
        look(t);
        if (i == 0)
            assert_int_equal(found.n, 0);
        else
            expect_one(h.pid, "0000:18:00.0", "resource0"); /* the lock of another device */
        let_go(h);
        tree_free(t);
    }
}

static void mappings_and_nameless_devices(void **state)
{
    (void)state;
    char line[256];
    struct stat st;
    struct tree *t = new_node();
    AUTO_FREE char *node = xasprintf("%s/dev/vfio/devices/vfio0", t->root);
    assert_int_equal(stat(node, &st), 0);
    (void)snprintf(line, sizeof line, "7f00-7f10 rw-s 00000000 %02x:%02x %lu    %s\ngarbage\n\n",
                   (unsigned)(st.st_dev >> 8), (unsigned)(st.st_dev & 0xff),
                   (unsigned long)st.st_ino, node);
    tree_dir(t, "/proc/4000000/fd");
    tree_file(t, "/proc/4000000/maps", line);
    tree_file(t, "/proc/4000000/comm", "qemu\n");
    look(t);
    assert_int_equal(found.n, 1);
    assert_string_equal(found.list[0].holder.what, "mapping of /dev/vfio/devices/vfio0");
    /* a device file that does not say which device (before Linux 7): whatever is awake on VFIO */
    tree_file(t, "/proc/4000000/maps",
              "7f00-7f10 rw-s 00000000 00:0f 1076    anon_inode:[vfio-device]\n");
    look(t);
    assert_int_equal(found.n, 0);
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/enable", "1\n");
    look(t);
    assert_int_equal(found.n, 1);
    assert_string_equal(found.list[0].bdf, "0000:18:00.0");
    /* and with the path that Linux 7 gives */
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/enable", "0\n");
    tree_link(t, "/proc/4000000/fd/9", "anon_inode:[vfio-device]");
    tree_file(t, "/proc/4000000/fdinfo/9",
              "pos:\t0\nvfio-device-syspath:\t/sys/devices/pci0000:00/0000:18:00.0\n");
    look(t);
    assert_int_equal(found.n, 1);
    assert_string_equal(found.list[0].holder.what, "vfio-device");
    assert_string_equal(found.list[0].holder.comm, "qemu");
    tree_free(t);
}

static void put_process(struct tree *t, int pid, const char *path)
{
    char link[64];
    AUTO_FREE char *target = xasprintf("%s%s", t->root, path);
    (void)snprintf(link, sizeof link, "/proc/%d/fd", pid);
    tree_dir(t, link);
    (void)snprintf(link, sizeof link, "/proc/%d/fd/9", pid);
    tree_link(t, link, target);
}

static size_t count_users(const char *bdf)
{
    size_t n = 0;
    for (size_t i = 0; i < found.n; i++)
        n += strcmp(found.list[i].bdf, bdf) == 0;
    return n;
}

/* Every CUDA process has nvidiactl open: a training host has hundreds, in any order beside those of others. */
static void many_users_of_one_device_hide_nobody(void **state)
{
    (void)state;
    struct tree *t = new_node();
    tree_file(t, "/dev/nvidiactl", "");
    for (int i = 0; i < 1500; i++)
        put_process(t, 4000000 + i, "/dev/nvidiactl");
    for (int i = 0; i < 8; i++) {
        char bdf[BDF_SIZE], group[32];
        (void)snprintf(bdf, sizeof bdf, "0000:2%d:00.0", i);
        (void)snprintf(group, sizeof group, "/dev/vfio/%d", 20 + i);
        tree_device(t, bdf, "0x10de\n", "0x2331\n", "0x030200\n", 20 + i);
        tree_driver(t, bdf, "vfio-pci");
        tree_file(t, group, "");
        put_process(t, 4010000 + i, group);
    }
    look(t);
    for (int i = 0; i < 8; i++) {
        char bdf[BDF_SIZE];
        (void)snprintf(bdf, sizeof bdf, "0000:2%d:00.0", i);
        assert_int_equal(count_users(bdf), 1);
    }
    assert_int_equal(count_users("0000:19:00.0"), NV_MAX_HOLDERS);
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revoked_mapping_is_an_error),
        cmocka_unit_test(one_lock_per_device),
        cmocka_unit_test(every_way_to_hold_is_seen),
        cmocka_unit_test(nvidia_minor_tells_devices_apart),
        cmocka_unit_test(a_worker_of_another_image_is_no_user),
        cmocka_unit_test(mappings_and_nameless_devices),
        cmocka_unit_test(many_users_of_one_device_hide_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
