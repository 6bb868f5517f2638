#include "node-agent/sandboxes.h"

#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/cri/cri.h"

#define ANSWER_MS 3000
#define AGAIN_MS 5000

struct entry {
    int pid;
    bool asking;        /* it was there when the runtime was asked */
    bool answered;      /* the runtime has said what it knows of it */
    struct pod_ref pod; /* name "" = of no pod */
};

struct sandboxes {
    struct sandboxes_options options;
    struct cri_query *query;
    int64_t not_before_ms; /* after a question without an answer */
    size_t n;
    struct entry entries[SANDBOXES_MAX];
};

static struct entry *find(struct sandboxes *s, int pid)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->entries[i].pid == pid)
            return &s->entries[i];
    }
    return NULL;
}

static void on_list(void *arg, int r, const struct cri_sandboxes *list, const struct err *err)
{
    struct sandboxes *s = arg;
    bool found = false;
    s->query = NULL;
    if (r < 0) {
        log_debug("the container runtime does not say whose processes they are", "error", err->msg,
                  NULL);
        s->not_before_ms = loop_now_ms(s->options.loop) + AGAIN_MS;
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        struct entry *e = &s->entries[i];
        if (!e->asking)
            continue;
        const struct cri_sandbox *sandbox = cri_sandbox_of_pid(list, s->options.host, e->pid);
        e->asking = false;
        e->answered = true;
        if (!sandbox)
            continue;
        (void)snprintf(e->pod.namespace, sizeof e->pod.namespace, "%s", sandbox->namespace_);
        (void)snprintf(e->pod.name, sizeof e->pod.name, "%s", sandbox->pod);
        found = true;
    }
    if (found)
        s->options.on_change(s->options.arg);
}

struct sandboxes *sandboxes_new(const struct sandboxes_options *options)
{
    struct sandboxes *s = xcalloc(1, sizeof *s);
    s->options = *options;
    return s;
}

void sandboxes_free(struct sandboxes *s)
{
    if (!s)
        return;
    cri_cancel(s->query);
    free(s);
}

static bool is_holder(const struct observed *observed, int pid)
{
    for (size_t i = 0; i < observed->n; i++) {
        const struct observed_device *d = &observed->devices[i];
        if (d->n_holders > 0 && d->n_pods == 0 && d->holders[0].pid == pid)
            return true;
    }
    return false;
}

static void forget_ended(struct sandboxes *s, const struct observed *observed)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (is_holder(observed, s->entries[i].pid))
            s->entries[kept++] = s->entries[i];
    }
    s->n = kept;
}

void sandboxes_fill(struct sandboxes *s, const char *socket, struct observed *observed)
{
    bool ask = false;
    forget_ended(s, observed);
    for (size_t i = 0; i < observed->n; i++) {
        struct observed_device *d = &observed->devices[i];
        d->holder_pod = (struct pod_ref){0};
        if (d->n_holders == 0 || d->n_pods > 0)
            continue;
        struct entry *e = find(s, d->holders[0].pid);
        if (!e && s->n < SANDBOXES_MAX) {
            e = &s->entries[s->n++];
            *e = (struct entry){.pid = d->holders[0].pid};
        }
        if (e && e->answered)
            d->holder_pod = e->pod;
        ask = ask || (e && !e->answered);
    }
    if (!ask || s->query || !*socket || loop_now_ms(s->options.loop) < s->not_before_ms)
        return;
    for (size_t i = 0; i < s->n; i++)
        s->entries[i].asking = !s->entries[i].answered;
    s->query = cri_list_sandboxes(s->options.rpc, s->options.host, socket, ANSWER_MS, on_list, s);
}
