#include "node-agent/gpu/names.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/resource_name.h"

/* Frozen: rows are added, never changed. Sorted by id. */
static const struct nv_model models[] = {
    {0x1af1, "A100 NVSwitch", "GA100_A100_NVSWITCH"},
    {0x1eb8, "T4", "TU104GL_TESLA_T4"},
    {0x20b0, "A100 SXM4 40GB", "GA100_A100_SXM4_40GB"},
    {0x20b2, "A100 SXM4 80GB", "GA100_A100_SXM4_80GB"},
    {0x20b5, "A100 PCIe 80GB", "GA100_A100_PCIE_80GB"},
    {0x20b7, "A30 PCIe", "GA100GL_A30_PCIE"},
    {0x20f1, "A100 PCIe 40GB", "GA100_A100_PCIE_40GB"},
    {0x2235, "A40", "GA102GL_A40"},
    {0x2236, "A10", "GA102GL_A10"},
    {0x22a3, "H100 NVSwitch", "GH100_H100_NVSWITCH"},
    {0x2313, "H100 CNX", "GH100_H100_CNX"},
    {0x2321, "H100 NVL", "GH100_H100L_94GB"},
    {0x2322, "H800 PCIe", "GH100_H800_PCIE"},
    {0x2324, "H800", "GH100_H800"},
    {0x2329, "H20", "GH100_H20"},
    {0x232c, "H20 HBM3e", "GH100_H20_HBM3E"},
    {0x2330, "H100 SXM5 80GB", "GH100_H100_SXM5_80GB"},
    {0x2331, "H100 PCIe", "GH100_H100_PCIE"},
    {0x2335, "H200 SXM 141GB", "GH100_H200_SXM_141GB"},
    {0x2336, "H100", "GH100_H100"},
    {0x2339, "H100 SXM5 94GB", "GH100_H100_SXM5_94GB"},
    {0x233b, "H200 NVL", "GH100_H200_NVL"},
    {0x2342, "GH200 120GB / 480GB", "GH100_GH200_120GB___480GB"},
    {0x26b5, "L40", "AD102GL_L40"},
    {0x26b8, "L40G", "AD102GL_L40G"},
    {0x26b9, "L40S", "AD102GL_L40S"},
    {0x27b8, "L4", "AD104GL_L4"},
    {0x2901, "B200", "GB100_B200"},
    {0x2909, "HGX B200 168GB", "GB100_HGX_B200_168GB"},
    {0x2941, "HGX GB200", "GB100_HGX_GB200"},
    {0x2bb1, "RTX PRO 6000 Blackwell Workstation Edition",
     "GB202GL_RTX_PRO_6000_BLACKWELL_WORKSTATION_EDITION"},
    {0x2bb4, "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
     "GB202GL_RTX_PRO_6000_BLACKWELL_MAX-Q_WORKSTATION_EDITION"},
    {0x2bb5, "RTX PRO 6000 Blackwell Server Edition",
     "GB202GL_RTX_PRO_6000_BLACKWELL_SERVER_EDITION"},
    {0x3182, "B300 SXM6 AC", "GB110_B300_SXM6_AC"},
    {0x31c2, "GB300", "GB110_GB300"},
};

static const struct {
    uint16_t first, last;
    const char *chip;
} chips[] = {
    {0x22f0, 0x237f, "gh100"}, {0x2900, 0x297f, "gb100"}, {0x2980, 0x29ff, "gb102"},
    {0x2b80, 0x2bff, "gb202"}, {0x2c00, 0x2c7f, "gb203"}, {0x2d00, 0x2d7f, "gb206"},
    {0x2d80, 0x2dff, "gb207"}, {0x2f00, 0x2f7f, "gb205"}, {0x3180, 0x31ff, "gb110"},
    {0x3200, 0x327f, "gb112"},
};

const struct nv_model *names_table(size_t *n)
{
    *n = ARRAY_LEN(models);
    return models;
}

const struct nv_model *names_find(uint16_t device_id)
{
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        if (models[i].device_id == device_id)
            return &models[i];
    }
    return NULL;
}

const char *names_chip(enum nv_kind kind, uint16_t device_id)
{
    if (kind == NV_KIND_NVSWITCH) /* LR10 has neither CC nor PPCIe */
        return device_id == 0x22a3 ? "ls10" : device_id == 0x1af1 ? "" : CHIP_UNLISTED;
    for (size_t i = 0; i < ARRAY_LEN(chips); i++) {
        if (device_id >= chips[i].first && device_id <= chips[i].last)
            return chips[i].chip;
    }
    /* generations before Blackwell are all known; what is newer is asked who it is */
    return device_id >= 0x2900 ? CHIP_UNLISTED : "";
}

int names_format(const char *text, char *ret, size_t room, struct err *err)
{
    char out[64];
    size_t n = 0;
    bool in_blank = false;
    for (const char *p = text; *p && n < sizeof out - 1; p++) {
        unsigned char c = (unsigned char)*p;
        bool blank = isspace(c) != 0;
        if (blank && !in_blank)
            out[n++] = '_';
        else if (c == '/' || c == '.')
            out[n++] = '_';
        else if (c < 0x80 && (isalnum(c) || c == '_' || c == '-'))
            out[n++] = (char)toupper(c);
        in_blank = blank;
    }
    while (n > 0 && !isalnum((unsigned char)out[n - 1]))
        n--;
    out[n] = '\0';
    const char *from = out;
    while (*from && !isalnum((unsigned char)*from))
        from++;
    if (!resource_name_ok(from))
        return err_set(err, EINVAL, "no resource name can be made of '%.60s'", text);
    (void)snprintf(ret, room, "%s", from);
    return 0;
}

void names_generic(struct nv_device *dev)
{
    const char *what = dev->kind == NV_KIND_NVSWITCH ? "NVSWITCH" : "GPU";
    (void)snprintf(dev->resource, sizeof dev->resource, "%s_%04X_%04X", what, dev->vendor_id,
                   dev->device_id);
    (void)snprintf(dev->name, sizeof dev->name, "%s %04x:%04x",
                   dev->kind == NV_KIND_NVSWITCH ? "NVSwitch" : "GPU", dev->vendor_id,
                   dev->device_id);
}
