#include "node-agent/validations.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"

#define OURS "ccnode\n" /* readers look at the name only; the content says whose file it is */

static bool has_content(const struct host *host, const char *dir, const char *name,
                        const char *content)
{
    struct err ignored = ERR_INIT;
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    AUTO_FREE char *text = NULL;
    return fs_read(host, path, 4096, &text, NULL, &ignored) == 0 && strcmp(text, content) == 0;
}

static int put(const struct host *host, const char *dir, const char *name, const char *content,
               struct err *err)
{
    if (has_content(host, dir, name, content))
        return 0;
    int r = fs_mkdirs(host, dir, err);
    return r < 0 ? r : fs_replace(host, dir, name, content, strlen(content), 0644, false, err);
}

static int sync_one(const struct host *host, const char *dir, const char *name, bool wanted,
                    struct err *err)
{
    if (wanted)
        return put(host, dir, name, OURS, err);
    if (!has_content(host, dir, name, OURS))
        return 0;
    int r = fs_remove(host, dir, name, err);
    return r < 0 ? r : 0;
}

/* The file that others write too: ours when it says what we say, and no operand that writes it has a duty here. */
static int sync_workload(const struct host *host, const char *dir, const struct validations *wanted,
                         struct err *err)
{
    static const char name[] = "workload-type";
    if (wanted->workload) {
        AUTO_FREE char *line = xasprintf("%s\n", wanted->workload);
        return put(host, dir, name, line, err);
    }
    if (wanted->leave_vfio || wanted->leave_mode ||
        (!has_content(host, dir, name, "vm-passthrough\n") &&
         !has_content(host, dir, name, "container\n")))
        return 0;
    int r = fs_remove(host, dir, name, err);
    return r < 0 ? r : 0;
}

int validations_sync(const struct host *host, const char *dir, const struct validations *wanted,
                     struct err *err)
{
    int r = sync_workload(host, dir, wanted, err);
    if (r == 0 && !wanted->leave_vfio)
        r = sync_one(host, dir, "vfio-pci-ready", wanted->vfio_ready, err);
    if (r == 0 && !wanted->leave_mode)
        r = sync_one(host, dir, ".cc-manager-ctr-ready", wanted->mode_ready, err);
    if (r == 0 && !wanted->leave_mode)
        r = sync_one(host, dir, "cc-manager-ready", wanted->mode_ready, err);
    return r;
}
