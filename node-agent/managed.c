#include "node-agent/managed.h"

#include <errno.h>
#include <string.h>

#include "node-agent/gpu/selectors.h"

struct marking {
    const struct nv_device *devices;
    size_t n;
    bool *ret;
    int r;
    struct err *err;
};

static void mark(struct marking *in, const char *key, const char *selector, bool managed)
{
    bool named[NV_MAX_DEVICES] = {false};
    struct err err = ERR_INIT;
    int r = selectors_match(selector, in->devices, in->n, named, &err);
    if (r == -ENODEV)
        return;
    if (r < 0 && in->r == 0)
        in->r = err_set(in->err, -r, "devices.%s: %s; until then %s", key, err.msg,
                        managed ? "it names none of them" : "all of them are left alone");
    if (r < 0 && managed)
        return;
    for (size_t i = 0; i < in->n; i++) {
        if (r < 0 ? strcasestr(in->devices[i].bdf, selector) != NULL : named[i])
            in->ret[i] = managed;
    }
}

int managed_mark(const struct config *config, const struct nv_device *devices, size_t n, bool *ret,
                 struct err *err)
{
    struct marking in = {.devices = devices, .n = n, .ret = ret, .err = err};
    memset(ret, 0, n * sizeof *ret);
    for (size_t i = 0; i < config->include.n; i++)
        mark(&in, "include", config->include.items[i], true);
    for (size_t i = 0; i < config->exclude.n; i++)
        mark(&in, "exclude", config->exclude.items[i], false);
    return in.r;
}
