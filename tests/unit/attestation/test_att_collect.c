/* The last look before the gate opens: the machine is still the one that was verified. Against the fake driver libraries;
 * how it is collected and what the gate does are functional tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attestation/prog/collect.h"
#include "base/auto.h"

static char dir[] = "/tmp/ccnode-att-collect-XXXXXX";

static void put(const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void take_away(const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    assert_int_equal(remove(path), 0);
}

/* two GPUs, two switches; as they were when they were verified */
static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    put("gpu0.report", "x");
    put("gpu1.report", "x");
    put("switch0.report", "x");
    put("switch1.report", "x");
    return setenv("FAKE_NVML", dir, 1) || setenv("FAKE_NSCQ", dir, 1);
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"gpu0.report",    "gpu1.report", "switch0.report",
                                        "switch1.report", "fault",       "calls"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, names[i]);
        (void)remove(path);
    }
    return rmdir(dir);
}

static void verified(struct collection *c)
{
    static const char *const ids[] = {"GPU-00000000-0000-0000-0000-000000000000",
                                      "GPU-00000000-0000-0000-0000-000000000001", "SWX-0", "SWX-1"};
    *c = (struct collection){.n = 4, .gpus = 2, .switches = 2};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        (void)snprintf(c->list[i].uuid, sizeof c->list[i].uuid, "%s", ids[i]);
}

static int look(const struct collection *c, struct err *err)
{
    struct nvml *nvml = NULL;
    struct opts opts = {.nvml = FAKE_NVML_LIBRARY, .nscq = FAKE_NSCQ_LIBRARY};
    assert_int_equal(nvml_open(opts.nvml, NULL, &nvml, err), 0);
    int r = collect_same_devices(nvml, &opts, c, err);
    nvml_close(nvml);
    return r;
}

static void the_same_machine(void **state)
{
    struct err err = ERR_INIT;
    AUTO_FREE struct collection *c = xcalloc(1, sizeof *c);
    (void)state;
    verified(c);
    assert_int_equal(look(c, &err), 0);
    c->n = c->gpus; /* no switch was verified: none is looked for */
    c->switches = 0;
    assert_int_equal(look(c, &err), 0);
}

static void refused(const struct collection *c, const char *word)
{
    struct err err = ERR_INIT;
    assert_true(look(c, &err) < 0);
    if (!strstr(err.msg, word))
        fail_msg("\"%s\" is not in: %s", word, err.msg);
}

static void other_devices(void **state)
{
    AUTO_FREE struct collection *c = xcalloc(1, sizeof *c);
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        verified(c);
        (void)snprintf(c->list[i].uuid, sizeof c->list[i].uuid, "other");
        refused(c, "other was verified");
    }
    verified(c);
    take_away("switch1.report");
    refused(c, "2 NVSwitches were verified, 1 are there now");
    put("switch1.report", "x");
    put("switch2.report", "x");
    refused(c, "2 NVSwitches were verified, 3 are there now");
    take_away("switch2.report");
    take_away("gpu1.report");
    refused(c, "2 GPUs were verified, 1 are there now");
    put("gpu1.report", "x");
    put("fault", "arch -1\n");
    refused(c, "arch");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_machine),
                                       cmocka_unit_test(other_devices)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
