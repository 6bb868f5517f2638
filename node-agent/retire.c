#include "node-agent/retire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "cdi/cdi.h"
#include "node-agent/agent.h"
#include "node-agent/daemon_set.h"
#include "node-agent/validations.h"
#include "version.h"

#define ASK_MS 300 /* with kubelet's 500 ms an idle agent still ends within a second */
#define POLL_MS 50

/* ---- the agent ---- */

struct retirement {
    struct agent *agent;
    void (*done)(void *arg, bool retired);
    void *arg;
    int64_t until_ms;
};

static void finish(struct retirement *r, bool retired)
{
    void (*done)(void *arg, bool retired) = r->done;
    void *arg = r->arg;
    free(r);
    done(arg, retired);
}

static void wait_for_node(void *arg)
{
    struct retirement *r = arg;
    struct agent *agent = r->agent;
    bool settled = publisher_is_settled(agent->publisher);
    if (!settled && loop_now_ms(agent->loop) < r->until_ms) {
        (void)loop_add_timer(agent->loop, POLL_MS, wait_for_node, r);
        return;
    }
    if (!settled)
        log_warning("the Node still has labels of ours", "error", publisher_error(agent->publisher),
                    NULL);
    finish(r, true);
}

static void take_back_files(struct agent *agent)
{
    struct cdi_specs none = {0};
    const struct stand_back *back = &agent->intent->stand_back;
    const struct validations nothing = {.leave_vfio = back->vfio, .leave_mode = back->mode};
    struct err err = ERR_INIT;
    if (agent->config.cdi_enabled &&
        cdi_sync(&agent->host, agent->config.cdi_directory, &none, false, NULL, &err) < 0)
        log_warning("CDI files stay behind", "error", err.msg, NULL);
    err = ERR_INIT;
    if (agent->config.validations_enabled &&
        validations_sync(&agent->host, agent->config.validations_directory, &nothing, &err) < 0)
        log_warning("validation files stay behind", "error", err.msg, NULL);
}

static void on_answer(void *arg, const struct kube_result *result, bool ends)
{
    struct retirement *r = arg;
    if (result->err.code == ECANCELED) {
        free(r);
        return;
    }
    if (result->err.code)
        log_warning("it is not known whether ccnode is being uninstalled; the Node's labels stay",
                    "error", result->err.msg, NULL);
    if (!ends) {
        finish(r, false);
        return;
    }
    log_info("ccnode is being uninstalled: labels, condition, CDI files are taken back", NULL);
    take_back_files(r->agent);
    publisher_withdraw(r->agent->publisher);
    r->until_ms = loop_now_ms(r->agent->loop) + RETIRE_MS - ASK_MS;
    wait_for_node(r);
}

bool retire(struct agent *agent, void (*done)(void *arg, bool retired), void *arg)
{
    struct daemon_set own;
    if (!agent->kube || !daemon_set_own(&own))
        return false;
    struct retirement *r = xcalloc(1, sizeof *r);
    *r = (struct retirement){.agent = agent, .done = done, .arg = arg};
    kube_daemon_set_ends(agent->kube, own.namespace_, own.name, ASK_MS, on_answer, r);
    return true;
}

/* ---- the hook ---- */

#define UNINSTALL_MS 110000 /* the pods' grace period is 120 s, an idle one ends within a second */

struct uninstallation {
    struct loop *loop;
    struct kube *kube;
    struct daemon_set daemon_set;
    int64_t until_ms;
    int status;
};

static void ask(void *arg);

static void on_ends(void *arg, const struct kube_result *result, bool ends)
{
    struct uninstallation *u = arg;
    /* gone: the answer was 404; before that it is there with a deletion time */
    if (ends && result->status == 404) {
        log_info("all agents have ended", NULL);
        u->status = EXIT_SUCCESS;
        loop_stop(u->loop);
    } else if (result->err.code || loop_now_ms(u->loop) > u->until_ms) {
        log_error("the DaemonSet does not go", "error",
                  result->err.code ? result->err.msg : "pods are still there", NULL);
        loop_stop(u->loop);
    } else {
        (void)loop_add_timer(u->loop, 500, ask, u);
    }
}

static void ask(void *arg)
{
    struct uninstallation *u = arg;
    kube_daemon_set_ends(u->kube, u->daemon_set.namespace_, u->daemon_set.name, 0, on_ends, u);
}

static void on_deleted(void *arg, const struct kube_result *result)
{
    struct uninstallation *u = arg;
    if (result->err.code) {
        log_error("the DaemonSet cannot be deleted", "error", result->err.msg, NULL);
        loop_stop(u->loop);
        return;
    }
    ask(u);
}

int uninstall_main(const char *daemon_set, const char *kubeconfig)
{
    struct err err = ERR_INIT;
    struct uninstallation u = {.status = EXIT_FAILURE};
    if (!daemon_set_parse(daemon_set, &u.daemon_set)) {
        (void)fprintf(stderr, "ccnode-agent: --uninstall NAMESPACE/DAEMONSET, not \"%s\"\n",
                      daemon_set);
        return 2;
    }
    u.loop = loop_new(NULL, NULL);
    u.until_ms = loop_now_ms(u.loop) + UNINSTALL_MS;
    struct kube_options options = {.node_name = "none",
                                   .kubeconfig = kubeconfig,
                                   .user_agent = "ccnode-uninstall/" CCN_VERSION};
    u.kube = kube_new(u.loop, &options, &err);
    if (u.kube) {
        kube_delete_daemon_set(u.kube, u.daemon_set.namespace_, u.daemon_set.name, 0, on_deleted,
                               &u);
        loop_run(u.loop);
    } else {
        log_error("no access to the API server", "error", err.msg, NULL);
    }
    kube_free(u.kube);
    loop_free(u.loop);
    return u.status;
}
