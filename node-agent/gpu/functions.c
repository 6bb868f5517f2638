#include "node-agent/gpu/functions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/sysfs.h"

static void forget(struct pci_function *f)
{
    free(f->dev);
    f->dev = NULL;
}

void functions_done(struct pci_functions *functions)
{
    for (size_t i = 0; i < functions->n; i++)
        forget(&functions->list[i]);
    free(functions->list);
    *functions = (struct pci_functions){.set = functions->set};
}

/* What is known of it. A directory keeps its order, so the search begins behind the one that was found last. */
static bool take_known(struct pci_functions *old, size_t *at, struct pci_function *ret)
{
    for (size_t k = 0; k < old->n; k++) {
        struct pci_function *f = &old->list[(*at + k) % old->n];
        if (strcmp(f->bdf, ret->bdf) != 0)
            continue;
        *at = (*at + k + 1) % old->n;
        if (f->ino != ret->ino)
            return false;
        *ret = *f;
        f->dev = NULL;
        return true;
    }
    return false;
}

int functions_list(struct pci_functions *functions, DIR *dir, struct err *err)
{
    struct pci_functions now = {.set = functions->set};
    size_t room = 0, at = 0, known = 0;
    int r = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && errno)
            r = err_errno(err, "list " SYS_PCI_DEVICES);
        if (!e)
            break;
        if (!inventory_bdf_ok(e->d_name))
            continue;
        if (now.n == FUNCTIONS_MAX) {
            r = err_set(err, E2BIG, "this host has more than %d PCI functions", FUNCTIONS_MAX);
            break;
        }
        if (now.n == room) {
            room = room ? 2 * room : 64;
            now.list = xrealloc(now.list, room, sizeof *now.list);
        }
        struct pci_function *f = &now.list[now.n++];
        *f = (struct pci_function){.ino = e->d_ino};
        memcpy(f->bdf, e->d_name, strlen(e->d_name) + 1);
        known += take_known(functions, &at, f);
    }
    if (known != now.n || known != functions->n || now.set == 0)
        now.set++;
    functions_done(functions); /* after an error too: what was taken over is gone from it */
    *functions = now;
    if (r < 0)
        functions_done(functions);
    return r;
}
