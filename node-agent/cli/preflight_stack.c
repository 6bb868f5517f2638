/* CDI files, container runtime, Kata, kubelet: the runtime is asked (CRI), files are read where it cannot say. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/cdi.h"
#include "node-agent/cli/preflight.h"
#include "node-agent/cri/cri.h"
#include "node-agent/kubelet/pod_resources.h"
#include "node-agent/runtime.h"

#define ANSWER_MS 3000
#define MAX_FILE (1 << 20)
#define MAX_DROP_INS 32
#define START_MS ((int64_t)1200 * 1000)
#define NEEDS_20_MINUTES "confidential guests with several GPUs need up to 20 minutes to start"

static bool exists(const struct preflight *p, const char *path)
{
    struct err err = ERR_INIT;
    AUTO_CLOSE int fd = host_openat(&p->cli->host, path, O_PATH, &err);
    return fd >= 0;
}

/* ---- CDI ---- */

static enum check_state cdi_state(const struct preflight *p, const struct cdi_finding *f)
{
    if (f->severity == CDI_NOTE)
        return CHECK_NOTE;
    /* what old consumers refuse is fatal where such a consumer is installed: Kata's Go shim then starts no sandbox */
    return f->severity == CDI_ERROR || p->kata_go ? CHECK_ERROR : CHECK_WARNING;
}

static void check_cdi(struct preflight *p)
{
    struct err err = ERR_INIT;
    struct cdi_report report = {0};
    const char *dirs[] = {"/etc/cdi", "/var/run/cdi", p->cli->config.cdi_directory};
    if (cdi_check_dirs(&p->cli->host, dirs, ARRAY_LEN(dirs), &report, &err) < 0)
        check_add(p, "cdi", CHECK_ERROR, "", "%s", err.msg);
    for (size_t i = 0; i < report.n; i++) {
        const struct cdi_finding *f = &report.findings[i];
        char line[24] = "";
        if (f->line > 0)
            (void)snprintf(line, sizeof line, " line %u", f->line);
        check_add(p, "cdi", cdi_state(p, f), f->cure, "%s%s: %s", f->file, line, f->cause);
    }
    if (cdi_report_worst(&report) < (int)CDI_WARNING)
        check_add(p, "cdi", CHECK_OK, "",
                  "%zu CDI files with %zu devices, all readable by every consumer", report.n_files,
                  report.n_devices);
    cdi_report_free(&report);
    const char *dir = p->cli->config.cdi_directory;
    if (strcmp(dir, "/etc/cdi") != 0 && strcmp(dir, "/var/run/cdi") != 0 &&
        strcmp(dir, "/run/cdi") != 0)
        check_add(p, "cdi", CHECK_WARNING, "set cdi.directory to /var/run/cdi",
                  "cdi.directory is %s, where Kata does not look", dir);
}

/* ---- container runtime ---- */

struct asking {
    struct preflight *p;
    bool done;
};

static void judge_handlers(struct preflight *p, const struct cri_runtime *runtime)
{
    const char *tee = p->facts.snp ? "snp" : p->facts.tdx ? "tdx" : NULL;
    if (!tee)
        return;
    switch (cri_has_tee_handler(runtime, tee)) {
    case CRI_YES:
        check_add(p, "kata", CHECK_OK, "", "%s has the runtime handler kata-qemu-nvidia-gpu-%s",
                  runtime->name, tee);
        break;
    case CRI_UNKNOWN:
        check_add(p, "kata", CHECK_SKIPPED, "", "%s %s does not say which runtime handlers it has",
                  runtime->name, runtime->version);
        break;
    case CRI_NO:
        check_add(p, "kata", CHECK_WARNING, RUNTIME_CURE_HANDLER,
                  "%s has no runtime handler kata-qemu-nvidia-gpu-%s", runtime->name, tee);
        break;
    }
}

static void judge_runtime(struct preflight *p, const struct cri_runtime *runtime)
{
    check_add(p, "runtime", runtime->ready ? CHECK_OK : CHECK_ERROR,
              runtime->ready ? "" : "see the log of the runtime", "%s %s at %s%s%s", runtime->name,
              runtime->version, runtime->socket, runtime->ready ? "" : " is not ready: ",
              runtime->ready ? "" : runtime->not_ready_why);
    if (strcmp(runtime->name, "containerd") == 0) {
        const char *version = runtime->version + (*runtime->version == 'v');
        char *end = NULL;
        long major = strtol(version, &end, 10);
        long minor = end && *end == '.' ? strtol(end + 1, NULL, 10) : 0;
        if (major == 1 && minor < 7)
            check_add(p, "runtime", CHECK_WARNING, "use containerd 1.7 or, better, 2",
                      "containerd %s is older than what Kata's GPU classes were made for", version);
    }
    if (runtime->cdi == CRI_NO)
        check_add(p, "runtime", CHECK_WARNING,
                  RUNTIME_CURE_CDI ", unless only Kata's own resolution is used",
                  "CDI is switched off in %s", runtime->name);
    else if (runtime->cdi == CRI_YES &&
             cri_reads_cdi_dir(runtime, p->cli->config.cdi_directory) == CRI_NO)
        check_add(p, "runtime", CHECK_WARNING, RUNTIME_CURE_DIR, "%s does not read %s",
                  runtime->name, p->cli->config.cdi_directory);
    else if (runtime->cdi == CRI_YES)
        check_add(p, "runtime", CHECK_OK, "", "CDI is on in %s", runtime->name);
    judge_handlers(p, runtime);
}

static void on_runtime(void *arg, int r, const struct cri_runtime *runtime, const struct err *err)
{
    struct asking *asking = arg;
    asking->done = true;
    if (r == 0)
        judge_runtime(asking->p, runtime);
    else if (r == -ENOENT)
        check_add(asking->p, "runtime", CHECK_SKIPPED, "",
                  "no container runtime listens on this host");
    else
        check_add(asking->p, "runtime", CHECK_ERROR,
                  "start it, or set cri.socket in the configuration", "%s", err->msg);
}

static void ask_runtime(struct preflight *p)
{
    struct err err = ERR_INIT;
    struct asking asking = {.p = p};
    if (!*p->cli->config.cri_socket) {
        check_add(p, "runtime", CHECK_SKIPPED, "",
                  "not asked: cri.socket is empty in the configuration");
        return;
    }
    if (cli_rpc(p->cli, &err) < 0) {
        check_add(p, "runtime", CHECK_ERROR, "", "%s", err.msg);
        return;
    }
    if (cri_ask(p->cli->rpc, &p->cli->host, p->cli->config.cri_socket, ANSWER_MS, on_runtime,
                &asking))
        cli_run_until(p->cli, &asking.done);
}

/* ---- Kata ---- */

/* A configuration and what is dropped in beside it (config.d), in the order in which Kata looks: the last name wins. */
struct kata_files {
    size_t n;
    char *texts[1 + MAX_DROP_INS]; /* the configuration first */
};

static int is_drop_in(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return e->d_name[0] != '.' && len > 5 && strcmp(e->d_name + len - 5, ".toml") == 0;
}

static void read_drop_ins(const struct preflight *p, const char *path, struct kata_files *files)
{
    struct err err = ERR_INIT;
    struct dirent **names = NULL;
    AUTO_FREE char *dir = xasprintf("%.*s/config.d", (int)(strrchr(path, '/') - path), path);
    AUTO_CLOSE int fd = host_open_dir(&p->cli->host, dir, &err);
    AUTO_FREE char *open_dir = xasprintf("/proc/self/fd/%d", fd);
    int n = fd < 0 ? 0 : scandir(open_dir, &names, is_drop_in, alphasort);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *file = xasprintf("%s/%s", dir, names[i]->d_name);
        if (files->n < ARRAY_LEN(files->texts) &&
            fs_read(&p->cli->host, file, MAX_FILE, &files->texts[files->n], NULL, &err) == 0)
            files->n++;
        free(names[i]);
    }
    free(names);
}

static bool kata_key(const struct kata_files *files, const char *key, char *ret, size_t room)
{
    for (size_t i = files->n; i > 0; i--) {
        if (preflight_key(files->texts[i - 1], key, ret, room))
            return true;
    }
    return false;
}

/* Return: false after a finding. @unit_ms: of the number in the file; @fallback_s: what Kata takes when it is absent */
static bool check_kata_timeout(struct preflight *p, const struct kata_files *files,
                               const char *path, const char *key, int64_t unit_ms,
                               int64_t fallback_s)
{
    char value[64], cure[160];
    int64_t ms = fallback_s * 1000;
    (void)snprintf(cure, sizeof cure, "set %s = %lld there, better in a drop-in of kata-deploy",
                   key, (long long)(START_MS / unit_ms));
    if (kata_key(files, key, value, sizeof value)) {
        ms = preflight_toml_number(value);
        if (ms < 0) {
            check_add(p, "kata", CHECK_WARNING, cure, "%s: %s is \"%s\", which is no number", path,
                      key, value);
            return false;
        }
        ms = ms > INT64_MAX / unit_ms ? INT64_MAX : ms * unit_ms;
    } else {
        (void)snprintf(value, sizeof value, "absent, which means %lld s", (long long)fallback_s);
    }
    if (ms >= START_MS)
        return true;
    check_add(p, "kata", CHECK_WARNING, cure, "%s: %s is %s; " NEEDS_20_MINUTES, path, key, value);
    return false;
}

/* Names, units and defaults: configuration-qemu-nvidia-gpu*.toml.in of kata-containers/kata-containers, of both shims. The
 * Rust shim's dial_timeout_ms is a pause between two attempts. */
static bool check_kata_timeouts(struct preflight *p, const struct kata_files *files,
                                const char *path)
{
    char value[64];
    bool rust =
        strstr(path, "runtime-rs") || kata_key(files, "reconnect_timeout_ms", value, sizeof value);
    bool good =
        check_kata_timeout(p, files, path, "create_container_timeout", 1000, rust ? 30 : 60);
    bool dial = rust ? check_kata_timeout(p, files, path, "reconnect_timeout_ms", 1, 3)
                     : check_kata_timeout(p, files, path, "dial_timeout", 1000, 90);
    return good && dial;
}

static bool check_kata_devices(struct preflight *p, const struct kata_files *files,
                               const char *path)
{
    char value[256];
    bool good = true;
    if (!kata_key(files, "cold_plug_vfio", value, sizeof value) || strcmp(value, "no-port") == 0) {
        check_add(p, "kata", CHECK_ERROR,
                  "set cold_plug_vfio = \"root-port\" there, better in a drop-in of kata-deploy",
                  "%s does not plug VFIO devices before the guest starts", path);
        good = false;
    }
    bool set = kata_key(files, "pod_resource_api_sock", value, sizeof value) && *value;
    if (!set || strcmp(value, p->cli->config.pod_resources_socket) != 0) {
        check_add(p, "kata", CHECK_ERROR,
                  "set pod_resource_api_sock to the socket of this host's kubelet, "
                  "podResources.socket of ours too",
                  "%s asks %s which devices a pod has, the kubelet of this host is expected at %s",
                  path, set ? value : "nobody", p->cli->config.pod_resources_socket);
        good = false;
    }
    return good;
}

static void check_kata_file(struct preflight *p, const char *path)
{
    struct err err = ERR_INIT;
    struct kata_files files = {.n = 1};
    if (fs_read(&p->cli->host, path, MAX_FILE, &files.texts[0], NULL, &err) < 0) {
        check_add(p, "kata", CHECK_WARNING, "make it readable", "%s", err.msg);
        return;
    }
    read_drop_ins(p, path, &files);
    bool devices = check_kata_devices(p, &files, path);
    if (check_kata_timeouts(p, &files, path) && devices)
        check_add(p, "kata", CHECK_OK, "", "%s asks kubelet for the devices of a pod", path);
    for (size_t i = 0; i < files.n; i++)
        free(files.texts[i]);
}

static size_t check_kata_dir(struct preflight *p, const char *dir, unsigned depth)
{
    struct err err = ERR_INIT;
    int fd = host_openat(&p->cli->host, dir, O_RDONLY | O_DIRECTORY, &err);
    AUTO_CLOSEDIR DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    size_t found = 0, looked = 0;
    if (!stream && fd >= 0)
        (void)close(fd);
    for (struct dirent *e; stream && looked < 512 && (e = readdir(stream)); looked++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, e->d_name);
        size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.')
            continue;
        if (depth > 0 && e->d_type == DT_DIR) {
            found += check_kata_dir(p, path, depth - 1);
        } else if (strncmp(e->d_name, "configuration-qemu-nvidia-gpu", 29) == 0 && len > 5 &&
                   strcmp(e->d_name + len - 5, ".toml") == 0) {
            check_kata_file(p, path);
            found++;
        }
    }
    return found;
}

static void find_kata(struct preflight *p)
{
    p->kata_go = exists(p, "/opt/kata/bin/containerd-shim-kata-v2") ||
                 exists(p, "/usr/bin/containerd-shim-kata-v2");
    p->kata_rust = exists(p, "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2");
}

static void check_kata(struct preflight *p)
{
    if (!p->kata_go && !p->kata_rust) {
        check_add(p, "kata", CHECK_NOTE,
                  "install Kata with the chart kata-deploy where pods are to get these GPUs",
                  "Kata is not installed in /opt/kata or /usr/bin");
        return;
    }
    /* kata-deploy's places (tools/packaging/kata-deploy of kata-containers/kata-containers) and an administrator's own */
    size_t found = check_kata_dir(p, "/opt/kata/share/defaults/kata-containers", 2) +
                   check_kata_dir(p, "/etc/kata-containers", 1);
    if (found == 0)
        check_add(p, "kata", CHECK_WARNING,
                  "enable the shims qemu-nvidia-gpu-snp or -tdx in the values of kata-deploy",
                  "Kata is installed without a configuration for NVIDIA GPUs");
}

/* ---- kubelet ---- */

static void on_get(void *arg, enum pod_resources_get get, const struct err *err)
{
    struct asking *asking = arg;
    asking->done = true;
    if (get == POD_RESOURCES_GET_WORKS)
        check_add(asking->p, "kubelet", CHECK_OK, "", "PodResources Get works");
    else if (get == POD_RESOURCES_GET_MISSING)
        check_add(asking->p, "kubelet", CHECK_ERROR,
                  "use Kubernetes 1.34 or newer, or set the feature gate KubeletPodResourcesGet of "
                  "kubelet to true",
                  "PodResources Get is missing, and Kata needs it to learn which GPU a pod has: %s",
                  err->msg);
    else
        check_add(asking->p, "kubelet", CHECK_WARNING, "start kubelet and try again",
                  "PodResources cannot be asked: %s", err->msg);
}

static void check_timeout(struct preflight *p)
{
    static const char cure[] =
        "set runtimeRequestTimeout: 20m in /var/lib/kubelet/config.yaml and restart kubelet";
    struct err err = ERR_INIT;
    AUTO_FREE char *text = NULL;
    char value[64] = "";
    if (fs_read(&p->cli->host, "/var/lib/kubelet/config.yaml", MAX_FILE, &text, NULL, &err) < 0)
        return;
    bool set = preflight_key(text, "runtimeRequestTimeout", value, sizeof value) && *value;
    int64_t ms = set ? preflight_go_duration(value) : 0;
    if (ms < 0)
        check_add(p, "kubelet", CHECK_WARNING, cure,
                  "runtimeRequestTimeout is \"%s\", which is no duration: kubelet does not start "
                  "with it",
                  value);
    else if (ms >= START_MS)
        check_add(p, "kubelet", CHECK_OK, "", "runtimeRequestTimeout is %s", value);
    else
        check_add(p, "kubelet", CHECK_WARNING, cure,
                  "runtimeRequestTimeout is %s%s; " NEEDS_20_MINUTES,
                  ms > 0 ? value : "2m, the default", set && ms == 0 ? " that 0s stands for" : "");
}

static void check_kubelet(struct preflight *p)
{
    struct err err = ERR_INIT;
    struct asking asking = {.p = p};
    const char *socket = p->cli->config.pod_resources_socket;
    if (!exists(p, socket)) {
        check_add(p, "kubelet", CHECK_SKIPPED, "", "no kubelet on this host (%s does not exist)",
                  socket);
        return;
    }
    if (cli_rpc(p->cli, &err) < 0) {
        check_add(p, "kubelet", CHECK_ERROR, "", "%s", err.msg);
        return;
    }
    if (pod_resources_probe_get(p->cli->rpc, &p->cli->host, socket, ANSWER_MS, on_get, &asking))
        cli_run_until(p->cli, &asking.done);
    check_timeout(p);
}

void preflight_stack(struct preflight *p)
{
    find_kata(p);
    check_cdi(p);
    ask_runtime(p);
    check_kata(p);
    check_kubelet(p);
}
