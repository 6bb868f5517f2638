/* What is known of a device, and when it is not known any more. One made-up PCI device, a stand-in for ccnode-device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/observe.h"

#define GPU "0000:18:00.0"
#define HELD                                                                                       \
    "{\"step\":\"holders\",\"ok\":true,\"ms\":1,\"holders\":[{\"bdf\":\"" GPU "\",\"pid\":42,"     \
    "\"comm\":\"qemu\",\"what\":\"/dev/vfio/1\"}]}"
#define IDLE "{\"step\":\"holders\",\"ok\":true,\"ms\":1,\"holders\":[]}"

struct bench {
    struct rpc *rpc; /* NULL: no kubelet to ask */
    char root[64];
    struct host host;
    struct loop *loop;
    struct workers *workers;
    struct memory memory;
    struct journal journal;
    struct observed seen;
    int result;
    bool done;
};

static void put(struct bench *b, const char *dir, const char *name, const char *text)
{
    struct err err = ERR_INIT;
    assert_int_equal(fs_mkdirs(&b->host, dir, &err), 0);
    assert_int_equal(fs_replace(&b->host, dir, name, text, strlen(text), 0600, false, &err), 0);
}

static void put_device(struct bench *b)
{
    static const char dir[] = "/sys/bus/pci/devices/" GPU;
    put(b, dir, "vendor", "0x10de\n");
    put(b, dir, "device", "0x2331\n");
    put(b, dir, "class", "0x030200\n");
    put(b, "/proc/sys/kernel/random", "boot_id", "boot-1\n");
}

static int setup(void **state)
{
    struct bench *b = xcalloc(1, sizeof *b);
    struct err err = ERR_INIT;
    (void)snprintf(b->root, sizeof b->root, "/tmp/ccnode-observe-XXXXXX");
    assert_non_null(mkdtemp(b->root));
    assert_int_equal(host_open(&b->host, b->root, &err), 0);
    b->loop = loop_new(NULL, NULL);
    const char *source = getenv("CCNODE_SOURCE");
    AUTO_FREE char *program = xasprintf("%s/tests/unit/agent/fake-device", source ? source : ".");
    struct workers_options options = {.program = program, .lock_dir = "/lock"};
    b->workers = workers_new(&b->host, b->loop, &options, &err);
    assert_non_null(b->workers);
    put_device(b);
    put(b, "/", "node.holders", IDLE "\n");
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    /* a worker that still ends writes its last line below the root */
    for (int i = 0; i < 200 && workers_running(b->workers) > 0; i++)
        loop_run_once(b->loop, 50);
    workers_free(b->workers);
    if (b->rpc)
        rpc_free(b->rpc);
    memory_done(&b->memory);
    loop_free(b->loop);
    host_close(&b->host);
    AUTO_FREE char *command = xasprintf("rm -rf %s", b->root);
    assert_int_equal(system(command), 0); /* NOLINT: our own path */
    free(b);
    return 0;
}

static void on_look(void *arg, int r, const struct observed *observed, const struct err *err)
{
    struct bench *b = arg;
    (void)err;
    b->done = true;
    b->result = r;
    if (observed)
        b->seen = *observed;
}

static void look(struct bench *b)
{
    struct observe_request request = {.rpc = b->rpc, .pod_resources_socket = "/no/kubelet.sock"};
    b->done = false;
    (void)observe_start(b->workers, &b->host, b->loop, &request, &b->memory, &b->journal, on_look,
                        b);
    assert_false(b->done);
    for (int i = 0; i < 200 && !b->done; i++)
        loop_run_once(b->loop, 100);
    assert_true(b->done);
}

static void read_now(struct bench *b, enum cc_mode mode)
{
    struct nv_report report = {.active = mode, .pending = mode, .booted = true};
    memory_read(&b->memory, GPU, &report, 1000);
}

static void expect(struct bench *b, enum knowledge knowledge, enum cc_mode mode)
{
    assert_int_equal(b->result, 0);
    assert_int_equal(b->seen.n, 1);
    assert_int_equal(b->seen.devices[0].knowledge, knowledge);
    if (knowledge != KNOWN_NOT)
        assert_int_equal(b->seen.devices[0].report.active, mode);
}

static void registers_count_until_somebody_had_it(void **state)
{
    struct bench *b = *state;
    look(b);
    expect(b, KNOWN_NOT, CC_MODE_UNKNOWN);
    assert_true(b->seen.holders_known && b->seen.pods_known);
    read_now(b, CC_MODE_ON);
    look(b);
    expect(b, KNOWN_REGISTERS, CC_MODE_ON);
    put(b, "/", "node.holders", HELD "\n");
    look(b);
    expect(b, KNOWN_NOT, CC_MODE_UNKNOWN); /* held, and nothing in the journal */
    assert_int_equal(b->seen.devices[0].n_holders, 1);
    assert_string_equal(b->seen.devices[0].holders[0].comm, "qemu");
    put(b, "/", "node.holders", IDLE "\n");
    look(b);
    expect(b, KNOWN_NOT, CC_MODE_UNKNOWN); /* released: whoever had it could do anything with it */
    read_now(b, CC_MODE_OFF);
    look(b);
    expect(b, KNOWN_REGISTERS, CC_MODE_OFF);
}

static void the_journal_vouches_while_it_is_held(void **state)
{
    struct bench *b = *state;
    struct journal_device *entry = journal_put(&b->journal, GPU);
    entry->device_id = 0x2331;
    entry->verified_mode = CC_MODE_ON;
    entry->settled = true;
    (void)snprintf(b->journal.boot_id, sizeof b->journal.boot_id, "boot-1");
    put(b, "/", "node.holders", HELD "\n");
    look(b);
    expect(b, KNOWN_JOURNAL, CC_MODE_ON);
    assert_false(b->seen.devices[0].capable_known);
    entry->capable_known = true;
    entry->capable_modes = CC_MODE_BIT(CC_MODE_ON);
    entry->settled = false;
    look(b);
    expect(b, KNOWN_NOT, CC_MODE_UNKNOWN);
    assert_true(b->seen.devices[0].capable_known);
    assert_int_equal(b->seen.devices[0].report.capable_modes, CC_MODE_BIT(CC_MODE_ON));
    entry->settled = true;
    (void)snprintf(b->journal.boot_id, sizeof b->journal.boot_id, "boot-0");
    look(b);
    expect(b, KNOWN_NOT, CC_MODE_UNKNOWN);
    assert_false(b->seen.devices[0].capable_known);
}

static void a_missing_socket_is_no_kubelet_unless_it_has_our_devices(void **state)
{
    struct bench *b = *state;
    struct err err = ERR_INIT;
    b->rpc = rpc_new(b->loop, &err);
    assert_non_null(b->rpc);
    look(b);
    assert_true(b->seen.pods_known && !b->seen.pods_unasked);
    b->journal.registered = true;
    (void)snprintf(b->journal.boot_id, sizeof b->journal.boot_id, "boot-1");
    look(b);
    assert_true(!b->seen.pods_known && b->seen.pods_unasked);
    assert_non_null(strstr(b->seen.unknown_why, "there is no /no/kubelet.sock to ask"));
    assert_non_null(strstr(b->seen.unknown_why, "set podResources.socket"));
    static struct observed quick;
    assert_int_equal(
        observe_now(b->workers, &b->host, &b->memory, &b->journal, &b->seen, &quick, &err), 0);
    assert_true(!quick.pods_known && quick.pods_unasked);
    (void)snprintf(b->journal.boot_id, sizeof b->journal.boot_id, "boot-0"); /* another boot */
    look(b);
    assert_true(b->seen.pods_known);
}

static void users_are_taken_over_by_a_quick_look(void **state)
{
    struct bench *b = *state;
    static struct observed quick;
    struct err err = ERR_INIT;
    assert_int_equal(observe_now(b->workers, &b->host, &b->memory, &b->journal, NULL, &quick, &err),
                     0);
    assert_false(quick.holders_known); /* nobody has been asked */
    put(b, "/", "node.holders", HELD "\n");
    look(b);
    assert_int_equal(
        observe_now(b->workers, &b->host, &b->memory, &b->journal, &b->seen, &quick, &err), 0);
    assert_true(quick.holders_known);
    assert_int_equal(quick.devices[0].n_holders, 1);
}

static void a_search_that_failed_is_not_an_empty_one(void **state)
{
    struct bench *b = *state;
    static const char *const bad[] = {
        "die\n", "half\n", "{\"ok\":true}\n", "{\"ok\":true,\"holders\":7}\n",
        "{\"step\":\"holders\",\"ok\":false,\"code\":\"EACCES\",\"error\":\"no\"}\n",
        /* one that is not understood may be a user */
        "{\"step\":\"holders\",\"ok\":true,\"holders\":[7]}\n",
        "{\"step\":\"holders\",\"ok\":true,\"holders\":[{\"bdf\":\"" GPU "\"}]}\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        put(b, "/", "node.holders", bad[i]);
        look(b);
        assert_false(b->seen.holders_known);
        assert_true(*b->seen.unknown_why);
    }
    put(b, "/", "node.holders",
        "{\"step\":\"holders\",\"ok\":true,\"holders\":[{\"bdf\":\"x\",\"pid\":1}]}\n");
    look(b);
    assert_true(b->seen.holders_known);
    assert_int_equal(b->seen.devices[0].n_holders, 0);
}

static void a_device_that_went_is_forgotten(void **state)
{
    struct bench *b = *state;
    look(b);
    read_now(b, CC_MODE_ON);
    memory_failed(&b->memory, GPU, "reset: no answer", 1000);
    AUTO_FREE char *command = xasprintf("rm -rf %s/sys/bus/pci/devices/" GPU, b->root);
    assert_int_equal(system(command), 0); /* NOLINT: our own path */
    look(b);
    assert_int_equal(b->seen.n, 0);
    assert_int_equal(b->memory.n, 0);
    put_device(b);
    look(b);
    expect(b, KNOWN_NOT, CC_MODE_UNKNOWN);
    assert_int_equal(b->seen.devices[0].failures, 0);
    command[0] = '\0';
}

static const char *resource_now(struct bench *b)
{
    static struct observed quick;
    struct err err = ERR_INIT;
    assert_int_equal(observe_now(b->workers, &b->host, &b->memory, &b->journal, NULL, &quick, &err),
                     0);
    assert_int_equal(quick.n, 1);
    return quick.devices[0].dev.resource;
}

/* Another one in the same slot. Its directory is made before the old one goes, so it is another inode. */
static void put_another(struct bench *b, const char *device_id)
{
    AUTO_FREE char *command = xasprintf("cd %s/sys/bus/pci && cp -a devices/" GPU
                                        " new && rm -rf devices/" GPU " && mv new devices/" GPU,
                                        b->root);
    assert_int_equal(system(command), 0); /* NOLINT: our own path */
    put(b, "/sys/bus/pci/devices/" GPU, "device", device_id);
}

static void a_new_model_keeps_its_name(void **state)
{
    struct bench *b = *state;
    put_another(b, "0x2fff\n");
    assert_string_equal(resource_now(b), "GPU_10DE_2FFF");
    put(b, "/usr/share/misc", "pci.ids", "10de  NVIDIA\n\t2fff  New One\n\t2ffe  Other\n");
    assert_string_equal(resource_now(b), "GPU_10DE_2FFF"); /* not renamed under running pods */
    put_another(b, "0x2ffe\n");
    assert_string_equal(resource_now(b), "OTHER");
    memory_done(&b->memory);
    memset(&b->memory, 0, sizeof b->memory); /* the agent starts again */
    put_another(b, "0x2fff\n");
    assert_string_equal(resource_now(b), "NEW_ONE");
    put(b, "/usr/share/misc", "pci.ids", "10de  NVIDIA\n\t2fff  Renamed\n");
    assert_string_equal(resource_now(b), "NEW_ONE");
}

static void failures_wait_longer_and_longer(void **state)
{
    struct bench *b = *state;
    look(b);
    int64_t last = 0;
    for (int i = 0; i < 12; i++) {
        memory_failed(&b->memory, GPU, "x", 0);
        int64_t wait = memory_find(&b->memory, GPU)->retry_at_ms;
        assert_in_range(wait, 400, 60000);
        if (i == 0 || i == 4)
            assert_true(wait > last);
        last = i == 0 ? 1000 : last;
    }
    memory_succeeded(&b->memory, GPU);
    assert_int_equal(memory_find(&b->memory, GPU)->retry_at_ms, 0);
}

static void a_lock_that_another_keeps_is_quarantine(void **state)
{
    struct bench *b = *state;
    struct err err = ERR_INIT;
    int fd = lock_take(&b->host, "/lock", GPU, &err);
    assert_true(fd >= 0);
    put(b, "/", "node.holders", IDLE);
    look(b);
    assert_false(b->seen.devices[0].quarantined); /* a worker that works is nothing special */
    memory_failed(&b->memory, GPU, "another worker has it", 1000);
    memory_find(&b->memory, GPU)->locked = true;
    look(b);
    assert_true(b->seen.devices[0].quarantined);
    assert_int_equal(b->seen.devices[0].stuck_pid, getpid());
    assert_int_equal(b->seen.devices[0].failures, 1);
    (void)close(fd);
    look(b);
    assert_false(b->seen.devices[0].quarantined);
    assert_int_equal(b->seen.devices[0].failures, 0); /* its end is the end of that failure */
    assert_int_equal(b->seen.devices[0].retry_at_ms, 0);
    assert_false(memory_find(&b->memory, GPU)->locked);
}

static void without_pci_it_says_so(void **state)
{
    struct bench *b = *state;
    AUTO_FREE char *command = xasprintf("rm -rf %s/sys", b->root);
    assert_int_equal(system(command), 0); /* NOLINT: our own path */
    look(b);
    assert_true(b->result < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(registers_count_until_somebody_had_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_journal_vouches_while_it_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_socket_is_no_kubelet_unless_it_has_our_devices,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(users_are_taken_over_by_a_quick_look, setup, teardown),
        cmocka_unit_test_setup_teardown(a_search_that_failed_is_not_an_empty_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_device_that_went_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_model_keeps_its_name, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_wait_longer_and_longer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_that_another_keeps_is_quarantine, setup, teardown),
        cmocka_unit_test_setup_teardown(without_pci_it_says_so, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
