/* What is said of a container runtime: only what it told, and only what pods on this node will need. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "node-agent/runtime.h"

static const char *const both[] = {"kata-qemu-nvidia-gpu-snp", "kata-qemu-nvidia-gpu-tdx", "runc"};
static const char *const rust[] = {"kata-qemu-nvidia-gpu-tdx-runtime-rs"};
static const char *const dirs[] = {"/etc/cdi", "/run/cdi"};

static struct runtime_facts facts;
static struct runtime_needs needs;
static struct advice advice;

static struct cri_runtime all_well(void)
{
    return (struct cri_runtime){
        .socket = "/run/containerd/containerd.sock",
        .name = "containerd",
        .version = "v2.2.9",
        .api = "v1",
        .ready = true,
        .not_ready_why = "",
        .handlers_known = true,
        .n_handlers = 3,
        .handlers = both,
        .cdi = CRI_YES,
        .cdi_dirs_known = true,
        .n_cdi_dirs = 2,
        .cdi_dirs = dirs,
    };
}

static void judge(const struct cri_runtime *runtime)
{
    runtime_facts_of(runtime, "/var/run/cdi", &facts);
    runtime_judge(&facts, &needs, &advice);
}

static int reset(void **state)
{
    (void)state;
    needs = (struct runtime_needs){.tee = "snp", .cdi_dir = "/var/run/cdi"};
    return 0;
}

static void nothing_is_claimed_without_need(void **state)
{
    (void)state;
    struct cri_runtime runtime = all_well();
    judge(&runtime);
    assert_string_equal(advice.text, "");
    runtime.handlers_known = runtime.cdi_dirs_known = false; /* an old one that does not tell */
    runtime.n_handlers = 0;
    runtime.cdi = CRI_UNKNOWN;
    judge(&runtime);
    assert_string_equal(advice.text, "");
    runtime = all_well();
    runtime.n_handlers = 0;
    runtime.cdi = CRI_NO;
    needs = (struct runtime_needs){0}; /* no confidential guests, no CDI files */
    judge(&runtime);
    assert_string_equal(advice.text, "");
    facts = (struct runtime_facts){.snp = CRI_NO, .tdx = CRI_NO, .cdi = CRI_NO};
    needs = (struct runtime_needs){.tee = "snp", .cdi_dir = "/var/run/cdi"};
    runtime_judge(&facts, &needs, &advice); /* nobody was asked */
    assert_string_equal(advice.text, "");
    assert_false(advice.blocks);
}

static void the_handler_of_the_hosts_tee(void **state)
{
    (void)state;
    struct cri_runtime runtime = all_well();
    runtime.handlers = rust;
    runtime.n_handlers = 1;
    judge(&runtime);
    assert_true(advice.blocks);
    assert_non_null(
        strstr(advice.text, "kata-qemu-nvidia-gpu-snp cannot start: containerd v2.2.9"));
    assert_non_null(strstr(advice.text, RUNTIME_CURE_HANDLER));
    needs.tee = "tdx"; /* Kata's other runtime has it under its own name */
    judge(&runtime);
    assert_string_equal(advice.text, "");
}

static void cdi_blocks_only_who_needs_it(void **state)
{
    (void)state;
    static const char *const elsewhere[] = {"/etc/cdi"};
    struct cri_runtime runtime = all_well();
    runtime.cdi = CRI_NO;
    judge(&runtime);
    assert_false(advice.blocks);
    assert_non_null(
        strstr(advice.text, "only where Kata resolves them itself: CDI is switched off"));
    needs.runtime_injects = true;
    judge(&runtime);
    assert_true(advice.blocks);
    assert_non_null(strstr(advice.text, RUNTIME_CURE_CDI));
    runtime = all_well();
    runtime.cdi_dirs = elsewhere;
    runtime.n_cdi_dirs = 1;
    judge(&runtime);
    assert_true(advice.blocks);
    assert_non_null(strstr(advice.text, "does not read CDI files in /var/run/cdi"));
    assert_non_null(strstr(advice.text, RUNTIME_CURE_DIR));
}

static void several_at_once_and_long_names(void **state)
{
    (void)state;
    char name[2000];
    struct cri_runtime runtime = all_well();
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    runtime.name = runtime.version = name;
    runtime.n_handlers = 0;
    runtime.cdi = CRI_NO;
    judge(&runtime);
    assert_true(advice.blocks);
    assert_non_null(strstr(advice.text, "no runtime handler"));
    assert_non_null(strstr(advice.text, "; pods get"));
    assert_true(strlen(advice.text) < sizeof advice.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_is_claimed_without_need, reset),
        cmocka_unit_test_setup(the_handler_of_the_hosts_tee, reset),
        cmocka_unit_test_setup(cdi_blocks_only_who_needs_it, reset),
        cmocka_unit_test_setup(several_at_once_and_long_names, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
