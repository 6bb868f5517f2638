#include "node-agent/act.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

/* One device's way through its chain. `at` counts steps; undo starts over at 0 of the undo chain. */
struct chain {
    struct act *act;
    size_t device;
    char bdf[BDF_SIZE];
    struct worker *worker;
    size_t at;
    bool running; /* a step is with the worker */
    bool waiting; /* at a barrier */
    bool undoing;
    bool over;
    bool committed; /* past the point of no return */
    struct act_device result;
};

struct act {
    struct workers *workers;
    struct loop *loop;
    struct plan plan;
    struct act_callbacks callbacks;
    bool stopping;
    bool joint_failure; /* with `together`: some chain failed before its point of no return */
    size_t n;
    struct chain *chains;
    struct loop_timer *kick;
    struct worker *node; /* loads the VFIO module first */
};

static void advance(struct chain *chain);
static void wake_all(struct act *act);

static const struct device_plan *plan_of(const struct chain *chain)
{
    return &chain->act->plan.devices[chain->device];
}

static const struct plan_step *step_of(const struct chain *chain)
{
    const struct device_plan *plan = plan_of(chain);
    return chain->undoing ? &plan->undo[chain->at] : &plan->steps[chain->at];
}

static size_t length_of(const struct chain *chain)
{
    const struct device_plan *plan = plan_of(chain);
    return chain->undoing ? plan->n_undo : plan->n_steps;
}

static void finish(struct chain *chain)
{
    chain->over = true;
    chain->waiting = false;
    chain->result.ended_ms = loop_now_ms(chain->act->loop);
    worker_close(chain->worker);
    chain->worker = NULL;
    const struct act *act = chain->act;
    if (act->callbacks.on_device)
        act->callbacks.on_device(act->callbacks.arg, chain->device, &chain->result);
}

static void record_failure(struct chain *chain, const struct worker_answer *answer)
{
    struct act_device *result = &chain->result;
    if (result->result == ACT_FAILED)
        return; /* the first failure is the cause; what fails while undoing is told by on_step */
    result->result = ACT_FAILED;
    result->failed_step = answer->step;
    (void)snprintf(result->failed_code, sizeof result->failed_code, "%s", answer->code);
    result->locked = answer->locked;
    result->lock_pid = answer->lock_pid;
    (void)snprintf(result->error, sizeof result->error, "%s: %s%s%s",
                   worker_step_name(answer->step), answer->error, *answer->cure ? "; " : "",
                   answer->cure);
}

static void start_undo(struct chain *chain)
{
    chain->undoing = true;
    chain->waiting = false;
    chain->at = 0;
}

/* What a failed step means for its chain, and with `together` for the others. */
static void on_failed_step(struct chain *chain, const struct worker_answer *answer)
{
    bool was_undoing = chain->undoing;
    record_failure(chain, answer);
    bool dead = strcmp(answer->code, "ETIMEDOUT") == 0 && !answer->members;
    if (was_undoing || dead || strcmp(answer->code, "EPIPE") == 0) {
        finish(chain);
    } else if (chain->committed) {
        finish(chain);
    } else {
        start_undo(chain);
    }
    if (!was_undoing && !chain->committed && chain->act->plan.together)
        chain->act->joint_failure = true;
}

static void keep_facts(struct chain *chain, const struct worker_answer *answer)
{
    struct err err = ERR_INIT;
    struct act_device *result = &chain->result;
    const struct plan_step *step = step_of(chain);
    if (step->step == WORKER_QUERY && worker_report(answer, &result->report, &err) == 0)
        result->report_valid = true;
    if (step->step == WORKER_VERIFY)
        result->verified = cc_mode_parse(step->argument);
    if (step->step == WORKER_STAGE && chain->undoing)
        result->staged_back = true;
    if (step->step == WORKER_UNBIND)
        worker_answer_text(answer, "driver", result->was_driver, sizeof result->was_driver);
}

static void on_answer(void *arg, const struct worker_answer *answer)
{
    struct chain *chain = arg;
    struct act *act = chain->act;
    chain->running = false;
    if (act->callbacks.on_step)
        act->callbacks.on_step(act->callbacks.arg, chain->device, step_of(chain), answer);
    if (answer->ok) {
        keep_facts(chain, answer);
        chain->at++;
    } else {
        on_failed_step(chain, answer);
    }
    if (!chain->over)
        advance(chain);
    wake_all(act);
}

static bool must_wait(const struct chain *chain)
{
    const struct act *act = chain->act;
    if (!act->plan.together || chain->undoing || !step_of(chain)->barrier || act->joint_failure)
        return false;
    for (size_t i = 0; i < act->n; i++) {
        const struct chain *other = &act->chains[i];
        if (!other->over && !other->undoing && other->at < chain->at)
            return true;
    }
    return false;
}

static void advance(struct chain *chain)
{
    struct act *act = chain->act;
    if (!chain->worker) { /* it could not be started: told from the loop, as everything */
        finish(chain);
        return;
    }
    if (act->joint_failure && !chain->undoing && !chain->committed) {
        if (chain->result.result == ACT_DONE)
            chain->result.result = ACT_UNDONE;
        start_undo(chain);
    }
    if (chain->at >= length_of(chain)) {
        chain->result.undone = chain->undoing && chain->at > 0;
        finish(chain);
        return;
    }
    if (act->stopping) {
        if (chain->result.result == ACT_DONE)
            chain->result.result = ACT_STOPPED;
        finish(chain);
        return;
    }
    chain->waiting = must_wait(chain);
    if (chain->waiting)
        return;
    const struct plan_step *step = step_of(chain);
    if (step->point_of_no_return && !chain->undoing)
        chain->committed = true;
    if (act->callbacks.on_step)
        act->callbacks.on_step(act->callbacks.arg, chain->device, step, NULL);
    chain->running = true;
    worker_step(chain->worker, step->step, step->argument, on_answer, chain);
}

static void on_kick(void *arg)
{
    struct act *act = arg;
    act->kick = NULL;
    bool all_over = true;
    for (size_t i = 0; i < act->n; i++) {
        struct chain *chain = &act->chains[i];
        if (!chain->over && !chain->running)
            advance(chain);
        all_over = all_over && chain->over;
    }
    if (!all_over)
        return;
    struct act_device *results = xcalloc(act->plan.n, sizeof *results);
    for (size_t i = 0; i < act->n; i++)
        results[act->chains[i].device] = act->chains[i].result;
    act->callbacks.on_done(act->callbacks.arg, results, act->plan.n);
    free(results);
    loop_cancel(act->kick);
    worker_close(act->node);
    free(act->chains);
    free(act);
}

/* Barriers and endings are looked at from the loop, never from inside another chain's callback. */
static void wake_all(struct act *act)
{
    if (!act->kick)
        act->kick = loop_add_timer(act->loop, 0, on_kick, act);
}

static void open_chain(struct act *act, size_t device, const char *bdf)
{
    struct chain *chain = &act->chains[act->n++];
    struct err err = ERR_INIT;
    *chain = (struct chain){.act = act, .device = device};
    (void)snprintf(chain->bdf, sizeof chain->bdf, "%s", bdf);
    chain->result.result = ACT_DONE; /* until something says otherwise */
    chain->result.started_ms = loop_now_ms(act->loop);
    chain->worker = worker_open_users_known(act->workers, bdf, &err);
    if (!chain->worker) {
        struct worker_answer answer = {.step = plan_of(chain)->steps[0].step};
        (void)snprintf(answer.error, sizeof answer.error, "%.390s", err.msg);
        record_failure(chain, &answer);
        if (act->plan.together)
            act->joint_failure = true;
    }
}

static void on_module_loaded(void *arg, const struct worker_answer *answer)
{
    /* a module that cannot be loaded shows in the bind step, with the device's name; nothing is decided here */
    struct act *act = arg;
    if (act->callbacks.on_step) {
        struct plan_step step = {.step = answer->step};
        (void)snprintf(step.argument, sizeof step.argument, "%s", act->plan.vfio_module);
        act->callbacks.on_step(act->callbacks.arg, act->plan.n, &step, answer);
    }
    wake_all(act);
}

struct act *act_start(struct workers *workers, struct loop *loop, const struct plan *plan,
                      const struct observed *observed, const struct act_callbacks *callbacks)
{
    struct act *act = xcalloc(1, sizeof *act);
    act->workers = workers;
    act->loop = loop;
    act->plan = *plan;
    act->callbacks = *callbacks;
    act->chains = xcalloc(plan->n, sizeof *act->chains);
    for (size_t i = 0; i < plan->n; i++) {
        if (plan->devices[i].n_steps > 0)
            open_chain(act, i, observed->devices[i].dev.bdf);
    }
    struct err err = ERR_INIT;
    if (plan->load_vfio)
        act->node = worker_open(workers, "node", &err);
    if (act->node)
        worker_step(act->node, WORKER_LOAD_MODULE, plan->vfio_module, on_module_loaded, act);
    else
        wake_all(act);
    return act;
}

void act_stop(struct act *act)
{
    act->stopping = true;
    wake_all(act);
}

void act_abandon(struct act *act)
{
    for (size_t i = 0; i < act->n; i++)
        worker_close(act->chains[i].worker);
    worker_close(act->node);
    loop_cancel(act->kick);
    free(act->chains);
    free(act);
}
