#include "attestation/prog/nscq.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/dl.h"
#include "base/auto.h"

struct session_result {
    int8_t rc;
    void *session;
};
/* passed by value to the callbacks */
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

typedef void (*observer)(void);

struct nscq {
    void *lib, *session;
    struct session_result (*create)(uint32_t flags);
    void (*destroy)(void *session);
    int8_t (*observe)(void *session, const char *path, observer cb, void *user, uint32_t flags);
    int8_t (*set_input)(void *session, uint32_t flags, void *data, uint32_t size);
    int8_t (*label)(const void *uuid, struct label *ret, uint32_t flags);
};

static int failed(int8_t rc, const char *what, struct err *err)
{
    (void)err_set(err, EREMOTEIO, "%s: NSCQ says %d", what, rc);
    err->device_status = (uint32_t)(int32_t)rc;
    return -EREMOTEIO;
}

int nscq_open(const char *file, const char *host_root, struct nscq **ret, struct err *err)
{
    struct nscq *n = xcalloc(1, sizeof *n);
    const struct dl_symbol symbols[] = {
        {"nscq_session_create", &n->create, false},
        {"nscq_session_destroy", &n->destroy, false},
        {"nscq_session_path_observe", &n->observe, false},
        {"nscq_session_set_input", &n->set_input, false},
        {"nscq_uuid_to_label", &n->label, false},
    };
    int r = dl_open(file, "libnvidia-nscq.so.2", host_root, &n->lib, err);
    if (r == 0)
        r = dl_symbols(n->lib, "NSCQ", symbols, ARRAY_LEN(symbols), err);
    if (r == 0) {
        struct session_result result = n->create(1);
        n->session = result.session;
        if (result.rc < 0 || !result.session)
            r = failed(result.rc, "nscq_session_create", err);
    }
    if (r < 0) {
        nscq_close(n);
        return r;
    }
    *ret = n;
    return 0;
}

void nscq_close(struct nscq *nscq)
{
    if (!nscq)
        return;
    if (nscq->session)
        nscq->destroy(nscq->session);
    if (nscq->lib)
        (void)dlclose(nscq->lib);
    free(nscq);
}

/* Walks --------------------------------------------------------------------------------------------------------- */

struct uuids {
    struct nscq_device *list;
    size_t n, room;
    int8_t rc;
};

static void on_uuid(const void *device, int8_t rc, const void *uuid, void *user)
{
    struct uuids *u = user;
    (void)device;
    if (rc < 0)
        u->rc = rc;
    else if (u->n < u->room)
        u->list[u->n++] = (struct nscq_device){.uuid = uuid};
    else
        u->rc = -1;
}

struct small {
    const void *uuid;
    int8_t rc, value;
    bool seen;
};

static void on_small(const void *uuid, int8_t rc, int8_t value, void *user)
{
    struct small *s = user;
    (void)uuid;
    s->rc = rc;
    s->value = value;
    s->seen = true;
}

struct block {
    int8_t rc;
    bool seen;
    uint32_t size;
    uint8_t data[0x2000];
};

static void on_certificate(const void *uuid, int8_t rc, struct certificate value, void *user)
{
    struct block *b = user;
    (void)uuid;
    b->rc = rc;
    b->seen = true;
    b->size = value.size;
    if (rc >= 0 && value.size <= sizeof value.data)
        memcpy(b->data, value.data, value.size);
}

static void on_report(const void *uuid, int8_t rc, struct report value, void *user)
{
    struct block *b = user;
    (void)uuid;
    b->rc = rc;
    b->seen = true;
    b->size = value.size;
    if (rc >= 0 && value.size <= sizeof value.data)
        memcpy(b->data, value.data, value.size);
}

static int read_small(struct nscq *n, const char *label, const char *path, int8_t *ret,
                      struct err *err)
{
    struct small s = {0};
    AUTO_FREE char *full = xasprintf("/%s/%s", label, path);
    int8_t rc = n->observe(n->session, full, (observer)on_small, &s, 0);
    if (rc < 0 || s.rc < 0 || !s.seen)
        return failed(rc < 0 ? rc : s.rc, full, err);
    *ret = s.value;
    return 0;
}

int nscq_devices(struct nscq *nscq, struct nscq_device *ret, size_t room, struct err *err)
{
    static const char path[] = "/drv/nvswitch/{device}/uuid";
    struct uuids u = {.list = ret, .room = room};
    int8_t rc = nscq->observe(nscq->session, path, (observer)on_uuid, &u, 0);
    if (rc < 0 || u.rc < 0)
        return failed(rc < 0 ? rc : u.rc, path, err);
    for (size_t i = 0; i < u.n; i++) { /* every switch, not only the first */
        struct label label = {""};
        rc = nscq->label(ret[i].uuid, &label, 0);
        if (rc < 0)
            return failed(rc, "nscq_uuid_to_label", err);
        label.text[sizeof label.text - 1] = 0;
        memcpy(ret[i].label, label.text, sizeof ret[i].label);
        int r = read_small(nscq, ret[i].label, "id/arch", &ret[i].arch, err);
        if (r == 0)
            r = read_small(nscq, ret[i].label, "config/pcie_mode", &ret[i].tnvl, err);
        if (r < 0)
            return r;
    }
    return (int)u.n;
}

static int read_block(struct nscq *n, const struct nscq_device *device, const char *path,
                      observer cb, size_t max, struct att_bytes *ret, struct err *err)
{
    AUTO_FREE struct block *b = xcalloc(1, sizeof *b);
    AUTO_FREE char *full = xasprintf("/%s/config/%s", device->label, path);
    int8_t rc = n->observe(n->session, full, cb, b, 0);
    if (rc < 0 || b->rc < 0 || !b->seen)
        return failed(rc < 0 ? rc : b->rc, full, err);
    if (b->size == 0 || b->size > max)
        return err_set(err, EBADMSG, "%s: %u bytes, 1 to %zu are possible", full, b->size, max);
    ret->data = xmalloc(b->size);
    ret->len = b->size;
    memcpy(ret->data, b->data, b->size);
    return 0;
}

int nscq_certificate(struct nscq *nscq, const struct nscq_device *device, struct att_bytes *ret,
                     struct err *err)
{
    int r = read_block(nscq, device, "certificate", (observer)on_certificate, 0x1400, ret, err);
    while (r == 0 && ret->len > 1 && ret->data[ret->len - 1] == 0)
        ret->len--;
    return r;
}

int nscq_report(struct nscq *nscq, const struct nscq_device *device,
                const uint8_t nonce[ATT_NONCE_SIZE], struct att_bytes *ret, struct err *err)
{
    uint8_t copy[ATT_NONCE_SIZE];
    memcpy(copy, nonce, sizeof copy);
    int8_t rc = nscq->set_input(nscq->session, 0, copy, sizeof copy);
    if (rc < 0)
        return failed(rc, "nscq_session_set_input", err);
    return read_block(nscq, device, "attestation_report", (observer)on_report, 0x2000, ret, err);
}
