/* Steps on a device that is made of files: BAR0 is one that can shrink under its mapping, as the kernel takes a BAR away
 * when somebody opens the device through VFIO. */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/users.h"
#include "node-agent/gpu/work.h"

#define GPU "0000:18:00.0"
#define DIR_OF_GPU "/sys/devices/pci0000:00/" GPU
#define BAR0_SIZE (16 << 20)

/* ---- opens that are not permitted, as a device cgroup does it ---- */

int __real_host_openat(const struct host *host, const char *path, int flags,
                       struct err *err); /* NOLINT */
int __wrap_host_openat(const struct host *host, const char *path, int flags,
                       struct err *err); /* NOLINT */

static bool vfio_denied;

int __wrap_host_openat(const struct host *host, const char *path, int flags, /* NOLINT */
                       struct err *err)
{
    if (vfio_denied && strncmp(path, "/dev/vfio/", 10) == 0 && !(flags & O_PATH))
        return err_set(err, EPERM, "open %s: Operation not permitted", path);
    return __real_host_openat(host, path, flags, err);
}

struct desk {
    struct tree *tree;
    struct work work;
};

static void write_at(struct tree *t, const char *path, const void *bytes, size_t n, off_t at,
                     off_t size)
{
    struct err err = ERR_INIT;
    tree_file(t, path, "");
    AUTO_CLOSE int fd = host_openat(&t->host, path, O_RDWR, &err);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    assert_int_equal(ftruncate(fd, size), 0);
}

/* A Hopper GPU without driver: awake, memory decoding on, in no firmware's recovery mode. */
static struct desk *desk_new(void)
{
    struct err err = ERR_INIT;
    static const uint8_t boot0[] = {0xa1, 0x00, 0x00, 0x18};
    uint8_t config[256] = {0xde, 0x10, 0x31, 0x23, 0x02};
    struct desk *d = xcalloc(1, sizeof *d);
    d->tree = tree_new();
    config[0x34] = 0x40;
    config[0x40] = 0x01; /* power management, D0 */
    tree_device(d->tree, GPU, "0x10de\n", "0x2331\n", "0x030200\n", 7);
    write_at(d->tree, DIR_OF_GPU "/config", config, sizeof config, 0, sizeof config);
    write_at(d->tree, DIR_OF_GPU "/resource0", boot0, sizeof boot0, 0, BAR0_SIZE);
    tree_file(d->tree, DIR_OF_GPU "/resource", "0x1000000 0x1ffffff 0x14220c\n");
    tree_file(d->tree, DIR_OF_GPU "/reset", "");
    tree_file(d->tree, DIR_OF_GPU "/reset_method", "flr bus\n");
    tree_dir(d->tree, "/proc");
    d->work = (struct work){.lock_dir = LOCK_DIR, .lock_fd = -1, .target = GPU};
    assert_int_equal(host_open(&d->work.host, d->tree->root, &err), 0);
    return d;
}

static void desk_free(struct desk *d)
{
    work_end(&d->work);
    tree_free(d->tree);
    free(d);
}

static int step(struct desk *d, enum worker_step step, const char *argument, struct err *err)
{
    struct answer a = {.first = true};
    int r = work_step(&d->work, step, argument, &a, err);
    answer_free(&a);
    return r;
}

static void must(struct desk *d, enum worker_step what, const char *argument)
{
    struct err err = ERR_INIT;
    if (step(d, what, argument, &err) < 0)
        fail_msg("%s: %s", worker_step_name(what), err.msg);
}

static void take_bar_away(struct desk *d)
{
    AUTO_FREE char *path = xasprintf("%s" DIR_OF_GPU "/resource0", d->tree->root);
    assert_int_equal(truncate(path, 0), 0);
}

static bool was_reset(struct desk *d)
{
    AUTO_FREE char *path = xasprintf("%s" DIR_OF_GPU "/reset", d->tree->root);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size > 0;
}

static void an_idle_device_is_reset(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct desk *d = desk_new();
    /* a file does not clear the marker: the step says so, after it wrote "reset" */
    assert_int_equal(step(d, WORKER_RESET, "", &err), -EIO);
    assert_non_null(strstr(err.msg, "the reset did nothing"));
    assert_true(was_reset(d));
    desk_free(d);
}

/* Opened by somebody after our look at the users: before our mapping, or under it. */
static void a_device_that_somebody_opens_is_not_reset(void **state)
{
    (void)state;
    for (int mapped = 0; mapped <= 1; mapped++) {
        struct err err = ERR_INIT;
        struct desk *d = desk_new();
        if (mapped)
            must(d, WORKER_WAKE, "");
        take_bar_away(d);
        assert_int_equal(step(d, WORKER_RESET, "", &err), -EBUSY);
        assert_int_equal(err.code, EBUSY);
        assert_false(was_reset(d));
        desk_free(d);
    }
}

static void bar_without_address_has_its_own_cure(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct desk *d = desk_new();
    tree_file(d->tree, DIR_OF_GPU "/resource", "0x0 0x0 0x0\n");
    assert_int_equal(step(d, WORKER_WAKE, "", &err), -ENODEV);
    assert_non_null(strstr(err.msg, "BAR0 has no address"));
    assert_non_null(strstr(work_cure(&d->work, &err), "rescan the bus"));
    must(d, WORKER_QUERY, ""); /* a broken device is an answer */
    desk_free(d);
}

/* A process with the VFIO group of the device open, nothing else. */
static void hold_group(struct desk *d)
{
    AUTO_FREE char *node = xasprintf("%s/dev/vfio/7", d->tree->root);
    tree_driver(d->tree, GPU, "vfio-pci");
    tree_file(d->tree, "/dev/vfio/7", "");
    tree_dir(d->tree, "/proc/4000000");
    tree_file(d->tree, "/proc/4000000/comm", "qemu\n");
    tree_link(d->tree, "/proc/4000000/fd/5", node);
}

static void a_group_that_cannot_be_tried_is_searched_for(void **state)
{
    (void)state;
    static const enum worker_step harmful[] = {WORKER_UNBIND, WORKER_RELEASE, WORKER_RESET,
                                               WORKER_REMOVE};
    vfio_denied = true;
    for (size_t i = 0; i < ARRAY_LEN(harmful); i++) {
        struct err err = ERR_INIT;
        struct desk *d = desk_new();
        hold_group(d);
        d->work.users_seen_us = mmio_now_us(); /* also when somebody has just looked */
        if (step(d, harmful[i], "", &err) != -EBUSY || !strstr(err.msg, "qemu (pid 4000000, /dev/"))
            fail_msg("%s: %d %s", worker_step_name(harmful[i]), -err.code, err.msg);
        assert_false(was_reset(d));
        desk_free(d);
    }
    vfio_denied = false;
}

/* Nobody's rights: as a container without CAP_SYS_PTRACE. */
static int refuse_as_nobody(struct desk *d)
{
    struct err err = ERR_INIT;
    struct nv_device dev = {0};
    int64_t seen = mmio_now_us();
    if (inventory_read(&d->work.host, GPU, &dev, &err) < 0 || setuid(65534) < 0)
        return 1;
    int r = users_refuse(&d->work.host, &dev, &seen, &err);
    return r == -EACCES && strstr(err.msg, "4000000") ? 0 : 1;
}

static void what_cannot_be_searched_is_refused(void **state)
{
    (void)state;
    struct desk *d = desk_new();
    int status = -1;
    if (geteuid() != 0) {
        desk_free(d);
        skip();
    }
    hold_group(d);
    AUTO_FREE char *fds = xasprintf("%s/proc/4000000/fd", d->tree->root);
    assert_int_equal(chmod(fds, 0700), 0);
    assert_int_equal(chmod(d->tree->root, 0755), 0);
    vfio_denied = true;
    pid_t pid = fork();
    if (pid == 0)
        _exit(refuse_as_nobody(d));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    vfio_denied = false;
    desk_free(d);
}

/* Lockdown, and VFIO nodes that may not be opened. */
static void registers_out_of_reach_name_the_device_cgroup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct desk *d = desk_new();
    struct nv_device dev = {0};
    struct regs *regs = NULL;
    hold_group(d);
    vfio_denied = true;
    assert_int_equal(inventory_read(&d->work.host, GPU, &dev, &err), 0);
    assert_int_equal(regs_open_vfio(&d->work.host, &dev, &regs, &err), -EPERM);
    assert_non_null(strstr(err.msg, "device cgroup"));
    vfio_denied = false;
    desk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: cmocka sets a SIGBUS handler of its own for each test, the guard sets its one once */
        cmocka_unit_test(a_device_that_somebody_opens_is_not_reset),
        cmocka_unit_test(an_idle_device_is_reset),
        cmocka_unit_test(a_group_that_cannot_be_tried_is_searched_for),
        cmocka_unit_test(what_cannot_be_searched_is_refused),
        cmocka_unit_test(registers_out_of_reach_name_the_device_cgroup),
        cmocka_unit_test(bar_without_address_has_its_own_cure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
