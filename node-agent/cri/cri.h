/* Container runtime interface, runtime.v1: what the node's containerd or CRI-O can do, and whose sandboxes run.
 *
 * Asked, never configured. Everything a runtime does not tell is "unknown", not "no": older versions lack fields, and only
 * a verbose Status carries the configuration. Client only, strings only; callbacks from the loop.
 *
 * Sources: kubernetes/cri-api pkg/apis/runtime/v1/api.proto (field numbers); the verbose texts are containerd/containerd
 * internal/cri/server/status.go and pkg config structs, cri-o/cri-o server/runtime_status.go.
 */
#ifndef CCN_CRI_CRI_H
#define CCN_CRI_CRI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "base/rpc.h"

#define CRI_MAX_HANDLERS 256
#define CRI_MAX_CDI_DIRS 16
#define CRI_MAX_SANDBOXES 4096
#define CRI_MAX_ANSWER (16 * 1024 * 1024)

enum cri_known { CRI_UNKNOWN, CRI_NO, CRI_YES };

/* What the runtime says of itself. Strings are never NULL; valid inside the callback only. */
struct cri_runtime {
    const char *socket;        /* the one that answered */
    const char *name;          /* "containerd", "cri-o" */
    const char *version;       /* "v2.2.9" */
    const char *api;           /* "v1" */
    bool ready;                /* condition RuntimeReady */
    const char *not_ready_why; /* its reason and message; "" when ready */

    bool handlers_known; /* false: too old to say, and no verbose configuration */
    size_t n_handlers;
    const char *const *handlers; /* "runc", "kata-qemu-nvidia-gpu-snp", … sorted */

    enum cri_known cdi; /* CDI injection by the runtime */
    bool cdi_dirs_known;
    size_t n_cdi_dirs;
    const char *const *cdi_dirs; /* in the runtime's order */
};

/* cri_has_handler() - CRI_UNKNOWN when the runtime did not say which handlers it has. */
enum cri_known cri_has_handler(const struct cri_runtime *runtime, const char *handler);
/* cri_has_tee_handler() - one for confidential guests with NVIDIA GPUs, @tee "snp" or "tdx", of either of Kata's runtimes:
 * kata-qemu-nvidia-gpu-TEE or the same with -runtime-rs (kata-containers tools/packaging/kata-deploy, its shims). */
enum cri_known cri_has_tee_handler(const struct cri_runtime *runtime, const char *tee);
/* cri_reads_cdi_dir() - "/run/cdi" and "/var/run/cdi" are the same directory (/var/run is a link). */
enum cri_known cri_reads_cdi_dir(const struct cri_runtime *runtime, const char *dir);

struct cri_query;
/**
 * cri_ask() - Version and a verbose Status
 * @socket: path below the host root; "auto": the first of cri_sockets() that answers Version. Copied.
 * @timeout_ms: per call
 * @cb: once; @runtime is NULL when r < 0: -ENOENT no socket at all, -ECONNREFUSED nobody listens, -ETIMEDOUT,
 *   -ENOSYS only the API before runtime.v1 (containerd < 1.6, CRI-O < 1.23), -EBADMSG, -EFBIG, -EREMOTEIO, -ECONNRESET
 */
struct cri_query *
cri_ask(struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
        void (*cb)(void *arg, int r, const struct cri_runtime *runtime, const struct err *err),
        void *arg);

/* Where runtimes listen, ended by NULL: containerd, CRI-O, and containerd of k3s/RKE2, k0s, MicroK8s. */
const char *const *cri_sockets(void);

struct cri_sandbox {
    const char *id;
    const char *namespace_;
    const char *pod;
    const char *uid;
    const char *handler; /* "" = the runtime's default */
    bool ready;
};
struct cri_sandboxes {
    size_t n;
    const struct cri_sandbox *sandboxes;
};
/* cri_list_sandboxes() - all pod sandboxes, stopped ones too; @socket as for cri_ask(); errors as there. */
struct cri_query *cri_list_sandboxes(struct rpc *rpc, const struct host *host, const char *socket,
                                     int timeout_ms,
                                     void (*cb)(void *arg, int r, const struct cri_sandboxes *list,
                                                const struct err *err),
                                     void *arg);

/* cri_cancel() - forget a query; its callback will not come. Accepts NULL. */
void cri_cancel(struct cri_query *query);

/**
 * cri_sandbox_of() - the sandbox that a process belongs to, NULL when none
 * @cmdline, @cgroup: text of /proc/PID/cmdline (zeros as they are) and /proc/PID/cgroup; either may be NULL. Kata starts
 * QEMU with "-name sandbox-<id>", and runtimes put the id into the cgroup path; a container's process has its container's
 * id there, and kubelet's "pod<uid>".
 */
const struct cri_sandbox *cri_sandbox_of(const struct cri_sandboxes *list, const char *cmdline,
                                         size_t cmdline_len, const char *cgroup);
/* cri_sandbox_of_pid() - the same, reading the two files below the host root's /proc. */
const struct cri_sandbox *cri_sandbox_of_pid(const struct cri_sandboxes *list,
                                             const struct host *host, int pid);

/* Decoders, pure. A zeroed cri_runtime is filled by both of the first two; freed with cri_runtime_free() in any case.
 * Return: 0, -EBADMSG, -EFBIG. */
int cri_decode_version(const uint8_t *data, size_t n, struct cri_runtime *runtime, struct err *err);
int cri_decode_status(const uint8_t *data, size_t n, struct cri_runtime *runtime, struct err *err);
int cri_decode_sandboxes(const uint8_t *data, size_t n, struct cri_sandboxes *ret, struct err *err);
void cri_runtime_free(struct cri_runtime *runtime);
void cri_sandboxes_free(struct cri_sandboxes *list);

#endif
