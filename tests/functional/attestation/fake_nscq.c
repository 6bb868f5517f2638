/* A libnvidia-nscq.so.2 that serves switchN.report and switchN.chain of the folder FAKE_NSCQ; "fault" there: lines
 * "PATH-SUFFIX RC" with PATH-SUFFIX one of create, uuid, label, arch, pcie_mode, input, certificate, attestation_report;
 * "tnvl VALUE" and "size VALUE" replace values. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session_result {
    int8_t rc;
    void *session;
};
struct certificate {
    uint8_t data[0x1400];
    uint32_t size;
};
struct report {
    uint32_t size;
    uint8_t data[0x2000];
};
struct label {
    char text[64];
};

static unsigned ids[16];

static FILE *file(const char *name)
{
    char path[1024];
    const char *dir = getenv("FAKE_NSCQ");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nonexistent", name);
    return fopen(path, "rb");
}

static int fault(const char *what, int otherwise)
{
    char line[128], name[64];
    int code, found = otherwise;
    FILE *f = file("fault");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%63s %d", name, &code) == 2 && strcmp(name, what) == 0)
            found = code;
    if (f)
        fclose(f);
    return found;
}

static uint32_t load(unsigned i, const char *kind, uint8_t *ret, size_t room)
{
    char name[32];
    snprintf(name, sizeof name, "switch%u.%s", i, kind);
    FILE *f = file(name);
    size_t n = f ? fread(ret, 1, room, f) : 0;
    if (f)
        fclose(f);
    return (uint32_t)n;
}

struct session_result nscq_session_create(uint32_t flags)
{
    (void)flags;
    return (struct session_result){(int8_t)fault("create", 0), ids};
}
void nscq_session_destroy(void *session)
{
    (void)session;
}
int8_t nscq_session_set_input(void *session, uint32_t flags, void *data, uint32_t size)
{
    (void)session;
    (void)flags;
    (void)data;
    return (int8_t)(size == 32 ? fault("input", 0) : -2);
}
int8_t nscq_uuid_to_label(const void *uuid, struct label *ret, uint32_t flags)
{
    (void)flags;
    snprintf(ret->text, sizeof ret->text, "SWX-%u", *(const unsigned *)uuid);
    return (int8_t)fault("label", 0);
}

static int8_t observe_block(unsigned i, const char *what, void (*cb)(void), void *user)
{
    int size = fault("size", -1);
    if (strcmp(what, "certificate") == 0) {
        static struct certificate c;
        c.size = load(i, "chain", c.data, sizeof c.data);
        if (size >= 0)
            c.size = (uint32_t)size;
        ((void (*)(const void *, int8_t, struct certificate, void *))cb)(
            &ids[i], (int8_t)fault(what, 0), c, user);
    } else {
        static struct report r;
        r.size = load(i, "report", r.data, sizeof r.data);
        if (size >= 0)
            r.size = (uint32_t)size;
        ((void (*)(const void *, int8_t, struct report, void *))cb)(&ids[i], (int8_t)fault(what, 0),
                                                                    r, user);
    }
    return 0;
}

int8_t nscq_session_path_observe(void *session, const char *path, void (*cb)(void), void *user,
                                 uint32_t flags)
{
    unsigned i;
    char what[64];
    (void)session;
    (void)flags;
    if (strcmp(path, "/drv/nvswitch/{device}/uuid") == 0) {
        uint8_t byte;
        for (i = 0; i < 16 && load(i, "report", &byte, 1); i++) {
            ids[i] = i;
            ((void (*)(const void *, int8_t, const void *, void *))cb)(
                &ids[i], (int8_t)fault("uuid", 0), &ids[i], user);
        }
        return 0;
    }
    if (sscanf(path, "/SWX-%u/id/%63s", &i, what) == 2 ||
        sscanf(path, "/SWX-%u/config/%63s", &i, what) == 2) {
        if (strcmp(what, "arch") != 0 && strcmp(what, "pcie_mode") != 0)
            return observe_block(i, what, cb, user);
        int8_t value = (int8_t)(strcmp(what, "arch") == 0 ? 2 : fault("tnvl", 3));
        ((void (*)(const void *, int8_t, int8_t, void *))cb)(&ids[i], (int8_t)fault(what, 0), value,
                                                             user);
        return 0;
    }
    return -3;
}
