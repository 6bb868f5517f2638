/* Commands that look at or change the hardware: the model's shared state. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "simulator/tree/ctl.h"
#include "simulator/tree/out.h"

static bool is_bridge(struct ctl *ctl, int hw)
{
    return model_desc(ctl->model, hw)->class_code >> 8 == 0x0604;
}

static void print_faults(struct ctl *ctl, int hw)
{
    out_map("faults");
    for (int f = 0; model_fault_name(f); f++)
        if (model_fault(ctl->model, hw, f))
            out_number(model_fault_name(f), model_fault(ctl->model, hw, f));
    out_map_end();
}

static void print_mode(struct ctl *ctl, int hw)
{
    out_text("mode", model_mode_name(model_active(ctl->model, hw)));
}

static void print_counters(struct ctl *ctl, int hw)
{
    struct model_counters c = model_counters(ctl->model, hw);
    out_number("resets", (int64_t)c.resets);
    out_number("flr", (int64_t)c.flr);
    out_number("sbr", (int64_t)c.sbr);
    out_number("reads", (int64_t)c.reads);
    out_number("writes", (int64_t)c.writes);
    out_number("config_reads", (int64_t)c.config_reads);
    out_number("config_writes", (int64_t)c.config_writes);
    out_number("rpcs", (int64_t)c.rpcs);
    out_number("unknown", (int64_t)c.unknown);
    if (c.unknown)
        out_hex("last_unknown", c.last_unknown, 6);
}

static void print_state(struct ctl *ctl, int hw)
{
    const struct model_desc *d = model_desc(ctl->model, hw);
    out_object();
    out_text("bdf", d->bdf);
    out_hex("vendor", d->vendor_id, 4);
    out_hex("device", d->device_id, 4);
    print_mode(ctl, hw);
    out_bool("dead", model_dead(ctl->model, hw));
    out_bool("config_ready", model_config_ready(ctl->model, hw));
    out_number("vfio_opens", model_vfio_opens(ctl->model, hw));
    out_number("map_generation", model_map_generation(ctl->model, hw));
    print_counters(ctl, hw);
    print_faults(ctl, hw);
    out_object_end();
}

static void print_modes(struct ctl *ctl, int hw)
{
    out_object();
    out_text("bdf", model_desc(ctl->model, hw)->bdf);
    print_mode(ctl, hw);
    out_object_end();
}

static void print_counter_line(struct ctl *ctl, int hw)
{
    out_object();
    out_text("bdf", model_desc(ctl->model, hw)->bdf);
    print_counters(ctl, hw);
    out_object_end();
}

/* one device as an object, or all as a list */
static int each(struct ctl *ctl, void (*print)(struct ctl *ctl, int hw))
{
    if (ctl->argc > 0) {
        int hw = ctl_device(ctl, ctl->argv[0]);
        if (hw >= 0)
            print(ctl, hw);
        return hw < 0 ? hw : 0;
    }
    out_list();
    for (int hw = 0; hw < model_count(ctl->model); hw++)
        if (!is_bridge(ctl, hw))
            print(ctl, hw);
    out_list_end();
    return 0;
}

int ctl_state(struct ctl *ctl)
{
    return each(ctl, print_state);
}

int ctl_modes(struct ctl *ctl)
{
    return each(ctl, print_modes);
}

int ctl_counters(struct ctl *ctl)
{
    return each(ctl, print_counter_line);
}

int ctl_knobs(struct ctl *ctl)
{
    int hw = ctl_device(ctl, ctl->argv[0]);
    uint64_t id = 0, value = 0;
    if (hw < 0)
        return hw;
    if (ctl->argc == 3) {
        int r = ctl_number(ctl, ctl->argv[1], MODEL_KNOBS - 1, &id);
        if (r == 0)
            r = ctl_number(ctl, ctl->argv[2], 0xffff, &value);
        if (r == 0 && model_set_knob(ctl->model, hw, (unsigned)id, (uint16_t)value) < 0)
            r = err_set(&ctl->err, ENOENT, "%s has no knob %s", ctl->argv[0], ctl->argv[1]);
        return r;
    }
    if (ctl->argc == 2)
        return err_set(&ctl->err, EINVAL, "knobs DEV, or knobs DEV ID VALUE");
    out_object();
    out_text("bdf", model_desc(ctl->model, hw)->bdf);
    out_map("knobs");
    for (unsigned i = 1; i < MODEL_KNOBS; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "%u", i);
        if (model_knob(ctl->model, hw, i) >= 0)
            out_number(key, model_knob(ctl->model, hw, i));
    }
    out_map_end();
    out_object_end();
    return 0;
}

/* --- trace ------------------------------------------------------------------------------------------------- */
static void print_access(struct ctl *ctl, const struct model_access *a)
{
    char op[2] = {a->op, '\0'};
    out_object();
    out_text("op", op);
    out_text("bdf", model_desc(ctl->model, a->hw)->bdf);
    if (a->op == 'X') {
        out_text("reset", a->offset == MODEL_RESET_FLR ? "flr" : "sbr");
    } else {
        if (a->op == 'R' || a->op == 'W')
            out_number("bar", a->bar);
        out_hex("offset", a->offset, 6);
        out_hex("value", a->value, 8);
    }
    out_object_end();
}

static int print_trace(struct ctl *ctl, int only)
{
    static struct model_access buf[1024];
    uint64_t cursor = 0;
    int lapped = 0, n;
    out_list();
    while ((n = model_trace_read(ctl->model, &cursor, buf, ARRAY_LEN(buf))) != 0) {
        if (n == -EOVERFLOW && lapped++ < 8)
            continue;
        if (n < 0)
            return err_set(&ctl->err, -n, "the trace is written faster than it can be read");
        for (int i = 0; i < n; i++)
            if (only < 0 || buf[i].hw == only)
                print_access(ctl, &buf[i]);
    }
    out_list_end();
    return 0;
}

int ctl_trace(struct ctl *ctl)
{
    const char *what = ctl->argc > 0 ? ctl->argv[0] : "";
    if (strcmp(what, "on") == 0 || strcmp(what, "off") == 0) {
        model_trace(ctl->model, strcmp(what, "on") == 0);
        return 0;
    }
    int only = *what ? ctl_device(ctl, what) : -1;
    return *what && only < 0 ? only : print_trace(ctl, only);
}

static void print_time(const char *key, int64_t ns)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld.%09lld", (long long)(ns / 1000000000),
                   (long long)(ns % 1000000000));
    out_text(key, text);
}

int ctl_events(struct ctl *ctl)
{
    static struct model_event buf[256];
    uint64_t cursor = 0;
    int n, r = ctl->argc > 0 ? ctl_number(ctl, ctl->argv[0], UINT32_MAX, &cursor) : 0;
    if (r < 0)
        return r;
    out_list();
    while ((n = model_events_read(ctl->model, &cursor, buf, ARRAY_LEN(buf))) > 0) {
        for (int i = 0; i < n; i++) {
            const struct model_event *e = &buf[i];
            out_object();
            out_text("event", e->reset ? "reset" : "knob");
            out_text("bdf", model_desc(ctl->model, e->hw)->bdf);
            out_text("active", model_mode_name((enum model_mode)e->active));
            out_text("pending", model_mode_name((enum model_mode)e->pending));
            out_number("number", (int64_t)e->number);
            print_time("time", e->time_ns);
            print_time("booted", e->booted_ns);
            out_object_end();
        }
    }
    out_list_end();
    return 0;
}

/* --- faults ------------------------------------------------------------------------------------------------ */
int ctl_faults(struct ctl *ctl)
{
    if (ctl->argc > 0) {
        int hw = ctl_device(ctl, ctl->argv[0]);
        if (hw < 0)
            return hw;
        out_object();
        out_text("bdf", model_desc(ctl->model, hw)->bdf);
        print_faults(ctl, hw);
        out_object_end();
        return 0;
    }
    out_list();
    for (int f = 0; model_fault_name(f); f++) {
        out_object();
        out_text("name", model_fault_name(f));
        out_text("help", model_fault_help(f));
        out_object_end();
    }
    out_list_end();
    return 0;
}

static bool is_all(const char *text)
{
    return strcmp(text, "all") == 0;
}

int ctl_fault(struct ctl *ctl)
{
    uint64_t value = 1;
    int f = model_fault_by_name(ctl->argv[1]);
    int hw = is_all(ctl->argv[0]) ? -1 : ctl_device(ctl, ctl->argv[0]);
    if (!is_all(ctl->argv[0]) && hw < 0)
        return hw;
    if (f < 0)
        return err_set(&ctl->err, EINVAL, "no fault '%s': see ccnode-sim ctl faults", ctl->argv[1]);
    int r = ctl->argc > 2 ? ctl_number(ctl, ctl->argv[2], 0x7fffffff, &value) : 0;
    if (r < 0)
        return r;
    for (int i = 0; i < model_count(ctl->model); i++)
        if (hw == i || (hw < 0 && !is_bridge(ctl, i)))
            model_fault_set(ctl->model, i, f, (int)value);
    return ctl_ask(ctl, "refresh", "1");
}

int ctl_clear(struct ctl *ctl)
{
    bool all = ctl->argc == 0 || is_all(ctl->argv[0]);
    int hw = all ? -1 : ctl_device(ctl, ctl->argv[0]);
    if (!all && hw < 0)
        return hw;
    for (int i = 0; i < model_count(ctl->model); i++)
        for (int f = 0; (all || i == hw) && model_fault_name(f); f++)
            model_fault_set(ctl->model, i, f, 0);
    return ctl_ask(ctl, "refresh", "1");
}

/* --- time -------------------------------------------------------------------------------------------------- */
int ctl_delays(struct ctl *ctl)
{
    uint64_t ms = 0;
    if (ctl->argc == 2) {
        int r = ctl_number(ctl, ctl->argv[1], 3600000, &ms);
        if (r < 0)
            return r;
        for (int d = 0; model_delay_name(d); d++) {
            if (strcmp(model_delay_name(d), ctl->argv[0]) != 0)
                continue;
            model_delay_set(ctl->model, d, (uint32_t)ms);
            return 0;
        }
        return err_set(&ctl->err, EINVAL, "no delay '%s': see ccnode-sim ctl delays", ctl->argv[0]);
    }
    if (ctl->argc == 1)
        return err_set(&ctl->err, EINVAL, "delays, or delays NAME MILLISECONDS");
    out_object();
    out_text("unit", "ms");
    for (int d = 0; model_delay_name(d); d++)
        out_number(model_delay_name(d), model_delay(ctl->model, d));
    out_object_end();
    return 0;
}

int ctl_scale(struct ctl *ctl)
{
    char *end = NULL;
    double scale = strtod(ctl->argv[0], &end);
    if (end == ctl->argv[0] || *end || !(scale >= 0 && scale <= 1000))
        return err_set(&ctl->err, EINVAL, "scale is 0 to 1000, not '%s'", ctl->argv[0]);
    model_set_scale(ctl->model, scale);
    return ctl_ask(ctl, "refresh", "1");
}

int ctl_advance(struct ctl *ctl)
{
    uint64_t ms = 0;
    int r = ctl_number(ctl, ctl->argv[0], 86400000, &ms);
    if (r < 0)
        return r;
    model_advance_ns(ctl->model, (int64_t)ms * 1000000);
    return ctl_ask(ctl, "refresh", "1");
}

/* --- the rest ---------------------------------------------------------------------------------------------- */
int ctl_drift(struct ctl *ctl)
{
    static const enum model_mode modes[] = {MODEL_MODE_OFF, MODEL_MODE_ON, MODEL_MODE_DEVTOOLS,
                                            MODEL_MODE_PPCIE, MODEL_MODE_INVALID};
    int hw = ctl_device(ctl, ctl->argv[0]);
    if (hw < 0)
        return hw;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(model_mode_name(modes[i]), ctl->argv[1]) != 0)
            continue;
        model_drift(ctl->model, hw, modes[i]);
        return 0;
    }
    return err_set(&ctl->err, EINVAL, "mode is off, on, devtools, ppcie or invalid, not '%s'",
                   ctl->argv[1]);
}

int ctl_lockdown(struct ctl *ctl)
{
    static const char *const levels[] = {"none", "integrity", "confidentiality"};
    if (ctl->argc == 0) {
        int l = model_lockdown(ctl->model);
        out_object();
        out_text("lockdown", levels[l >= 0 && l < 3 ? l : 0]);
        out_object_end();
        return 0;
    }
    for (int i = 0; i < (int)ARRAY_LEN(levels); i++) {
        if (strcmp(levels[i], ctl->argv[0]) != 0)
            continue;
        model_set_lockdown(ctl->model, i);
        return 0;
    }
    return err_set(&ctl->err, EINVAL, "lockdown is none, integrity or confidentiality, not '%s'",
                   ctl->argv[0]);
}
