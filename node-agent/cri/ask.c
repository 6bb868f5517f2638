/* Which question of ours a runtime can answer. */
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cri/internal.h"

#define MIN_ID 12 /* shorter ids could be found in any text; real ones have 64 digits */

enum cri_known cri_has_handler(const struct cri_runtime *runtime, const char *handler)
{
    if (!runtime->handlers_known)
        return CRI_UNKNOWN;
    for (size_t i = 0; i < runtime->n_handlers; i++)
        if (strcmp(runtime->handlers[i], handler) == 0)
            return CRI_YES;
    return CRI_NO;
}

enum cri_known cri_has_tee_handler(const struct cri_runtime *runtime, const char *tee)
{
    static const char *const endings[] = {"", "-runtime-rs"};
    enum cri_known found = CRI_UNKNOWN;
    for (size_t i = 0; i < ARRAY_LEN(endings) && found != CRI_YES; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "kata-qemu-nvidia-gpu-%s%s", tee, endings[i]);
        found = cri_has_handler(runtime, name);
    }
    return found;
}

/* Without "/var" in front of "/run", without slashes at the end. */
static size_t plain_dir(const char **dir)
{
    if (strncmp(*dir, "/var/run/", 9) == 0)
        *dir += 4;
    size_t n = strlen(*dir);
    while (n > 1 && (*dir)[n - 1] == '/')
        n--;
    return n;
}

enum cri_known cri_reads_cdi_dir(const struct cri_runtime *runtime, const char *dir)
{
    if (!runtime->cdi_dirs_known)
        return CRI_UNKNOWN;
    size_t wanted = plain_dir(&dir);
    for (size_t i = 0; i < runtime->n_cdi_dirs; i++) {
        const char *other = runtime->cdi_dirs[i];
        size_t n = plain_dir(&other);
        if (n == wanted && strncmp(other, dir, n) == 0)
            return CRI_YES;
    }
    return CRI_NO;
}

/* kubelet's own part of the path (kubernetes/kubernetes pkg/kubelet/cm/pod_container_manager_linux.go): "pod<uid>", or
 * "pod<uid with _>.slice" with the systemd driver; the same under cgroup v1 (one line per controller) and v2. */
static const struct cri_sandbox *sandbox_of_uid(const struct cri_sandboxes *list,
                                                const char *cgroup)
{
    const struct cri_sandbox *found = NULL;
    for (size_t i = 0; i < list->n; i++) {
        const struct cri_sandbox *s = &list->sandboxes[i];
        if (!s->uid || strlen(s->uid) < MIN_ID)
            continue;
        AUTO_FREE char *plain = xasprintf("pod%s", s->uid);
        AUTO_FREE char *escaped = xstrdup(plain);
        for (char *c = escaped; *c; c++)
            *c = *c == '-' ? '_' : *c;
        bool is = strstr(cgroup, plain) || strstr(cgroup, escaped);
        if (is && (!found || s->ready)) /* a sandbox that was made anew has the pod's uid too */
            found = s;
    }
    return found;
}

const struct cri_sandbox *cri_sandbox_of(const struct cri_sandboxes *list, const char *cmdline,
                                         size_t cmdline_len, const char *cgroup)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct cri_sandbox *s = &list->sandboxes[i];
        size_t n = strlen(s->id);
        if (n < MIN_ID)
            continue;
        if ((cmdline && memmem(cmdline, cmdline_len, s->id, n)) ||
            (cgroup && strstr(cgroup, s->id)))
            return s;
    }
    return cgroup ? sandbox_of_uid(list, cgroup) : NULL;
}

const struct cri_sandbox *cri_sandbox_of_pid(const struct cri_sandboxes *list,
                                             const struct host *host, int pid)
{
    struct err err;
    size_t n = 0;
    AUTO_FREE char *cmdline = NULL;
    AUTO_FREE char *cgroup = NULL;
    AUTO_FREE char *cmdline_path = xasprintf("/proc/%d/cmdline", pid);
    AUTO_FREE char *cgroup_path = xasprintf("/proc/%d/cgroup", pid);
    /* a process that is gone, or a line longer than that: then the other file decides */
    (void)fs_read(host, cmdline_path, 256 * 1024, &cmdline, &n, &err);
    (void)fs_read(host, cgroup_path, 64 * 1024, &cgroup, NULL, &err);
    return cri_sandbox_of(list, cmdline, n, cgroup);
}
