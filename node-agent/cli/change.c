#include "node-agent/cli/change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cli/cdi_files.h"
#include "node-agent/cli/progress.h"
#include "node-agent/cli/record.h"
#include "node-agent/gpu/group.h"

#define LOOK_AGAIN_MS 500 /* while waiting for users: a look costs a scan of /proc */

struct run {
    struct cli *cli;
    const struct change_wish *wish;
    struct change *change;
    struct progress *progress;
    struct intent intent;
    struct plan plan;
    struct act *act;
    bool act_done;
    bool told_waiting;
    bool agent; /* an agent works on this host: CDI files and journal are its own */
    size_t places[NV_MAX_DEVICES]; /* observed.devices -> change.devices; n = not chosen */
};

const char *change_result_name(enum change_result result)
{
    static const char *const names[] = {[CHANGE_NONE] = "unchanged",
                                        [CHANGE_DONE] = "changed",
                                        [CHANGE_REFUSED] = "refused",
                                        [CHANGE_FAILED] = "failed"};
    return names[result];
}

/* ---- choosing ---- */

static void keep_chosen(struct run *run)
{
    struct cli *cli = run->cli;
    struct change *change = run->change;
    change->devices = xcalloc(cli->n_chosen, sizeof *change->devices);
    for (size_t i = 0; i < cli->observed.n; i++) {
        const struct nv_device *dev = &cli->observed.devices[i].dev;
        if (!cli->chosen[i])
            continue;
        struct change_device *c = &change->devices[change->n++];
        (void)snprintf(c->bdf, sizeof c->bdf, "%s", dev->bdf);
        (void)snprintf(c->name, sizeof c->name, "%s", dev->name);
        (void)snprintf(c->from_driver, sizeof c->from_driver, "%s", dev->driver);
        c->started_ms = loop_now_ms(cli->loop);
    }
}

/* The same devices after another look, wherever they are in the list now. */
static void find_chosen(struct run *run)
{
    struct cli *cli = run->cli;
    for (size_t i = 0; i < cli->observed.n; i++) {
        run->places[i] = run->change->n;
        for (size_t k = 0; k < run->change->n; k++)
            if (strcmp(cli->observed.devices[i].dev.bdf, run->change->devices[k].bdf) == 0)
                run->places[i] = k;
        cli->chosen[i] = run->places[i] < run->change->n;
    }
}

/* ---- the wish ---- */

/* A change that was killed leaves its device without a driver; the override still says where it belongs. */
static bool was_unbound_for_a_change(const struct nv_device *dev)
{
    return !*dev->driver && group_driver_is_vfio(dev->driver_override);
}

static void make_intent(struct run *run)
{
    const struct cli *cli = run->cli;
    bool gpus = false;
    run->intent = (struct intent){.n = cli->observed.n, .mode = run->wish->mode};
    for (size_t i = 0; i < cli->observed.n; i++)
        gpus = gpus || (cli->chosen[i] && cli->observed.devices[i].dev.kind == NV_KIND_GPU);
    for (size_t i = 0; i < cli->observed.n; i++) {
        struct device_intent *wish = &run->intent.devices[i];
        *wish = (struct device_intent){.managed = cli->chosen[i],
                                       .mode = run->wish->mode,
                                       .binding = run->wish->binding,
                                       .source = "command line"};
        if (wish->binding == BINDING_LEAVE &&
            was_unbound_for_a_change(&cli->observed.devices[i].dev))
            wish->binding = BINDING_VFIO;
        /* in the CC modes of GPUs the switches are off; switches alone are taken at their word, and refused */
        if (gpus && cli->observed.devices[i].dev.kind == NV_KIND_NVSWITCH &&
            wish->mode != CC_MODE_UNKNOWN && wish->mode != CC_MODE_PPCIE)
            wish->mode = CC_MODE_OFF;
    }
}

/* ppcie is a mode of the whole fabric, on the way in and on the way out. */
static int check_fabric(const struct run *run)
{
    const struct cli *cli = run->cli;
    bool concerned = run->wish->mode == CC_MODE_PPCIE;
    for (size_t i = 0; i < cli->observed.n && run->wish->mode != CC_MODE_UNKNOWN; i++)
        concerned =
            concerned || (cli->chosen[i] && cli->observed.devices[i].knowledge != KNOWN_NOT &&
                          cli->observed.devices[i].report.active == CC_MODE_PPCIE);
    for (size_t i = 0; i < cli->observed.n && concerned; i++) {
        const struct nv_device *dev = &cli->observed.devices[i].dev;
        if (!cli->chosen[i] && intent_belongs_to_fabric(dev))
            return cli_complain(
                CLI_IMPOSSIBLE,
                "ppcie concerns all GPUs and NVSwitches of a host together, and %s (%s) "
                "is not selected; leave the selector away",
                dev->bdf, dev->name);
    }
    return CLI_OK;
}

/* Binding does not look at the mode: what it is must not be asked for. */
static void ignore_modes(struct run *run)
{
    for (size_t i = 0; i < run->cli->observed.n; i++) {
        struct observed_device *d = &run->cli->observed.devices[i];
        d->knowledge = KNOWN_REGISTERS;
        d->report =
            (struct nv_report){.active = CC_MODE_OFF, .pending = CC_MODE_OFF, .booted = true};
    }
}

static void make_plan(struct run *run, const struct observed *observed)
{
    const struct cli *cli = run->cli;
    struct plan_options options = {
        .busy = BUSY_FAIL,
        .failure = cli->config.failure_policy,
        .vfio_driver = cli->options.driver,
        .manage_vfio = true,
        .no_reset = cli->options.no_reset,
        .now_ms = loop_now_ms(cli->loop),
    };
    plan_make(&options, &run->intent, observed, &cli->journal, &run->plan);
}

/* ---- dry run ---- */

/* Without reading: as if every idle device were in another mode and able to do all. */
static int dry_run(struct run *run)
{
    struct cli *cli = run->cli;
    AUTO_FREE struct observed *assumed = xcalloc(1, sizeof *assumed);
    bool assumes = false;
    *assumed = cli->observed;
    for (size_t i = 0; i < assumed->n && run->wish->mode != CC_MODE_UNKNOWN; i++) {
        struct observed_device *d = &assumed->devices[i];
        if (!cli->chosen[i] || d->knowledge != KNOWN_NOT || !*d->dev.chip)
            continue;
        bool is_switch = d->dev.kind == NV_KIND_NVSWITCH;
        enum cc_mode other =
            run->intent.devices[i].mode == CC_MODE_OFF && !is_switch ? CC_MODE_ON : CC_MODE_OFF;
        d->knowledge = KNOWN_REGISTERS;
        d->report = (struct nv_report){.active = other, .pending = other, .booted = true};
        d->report.capable_modes = CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_PPCIE);
        if (!is_switch)
            d->report.capable_modes |= CC_MODE_BIT(CC_MODE_ON) | CC_MODE_BIT(CC_MODE_DEVTOOLS);
        assumes = assumes || !cli_in_use(assumed, i);
    }
    make_plan(run, assumed);
    if (assumes && !cli->options.json)
        (void)printf("nothing is touched; modes are not read either, since that wakes the devices. "
                     "The steps are "
                     "those for devices\nthat are not in the wanted mode yet; a device that is "
                     "gets none.\n");
    if (cli->options.json)
        plan_print_json(&run->plan, &run->intent, &cli->observed, stdout);
    else
        plan_print_text(&run->plan, &run->intent, &cli->observed, stdout);
    int status = CLI_OK;
    for (size_t i = 0; i < run->plan.n; i++) {
        if (run->plan.devices[i].decision == DECISION_BUSY)
            status = cli_worse(status, CLI_IN_USE);
        if (run->plan.devices[i].decision == DECISION_REFUSED)
            status = cli_worse(status, CLI_IMPOSSIBLE);
    }
    run->change->n = 0;
    return status;
}

/* ---- acting ---- */

static struct change_device *device_at(struct run *run, size_t i)
{
    return run->places[i] < run->change->n ? &run->change->devices[run->places[i]] : NULL;
}

static void on_step(void *arg, size_t i, const struct plan_step *step,
                    const struct worker_answer *answer)
{
    struct run *run = arg;
    struct change_device *c = device_at(run, i);
    char text[64];
    if (!c)
        return;
    (void)snprintf(text, sizeof text, "%s%s%s", worker_step_name(step->step),
                   *step->argument ? " " : "", step->argument);
    if (!answer) {
        progress_say(run->progress, c->bdf, c->name, text, false);
        return;
    }
    log_debug("step", "bdf", c->bdf, "step", text, "ok", answer->ok ? "true" : "false", "error",
              answer->error, NULL);
    if (c->n_steps == CHANGE_MAX_STEPS)
        return;
    struct change_step *s = &c->steps[c->n_steps++];
    *s = (struct change_step){.ok = answer->ok, .ms = answer->ms};
    (void)snprintf(s->text, sizeof s->text, "%.47s", text);
}

/* What act says of a device, in the words of the command. */
static void take_result(struct run *run, size_t i, const struct act_device *act)
{
    struct change_device *c = device_at(run, i);
    if (!c || act->result == ACT_NOTHING)
        return;
    bool done = act->result == ACT_DONE;
    c->status = done ? CLI_OK : CLI_FAILED;
    if (act->result == ACT_FAILED)
        c->status = cli_status_of(act->failed_code, act->failed_step);
    c->result = done ? CHANGE_DONE : c->status == CLI_FAILED ? CHANGE_FAILED : CHANGE_REFUSED;
    c->acted = true;
    c->duration_ms = act->ended_ms - c->started_ms;
    if (act->verified != CC_MODE_UNKNOWN)
        c->to = act->verified;
    if (act->result == ACT_STOPPED)
        (void)snprintf(c->error, sizeof c->error,
                       "stopped on request after step %zu; run the same command again to finish",
                       c->n_steps);
    else if (act->result == ACT_UNDONE)
        (void)snprintf(c->error, sizeof c->error, "put back, because another device failed");
    else if (!done)
        (void)snprintf(c->error, sizeof c->error, "%s%s", act->error,
                       !act->undone       ? ""
                       : act->staged_back ? "; what was staged is put back"
                                          : "; its driver is put back");
}

static void on_device(void *arg, size_t i, const struct act_device *act)
{
    struct run *run = arg;
    take_result(run, i, act);
    const struct change_device *c = device_at(run, i);
    if (!c || act->result == ACT_NOTHING)
        return;
    const char *word = act->verified != CC_MODE_UNKNOWN ? cc_mode_name(act->verified) : "done";
    progress_say(run->progress, c->bdf, c->name, c->result == CHANGE_DONE ? word : c->error, true);
}

static void on_done(void *arg, const struct act_device *results, size_t n)
{
    struct run *run = arg;
    struct cli *cli = run->cli;
    for (size_t i = 0; i < n; i++) {
        struct observed_device *d = &cli->observed.devices[i];
        take_result(run, i, &results[i]);
        if (results[i].verified == CC_MODE_UNKNOWN)
            continue;
        struct nv_report report = d->report;
        report.active = report.pending = results[i].verified;
        memory_read(&cli->memory, d->dev.bdf, &report, loop_now_ms(cli->loop));
    }
    if (!run->agent)
        record_after(cli, &run->intent, results, n);
    run->act = NULL;
    run->act_done = true;
}

static void on_interrupt(void *arg)
{
    struct run *run = arg;
    progress_note(run->progress, "stopping after the running steps; once more to end at once");
    if (run->act)
        act_stop(run->act);
}

static int act_on_plan(struct run *run)
{
    struct cli *cli = run->cli;
    struct err err = ERR_INIT;
    bool touched[NV_MAX_DEVICES];
    for (size_t i = 0; i < run->plan.n; i++)
        touched[i] = run->plan.devices[i].n_steps > 0;
    if (!run->agent && (record_before(cli, &run->intent, &run->plan, &err) < 0 ||
                        cdi_files_update(cli, touched, &err) < 0))
        return cli_complain(CLI_FAILED, "nothing was touched: %s", err.msg);
    struct act_callbacks callbacks = {
        .on_step = on_step, .on_device = on_device, .on_done = on_done, .arg = run};
    run->act_done = false;
    run->act = act_start(cli->workers, cli->loop, &run->plan, &cli->observed, &callbacks);
    cli->interrupt_arg = run;
    cli->on_interrupt = on_interrupt;
    cli_run_until(cli, &run->act_done);
    return CLI_OK;
}

/* ---- rounds ---- */

static void take_decisions(struct run *run, size_t *ret_busy)
{
    struct cli *cli = run->cli;
    *ret_busy = 0;
    for (size_t i = 0; i < run->plan.n; i++) {
        const struct device_plan *plan = &run->plan.devices[i];
        const struct observed_device *d = &cli->observed.devices[i];
        struct change_device *c = device_at(run, i);
        if (!c)
            continue;
        if (c->from == CC_MODE_UNKNOWN && d->knowledge != KNOWN_NOT)
            c->from = c->to = d->report.active;
        if (c->acted)
            continue;
        c->duration_ms = loop_now_ms(cli->loop) - c->started_ms;
        bool busy = plan->decision == DECISION_BUSY, refused = plan->decision == DECISION_REFUSED;
        *ret_busy += busy;
        c->result = busy || refused ? CHANGE_REFUSED : CHANGE_NONE;
        c->status = busy ? CLI_IN_USE : refused ? CLI_IMPOSSIBLE : CLI_OK;
        (void)snprintf(c->error, sizeof c->error, "%s", busy || refused ? plan->reason : "");
        if (refused && d->knowledge == KNOWN_REGISTERS && (*d->report.fault || !d->report.booted)) {
            c->result = CHANGE_FAILED; /* broken, not unable */
            c->status = CLI_FAILED;
        }
        if (plan->decision == DECISION_QUERY || plan->decision == DECISION_WAIT) {
            c->status = cli_status_of(cli->read_code[i], WORKER_QUERY);
            c->result = c->status == CLI_FAILED ? CHANGE_FAILED : CHANGE_REFUSED;
            *ret_busy += c->status == CLI_IN_USE;
            (void)snprintf(c->error, sizeof c->error, "%s",
                           *d->error       ? d->error
                           : *plan->reason ? plan->reason
                                           : "not readable");
        }
    }
}

/* A chain that would only read again what could not be read has no use here. */
static void drop_queries(struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++)
        if (plan->devices[i].decision == DECISION_QUERY)
            plan->devices[i].n_steps = 0;
}

static void drop_finished(struct run *run)
{
    run->plan.changes = false;
    for (size_t i = 0; i < run->plan.n; i++) {
        const struct change_device *c = device_at(run, i);
        if (c && c->acted)
            run->plan.devices[i].n_steps = 0;
        run->plan.changes = run->plan.changes || run->plan.devices[i].n_steps > 0;
    }
}

static void set_done(void *arg)
{
    *(bool *)arg = true;
}

/* Once, with names: whoever waits wants to know for what. */
static void tell_waiting(struct run *run, const char *note)
{
    run->told_waiting = true;
    for (size_t k = 0; k < run->change->n; k++)
        if (run->change->devices[k].status == CLI_IN_USE)
            (void)fprintf(stderr, "ccnode: %s: %s %s\n", note, run->change->devices[k].bdf,
                          run->change->devices[k].error);
}

/* Return: whether to look again. */
static bool wait_for_users(struct run *run, size_t busy, int64_t until_ms)
{
    struct cli *cli = run->cli;
    int64_t left = until_ms < 0 ? LOOK_AGAIN_MS : until_ms - loop_now_ms(cli->loop);
    if (!cli->options.wait_when_busy || cli->interrupted || left <= 0)
        return false;
    char note[100];
    bool done = false;
    (void)snprintf(note, sizeof note, "waiting for %zu device%s in use", busy,
                   busy == 1 ? "" : "s");
    if (!run->told_waiting)
        tell_waiting(run, note);
    progress_note(run->progress, note);
    (void)loop_add_timer(cli->loop, left < LOOK_AGAIN_MS ? left : LOOK_AGAIN_MS, set_done, &done);
    cli_run_until(cli, &done);
    progress_note(run->progress, "");
    return true;
}

/* One round: look (the first look is done), plan, act. Return: CLI_OK or a status after a complaint. */
static int one_round(struct run *run, bool first, size_t *ret_busy)
{
    struct cli *cli = run->cli;
    struct err err = ERR_INIT;
    if (!first && cli_look(cli, true, &err) < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    find_chosen(run);
    if (run->wish->mode == CC_MODE_UNKNOWN)
        ignore_modes(run);
    else
        cli_read_modes(cli);
    int r = check_fabric(run);
    if (r != CLI_OK)
        return r;
    make_intent(run);
    make_plan(run, &cli->observed);
    take_decisions(run, ret_busy);
    drop_queries(&run->plan);
    drop_finished(run);
    return run->plan.changes ? act_on_plan(run) : CLI_OK;
}

static void finish(struct run *run)
{
    struct cli *cli = run->cli;
    struct err err = ERR_INIT;
    for (size_t k = 0; k < run->change->n; k++) {
        struct change_device *c = &run->change->devices[k];
        run->change->status = cli_worse(run->change->status, c->status);
    }
    /* drivers, nodes and group numbers as they are now */
    if (cli_look(cli, false, &err) < 0)
        return;
    find_chosen(run);
    for (size_t i = 0; i < cli->observed.n; i++) {
        struct change_device *c = device_at(run, i);
        if (c)
            (void)snprintf(c->to_driver, sizeof c->to_driver, "%s",
                           cli->observed.devices[i].dev.driver);
    }
    bool none[NV_MAX_DEVICES] = {false};
    if (!run->agent && cdi_files_update(cli, none, &err) < 0) {
        cli_warn("%s", err.msg);
        run->change->status = cli_worse(run->change->status, CLI_FAILED);
    }
}

static void warn_of_agent(struct run *run)
{
    int pid = cli_agent_pid(&run->cli->host);
    run->agent = pid > 0;
    if (pid > 0 && !run->cli->options.dry_run)
        cli_warn("ccnode-agent (pid %d) manages this host and will bring its devices back to what "
                 "the label of the "
                 "node says; better set nvidia.com/cc.mode there",
                 pid);
}

int change_run(struct cli *cli, const struct change_wish *wish, struct change *ret)
{
    struct err err = ERR_INIT;
    AUTO_FREE struct run *run = xcalloc(1, sizeof *run); /* large */
    *ret = (struct change){0};
    *run = (struct run){.cli = cli, .wish = wish, .change = ret};
    if (cli_look(cli, true, &err) < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    int r = cli_choose(cli);
    if (r != CLI_OK)
        return r;
    warn_of_agent(run);
    keep_chosen(run);
    if (cli->options.dry_run) {
        find_chosen(run);
        if (wish->mode == CC_MODE_UNKNOWN)
            ignore_modes(run);
        make_intent(run);
        r = check_fabric(run);
        return r == CLI_OK ? dry_run(run) : r;
    }
    if (wish->mode != CC_MODE_UNKNOWN && wish->mode != CC_MODE_OFF && !cli->observed.snp &&
        !cli->observed.tdx)
        cli_warn("this host cannot start confidential guests: neither SEV-SNP nor TDX is on; "
                 "ccnode preflight says "
                 "what to do");
    int64_t until = cli->options.wait_ms < 0 ? -1 : loop_now_ms(cli->loop) + cli->options.wait_ms;
    run->progress = progress_new(cli->loop, cli->options.json);
    size_t busy = 0;
    bool first = true;
    do {
        r = one_round(run, first, &busy);
        first = false;
    } while (r == CLI_OK && busy > 0 && wait_for_users(run, busy, until));
    if (r == CLI_OK)
        finish(run);
    progress_free(run->progress);
    cli->on_interrupt = NULL;
    return r;
}

void change_free(struct change *change)
{
    free(change->devices);
    *change = (struct change){0};
}
