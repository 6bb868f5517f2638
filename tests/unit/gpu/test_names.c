/* Names, selectors, step names, answers: the pure parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/resource_name.h"
#include "node-agent/gpu/answer.h"
#include "node-agent/gpu/chip.h"
#include "node-agent/gpu/fsp.h"
#include "node-agent/gpu/modules.h"
#include "node-agent/gpu/names.h"
#include "node-agent/gpu/selectors.h"
#include "node-agent/gpu/worker.h"

/* Resource names under running pods must never change: this copy is compared with the table, both ways. */
static const struct {
    uint16_t id;
    const char *resource;
} frozen[] = {
    {0x2331, "GH100_H100_PCIE"},
    {0x2330, "GH100_H100_SXM5_80GB"},
    {0x2339, "GH100_H100_SXM5_94GB"},
    {0x2336, "GH100_H100"},
    {0x2321, "GH100_H100L_94GB"},
    {0x2313, "GH100_H100_CNX"},
    {0x2329, "GH100_H20"},
    {0x232c, "GH100_H20_HBM3E"},
    {0x2335, "GH100_H200_SXM_141GB"},
    {0x233b, "GH100_H200_NVL"},
    {0x2322, "GH100_H800_PCIE"},
    {0x2324, "GH100_H800"},
    {0x2342, "GH100_GH200_120GB___480GB"},
    {0x2901, "GB100_B200"},
    {0x2941, "GB100_HGX_GB200"},
    {0x2909, "GB100_HGX_B200_168GB"},
    {0x3182, "GB110_B300_SXM6_AC"},
    {0x31c2, "GB110_GB300"},
    {0x2bb5, "GB202GL_RTX_PRO_6000_BLACKWELL_SERVER_EDITION"},
    {0x2bb1, "GB202GL_RTX_PRO_6000_BLACKWELL_WORKSTATION_EDITION"},
    {0x2bb4, "GB202GL_RTX_PRO_6000_BLACKWELL_MAX-Q_WORKSTATION_EDITION"},
    {0x22a3, "GH100_H100_NVSWITCH"},
    {0x1af1, "GA100_A100_NVSWITCH"},
    {0x1eb8, "TU104GL_TESLA_T4"},
    {0x20b0, "GA100_A100_SXM4_40GB"},
    {0x20b2, "GA100_A100_SXM4_80GB"},
    {0x20b5, "GA100_A100_PCIE_80GB"},
    {0x20b7, "GA100GL_A30_PCIE"},
    {0x20f1, "GA100_A100_PCIE_40GB"},
    {0x2235, "GA102GL_A40"},
    {0x2236, "GA102GL_A10"},
    {0x26b5, "AD102GL_L40"},
    {0x26b8, "AD102GL_L40G"},
    {0x26b9, "AD102GL_L40S"},
    {0x27b8, "AD104GL_L4"},
};

static void resource_names_are_frozen(void **state)
{
    (void)state;
    size_t n;
    const struct nv_model *table = names_table(&n);
    assert_int_equal(n, ARRAY_LEN(frozen));
    for (size_t i = 0; i < n; i++) {
        const struct nv_model *model = names_find(frozen[i].id);
        assert_non_null(model);
        assert_string_equal(model->resource, frozen[i].resource);
        assert_true(resource_name_ok(model->resource));
        assert_true(i == 0 || table[i - 1].device_id < table[i].device_id);
        for (size_t j = 0; j < i; j++) /* one model, one resource */
            assert_string_not_equal(table[i].resource, table[j].resource);
    }
    assert_null(names_find(0xffff));
}

static void pci_ids_text_becomes_a_name(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char name[64];
    assert_int_equal(names_format("GH100 [H100 PCIe]", name, sizeof name, &err), 0);
    assert_string_equal(name, "GH100_H100_PCIE");
    assert_int_equal(names_format("GH100 [GH200 120GB / 480GB]", name, sizeof name, &err), 0);
    assert_string_equal(name, "GH100_GH200_120GB___480GB");
    assert_int_equal(names_format("  \xc3\xbc[x] -", name, sizeof name, &err), 0);
    assert_string_equal(name, "X");
    assert_int_equal(names_format("[]", name, sizeof name, &err), -EINVAL);
    char longer[300];
    memset(longer, 'a', sizeof longer);
    longer[299] = '\0';
    assert_int_equal(names_format(longer, name, sizeof name, &err), 0);
    assert_true(resource_name_ok(name));
    assert_false(resource_name_ok(""));
    assert_false(resource_name_ok("_A"));
    assert_false(resource_name_ok("A B"));
    assert_false(resource_name_ok("nvidia.com/A"));
    assert_false(resource_name_ok("A.B")); /* CDI 0.5.0 has no dots */
    assert_false(resource_name_ok("3D"));  /* CDI wants a letter first */
    assert_int_equal(names_format("3D Controller", name, sizeof name, &err), -EINVAL);
}

static void chips_by_id_and_by_register(void **state)
{
    (void)state;
    assert_string_equal(names_chip(NV_KIND_GPU, 0x2331), "gh100");
    assert_string_equal(names_chip(NV_KIND_GPU, 0x22f0), "gh100");
    assert_string_equal(names_chip(NV_KIND_GPU, 0x2380), "");
    assert_string_equal(names_chip(NV_KIND_GPU, 0x26b9), "");
    assert_string_equal(names_chip(NV_KIND_GPU, 0x3400), "unlisted"); /* not "has no CC" */
    assert_string_equal(names_chip(NV_KIND_NVSWITCH, 0x22a4), "unlisted");
    assert_string_equal(names_chip(NV_KIND_GPU, 0x3182), "gb110");
    assert_string_equal(names_chip(NV_KIND_NVSWITCH, 0x22a3), "ls10");
    assert_string_equal(names_chip(NV_KIND_NVSWITCH, 0x1af1), "");
    static const struct {
        uint32_t boot0;
        const char *chip;
    } boot[] = {{0x180000a1, "gh100"}, {0x1a0000a1, "gb100"}, {0x1a2000a1, "gb102"},
                {0x1b2000a1, "gb202"}, {0x1b5000a2, "gb205"}, {0x007000a1, "ls10"},
                {0x1a3000a1, "gb110"}, {0x1a4000a1, "gb112"}};
    for (size_t i = 0; i < ARRAY_LEN(boot); i++) {
        assert_non_null(chip_of_boot0(boot[i].boot0));
        assert_string_equal(chip_of_boot0(boot[i].boot0)->name, boot[i].chip);
    }
    assert_null(chip_of_boot0(0x170000a1)); /* A100 */
    assert_null(chip_of_boot0(0x006000a1)); /* LR10 */
    assert_null(chip_of_boot0(0x1c0000a1)); /* after Blackwell: nobody knows its registers */
}

static void mode_registers(void **state)
{
    (void)state;
    const struct chip *h = chip_find("gh100"), *b = chip_find("gb100"), *s = chip_find("ls10");
    static const enum cc_mode cc[] = {CC_MODE_OFF, CC_MODE_ON, CC_MODE_INVALID, CC_MODE_DEVTOOLS};
    for (uint32_t v = 0; v < 4; v++) {
        assert_int_equal(chip_decode_mode(h, v), cc[v]);
        assert_int_equal(chip_decode_mode(h, v | 0x180), cc[v]); /* power efficiency bits */
        assert_int_equal(chip_decode_mode(h, v | 0x20), v == 0 ? CC_MODE_PPCIE : CC_MODE_INVALID);
        assert_int_equal(chip_decode_mode(h, v | 0x40), CC_MODE_INVALID);
        assert_int_equal(chip_decode_mode(b, v | 0x44), cc[v]);
    }
    assert_int_equal(chip_decode_mode(s, 1), CC_MODE_PPCIE);
    assert_int_equal(chip_decode_mode(s, 0), CC_MODE_OFF);
}

static void step_and_mode_names(void **state)
{
    (void)state;
    for (enum worker_step s = 0; s < WORKER_STEP_MAX; s++) {
        const char *name = worker_step_name(s);
        assert_int_equal(worker_step_find(name, strlen(name)), s);
        assert_in_range(worker_deadline_ms(s), 1000, 120000);
    }
    assert_int_equal(worker_step_find("query", 4), WORKER_STEP_MAX);
    assert_int_equal(worker_step_find("", 0), WORKER_STEP_MAX);
    for (enum cc_mode m = CC_MODE_OFF; m <= CC_MODE_PPCIE; m++)
        assert_int_equal(cc_mode_parse(cc_mode_name(m)), m);
    assert_int_equal(cc_mode_parse("unknown"), CC_MODE_UNKNOWN);
    assert_int_equal(cc_mode_parse("invalid"), CC_MODE_UNKNOWN);
    assert_int_equal(cc_mode_parse("ON"), CC_MODE_UNKNOWN);
    assert_int_equal(cc_mode_parse(""), CC_MODE_UNKNOWN);
}

/* ---- selectors ---- */

static const struct nv_device node[] = {
    {.bdf = "0000:07:00.0", .kind = NV_KIND_NVSWITCH, .vendor_id = 0x10de, .device_id = 0x22a3},
    {.bdf = "0000:18:00.0", .kind = NV_KIND_GPU, .vendor_id = 0x10de, .device_id = 0x2331},
    {.bdf = "0000:2a:00.0", .kind = NV_KIND_GPU, .vendor_id = 0x10de, .device_id = 0x2330},
    {.bdf = "0000:81:00.0", .kind = NV_KIND_GPU, .vendor_id = 0x10de, .device_id = 0x2331},
};

static unsigned match(const char *text, int *r)
{
    struct err err = ERR_INIT;
    bool named[ARRAY_LEN(node)] = {0};
    unsigned set = 0;
    *r = selectors_match(text, node, ARRAY_LEN(node), named, &err);
    for (unsigned i = 0; i < ARRAY_LEN(node); i++)
        set |= named[i] ? 1u << i : 0;
    return set;
}

static void selectors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int r;
        unsigned set;
    } cases[] = {
        {"0000:18:00.0", 1, 2},
        {"18:00", 1, 2},
        {"2A:00.0", 1, 4},
        {"10de:2331", 2, 2 | 8},
        {"gpus", 3, 14},
        {"GPUS", 3, 14},
        {"nvswitches", 1, 1},
        {"gpus[0]", 1, 2},
        {"gpus[2]", 1, 8},
        {"gpus[0:2]", 2, 6},
        {"gpus[1:]", 2, 12},
        {"gpus[:2]", 2, 6},
        {"nvswitches[0]", 1, 1},
        {"gpus,nvswitches", 4, 15},
        {"18:00.0,18:00.0", 1, 2},
        {"gpus[0:99]", 3, 14},
        {"00:00", -ENODEV, 0},
        {"00.0", -ENOTUNIQ, 0},
        {"gpus[3]", -ENODEV, 0},
        {"gpus[", -EINVAL, 0},
        {"gpus[x]", -EINVAL, 0},
        {"gpus[1", -EINVAL, 0},
        {"gpus[0]x", -EINVAL, 0},
        {"gpu", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"18:00.0,", -EINVAL, 0},
        {"10de:9999", -ENODEV, 0},
        {"gpus[99999999999999999999]", -EINVAL, 0},
        {"all", -EINVAL, 0},
        {"gpus[2:1]", -EINVAL, 0},
        {"gpus[0:0]", -EINVAL, 0},
        {"0000:18:00:0", -EINVAL, 0},
        {"10de:233", -EINVAL, 0},
        {"::", -EINVAL, 0},
        {"0000:18:00.0.", -EINVAL, 0},
        {"10000:18:00.0", -ENODEV, 0},
        {"18:00.0,nonsense", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int r;
        unsigned set = match(cases[i].text, &r);
        if (r != cases[i].r || set != cases[i].set)
            fail_msg("'%s': %d 0x%x, not %d 0x%x", cases[i].text, r, set, cases[i].r, cases[i].set);
    }
}

/* ---- answers, aliases, FSP packets ---- */

static void answers_cannot_be_broken_from_outside(void **state)
{
    (void)state;
    struct answer a = {0}, members = {.first = true};
    answer_text(&members, "name", "a\"b\\c\n\x01\xff\x7f");
    answer_number(&members, "n", -5);
    answer_open(&a, NULL, '{');
    answer_text(&a, "step", "x");
    answer_append(&a, &members);
    answer_open(&a, "list", '[');
    answer_close(&a, ']');
    answer_open(&a, "more", '[');
    answer_null(&a, NULL);
    answer_bool(&a, NULL, true);
    answer_close(&a, ']');
    answer_close(&a, '}');
    assert_string_equal(
        a.text,
        "{\"step\":\"x\",\"name\":\"a\\\"b\\\\c\\u000a\\u0001??\",\"n\":-5,\"list\":[],\"more\":"
        "[null,true]}");
    answer_free(&a);
    answer_free(&members);
}

static void variant_driver_by_alias(void **state)
{
    (void)state;
    static const char text[] =
        "# comment\nalias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
        "alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n"
        "alias pci:v000010DEd00002331sv*sd*bc*sc*i* nvidia\n"
        "alias vfio_pci:v000010DEd0000233* ../evil\nalias vfio_pci:v*";
    char module[64] = "";
    assert_true(modules_match_alias(text, sizeof text - 1,
                                    "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00", module,
                                    64));
    assert_string_equal(module, "nvgrace_gpu_vfio_pci");
    assert_true(modules_match_alias(text, sizeof text - 1,
                                    "pci:v000010DEd00002331sv000010DEsd00001626bc03sc02i00", module,
                                    64));
    assert_string_equal(module, "vfio_pci");
    assert_false(modules_match_alias(text, sizeof text - 1, "nonsense", module, 64));
    assert_false(modules_match_alias("", 0, "pci:v1", module, 64));
}

static void fsp_packets(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct fsp_answer a;
    /* a real failing answer of an H100: NVIDIA/gpu-admin-tools issue 13 */
    uint32_t real[] = {0xc0000000, 0x1510de7e, 3, 0x13, 0x202, 0};
    assert_int_equal(fsp_parse(real, 5, 0x13, &a, &err), -EREMOTEIO);
    assert_int_equal(err.device_status, 0x202);
    real[4] = 0;
    real[5] = 0xdead0001;
    assert_int_equal(fsp_parse(real, 6, 0x13, &a, &err), 0);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.payload[0], 0xdead0001);
    assert_int_equal(fsp_parse(real, 4, 0x13, &a, &err), -EBADMSG);
    assert_int_equal(fsp_parse(real, 0, 0x13, &a, &err), -EBADMSG);
    assert_int_equal(fsp_parse(real, 6, 0x14, &a, &err), -EBADMSG);
    real[0] = 0x80000000;
    assert_int_equal(fsp_parse(real, 6, 0x13, &a, &err), -EBADMSG);
    real[0] = 0xc0000000;
    real[1] = 0x1310de7e;
    assert_int_equal(fsp_parse(real, 6, 0x13, &a, &err), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resource_names_are_frozen),
        cmocka_unit_test(pci_ids_text_becomes_a_name),
        cmocka_unit_test(chips_by_id_and_by_register),
        cmocka_unit_test(mode_registers),
        cmocka_unit_test(step_and_mode_names),
        cmocka_unit_test(selectors),
        cmocka_unit_test(answers_cannot_be_broken_from_outside),
        cmocka_unit_test(variant_driver_by_alias),
        cmocka_unit_test(fsp_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
