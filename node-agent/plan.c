#include "node-agent/plan.h"

#include <stdarg.h>
#include <string.h>

#include "base/auto.h"

/* The smaller questions about one device, answered once. */
struct view {
    const struct nv_device *dev;
    const struct observed_device *seen;
    const struct device_intent *wish;
    struct nv_report report; /* a chip without CC is off, whatever was read */
    bool known;              /* active mode is known */
    bool capable_known;      /* what it can do is known */
    bool no_cc;              /* has no modes at all */
    bool in_use;             /* someone uses it, or it is not known whether */
    bool change_mode;        /* active differs from the wish */
    bool put_back;           /* active is as wanted, other knobs are pending */
    bool change_binding;
    bool check; /* it was released, and is to be offered */
};

struct making {
    const struct plan_options *options;
    const struct intent *intent;
    const struct observed *observed;
    const struct journal *journal;
    struct plan *plan;
    bool withdraw_all; /* a joint change is under way or waits for its turn */
    struct view views[NV_MAX_DEVICES];
};

const char *decision_name(enum decision decision)
{
    static const char *const names[] = {
        [DECISION_UNMANAGED] = "unmanaged", [DECISION_IN_PLACE] = "in-place",
        [DECISION_QUERY] = "query",         [DECISION_CHANGE] = "change",
        [DECISION_BUSY] = "busy",           [DECISION_REFUSED] = "refused",
        [DECISION_CHECK] = "check",         [DECISION_WAIT] = "wait",
        [DECISION_ACTING] = "acting",
    };
    return (size_t)decision < ARRAY_LEN(names) ? names[decision] : "?";
}

static void decide(struct device_plan *plan, enum decision decision, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void decide(struct device_plan *plan, enum decision decision, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    plan->decision = decision;
    (void)vsnprintf(plan->reason, sizeof plan->reason, fmt, ap);
    va_end(ap);
}

static bool in_vfio(const struct nv_device *dev, const char *driver)
{
    return dev->driver_is_vfio && dev->group_viable &&
           (strcmp(driver, "auto") == 0 || strcmp(driver, dev->driver) == 0);
}

static bool binding_is_right(const struct making *in, const struct view *v)
{
    const struct nv_device *dev = v->dev;
    switch (v->wish->binding) {
    case BINDING_LEAVE:
        return true;
    case BINDING_VFIO:
        return in_vfio(dev, in->options->vfio_driver);
    case BINDING_RELEASE:
        break;
    }
    return !dev->driver_is_vfio && (*dev->driver || !*dev->driver_override);
}

static bool can_bind(const struct view *v)
{
    return v->wish->binding != BINDING_VFIO || v->dev->iommu_group >= 0;
}

/* What the report is worth. A chip without CC is off, whatever was read; the journal vouches for a mode only while
 * the device is held and cannot be asked. */
static void know_mode(struct view *v)
{
    enum knowledge knowledge = v->seen->knowledge;
    v->capable_known = knowledge == KNOWN_REGISTERS || v->seen->capable_known;
    bool no_cc = v->capable_known && v->report.capable_modes == 0 && !*v->report.fault &&
                 !v->report.unlisted;
    if (!*v->dev->chip || no_cc) {
        v->report = (struct nv_report){.active = CC_MODE_OFF, .booted = true};
        v->known = true;
        v->no_cc = v->capable_known = true;
    } else if (knowledge == KNOWN_JOURNAL) {
        v->report.booted = true;
        v->known = v->in_use;
    } else {
        v->known = knowledge == KNOWN_REGISTERS &&
                   (v->report.active != CC_MODE_UNKNOWN || *v->report.fault || v->report.unlisted);
    }
    if (v->report.pending == CC_MODE_UNKNOWN)
        v->report.pending = v->report.active; /* nothing speaks against it */
}

static struct view look(const struct making *in, size_t i)
{
    const struct observed_device *seen = &in->observed->devices[i];
    struct view v = {
        .dev = &seen->dev,
        .seen = seen,
        .wish = &in->intent->devices[i],
        .report = seen->report,
    };
    v.in_use = seen->n_holders > 0 || seen->n_pods > 0 || !in->observed->holders_known ||
               !in->observed->pods_known;
    know_mode(&v);
    enum cc_mode want = v.wish->mode;
    v.change_mode = v.known && want != CC_MODE_UNKNOWN && v.report.active != want;
    v.put_back =
        v.known && want != CC_MODE_UNKNOWN && v.report.active == want && v.report.pending != want;
    if (in->options->no_reset && v.change_mode && v.report.pending == want)
        v.change_mode = false; /* staged, and that was all that was asked */
    if (in->options->no_reset)
        v.put_back = false;
    v.change_binding = in->options->manage_vfio && !binding_is_right(in, &v) && can_bind(&v);
    v.check = in->options->check_released && seen->released && in->intent->serve &&
              v.wish->binding == BINDING_VFIO && v.dev->driver_is_vfio && !v.in_use;
    return v;
}

static void explain_use(const struct making *in, const struct view *v, char *ret, size_t room)
{
    const struct observed_device *seen = v->seen;
    bool pod = *seen->holder_pod.name != '\0';
    if (seen->n_pods > 0)
        (void)snprintf(ret, room, "in use by pod %s/%s%s", seen->pods[0].namespace,
                       seen->pods[0].name, seen->n_pods > 1 ? " and others" : "");
    else if (seen->n_holders > 0)
        (void)snprintf(ret, room, "in use by %s (pid %d, %s)%s%.60s%s%.120s%s",
                       seen->holders[0].comm, seen->holders[0].pid, seen->holders[0].what,
                       pod ? " of pod " : "", seen->holder_pod.namespace, pod ? "/" : "",
                       seen->holder_pod.name, seen->n_holders > 1 ? " and others" : "");
    else
        (void)snprintf(ret, room, "it is not known who uses it: %s",
                       *in->observed->unknown_why ? in->observed->unknown_why
                                                  : "the host could not be searched");
}

/* Why this device can never get to its wish as it is. Return: whether there is such a reason, put into @plan. */
static bool refuse(const struct view *v, struct device_plan *plan)
{
    enum cc_mode want = v->wish->mode;
    const char *mode = cc_mode_name(want);
    if (*v->report.fault) {
        decide(plan, DECISION_REFUSED, "the device is faulty: %s", v->report.fault);
    } else if (v->known && !v->report.booted) {
        decide(plan, DECISION_REFUSED,
               "its firmware has not booted; look for Xid and PCIe errors in the kernel log, power "
               "the host off and on if it stays so");
    } else if (v->report.unlisted && want != CC_MODE_UNKNOWN) {
        decide(plan, DECISION_REFUSED, "%s", NV_UNLISTED_TEXT);
    } else if (!v->change_mode || want == CC_MODE_OFF) {
        return false;
    } else if (v->no_cc) {
        decide(plan, DECISION_REFUSED,
               "%s has no Confidential Computing, mode %s is not possible; exclude it "
               "(devices.exclude) or ask for off",
               *v->dev->name ? v->dev->name : "this device", mode);
    } else if (v->report.capable_modes & CC_MODE_BIT(want)) {
        return false;
    } else if (want == CC_MODE_PPCIE && strncmp(v->dev->chip, "gb", 2) == 0) {
        decide(plan, DECISION_REFUSED,
               "ppcie is a mode of Hopper; Blackwell GPUs encrypt NVLink in mode on");
    } else if (want == CC_MODE_PPCIE) {
        decide(plan, DECISION_REFUSED,
               "its firmware has no ppcie mode; update the firmware of the GPU or HGX board");
    } else {
        decide(plan, DECISION_REFUSED, "mode %s is not possible on a %s (%s)", mode,
               nv_kind_name(v->dev->kind), *v->dev->name ? v->dev->name : v->dev->chip);
    }
    return true;
}

/* A device of which neither mode nor binding is wanted to be known is not woken for nothing. */
static bool needs_mode(const struct view *v)
{
    return v->wish->mode != CC_MODE_UNKNOWN || v->wish->binding == BINDING_VFIO;
}

static bool is_waiting(const struct making *in, const struct view *v, struct device_plan *plan)
{
    const struct observed_device *seen = v->seen;
    if (seen->quarantined) {
        char pid[24] = "";
        if (seen->stuck_pid > 0)
            (void)snprintf(pid, sizeof pid, " (pid %d)", seen->stuck_pid);
        decide(plan, DECISION_WAIT,
               "a process%s of an earlier change still has it, or is stuck in the kernel with it; "
               "it is left alone until that ends, reboot the node if it never does",
               pid);
        return true;
    }
    if (seen->retry_at_ms > in->options->now_ms) {
        int64_t left = (seen->retry_at_ms - in->options->now_ms + 999) / 1000;
        decide(plan, DECISION_WAIT, "tried again in %lld s after: %s", (long long)left,
               *seen->error ? seen->error : "a failure");
        return true;
    }
    return false;
}

/* Would the change be made once the device is released? Nobody is evicted for one that may not come. */
static bool may_follow(const struct making *in, const struct view *v)
{
    bool possible = !v->change_mode || v->wish->mode == CC_MODE_OFF || v->capable_known;
    return possible && !v->seen->quarantined && v->seen->retry_at_ms <= in->options->now_ms;
}

/* Under kernel lockdown a device has to be bound before it can be read. */
static bool binding_comes_first(const struct making *in, const struct view *v)
{
    return is_locked_down(in->observed) && v->change_binding && v->wish->binding == BINDING_VFIO &&
           !v->dev->driver_is_vfio;
}

static void decide_alone(const struct making *in, const struct view *v, struct device_plan *plan)
{
    char use[420];
    bool change = v->change_mode || v->put_back || v->change_binding;
    if (!v->wish->managed) {
        decide(plan, DECISION_UNMANAGED, "%s", "");
        return;
    }
    if (v->seen->acting) {
        decide(plan, DECISION_ACTING, "a change of it is under way");
        return;
    }
    if (v->known && v->capable_known && refuse(v, plan))
        return;
    if (v->known && !change && v->check) {
        if (!is_waiting(in, v, plan))
            decide(plan, DECISION_CHECK, "it was released, and is checked before it is offered");
        return;
    }
    if (v->known && !change && !v->seen->quarantined) {
        if (!can_bind(v) && !v->dev->driver_is_vfio)
            decide(plan, DECISION_REFUSED,
                   "the IOMMU is off, so it cannot be given to VFIO; switch it on in the firmware "
                   "and with intel_iommu=on (Intel) on the kernel command line");
        else
            decide(plan, DECISION_IN_PLACE, "%s", "");
        return;
    }
    if (!v->known && !change && !needs_mode(v)) {
        decide(plan, DECISION_IN_PLACE, "%s", "");
        return;
    }
    if (v->in_use) {
        explain_use(in, v, use, sizeof use);
        decide(plan, DECISION_BUSY, "%s%s", v->known ? "" : "its mode is not known; ", use);
        plan->evict = v->known && may_follow(in, v);
        return;
    }
    if (is_waiting(in, v, plan))
        return;
    bool query = !v->known && needs_mode(v) && !binding_comes_first(in, v);
    decide(plan, query ? DECISION_QUERY : DECISION_CHANGE, "%s", "");
}

/* ---- joint changes: ppcie and switches ---- */

static bool is_fabric(const struct view *v)
{
    return v->wish->mode == CC_MODE_PPCIE || v->report.active == CC_MODE_PPCIE ||
           v->dev->kind == NV_KIND_NVSWITCH;
}

/* On the way out of ppcie a device without modes, or one that is broken for now, is left behind; on the way in
 * everybody is needed. */
static bool left_behind(const struct making *in, const struct view *v,
                        const struct device_plan *plan, bool entering)
{
    bool broken = plan->decision == DECISION_WAIT ||
                  (plan->decision == DECISION_REFUSED && (*v->report.fault || !v->report.booted));
    return !entering && (v->no_cc || v->report.unlisted ||
                         (broken && in->options->failure == FAILURE_SERVE_REST));
}

/* The first device that stops the others; what it stops them with. Refusals weigh most. */
static const struct device_plan *find_stopper(const struct making *in, bool entering, size_t *ret)
{
    static const enum decision order[] = {DECISION_REFUSED, DECISION_ACTING, DECISION_WAIT,
                                          DECISION_BUSY, DECISION_QUERY};
    for (size_t o = 0; o < ARRAY_LEN(order); o++) {
        for (size_t i = 0; i < in->plan->n; i++) {
            const struct device_plan *d = &in->plan->devices[i];
            if (d->decision == order[o] && !left_behind(in, &in->views[i], d, entering)) {
                *ret = i;
                return d;
            }
        }
    }
    return NULL;
}

/* Everybody is idle or nobody is touched: a fabric is one thing, so devices that are in place already count too. */
static void find_users(struct making *in)
{
    for (size_t i = 0; i < in->plan->n; i++) {
        const struct view *v = &in->views[i];
        struct device_plan *d = &in->plan->devices[i];
        if (d->decision == DECISION_IN_PLACE && v->in_use) {
            char use[420];
            explain_use(in, v, use, sizeof use);
            decide(d, DECISION_BUSY, "all devices change together, and this one is %s", use);
        }
    }
}

/* Pods go for a joint change only when their devices are all that it waits for. */
static void evict_together(struct making *in, const struct device_plan *stopper)
{
    bool sure = !stopper || stopper->decision == DECISION_BUSY;
    for (size_t i = 0; i < in->plan->n; i++) {
        const struct view *v = &in->views[i];
        enum decision decision = in->plan->devices[i].decision;
        bool capable = v->capable_known || v->wish->mode == CC_MODE_OFF;
        sure = sure && decision != DECISION_QUERY &&
               (decision != DECISION_BUSY || (may_follow(in, v) && capable));
    }
    for (size_t i = 0; i < in->plan->n; i++)
        in->plan->devices[i].evict = sure && in->plan->devices[i].decision == DECISION_BUSY;
}

static void stop_the_others(struct making *in, const struct device_plan *stopper, size_t who)
{
    const char *bdf = in->views[who].dev->bdf;
    struct device_plan cause = *stopper;
    if (cause.decision == DECISION_QUERY)
        (void)snprintf(cause.reason, sizeof cause.reason, "its mode must be read first");
    for (size_t i = 0; i < in->plan->n; i++) {
        struct device_plan *d = &in->plan->devices[i];
        /* what cannot be is waited for by nobody */
        bool stopped = d->decision == DECISION_CHANGE ||
                       (d->decision == DECISION_BUSY && cause.decision == DECISION_REFUSED);
        if (!stopped || i == who || !in->views[i].change_mode)
            continue;
        bool soon = cause.decision == DECISION_QUERY || cause.decision == DECISION_ACTING;
        enum decision verdict = soon ? DECISION_WAIT : cause.decision;
        decide(d, verdict, "all devices change together, and %s stops them: %.180s", bdf,
               cause.reason);
    }
}

static void decide_together(struct making *in)
{
    bool joint = false, entering = false;
    for (size_t i = 0; i < in->plan->n; i++) {
        const struct view *v = &in->views[i];
        if (!v->wish->managed)
            continue;
        joint = joint || (v->change_mode && is_fabric(v));
        entering = entering || v->wish->mode == CC_MODE_PPCIE;
    }
    if (!joint)
        return;
    size_t who = 0;
    const struct device_plan *stopper = find_stopper(in, entering, &who);
    if (!stopper || stopper->decision != DECISION_REFUSED) {
        find_users(in);
        stopper = find_stopper(in, entering, &who);
    }
    evict_together(in, stopper);
    in->withdraw_all = stopper ? stopper->decision != DECISION_REFUSED : !in->options->no_turn;
    if (stopper) {
        stop_the_others(in, stopper, who);
        return;
    }
    in->plan->together = true;
    for (size_t i = 0; i < in->plan->n; i++) { /* not beside it; afterwards */
        if (in->plan->devices[i].decision == DECISION_CHECK)
            decide(&in->plan->devices[i], DECISION_WAIT, "it is checked after the others' change");
    }
}

/* ---- chains ---- */

static void add(struct plan_step *steps, size_t *n, enum worker_step step, const char *argument)
{
    if (*n == PLAN_MAX_STEPS)
        abort(); /* our own mistake: the longest chain has nine */
    struct plan_step *s = &steps[(*n)++];
    *s = (struct plan_step){.step = step};
    (void)snprintf(s->argument, sizeof s->argument, "%s", argument);
}

/* Binds again what was bound before. */
static void add_old_binding(const struct view *v, struct plan_step *steps, size_t *n)
{
    if (v->dev->driver_is_vfio)
        add(steps, n, WORKER_BIND, v->dev->driver);
    else if (*v->dev->driver)
        add(steps, n, WORKER_RELEASE, v->dev->driver);
}

/* Who had it before it was first given to VFIO; "" = not known. */
static const char *original_driver(const struct making *in, const struct nv_device *dev)
{
    const struct journal_device *entry = journal_find(in->journal, dev->bdf);
    return entry && entry->device_id == dev->device_id ? entry->original_driver : "";
}

static void add_wanted_binding(const struct making *in, const struct view *v, struct device_plan *d)
{
    bool ours = in->options->manage_vfio && can_bind(v) && !in->options->no_reset;
    if (ours && v->wish->binding == BINDING_VFIO)
        add(d->steps, &d->n_steps, WORKER_BIND, in->options->vfio_driver);
    else if (ours && v->wish->binding == BINDING_RELEASE)
        add(d->steps, &d->n_steps, WORKER_RELEASE, original_driver(in, v->dev));
    else
        add_old_binding(v, d->steps, &d->n_steps);
}

/* Steps at the start of a change of registers: nobody may open the device meanwhile. In a joint change all chains
 * have the same shape up to the reset, bound or not, so that "all have come this far" can be told by counting. */
static void add_staging(const struct making *in, const struct view *v, struct device_plan *d)
{
    const char *mode = cc_mode_name(v->wish->mode);
    if (*v->dev->driver || in->plan->together)
        add(d->steps, &d->n_steps, WORKER_UNBIND, "");
    add(d->steps, &d->n_steps, WORKER_WAKE, "");
    add(d->steps, &d->n_steps, WORKER_STAGE, mode);
    add(d->steps, &d->n_steps, WORKER_CHECK_STAGED, mode);
}

static bool is_orderable(enum cc_mode mode)
{
    return mode != CC_MODE_UNKNOWN && mode != CC_MODE_INVALID;
}

static void add_undo(const struct view *v, struct device_plan *d)
{
    if (is_orderable(v->report.active)) {
        add(d->undo, &d->n_undo, WORKER_WAKE, "");
        add(d->undo, &d->n_undo, WORKER_STAGE, cc_mode_name(v->report.active));
        add(d->undo, &d->n_undo, WORKER_SLEEP, "");
    }
    add_old_binding(v, d->undo, &d->n_undo);
}

static void add_reset(const struct making *in, const struct view *v, struct device_plan *d)
{
    add(d->steps, &d->n_steps, WORKER_RESET, "");
    d->steps[d->n_steps - 1].barrier = in->plan->together;
    d->steps[d->n_steps - 1].point_of_no_return = true;
    add(d->steps, &d->n_steps, WORKER_WAIT_BOOT, "");
    add(d->steps, &d->n_steps, WORKER_VERIFY, cc_mode_name(v->wish->mode));
}

static void make_chain(const struct making *in, const struct view *v, struct device_plan *d)
{
    if (v->change_mode || v->put_back) {
        add_staging(in, v, d);
        if (v->change_mode && !in->options->no_reset)
            add_reset(in, v, d);
        add(d->steps, &d->n_steps, WORKER_SLEEP, "");
        add_wanted_binding(in, v, d);
        add_undo(v, d);
        return;
    }
    if (v->wish->binding == BINDING_RELEASE ||
        (*v->dev->driver && !in_vfio(v->dev, in->options->vfio_driver)))
        add(d->steps, &d->n_steps, WORKER_UNBIND, "");
    add_wanted_binding(in, v, d);
    if (d->steps[0].step == WORKER_UNBIND)
        add_old_binding(v, d->undo,
                        &d->n_undo); /* a driver that cannot be had leaves it as it was */
}

static bool writes(const struct device_plan *d)
{
    return d->n_steps > 0 && d->decision == DECISION_CHANGE;
}

/* After the first failure a reset may be what it needs; what needs more is recover.h's. */
static void add_check(const struct view *v, struct device_plan *d)
{
    if (v->seen->failures > 0) {
        add(d->steps, &d->n_steps, WORKER_RESET, "");
        add(d->steps, &d->n_steps, WORKER_WAIT_BOOT, "");
        add(d->steps, &d->n_steps, WORKER_SLEEP, "");
    }
    add(d->steps, &d->n_steps, WORKER_CHECK_VFIO, "");
    if (v->no_cc || !is_orderable(v->report.active))
        return;
    add(d->steps, &d->n_steps, WORKER_WAIT_BOOT, "");
    add(d->steps, &d->n_steps, WORKER_VERIFY, cc_mode_name(v->report.active));
    add(d->steps, &d->n_steps, WORKER_SLEEP, "");
}

static void make_chains(struct making *in)
{
    struct plan *plan = in->plan;
    bool vfio_there = false, binds = false;
    for (size_t i = 0; i < plan->n; i++) {
        struct device_plan *d = &plan->devices[i];
        if (d->decision == DECISION_CHANGE)
            make_chain(in, &in->views[i], d);
        else if (d->decision == DECISION_QUERY)
            add(d->steps, &d->n_steps, WORKER_QUERY, "");
        else if (d->decision == DECISION_CHECK)
            add_check(&in->views[i], d);
        plan->checks = plan->checks || d->decision == DECISION_CHECK;
        plan->queries = plan->queries || d->decision == DECISION_QUERY;
        plan->changes = plan->changes || writes(d);
        d->evict = d->evict && in->views[i].seen->n_pods > 0 && in->options->busy == BUSY_EVICT;
        plan->evict = plan->evict || d->evict;
        vfio_there = vfio_there || in->views[i].dev->driver_is_vfio;
        for (size_t s = 0; s < d->n_steps; s++)
            binds = binds || d->steps[s].step == WORKER_BIND;
    }
    plan->load_vfio = binds && !vfio_there;
    if (plan->load_vfio)
        (void)snprintf(plan->vfio_module, sizeof plan->vfio_module, "%s",
                       strcmp(in->options->vfio_driver, "auto") == 0 ? "vfio-pci"
                                                                     : in->options->vfio_driver);
}

/* In ppcie a device is worth what the whole fabric is: nobody verifies one that is not managed. */
static bool is_part_of_fabric(const struct making *in, const struct view *v)
{
    return v->report.active == CC_MODE_PPCIE &&
           intent_find_outsider(in->intent, in->observed) != NULL;
}

/* Its change comes when it is this node's turn, and until then it is what was ordered before: an operator who lets so many
 * nodes change at a time wants the others to serve. Nobody ordered what drifted, or was found at first sight. */
static bool serves_until_turn(const struct making *in, const struct view *v,
                              const struct device_plan *d)
{
    const struct journal_device *entry = journal_find(in->journal, v->dev->bdf);
    return in->options->no_turn && d->decision == DECISION_CHANGE && v->change_mode &&
           !v->change_binding && !v->check && v->seen->failures == 0 &&
           v->seen->knowledge == KNOWN_REGISTERS && entry && !entry->unordered &&
           entry->device_id == v->dev->device_id && entry->verified_mode == v->report.active;
}

/* What may stay with kubelet while this plan is carried out. */
static void decide_serving(struct making *in)
{
    struct plan *plan = in->plan;
    bool hold = in->withdraw_all;
    for (size_t i = 0; i < plan->n; i++) {
        const struct view *v = &in->views[i];
        struct device_plan *d = &plan->devices[i];
        bool until_turn = serves_until_turn(in, v, d);
        d->serve = in->intent->serve && (d->decision == DECISION_IN_PLACE || until_turn) &&
                   v->known && !v->report.unlisted && v->dev->driver_is_vfio &&
                   v->dev->group_viable && v->report.pending == v->report.active &&
                   !is_part_of_fabric(in, v);
        if (until_turn && d->serve)
            decide(d, DECISION_CHANGE,
                   "in mode %s until it is this node's turn to change (concurrency.max)",
                   cc_mode_name(v->report.active));
        bool incomplete = v->wish->managed && d->decision != DECISION_IN_PLACE && !until_turn;
        bool failed = d->decision == DECISION_REFUSED || d->decision == DECISION_WAIT;
        hold = hold || (incomplete && v->wish->mode == CC_MODE_PPCIE);
        hold = hold || (failed && in->options->failure == FAILURE_HOLD_ALL);
    }
    for (size_t i = 0; hold && i < plan->n; i++)
        plan->devices[i].serve = false;
}

void plan_make(const struct plan_options *options, const struct intent *intent,
               const struct observed *observed, const struct journal *journal, struct plan *ret)
{
    *ret = (struct plan){.n = observed->n};
    struct making *in = xcalloc(1, sizeof *in);
    in->options = options;
    in->intent = intent;
    in->observed = observed;
    in->journal = journal;
    in->plan = ret;
    for (size_t i = 0; i < observed->n; i++)
        in->views[i] = look(in, i);
    for (size_t i = 0; i < observed->n; i++)
        decide_alone(in, &in->views[i], &ret->devices[i]);
    decide_together(in);
    make_chains(in);
    decide_serving(in);
    free(in);
}
