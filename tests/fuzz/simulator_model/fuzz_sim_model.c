/* Whatever a program writes to registers and configuration space, in whatever order, the model stays whole: it is
 * shared by all programs of a simulated node. Input: records of 8 bytes: operation, offset (3, little endian), value. */
#include <stdlib.h>

#include "base/bytes.h"
#include "simulator/model/model.h"

#define DEVICES 5

static void add(struct model *m, const char *bdf, uint16_t id, uint32_t class_code, int parent)
{
    struct err err = ERR_INIT;
    struct model_desc d = {
        .vendor_id = 0x10de, .device_id = id, .class_code = class_code, .parent = parent};
    for (size_t i = 0; bdf[i]; i++)
        d.bdf[i] = bdf[i];
    if (model_add(m, &d, &err) < 0)
        abort();
}

static void one(struct model *m, const uint8_t *p)
{
    int hw = p[0] % DEVICES, fault = p[1] % MODEL_FAULTS;
    uint32_t at = get_le32(p) >> 8, value = get_le32(p + 4);
    static const unsigned widths[] = {1, 2, 4};
    switch (p[0] / DEVICES % 8) {
    case 0:
        (void)model_bar_read(m, hw, 0, at);
        break;
    case 1:
    case 2:
        model_bar_write(m, hw, 0, at, value);
        break;
    case 3:
        (void)model_config_read(m, hw, at & 0xfff, widths[value % 3]);
        break;
    case 4:
        (void)model_config_write(m, hw, at & 0xfff, widths[at % 3], value);
        break;
    case 5:
        model_fault_set(m, hw, fault, (int)(value & 0xffff));
        break;
    case 6:
        model_advance_ns(m, (int64_t)value * 10);
        break;
    default:
        model_reset(m, hw, (int)(value & 1));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct model *m = NULL;
    if (model_create(NULL, &m, &err) < 0)
        abort();
    add(m, "0000:17:01.0", 0x352a, 0x060400, -1);
    add(m, "0000:18:00.0", 0x2331, 0x030200, 0);
    add(m, "0000:43:00.0", 0x2901, 0x030200, -1);
    add(m, "0000:07:00.0", 0x22a3, 0x068000, 0);
    add(m, "0000:9a:00.0", 0x20b0, 0x030200, -1);
    for (; size >= 8; data += 8, size -= 8)
        one(m, data);
    model_close(m);
    return 0;
}
