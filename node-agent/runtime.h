/* What the node's container runtime lacks for pods with our devices, before the first of them fails.
 *
 * The runtime is asked over CRI: soon after the start, soon after kubelet registered us (it restarts together with the
 * runtime), when the configuration changes, and every few minutes. No runtime there, or none that answers: nothing is
 * claimed; its last answer counts until there is another, or its socket is gone. One question at a time.
 */
#ifndef CCN_AGENT_RUNTIME_H
#define CCN_AGENT_RUNTIME_H

#include <stdbool.h>

#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"
#include "node-agent/advice.h"
#include "node-agent/cri/cri.h"

#define RUNTIME_CURE_HANDLER "install Kata with the chart kata-deploy, with that shim enabled"
#define RUNTIME_CURE_CDI                                                                           \
    "set enable_cdi = true in the CRI plugin's section of the runtime's configuration"
#define RUNTIME_CURE_DIR "add it to cdi_spec_dirs of the runtime, or change cdi.directory"

/* What is kept of an answer. */
struct runtime_facts {
    bool known; /* false: not asked yet, or no runtime is there */
    char name[32], version[64];
    enum cri_known snp, tdx; /* a handler for confidential guests of that kind is there */
    enum cri_known cdi;
    enum cri_known reads_dir; /* our CDI directory */
};

struct runtime_needs {
    const char *tee;      /* "snp", "tdx": pods need that handler; NULL: none is needed */
    const char *cdi_dir;  /* NULL: no CDI files are written */
    bool runtime_injects; /* Allocate names CDI devices, the runtime has to know them */
};

/* runtime_facts_of() - what counts of an answer. Pure, as runtime_judge() is. */
void runtime_facts_of(const struct cri_runtime *runtime, const char *cdi_dir,
                      struct runtime_facts *ret);
void runtime_judge(const struct runtime_facts *facts, const struct runtime_needs *needs,
                   struct advice *ret);

struct runtime_options {
    struct loop *loop;
    struct rpc *rpc;
    const struct host *host;
    void (*on_change)(void *arg); /* the facts are others now */
    void *arg;
};
struct runtime;

struct runtime *runtime_new(const struct runtime_options *options);
void runtime_free(struct runtime *runtime); /* accepts NULL; before its rpc */
/* runtime_configure() - whom to ask from now on, "" = nobody ("auto" as for cri_ask()), and what about; both copied.
 * Asks: the first time soon, later at once. */
void runtime_configure(struct runtime *runtime, const char *socket, const char *cdi_dir);
/* runtime_ask_soon() - in a second, once, however often it is called meanwhile. */
void runtime_ask_soon(struct runtime *runtime);
const struct runtime_facts *runtime_facts(const struct runtime *runtime);

#endif
