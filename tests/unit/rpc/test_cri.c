#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cri/internal.h"
#include "wire.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void version(struct cri_runtime *runtime, const char *name, const char *number)
{
    struct err err = ERR_INIT;
    struct wire w = {0};
    wire_text(&w, 1, "0.1.0");
    wire_text(&w, 2, name);
    wire_text(&w, 3, number);
    wire_text(&w, 4, "v1");
    *runtime = (struct cri_runtime){0};
    assert_int_equal(cri_decode_version(w.p, w.n, runtime, &err), 0);
    assert_string_equal(runtime->name, name);
    assert_string_equal(runtime->socket, "");
}

static void status(struct cri_runtime *runtime, const char *config)
{
    struct err err = ERR_INIT;
    struct wire w = {0}, info = {0};
    wire_text(&info, 1, "config");
    wire_text(&info, 2, config);
    wire_sub(&w, 2, &info);
    assert_int_equal(cri_decode_status(w.p, w.n, runtime, &err), 0);
}

static void test_containerd_configuration(void **state)
{
    (void)state;
    static const struct {
        const char *version, *config;
        enum cri_known cdi, kata, run, etc;
    } cases[] = {
        {"v2.2.9", "{\"enableCDI\":null}", CRI_YES, CRI_UNKNOWN, CRI_YES, CRI_YES},
        {"2.0.0-rc.1", "{}", CRI_YES, CRI_UNKNOWN, CRI_YES, CRI_YES},
        {"v2.2.9", "{\"enableCDI\":false,\"cdiSpecDirs\":[]}", CRI_NO, CRI_UNKNOWN, CRI_NO, CRI_NO},
        {"1.7.24",
         "{\"enableCDI\":true,\"cdiSpecDirs\":[\"/run/cdi/\",7,\"/a\\u0000b\"],"
         "\"containerd\":{\"runtimes\":{\"runc\":{},\"kata\":null}}}",
         CRI_YES, CRI_YES, CRI_YES, CRI_NO},
        {"1.6.20~ds1", "{\"containerd\":{\"runtimes\":{\"runc\":{}}}}", CRI_NO, CRI_NO, CRI_UNKNOWN,
         CRI_UNKNOWN},
        {"dev", "{\"containerd\":[]}", CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN},
        {"v2.2.9", "{\"enableCDI\":true", CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN},
        {"v2.2.9", "[]", CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN},
        {"v2.2.9", "", CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN, CRI_UNKNOWN},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cri_runtime runtime;
        version(&runtime, "containerd", cases[i].version);
        status(&runtime, cases[i].config);
        assert_int_equal(runtime.cdi, cases[i].cdi);
        assert_int_equal(cri_has_handler(&runtime, "kata"), cases[i].kata);
        assert_int_equal(cri_reads_cdi_dir(&runtime, "/var/run/cdi"), cases[i].run);
        assert_int_equal(cri_reads_cdi_dir(&runtime, "/etc/cdi"), cases[i].etc);
        cri_runtime_free(&runtime);
    }
}

static void test_conditions_and_handlers(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cri_runtime runtime;
    struct wire w = {0}, conditions = {0}, c = {0}, none = {0}, kata = {0};
    version(&runtime, "containerd", "v2.2.9");
    wire_text(&c, 1, "RuntimeReady");
    wire_text(&c, 3, "Why");
    wire_text(&c, 4, "because");
    wire_sub(&conditions, 1, &c);
    wire_sub(&w, 1, &conditions);
    wire_text(&kata, 1, "kata");
    wire_sub(&w, 3, &none);
    wire_sub(&w, 3, &kata);
    assert_int_equal(cri_decode_status(w.p, w.n, &runtime, &err), 0);
    assert_false(runtime.ready);
    assert_string_equal(runtime.not_ready_why, "Why: because");
    assert_int_equal(runtime.n_handlers, 1);
    assert_int_equal(cri_has_handler(&runtime, "kata"), CRI_YES);
    assert_int_equal(cri_has_handler(&runtime, ""), CRI_NO);
    for (int i = 0; i <= CRI_MAX_HANDLERS; i++) {
        struct wire h = {0};
        char name[16];
        (void)snprintf(name, sizeof name, "h%d", i);
        wire_text(&h, 1, name);
        wire_sub(&w, 3, &h);
    }
    assert_int_equal(cri_decode_status(w.p, w.n, &runtime, &err), -EFBIG);
    cri_runtime_free(&runtime);
}

static void test_crio_files(void **state)
{
    (void)state;
    struct strings dirs = {0};
    assert_false(crio_scan(
        "# cdi_spec_dirs = [\"/x\"]\nxcdi_spec_dirs = [\"/y\"]\ncdi_spec_dirs_x = []\n", &dirs));
    assert_true(crio_scan("[crio.runtime]\n  cdi_spec_dirs\t=\t[ \"/a\", # c ]\n '/b' ,\n\"\", ]\n",
                          &dirs));
    assert_int_equal(dirs.n, 2);
    assert_string_equal(dirs.items[1], "/b");
    assert_true(crio_scan("cdi_spec_dirs = [\"/open", &dirs));
    assert_int_equal(dirs.n, 1);
    assert_true(crio_scan("cdi_spec_dirs = 7", &dirs));
    assert_int_equal(dirs.n, 0);
    strings_free(&dirs);
}

static void test_sandboxes(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cri_sandboxes list = {0};
    struct wire w = {0}, s = {0}, m = {0}, bare = {0};
    wire_text(&m, 1, "vm");
    wire_text(&m, 2, "uid-1");
    wire_text(&m, 3, "team");
    wire_text(&s, 1, ID);
    wire_sub(&s, 2, &m);
    wire_int(&s, 3, 1);
    wire_text(&s, 7, "kata");
    wire_text(&bare, 1, "short");
    wire_sub(&w, 1, &bare);
    wire_sub(&w, 1, &s);
    assert_int_equal(cri_decode_sandboxes(w.p, w.n, &list, &err), 0);
    assert_int_equal(list.n, 2);
    assert_true(list.sandboxes[0].ready);
    assert_string_equal(list.sandboxes[0].pod, "");
    assert_false(list.sandboxes[1].ready);
    assert_string_equal(list.sandboxes[1].uid, "uid-1");
    static const char cmdline[] = "/usr/bin/qemu\0-name\0sandbox-" ID ",debug-threads=on\0short";
    const struct cri_sandbox *vm = &list.sandboxes[1];
    assert_ptr_equal(cri_sandbox_of(&list, cmdline, sizeof cmdline, NULL), vm);
    assert_ptr_equal(cri_sandbox_of(&list, NULL, 0, "0::/kubepods/pod1/" ID "\n"), vm);
    assert_null(cri_sandbox_of(&list, "short", 5, "short"));
    assert_null(cri_sandbox_of(&list, NULL, 0, NULL));
    cri_sandboxes_free(&list);
    assert_int_equal(cri_decode_sandboxes((const uint8_t *)"\x0a\x03\x0a\x01\xff", 5, &list, &err),
                     -EBADMSG);
}

#define UID "3fa1b2c4-0d5e-4f60-8a7b-1c2d3e4f5a6b"
#define OTHER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

/* /proc/PID/cgroup as kernels, drivers and runtimes write it */
static void test_cgroup_layouts(void **state)
{
    (void)state;
    static const struct cri_sandbox both[] = {
        {.id = OTHER, .uid = "00000000-1111-2222-3333-444444444444", .ready = true},
        {.id = ID, .uid = UID, .ready = true},
    };
    struct cri_sandbox copy[2];
    memcpy(copy, both, sizeof copy);
    struct cri_sandboxes list = {2, copy};
    static const char *const ours[] = {
        /* v2, systemd driver: container of containerd, of CRI-O */
        "0::/kubepods.slice/kubepods-burstable.slice/"
        "kubepods-burstable-pod3fa1b2c4_0d5e_4f60_8a7b_1c2d3e4f5a6b.slice/"
        "cri-containerd-aaaaaaaaaaaaaaaa.scope\n",
        "0::/kubepods.slice/kubepods-pod3fa1b2c4_0d5e_4f60_8a7b_1c2d3e4f5a6b.slice/"
        "crio-aaaaaaaaaaaaaaaa.scope/container\n",
        /* v2, cgroupfs driver; the sandbox's own */
        "0::/kubepods/besteffort/pod" UID "/aaaaaaaaaaaaaaaa\n",
        "0::/kubepods/pod" UID "/" ID "\n",
        /* v2, Kata's overhead outside of the pod */
        "0::/kata_overhead/" ID "\n",
        /* v2, seen from another cgroup namespace; a node in a container (kind) */
        "0::/../../pod" UID "/aaaaaaaaaaaaaaaa\n",
        "0::/docker/bbbbbbbbbbbbbbbb/kubelet.slice/kubelet-kubepods.slice/"
        "kubelet-kubepods-pod3fa1b2c4_0d5e_4f60_8a7b_1c2d3e4f5a6b.slice/"
        "cri-containerd-" ID ".scope\n",
        /* v1 */
        "12:pids:/kubepods/burstable/pod" UID "/" ID "\n11:rdma:/\n"
        "10:cpu,cpuacct:/kubepods/burstable/pod" UID "/" ID "\n"
        "9:memory:/kubepods/burstable/pod" UID "/" ID "\n8:devices:/kubepods/burstable/pod" UID
        "/" ID "\n1:name=systemd:/kubepods/burstable/pod" UID "/" ID "\n",
        /* v1, systemd driver, and hybrid: the v2 line is empty */
        "5:memory:/kubepods.slice/kubepods-pod3fa1b2c4_0d5e_4f60_8a7b_1c2d3e4f5a6b.slice/"
        "crio-aaaaaaaaaaaaaaaa.scope\n1:name=systemd:/system.slice/crio.service\n0::/\n",
    };
    static const char *const nobody[] = {
        "",
        "\n",
        "0::/",
        "0::/system.slice/libvirtd.service\n",
        "0::/user.slice/user-0.slice/session-1.scope\n",
        "12:pids:/\n11:memory:/docker/aaaaaaaaaaaaaaaa\n0::/\n",
        "0::/kubepods/pod3fa1b2c4-0d5e-4f60-8a7b-1c2d3e4f5a6/x\n", /* cut off */
    };
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        assert_ptr_equal(cri_sandbox_of(&list, NULL, 0, ours[i]), &copy[1]);
    for (size_t i = 0; i < ARRAY_LEN(nobody); i++)
        assert_null(cri_sandbox_of(&list, NULL, 0, nobody[i]));
    copy[0] = copy[1]; /* the same pod, made anew: the one that lives */
    copy[0].id = OTHER;
    copy[1].ready = false;
    assert_ptr_equal(cri_sandbox_of(&list, NULL, 0, ours[0]), &copy[0]);
    copy[0].uid = copy[1].uid = "pod"; /* too short to mean anything */
    assert_null(cri_sandbox_of(&list, NULL, 0, ours[0]));
}

static void put(const struct host *host, const char *dir, const char *name, const char *text)
{
    struct err err = ERR_INIT;
    assert_int_equal(fs_mkdirs(host, dir, &err), 0);
    assert_int_equal(fs_replace(host, dir, name, text, strlen(text), 0644, false, &err), 0);
}

static void test_sandbox_of_a_process(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct host host;
    char root[] = "/tmp/cri-XXXXXX";
    assert_non_null(mkdtemp(root));
    assert_int_equal(host_open(&host, root, &err), 0);
    struct cri_sandbox one = {.id = ID};
    struct cri_sandboxes list = {1, &one};
    put(&host, "/proc/7", "cgroup", "0::/kata_overhead/" ID "\n");
    assert_ptr_equal(cri_sandbox_of_pid(&list, &host, 7),
                     &one); /* a process whose command line cannot be read */
    assert_null(cri_sandbox_of_pid(&list, &host, 8));
    struct cri_runtime runtime;
    version(&runtime, "cri-o", "1.32.1");
    put(&host, "/etc/crio/crio.conf.d", "10-x.conf", "cdi_spec_dirs = [\"/opt/cdi\"]\n");
    crio_read_conf(&runtime, &host);
    assert_int_equal(runtime.cdi, CRI_YES);
    assert_int_equal(cri_reads_cdi_dir(&runtime, "/opt/cdi"), CRI_YES);
    cri_runtime_free(&runtime);
    host_close(&host);
    AUTO_FREE char *command = xasprintf("rm -r %s", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_containerd_configuration),
        cmocka_unit_test(test_conditions_and_handlers),
        cmocka_unit_test(test_crio_files),
        cmocka_unit_test(test_sandboxes),
        cmocka_unit_test(test_cgroup_layouts),
        cmocka_unit_test(test_sandbox_of_a_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
