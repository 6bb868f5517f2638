#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "client.h"

int add(struct model *m, const char *bdf, int device, unsigned class_code, int parent)
{
    struct err err = ERR_INIT;
    struct model_desc d = {.vendor_id = 0x10de,
                           .device_id = (uint16_t)device,
                           .subsystem_vendor_id = 0x10de,
                           .subsystem_device_id = 0x1626,
                           .class_code = class_code,
                           .revision = 0xa1,
                           .parent = parent};
    (void)snprintf(d.bdf, sizeof d.bdf, "%s", bdf);
    int hw = model_add(m, &d, &err);
    if (hw < 0)
        fail_msg("%s", err.msg);
    return hw;
}

struct bench bench_new(void)
{
    struct err err = ERR_INIT;
    struct bench b = {0};
    assert_int_equal(model_create(NULL, &b.m, &err), 0);
    b.port = add(b.m, "0000:17:01.0", 0x352a, 0x060400, -1);
    b.h100 = add(b.m, "0000:18:00.0", 0x2331, 0x030200, b.port);
    b.b200 =
        add(b.m, "0000:43:00.0", 0x2901, 0x030200, add(b.m, "0000:42:01.0", 0x352a, 0x060400, -1));
    b.gb202 = add(b.m, "0000:81:00.0", 0x2bb5, 0x030000, -1);
    b.ls10 = add(b.m, "0000:07:00.0", 0x22a3, 0x068000, -1);
    b.a100 = add(b.m, "0000:9a:00.0", 0x20b0, 0x030200, -1);
    return b;
}

void bench_free(struct bench *b)
{
    model_close(b->m);
}

void ms(struct model *m, int n)
{
    model_advance_ns(m, (int64_t)n * 1000000);
}

#define Q(offset, channel) (0x8f2000u + (offset) + 8 * (unsigned)(channel))

int emem_call(struct model *m, int hw, int channel, const uint32_t *words, int n, uint32_t *answer)
{
    uint32_t base = (uint32_t)channel * 1024, head = 0, tail = 0;
    model_bar_write(m, hw, 0, Q(0xac0, channel), base | 3u << 24);
    for (int i = 0; i < n; i++)
        model_bar_write(m, hw, 0, Q(0xac4, channel), words[i]);
    model_bar_write(m, hw, 0, Q(0xc04, channel), base + 4 * (uint32_t)(n - 1));
    model_bar_write(m, hw, 0, Q(0xc00, channel), base);
    for (int i = 0; i < 1000 && head == tail; i++) {
        ms(m, 1);
        head = model_bar_read(m, hw, 0, Q(0xc80, channel));
        tail = model_bar_read(m, hw, 0, Q(0xc84, channel));
    }
    if (head == tail)
        return 0;
    /* time passes by itself too: the answer may have come between the two */
    head = model_bar_read(m, hw, 0, Q(0xc80, channel));
    tail = model_bar_read(m, hw, 0, Q(0xc84, channel));
    int got = (int)(tail - head) / 4 + 1;
    model_bar_write(m, hw, 0, Q(0xac0, channel), base | 3u << 24);
    for (int i = 0; i < got && i < 16; i++)
        answer[i] = model_bar_read(m, hw, 0, Q(0xac4, channel));
    model_bar_write(m, hw, 0, Q(0xc84, channel), head);
    return got;
}

int mnoc_call(struct model *m, int hw, const uint32_t *words, int n, uint32_t *answer)
{
    uint32_t info = 0;
    model_bar_write(m, hw, 0, 0x8f1f84, (uint32_t)n * 4 | 1u << 20);
    for (int i = 0; i < n; i++)
        model_bar_write(m, hw, 0, 0x8f1f88, words[i]);
    for (int i = 0; i < 1000 && !(info & 1u << 24); i++) {
        ms(m, 1);
        info = model_bar_read(m, hw, 0, 0x8f1f04);
    }
    if (!(info & 1u << 24))
        return 0;
    int got = (int)(info & 0xfffff) / 4;
    for (int i = 0; i < got && i < 16; i++)
        answer[i] = model_bar_read(m, hw, 0, 0x8f1f08);
    return got;
}

static int call(struct model *m, int hw, const uint32_t *words, int n, uint32_t *answer)
{
    int id = model_desc(m, hw)->device_id;
    bool mnoc = id >= 0x2900;
    return mnoc ? mnoc_call(m, hw, words, n, answer) : emem_call(m, hw, 2, words, n, answer);
}

int knob_get(struct model *m, int hw, unsigned id)
{
    uint32_t words[] = {0xc0000000, 0x1310de7e, id << 16 | 0x20c}, answer[16] = {0};
    int n = call(m, hw, words, 3, answer);
    assert_true(n >= 5);
    return answer[4] ? -(int)answer[4] : (int)(answer[5] & 0xffff);
}

int knob_set(struct model *m, int hw, unsigned id, unsigned value)
{
    uint32_t words[] = {0xc0000000, 0x1310de7e, id << 16 | 0x20d, value}, answer[16] = {0};
    assert_int_equal(call(m, hw, words, 4, answer), 5);
    return -(int)answer[4];
}
