#include "node-agent/node_check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/kube/backoff.h"
#include "node-agent/machine.h"

#define AGAIN_MS 60000
#define RETRY_MIN_MS 1000
#define ANSWER_MS 10000

struct node_check {
    struct loop *loop;
    struct kube *kube;
    const struct host *host;
    void (*on_answer)(void *arg);
    void *arg;
    char uid[64], asked_uid[64]; /* answered for; being asked about */
    bool answered, asking;
    struct loop_timer *timer;
    struct backoff backoff;
    char error[400];
    char foreign[480];
};

static void ask(struct node_check *check);

static void on_again(void *arg)
{
    struct node_check *check = arg;
    check->timer = NULL;
    if (!check->asking)
        ask(check);
}

/* No answer proves nothing. Return: whether it is asked again. */
static bool ask_again(struct node_check *check, const struct kube_result *result)
{
    if (result->err.code == 0)
        return false;
    if (result->status == 403) {
        log_warning("it is not checked whether the Node is this machine's", "error",
                    result->err.msg, NULL);
        return false;
    }
    if (!*check->error)
        log_warning("it is not known yet whether the Node is this machine's; asked again", "error",
                    result->err.msg, NULL);
    (void)snprintf(check->error, sizeof check->error, "%.390s", result->err.msg);
    check->timer =
        loop_add_timer(check->loop, backoff_next(&check->backoff, random_u32()), on_again, check);
    return true;
}

static void on_machine(void *arg, const struct kube_result *result, const struct kube_machine *node)
{
    struct node_check *check = arg;
    struct machine here, there = {0};
    char why[240];
    check->asking = false;
    if (result->err.code == ECANCELED)
        return; /* the client is going away */
    if (ask_again(check, result))
        return;
    check->answered = true;
    check->backoff.failures = 0;
    *check->error = '\0';
    (void)snprintf(check->uid, sizeof check->uid, "%s", check->asked_uid);
    machine_read(check->host, &here);
    if (result->err.code == 0) {
        (void)snprintf(there.id, sizeof there.id, "%.63s", node->machine_id);
        (void)snprintf(there.uuid, sizeof there.uuid, "%.63s", node->system_uuid);
    }
    bool was = *check->foreign != '\0';
    *check->foreign = '\0';
    if (machine_is_other(&here, &there, why, sizeof why)) {
        (void)snprintf(
            check->foreign, sizeof check->foreign,
            "the Node object belongs to another machine: %s; nothing is changed, here or "
            "there. Give the right --node-name and kubeconfig, or delete the Node so "
            "that this machine's kubelet registers it anew",
            why);
        check->timer = loop_add_timer(check->loop, AGAIN_MS, on_again, check);
        if (!was)
            log_error(check->foreign, NULL);
    }
    check->on_answer(check->arg);
}

static void ask(struct node_check *check)
{
    check->asking = true;
    loop_cancel(check->timer);
    check->timer = NULL;
    kube_get_machine(check->kube, ANSWER_MS, on_machine, check);
}

struct node_check *node_check_new(struct loop *loop, struct kube *kube, const struct host *host,
                                  void (*on_answer)(void *arg), void *arg)
{
    struct node_check *check = xcalloc(1, sizeof *check);
    *check = (struct node_check){
        .loop = loop, .kube = kube, .host = host, .on_answer = on_answer, .arg = arg};
    check->backoff = (struct backoff){.min_ms = RETRY_MIN_MS, .max_ms = AGAIN_MS};
    return check;
}

void node_check_free(struct node_check *check)
{
    if (!check)
        return;
    loop_cancel(check->timer);
    free(check);
}

bool node_check_passes(struct node_check *check, const struct kube_node *node)
{
    if (!node->exists ||
        (check->answered && strncmp(node->uid, check->uid, sizeof check->uid - 1) == 0))
        return !*check->foreign;
    bool waits = check->timer && strncmp(node->uid, check->asked_uid, sizeof check->uid - 1) == 0;
    if (!check->asking && !waits) {
        (void)snprintf(check->asked_uid, sizeof check->asked_uid, "%.63s", node->uid);
        ask(check);
    }
    return false;
}

const char *node_check_error(const struct node_check *check)
{
    return check ? check->error : "";
}

const char *node_check_foreign(const struct node_check *check)
{
    return check ? check->foreign : "";
}
