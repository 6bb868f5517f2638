#include "node-agent/publish.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/advice.h"

struct tally {
    size_t managed, gpus, acting, changing, failed, busy, pending, querying, checking, objected,
        in_place, offered;
    size_t
        awaiting; /* in place as ordered before; they are to be changed when it is the node's turn */
    size_t offered_secure;   /* offered and in on or ppcie */
    size_t offered_devtools; /* offered and in devtools */
    size_t capable, unread;  /* GPUs: that can do mode on; of which nobody knows what they can do */
    bool all_bound, all_verified;
};

static bool is_first_try(const struct publish_device *d)
{
    return !d->retrying && d->acting_ms < PUBLISH_OVERDUE_MS;
}

static bool is_failed(const struct publish_input *in, size_t i)
{
    const struct observed_device *seen = &in->observed->devices[i];
    switch (in->plan->devices[i].decision) {
    case DECISION_REFUSED:
        return true;
    case DECISION_WAIT:
        return seen->quarantined || seen->failures > 0;
    case DECISION_BUSY:
        return in->config->busy_policy == BUSY_FAIL && in->plan->devices[i].evict == false &&
               seen->knowledge != KNOWN_NOT;
    case DECISION_CHANGE:
    case DECISION_QUERY:
    case DECISION_CHECK:
        return seen->failures > 0;
    case DECISION_ACTING:
        return !is_first_try(&in->devices[i]);
    default:
        return false;
    }
}

static enum cc_mode active_mode(const struct publish_input *in, size_t i)
{
    const struct observed_device *seen = &in->observed->devices[i];
    if (seen->knowledge == KNOWN_REGISTERS && seen->report.capable_modes == 0 &&
        !seen->report.unlisted)
        return CC_MODE_OFF; /* a chip without modes */
    return seen->knowledge == KNOWN_NOT ? CC_MODE_UNKNOWN : seen->report.active;
}

static bool binding_is_right(const struct publish_input *in, size_t i)
{
    const struct nv_device *dev = &in->observed->devices[i].dev;
    switch (in->intent->devices[i].binding) {
    case BINDING_VFIO:
        return dev->driver_is_vfio && dev->group_viable;
    case BINDING_RELEASE:
        return !dev->driver_is_vfio;
    case BINDING_LEAVE:
        break;
    }
    return true;
}

static bool is_objected(const struct publish_input *in, size_t i)
{
    const char *objection = in->devices[i].objection;
    return in->plan->devices[i].decision == DECISION_IN_PLACE && objection && *objection;
}

static void count_decision(const struct publish_input *in, size_t i, struct tally *t)
{
    t->acting += in->plan->devices[i].decision == DECISION_ACTING;
    if (is_failed(in, i)) {
        t->failed++;
        return;
    }
    switch (in->plan->devices[i].decision) {
    case DECISION_CHANGE:
        if (in->plan->devices[i].serve) {
            t->awaiting++;
            t->in_place++;
        } else {
            t->changing++;
        }
        break;
    case DECISION_ACTING:
        t->changing++;
        break;
    case DECISION_BUSY:
        t->busy++;
        break;
    case DECISION_WAIT:
        t->pending++;
        break;
    case DECISION_QUERY:
        t->querying++;
        break;
    case DECISION_CHECK:
        t->checking++;
        t->in_place++;
        break;
    case DECISION_IN_PLACE:
        t->in_place++;
        t->objected += is_objected(in, i);
        break;
    default:
        break;
    }
}

static struct tally count(const struct publish_input *in)
{
    struct tally t = {.all_bound = true, .all_verified = true};
    for (size_t i = 0; i < in->observed->n; i++) {
        const struct observed_device *seen = &in->observed->devices[i];
        const struct device_intent *wish = &in->intent->devices[i];
        enum cc_mode active = active_mode(in, i);
        t.gpus += seen->dev.kind == NV_KIND_GPU;
        if (seen->dev.kind == NV_KIND_GPU) {
            t.capable += (seen->report.capable_modes & CC_MODE_BIT(CC_MODE_ON)) != 0;
            t.unread += *seen->dev.chip &&
                        (seen->knowledge != KNOWN_REGISTERS || seen->report.unlisted) &&
                        !seen->capable_known;
        }
        if (!wish->managed)
            continue;
        t.managed++;
        count_decision(in, i, &t);
        t.all_bound = t.all_bound && binding_is_right(in, i);
        t.all_verified = t.all_verified && (active == wish->mode || wish->mode == CC_MODE_UNKNOWN);
        if (!in->devices[i].offered || !in->plan->devices[i].serve)
            continue;
        t.offered++;
        /* an NVSwitch in a CC mode node is off and says nothing about the GPUs */
        bool follows = seen->dev.kind == NV_KIND_NVSWITCH && active == CC_MODE_OFF;
        t.offered_secure += active == CC_MODE_ON || active == CC_MODE_PPCIE || follows;
        t.offered_devtools += active == CC_MODE_DEVTOOLS;
    }
    return t;
}

/* The one verified mode of all managed devices; switches that are off do not count unless there are only switches.
 * Return: the name, "mixed", or NULL when no mode is known. */
static const char *common_mode(const struct publish_input *in)
{
    enum cc_mode common = CC_MODE_UNKNOWN;
    bool ppcie_switch_off = false;
    for (int switches = 0; switches < 2; switches++) {
        for (size_t i = 0; i < in->observed->n; i++) {
            enum cc_mode mode = active_mode(in, i);
            bool is_switch = in->observed->devices[i].dev.kind == NV_KIND_NVSWITCH;
            if (!in->intent->devices[i].managed || mode == CC_MODE_UNKNOWN || is_switch != switches)
                continue;
            if (is_switch && mode == CC_MODE_OFF && common != CC_MODE_UNKNOWN) {
                ppcie_switch_off = ppcie_switch_off || common == CC_MODE_PPCIE;
                continue;
            }
            if (common != CC_MODE_UNKNOWN && mode != common)
                return "mixed";
            common = mode;
        }
    }
    if (ppcie_switch_off || common == CC_MODE_INVALID)
        return "mixed";
    return common == CC_MODE_UNKNOWN ? NULL : cc_mode_name(common);
}

static void set(struct label_wish *label, const char *value)
{
    label->action = LABEL_SET;
    (void)snprintf(label->value, sizeof label->value, "%s", value);
}

static bool a_gpu_is_offered(const struct publish_input *in)
{
    for (size_t i = 0; i < in->observed->n; i++) {
        if (in->intent->devices[i].managed && in->devices[i].offered &&
            in->plan->devices[i].serve && in->observed->devices[i].dev.kind == NV_KIND_GPU)
            return true;
    }
    return false;
}

static void derive_labels(const struct publish_input *in, const struct tally *t,
                          struct published *ret)
{
    const char *state = NULL;
    if (t->changing > 0)
        state = "changing";
    else if (t->awaiting > 0) /* the RuntimeClasses must find in ready.state what is offered */
        state = t->failed > 0 ? "degraded" : common_mode(in);
    else if (t->failed > 0)
        state = t->busy > 0 ? "waiting-busy" : t->in_place > 0 ? "degraded" : "failed";
    else if (t->busy > 0)
        state = "waiting-busy";
    else if (t->pending > 0 || t->querying > 0)
        state = "changing";
    else
        state = common_mode(in);
    if (state && strcmp(state, "degraded") == 0 && in->intent->mode == CC_MODE_PPCIE)
        state = "failed"; /* ppcie needs all */

    bool rule = t->offered > 0 && t->offered_secure == t->offered && a_gpu_is_offered(in);
    const char *ready = "false";
    if (!state || strcmp(state, "changing") == 0 || strcmp(state, "waiting-busy") == 0)
        ready = "false"; /* what is not finished is never ready */
    else if (strcmp(state, "failed") == 0 || t->offered_devtools > 0 ||
             strcmp(state, "devtools") == 0)
        ready = "";
    else if (rule && !*in->observed->stale)
        ready = "true"; /* never from what was seen a while ago */

    if (in->intent->stand_back.mode) { /* cc-manager writes them: one writer per key */
        ret->mode_state.action = ret->ready_state.action = LABEL_KEEP;
    } else if (in->intent->hands_off || t->managed == 0) {
        ret->mode_state.action = ret->ready_state.action = LABEL_DELETE;
    } else {
        if (state)
            set(&ret->mode_state, state);
        else
            ret->mode_state.action = LABEL_DELETE;
        set(&ret->ready_state, ready);
    }
    /* registers and the host alone take it away: a GPU that is held cannot be asked */
    if (t->gpus == 0 || !(in->observed->snp || in->observed->tdx))
        ret->capable.action = LABEL_DELETE;
    else if (t->capable > 0)
        set(&ret->capable, "true");
    else
        ret->capable.action = t->unread > 0 ? LABEL_KEEP : LABEL_DELETE;
    if (t->gpus > 0)
        set(&ret->present, "true");
}

const char *publish_health(const struct publish_input *in, size_t i)
{
    const struct observed_device *seen = &in->observed->devices[i];
    bool in_use = seen->n_holders > 0 || seen->n_pods > 0;
    if (!in->intent->devices[i].managed)
        return "unmanaged";
    if (is_failed(in, i))
        return "failed";
    switch (in->plan->devices[i].decision) {
    case DECISION_IN_PLACE:
        /* what binding it has may be nobody's business here: then it is in order as it is */
        if (is_objected(in, i) && (in_use || in->intent->devices[i].binding != BINDING_LEAVE))
            return in_use ? "busy" : "failed";
        return "healthy";
    case DECISION_BUSY:
        return "busy";
    case DECISION_QUERY:
        return "unknown";
    default:
        if (in->plan->devices[i].serve)
            return "healthy"; /* until its turn */
        return "changing";
    }
}

const char *publish_reason(const struct publish_input *in, size_t i)
{
    const struct device_plan *d = &in->plan->devices[i];
    const struct observed_device *seen = &in->observed->devices[i];
    bool retry = d->decision == DECISION_WAIT || d->decision == DECISION_QUERY ||
                 d->decision == DECISION_CHANGE || d->decision == DECISION_ACTING ||
                 d->decision == DECISION_CHECK;
    if (retry && seen->failures > 0 && *seen->error)
        return seen->error;
    if (is_objected(in, i))
        return in->devices[i].objection;
    return d->reason;
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
    (void)json_object_object_add(object, key, json_object_new_string(text));
}

static char *derive_status(const struct publish_input *in)
{
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < in->observed->n; i++) {
        const struct observed_device *seen = &in->observed->devices[i];
        bool known = seen->knowledge != KNOWN_NOT;
        struct json_object *o = json_object_new_object();
        char reason[200];
        (void)snprintf(reason, sizeof reason, "%s", publish_reason(in, i));
        add_text(o, "bdf", seen->dev.bdf);
        add_text(o, "mode", cc_mode_name(known ? seen->report.active : CC_MODE_UNKNOWN));
        add_text(o, "pending", cc_mode_name(known ? seen->report.pending : CC_MODE_UNKNOWN));
        add_text(o, "health", publish_health(in, i));
        add_text(o, "reason", reason);
        add_text(o, "resource", in->devices[i].resource);
        (void)json_object_array_add(array, o);
    }
    char *text = xstrdup(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PLAIN |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(array);
    return text;
}

static void say(struct published *ret, const char *status, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void say(struct published *ret, const char *status, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)snprintf(ret->cond_status, sizeof ret->cond_status, "%s", status);
    (void)snprintf(ret->cond_reason, sizeof ret->cond_reason, "%s", reason);
    (void)vsnprintf(ret->cond_message, sizeof ret->cond_message, fmt, ap);
    va_end(ap);
}

/* Appends "; BDF: reason" for every device of that health; stops when there is no more room. */
static void list_devices(const struct publish_input *in, const char *health, struct published *ret)
{
    size_t n = strlen(ret->cond_message), room = sizeof ret->cond_message;
    for (size_t i = 0; i < in->observed->n; i++) {
        const char *reason = publish_reason(in, i);
        size_t need = strlen(in->observed->devices[i].dev.bdf) + strlen(reason) + 4;
        if (strcmp(publish_health(in, i), health) != 0)
            continue;
        if (n + need + 8 >= room) {
            (void)snprintf(ret->cond_message + n, room - n, "; ...");
            return;
        }
        n += (size_t)snprintf(ret->cond_message + n, room - n, "; %s: %s",
                              in->observed->devices[i].dev.bdf, reason);
    }
}

static void append(struct published *ret, const char *text)
{
    size_t n = strlen(ret->cond_message);
    if (*text)
        (void)snprintf(ret->cond_message + n, sizeof ret->cond_message - n, "; %s", text);
}

static const char *state_text(const struct published *ret)
{
    return ret->mode_state.action == LABEL_SET ? ret->mode_state.value : "unknown";
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static void list_objections(const struct publish_input *in, struct published *ret)
{
    char text[400];
    for (size_t i = 0; i < in->observed->n; i++) {
        if (!in->intent->devices[i].managed || !is_objected(in, i))
            continue;
        (void)snprintf(text, sizeof text, "%s: %s", in->observed->devices[i].dev.bdf,
                       in->devices[i].objection);
        append(ret, text);
    }
}

static void describe_state(const struct publish_input *in, const struct tally *t,
                           struct published *ret)
{
    const char *ready =
        ret->ready_state.action == LABEL_SET && strcmp(ret->ready_state.value, "true") == 0
            ? "True"
            : "False";
    const char *state = state_text(ret);
    if (*in->observed->stale)
        say(ret, "Unknown", "HostUnreadable", "%s; what is said of the devices was seen before",
            in->observed->stale);
    else if (t->changing > 0 && t->acting == 0 && *in->trouble_reason)
        say(ret, "False", in->trouble_reason, "%zu of %zu devices are to be changed; %s",
            t->changing, t->managed, in->trouble);
    else if (t->changing > 0)
        say(ret, "False", "ChangingMode", "%zu of %zu devices are being changed", t->changing,
            t->managed);
    else if (t->awaiting > 0)
        say(ret, ready, *in->trouble_reason ? in->trouble_reason : "WaitingForLease",
            "%zu of %zu devices are to be changed%s%s", t->awaiting, t->managed,
            *in->trouble_reason ? "; " : "", in->trouble);
    else if (t->failed > 0)
        say(ret, ready, "DeviceFailed", "%zu of %zu devices failed", t->failed, t->managed);
    else if (t->busy > 0)
        say(ret, ready, "WaitingForPods",
            "%zu of %zu devices are in use and follow when they are released", t->busy, t->managed);
    else if (t->pending > 0 || t->querying > 0)
        say(ret, "Unknown", "ReadingModes", "the modes of %zu devices are being read",
            t->querying + t->pending);
    else if (*in->trouble_reason)
        say(ret, ready, in->trouble_reason, "%s", in->trouble);
    else if (strcmp(ready, "True") == 0)
        say(ret, ready, "Ready", "%zu device%s verified in mode %s and offered", t->offered,
            plural(t->offered), state);
    else if (t->objected > 0 && t->offered == 0)
        say(ret, ready, "NotOffered", "%zu of %zu devices verified in mode %s cannot be offered",
            t->objected, t->in_place, state);
    else if (t->checking > 0 && t->offered == 0)
        say(ret, ready, "CheckingDevices",
            "%zu device%s released and checked before %s offered again", t->checking,
            t->checking == 1 ? " was" : "s were", t->checking == 1 ? "it is" : "they are");
    else if (!in->intent->serve)
        say(ret, ready, "ContainerWorkload", "the GPUs belong to the host driver (mode %s)", state);
    else
        say(ret, ready, "NotConfidential", "%zu device%s verified in mode %s", t->in_place,
            plural(t->in_place), state);
    if (t->failed > 0)
        list_devices(in, "failed", ret);
    if (t->busy > 0)
        list_devices(in, "busy", ret);
    if (t->objected > 0)
        list_objections(in, ret);
    if (*in->trouble_reason && strcmp(ret->cond_reason, in->trouble_reason) != 0 &&
        !strstr(ret->cond_message, in->trouble)) /* a device may have said it */
        append(ret, in->trouble);
    for (int kind = 0; in->advice && kind < ADVICE_KINDS; kind++) {
        /* what has to be mended first keeps the reason */
        bool in_order = strcmp(ret->cond_reason, "Ready") == 0 ||
                        strcmp(ret->cond_reason, "NotConfidential") == 0;
        if (in->advice[kind].blocks && in_order)
            (void)snprintf(ret->cond_reason, sizeof ret->cond_reason, "%s",
                           advice_reason((enum advice_kind)kind));
        append(ret, in->advice[kind].text);
    }
}

static void describe(const struct publish_input *in, const struct tally *t, struct published *ret)
{
    const struct stand_back *back = &in->intent->stand_back;
    if (in->intent->hands_off)
        say(ret, "Unknown", "HandsOff", "the workload label says that the devices are not ours");
    else if (t->managed == 0 && *in->observed->stale)
        say(ret, "Unknown", "HostUnreadable", "%s", in->observed->stale);
    else if (t->managed == 0)
        say(ret, "False", "NoDevices", "no NVIDIA GPU or NVSwitch to manage on this node%s%s",
            *in->observed->unreadable ? "; " : "", in->observed->unreadable);
    else
        describe_state(in, t, ret);
    if (back->mode || back->vfio || back->plugin) {
        char text[200];
        (void)snprintf(
            text, sizeof text, "standing back from%s%s%s: the GPU Operator runs them here",
            back->mode ? " modes (cc-manager)" : "", back->vfio ? " binding (vfio-manager)" : "",
            back->plugin ? " the device plugin" : "");
        (void)snprintf(ret->cond_reason, sizeof ret->cond_reason, "StandingBack");
        append(ret, text);
    }
    if (*in->intent->problem_reason) {
        char rest[sizeof ret->cond_message], status[sizeof ret->cond_status];
        memcpy(rest, ret->cond_message, sizeof rest);
        memcpy(status, ret->cond_status, sizeof status);
        say(ret, status, in->intent->problem_reason, "%s; %.500s", in->intent->problem, rest);
    }
}

void publish_derive(const struct publish_input *in, struct published *ret)
{
    struct tally t = count(in);
    *ret = (struct published){
        .decided = t.querying == 0 || t.changing > 0 || *in->observed->stale,
        .vfio_ready = t.managed > 0 && t.all_bound && !in->intent->hands_off,
        .mode_ready = t.managed > 0 && t.all_verified && t.changing == 0 && t.failed == 0,
        .n_failed = t.failed,
        .n_busy = t.busy,
        .n_changing = t.changing,
        .n_offered = t.offered,
    };
    derive_labels(in, &t, ret);
    ret->status = derive_status(in);
    describe(in, &t, ret);
}

bool publish_is_event(const char *trouble_reason, int64_t lasted_ms)
{
    return strcmp(trouble_reason, "KubeletUnavailable") != 0 ||
           lasted_ms >= PUBLISH_KUBELET_EVENT_MS;
}

void publish_done(struct published *published)
{
    free(published->status);
    published->status = NULL;
}
