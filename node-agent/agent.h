/* The daemon: what its files share, and how main starts it. One thread, one loop; level-triggered.
 *
 *   something happened (label, timer, inotify, worker, kubelet, API answer)
 *     -> agent_kick()            asks for a look, once, however many ask
 *     -> look (observe)          sysfs always; users and pods when asked for
 *     -> decide                  intent_resolve, plan_make: pure
 *     -> offer, publish          what the plan allows: withdraw comes before anything is touched
 *     -> change (act)            only devices that were withdrawn before the look that found them idle, only when the
 *                                Node does not say ready, only with the Lease (pods are evicted with it too), only after the journal is on disk
 *
 * A label change is decided upon twice: at once with the last look, so that kubelet hears of it within milliseconds,
 * and again with a fresh one before hardware is touched. Several changes may run at the same time, each for its own
 * devices; a joint change (ppcie, switches) runs alone.
 *
 * While the API server is away the agent goes on with what it last knew (also across a restart: last-node.json in the
 * state directory). Only one thing waits for the server: a change may not begin while the Node may say
 * cc.ready.state=true, since the label could not be cleared; devices are withdrawn at kubelet all the same. (Not so a
 * further try of a device that failed: it has been withdrawn since, and the label speaks of the others.)
 */
#ifndef CCN_AGENT_AGENT_H
#define CCN_AGENT_AGENT_H

#include <stdbool.h>

#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"
#include "node-agent/act.h"
#include "node-agent/advice.h"
#include "node-agent/bus_view.h"
#include "node-agent/cdi_files.h"
#include "node-agent/config.h"
#include "node-agent/evict.h"
#include "node-agent/hotplug.h"
#include "node-agent/http/httpd.h"
#include "node-agent/http/metrics.h"
#include "node-agent/journal.h"
#include "node-agent/kubelet_view.h"
#include "node-agent/last_node.h"
#include "node-agent/node_check.h"
#include "node-agent/observe.h"
#include "node-agent/operands.h"
#include "node-agent/publisher.h"
#include "node-agent/recover.h"
#include "node-agent/reload.h"
#include "node-agent/runtime.h"
#include "node-agent/sandboxes.h"
#include "node-agent/serving.h"

struct agent_options {
    const char *host_root;
    const char *config_path;                /* NULL: defaults */
    const char *node_name;                  /* NULL: without Kubernetes */
    const char *kubeconfig;                 /* NULL: service account of the pod */
    bool explain;                           /* look once, print the plan, change nothing */
    bool log_level_given, log_format_given; /* on the command line: they win over the file */
};

/* agent_main() - everything after the options are read. Return: exit status. */
int agent_main(const struct agent_options *options, struct config *config);

enum look_for {
    LOOK_SYSFS, /* at once, also while the other kind is under way */
    LOOK_USERS, /* who uses what, too: costs a process and a call to kubelet */
};

/* What is remembered of a device between passes; all of it can be lost without harm. */
struct track {
    char bdf[BDF_SIZE];
    bool acting;    /* a chain that writes to hardware is running */
    bool retrying;  /* and it failed before */
    bool querying;  /* its registers are being read */
    bool withdrawn; /* not offered when the last look at users that has ended began, nor since */
    bool withdrawn_look; /* the same of the look that is under way */
    bool was_bound;      /* to VFIO, at the last look: for drift */
    bool told_unhealthy; /* an Event was written */
    bool evicted;        /* its pods were asked to leave, and it is not free yet */
    int64_t acting_since_ms;
    uint64_t
        ended_seq; /* the last look before its last writing chain ended: older ones show no end */
    /* the last chain that succeeded: a device that is not as wanted right afterwards has failed */
    int64_t done_ms;
    enum cc_mode done_mode;
    enum binding done_binding;
    enum worker_step step; /* running now; WORKER_STEP_MAX = none */
};

struct change; /* change.c */

struct agent {
    struct agent_options options;
    struct config config;
    struct host host;
    struct loop *loop;
    struct rpc *rpc;
    struct workers *workers;
    struct kube *kube; /* NULL: without Kubernetes */
    struct publisher *publisher;
    struct serving *serving;
    struct operands *operands;
    struct evict *evict;
    struct hotplug *hotplug;
    struct runtime *runtime;
    struct cdi_files *cdi_files;
    struct kubelet_view *kubelet_view;
    struct sandboxes *sandboxes;
    struct bus_view *bus_view; /* NULL until metrics are asked for */
    struct advice advice[ADVICE_KINDS];
    char told_advice[ADVICE_KINDS][sizeof((struct advice *)0)->text];
    struct reload *reload;
    struct httpd *httpd;
    struct agent_metrics metrics;

    struct last_node last_node;
    struct node_check *node_check;
    bool node_gone; /* the Node object was deleted: nothing is begun */
    bool watch_up;
    char watch_error[400]; /* why the Node is not watched */
    int lock_fd;           /* AGENT_LOCK; -1 = none */
    struct journal journal;
    bool journal_dirty; /* verified modes not on disk yet; saved before the device is offered */
    struct memory memory;
    struct observed *observed; /* of the last look; n = 0 before */
    struct intent *intent;
    struct plan *plan;
    struct publish_device *publish_devices;
    struct published published;
    size_t n_tracks;
    struct track tracks[NV_MAX_DEVICES];

    struct look *look; /* at the users, under way */
    bool users_wanted;
    uint64_t seq, observed_seq; /* looks at sysfs so far; the one that `observed` is from */
    int64_t unseen_since_ms;    /* no look has worked since then; 0 = the last one did */
    int64_t users_looked_ms;    /* when the last look at holders and pods had ended; 0 = never */
    struct loop_timer *pass_timer, *tick_timer;
    struct loop_timer *settle_timer; /* memory is given back some time after a start or change */
    int64_t kicked_for_ms;           /* when pass_timer is due */

    struct change *changes;
    struct recover recover;
    struct kube_lease *lease;
    int64_t change_started_ms; /* the node as a whole; 0 = no change */
    char trouble_reason[64], trouble[512];
    char offer_error[512], journal_error[512], lease_error[512], look_error[512];
    char journal_refused[512]; /* at the start: why the file on disk is not believed */
    int64_t
        unregistered_since_ms; /* devices are ready and kubelet has not accepted them; 0 = it has */
    bool may_not_open;         /* VFIO nodes, from where we are: released devices are not checked */
    bool label_blocks;         /* a change waits until the Node stops saying ready */
    int64_t blocked_since_ms;  /* nothing can begin although it is our turn; 0 = not so */
    int64_t turn_again_ms;     /* no Lease is asked for before that */
    bool label_tells;          /* a change waits until the Node says that one is under way */
    char last_state[24];       /* cc.mode.state as last told in an Event */
    char last_problem[64];     /* problem_reason likewise */
    char last_trouble[64];
    bool status_failed, validations_failed; /* told once */
    struct loop_timer *status_timer;
    struct loop_timer *farewell;
    bool stopping, finishing;
    int exit_status;
};

/* agent.c */
void agent_finish(
    struct agent *agent); /* nothing runs any more: say goodbye to kubelet, then end */

void agent_explain(struct agent *agent); /* print and end, once everything is known */

/* pass.c */
void agent_kick(struct agent *agent, enum look_for look_for, int64_t delay_ms);
void agent_decide(struct agent *agent);
void agent_try_again(struct agent *agent); /* the orders changed: backoff is forgotten */
void agent_settle(struct agent *agent); /* a start or a change is over: memory is given back soon */
void agent_tick(struct agent *agent);   /* (re)arms the timer for whatever comes next */
struct track *agent_track(struct agent *agent, const char *bdf);
void agent_permissions_seen(struct agent *agent); /* something more, or less, is forbidden: tell */
bool agent_is_blind(const struct agent *agent);   /* orders are not known yet: touch nothing */

/* turn.c: while others have theirs, this node goes on as it was ordered before */
bool turn_is_ours(const struct agent *agent);
bool turn_take(
    struct agent *agent); /* asks for it when it is not ours yet. Return: whether it is */
void turn_give_back(struct agent *agent); /* unless it is needed, and can be used */

/* change.c */
void change_start_allowed(struct agent *agent);
void change_evict(struct agent *agent); /* policy evict: ask the pods of busy devices to leave */
void change_verify_idle(struct agent *agent); /* read the registers of idle devices again */
void change_stop_all(
    struct agent *agent); /* agent_finish() follows when the running steps that write have ended */
void change_end_if_idle(struct agent *agent); /* nothing that writes runs: agent_finish() */
void change_abandon_all(struct agent *agent);
bool change_any_writing(const struct agent *agent);
bool change_any_wanted(const struct agent *agent); /* the plan has chains that write */
int agent_save_journal(struct agent *agent);

#define SETTLE_KUBELET_MS 20 /* several resources are lost or renewed together */

/* tell.c, tell_devices.c: Events, metrics, validation files, status */
void tell(struct agent *agent);
void tell_event(struct agent *agent, const char *type, const char *reason, const char *action,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void tell_step(struct agent *agent, const char *bdf, const struct plan_step *step,
               const struct worker_answer *answer);
char *tell_metrics(void *arg, size_t *ret_len);
bool tell_prepare_metrics(void *arg);
void tell_device_metrics(struct agent *agent);
/* a device failed; @code: errno name of the step's answer; "fault" of its registers, "vain" when nothing came of it */
void tell_failure(struct agent *agent, const char *bdf, const char *step, const char *code);
char *tell_plan(void *arg, size_t *ret_len);
bool tell_ready(void *arg, char **ret_text);
void tell_plugin_event(void *arg, const struct dp_event *event);

#endif
