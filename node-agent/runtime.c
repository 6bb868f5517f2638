#include "node-agent/runtime.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"

#define SOON_MS 1000    /* kubelet registers several resources at once, and our own start is over */
#define AGAIN_MS 300000 /* people install Kata after us; five minutes cost nothing */
#define ANSWER_MS 3000

struct runtime {
    struct runtime_options options;
    char *socket, *cdi_dir;
    struct cri_query *query;
    struct loop_timer *timer;
    int64_t due_ms; /* of the timer */
    struct runtime_facts facts;
    char error[512]; /* told already */
};

/* ---- pure ---- */

void runtime_facts_of(const struct cri_runtime *runtime, const char *cdi_dir,
                      struct runtime_facts *ret)
{
    *ret = (struct runtime_facts){
        .known = true,
        .snp = cri_has_tee_handler(runtime, "snp"),
        .tdx = cri_has_tee_handler(runtime, "tdx"),
        .cdi = runtime->cdi,
        .reads_dir = cri_reads_cdi_dir(runtime, cdi_dir),
    };
    (void)snprintf(ret->name, sizeof ret->name, "%s", runtime->name);
    (void)snprintf(ret->version, sizeof ret->version, "%s", runtime->version);
}

void runtime_judge(const struct runtime_facts *facts, const struct runtime_needs *needs,
                   struct advice *ret)
{
    *ret = (struct advice){0};
    if (!facts->known)
        return;
    enum cri_known handler = CRI_UNKNOWN;
    if (needs->tee)
        handler = strcmp(needs->tee, "snp") == 0 ? facts->snp : facts->tdx;
    if (handler == CRI_NO) {
        ret->blocks = true;
        advice_add(
            ret,
            "pods of class kata-qemu-nvidia-gpu-%s cannot start: %s %s has no runtime handler of "
            "that name (" RUNTIME_CURE_HANDLER ")",
            needs->tee, facts->name, facts->version);
    }
    if (!needs->cdi_dir)
        return;
    const char *who = needs->runtime_injects
                          ? "pods with these devices cannot start"
                          : "pods get their devices only where Kata resolves them itself";
    if (facts->cdi == CRI_NO)
        advice_add(ret, "%s: CDI is switched off in %s %s (" RUNTIME_CURE_CDI ")", who, facts->name,
                   facts->version);
    else if (facts->reads_dir == CRI_NO)
        advice_add(ret, "%s: %s %s does not read CDI files in %s (" RUNTIME_CURE_DIR ")", who,
                   facts->name, facts->version, needs->cdi_dir);
    else
        return;
    ret->blocks = ret->blocks || needs->runtime_injects;
}

/* ---- asking ---- */

static void ask_in(struct runtime *runtime, int64_t delay_ms);

static bool are_same(const struct runtime_facts *a, const struct runtime_facts *b)
{
    return a->known == b->known && strcmp(a->name, b->name) == 0 &&
           strcmp(a->version, b->version) == 0 && a->snp == b->snp && a->tdx == b->tdx &&
           a->cdi == b->cdi && a->reads_dir == b->reads_dir;
}

static void learn(struct runtime *runtime, const struct runtime_facts *facts)
{
    if (are_same(&runtime->facts, facts))
        return;
    runtime->facts = *facts;
    runtime->options.on_change(runtime->options.arg);
}

static void note_error(struct runtime *runtime, int r, const struct err *err)
{
    if (r == -ENOENT) {
        log_debug("no container runtime to ask", "error", err->msg, NULL);
        return;
    }
    if (strcmp(runtime->error, err->msg) != 0)
        log_warning("the container runtime cannot be asked what it is prepared for", "error",
                    err->msg, "cure", "start it, or set cri.socket", NULL);
    (void)snprintf(runtime->error, sizeof runtime->error, "%s", err->msg);
}

static void on_answer(void *arg, int r, const struct cri_runtime *answer, const struct err *err)
{
    struct runtime *runtime = arg;
    struct runtime_facts facts = {0};
    runtime->query = NULL;
    ask_in(runtime, AGAIN_MS);
    if (r < 0)
        note_error(runtime, r, err);
    else
        *runtime->error = '\0';
    if (r == 0)
        runtime_facts_of(answer, runtime->cdi_dir, &facts);
    if (r == 0 || r == -ENOENT)
        learn(runtime, &facts);
}

static void on_due(void *arg)
{
    struct runtime *runtime = arg;
    runtime->timer = NULL;
    runtime->query = cri_ask(runtime->options.rpc, runtime->options.host, runtime->socket,
                             ANSWER_MS, on_answer, runtime);
}

static void ask_in(struct runtime *runtime, int64_t delay_ms)
{
    int64_t due_ms = loop_now_ms(runtime->options.loop) + delay_ms;
    if (runtime->query || !*runtime->socket || (runtime->timer && runtime->due_ms <= due_ms))
        return;
    loop_cancel(runtime->timer);
    runtime->due_ms = due_ms;
    runtime->timer = loop_add_timer(runtime->options.loop, delay_ms, on_due, runtime);
}

/* ---- life ---- */

struct runtime *runtime_new(const struct runtime_options *options)
{
    struct runtime *runtime = xcalloc(1, sizeof *runtime);
    runtime->options = *options;
    runtime->socket = xstrdup("");
    runtime->cdi_dir = xstrdup("");
    return runtime;
}

static void forget_question(struct runtime *runtime)
{
    cri_cancel(runtime->query);
    loop_cancel(runtime->timer);
    runtime->query = NULL;
    runtime->timer = NULL;
}

void runtime_free(struct runtime *runtime)
{
    if (!runtime)
        return;
    forget_question(runtime);
    free(runtime->socket);
    free(runtime->cdi_dir);
    free(runtime);
}

void runtime_configure(struct runtime *runtime, const char *socket, const char *cdi_dir)
{
    if (strcmp(runtime->socket, socket) == 0 && strcmp(runtime->cdi_dir, cdi_dir) == 0)
        return;
    bool first = !*runtime->socket;
    forget_question(runtime);
    free(runtime->socket);
    free(runtime->cdi_dir);
    runtime->socket = xstrdup(socket);
    runtime->cdi_dir = xstrdup(cdi_dir);
    runtime->facts = (struct runtime_facts){0};
    *runtime->error = '\0';
    ask_in(runtime, first ? SOON_MS : 0);
}

void runtime_ask_soon(struct runtime *runtime)
{
    ask_in(runtime, SOON_MS);
}

const struct runtime_facts *runtime_facts(const struct runtime *runtime)
{
    return &runtime->facts;
}
