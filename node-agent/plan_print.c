/* The plan for people (--dry-run, --explain) and for scripts (/debug/plan). */
#include <json-c/json.h>
#include <string.h>

#include "node-agent/plan.h"

static const char *binding_name(enum binding binding)
{
    static const char *const names[] = {
        [BINDING_LEAVE] = "leave", [BINDING_VFIO] = "vfio", [BINDING_RELEASE] = "release"};
    return names[binding];
}

static void format_step(const struct plan_step *step, char *ret, size_t room)
{
    (void)snprintf(ret, room, "%s%s%s%s", step->barrier ? "| " : "", worker_step_name(step->step),
                   *step->argument ? " " : "", step->argument);
}

static void print_steps(const struct plan_step *steps, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        char text[64];
        format_step(&steps[i], text, sizeof text);
        (void)fprintf(out, "%s%s", i ? ", " : "", text);
    }
    (void)fputc('\n', out);
}

static bool withdraws(const struct plan *plan, const struct intent *intent)
{
    for (size_t i = 0; i < plan->n; i++) {
        if (intent->devices[i].managed && !plan->devices[i].serve)
            return true;
    }
    return false;
}

static void print_device(const struct device_plan *d, const struct device_intent *wish,
                         const struct observed_device *seen, FILE *out)
{
    const char *now = seen->knowledge == KNOWN_NOT ? "unknown" : cc_mode_name(seen->report.active);
    (void)fprintf(out, "%s %s: %s", seen->dev.bdf, seen->dev.name, decision_name(d->decision));
    if (wish->managed && wish->mode != CC_MODE_UNKNOWN)
        (void)fprintf(out, ", mode %s, wanted %s (%s)", now, cc_mode_name(wish->mode),
                      wish->source);
    else if (wish->managed)
        (void)fprintf(out, ", mode %s, left as it is", now);
    (void)fprintf(out, ", binding %s%s%s%s\n", *seen->dev.driver ? seen->dev.driver : "none",
                  wish->binding == BINDING_LEAVE ? "" : ", wanted ",
                  wish->binding == BINDING_LEAVE ? "" : binding_name(wish->binding),
                  d->serve ? ", served" : "");
    if (*d->reason)
        (void)fprintf(out, "    because: %s\n", d->reason);
    if (d->n_steps > 0) {
        (void)fputs("    steps: ", out);
        print_steps(d->steps, d->n_steps, out);
    }
    if (d->n_undo > 0) {
        (void)fputs("    if a step before the reset fails: ", out);
        print_steps(d->undo, d->n_undo, out);
    }
}

void plan_print_text(const struct plan *plan, const struct intent *intent,
                     const struct observed *observed, FILE *out)
{
    if (*intent->problem)
        (void)fprintf(out, "problem (%s): %s\n", intent->problem_reason, intent->problem);
    if (plan->changes && intent->serve && withdraws(plan, intent))
        (void)fputs("node: withdraw the devices that are not served from kubelet and CDI\n", out);
    if (plan->evict)
        (void)fputs("node: evict the pods of busy devices\n", out);
    if (plan->load_vfio)
        (void)fprintf(out, "node: load-module %s\n", plan->vfio_module);
    if (plan->together)
        (void)fputs("node: all devices change together; \"|\" waits until every device has come so "
                    "far\n",
                    out);
    for (size_t i = 0; i < plan->n; i++)
        print_device(&plan->devices[i], &intent->devices[i], &observed->devices[i], out);
}

static struct json_object *steps_json(const struct plan_step *steps, size_t n)
{
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        char text[64];
        struct plan_step plain = steps[i];
        plain.barrier = false;
        format_step(&plain, text, sizeof text);
        (void)json_object_array_add(array, json_object_new_string(text));
    }
    return array;
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, json_object_new_string(text));
}

static struct json_object *device_json(const struct device_plan *d,
                                       const struct device_intent *wish,
                                       const struct observed_device *seen)
{
    struct json_object *o = json_object_new_object();
    bool known = seen->knowledge != KNOWN_NOT;
    add_text(o, "bdf", seen->dev.bdf);
    add_text(o, "decision", decision_name(d->decision));
    add_text(o, "reason", d->reason);
    json_object_object_add(o, "serve", json_object_new_boolean(d->serve));
    json_object_object_add(o, "evict", json_object_new_boolean(d->evict));
    add_text(o, "mode", cc_mode_name(known ? seen->report.active : CC_MODE_UNKNOWN));
    add_text(o, "pending_mode", cc_mode_name(known ? seen->report.pending : CC_MODE_UNKNOWN));
    add_text(o, "wanted_mode", cc_mode_name(wish->mode));
    add_text(o, "source", wish->source ? wish->source : "");
    add_text(o, "driver", seen->dev.driver);
    add_text(o, "wanted_binding", binding_name(wish->binding));
    json_object_object_add(o, "steps", steps_json(d->steps, d->n_steps));
    json_object_object_add(o, "undo", steps_json(d->undo, d->n_undo));
    return o;
}

void plan_print_json(const struct plan *plan, const struct intent *intent,
                     const struct observed *observed, FILE *out)
{
    struct json_object *root = json_object_new_object();
    struct json_object *devices = json_object_new_array();
    json_object_object_add(root, "changes", json_object_new_boolean(plan->changes));
    json_object_object_add(root, "together", json_object_new_boolean(plan->together));
    json_object_object_add(root, "evict", json_object_new_boolean(plan->evict));
    add_text(root, "load_module", plan->load_vfio ? plan->vfio_module : "");
    add_text(root, "problem_reason", intent->problem_reason);
    add_text(root, "problem", intent->problem);
    for (size_t i = 0; i < plan->n; i++)
        (void)json_object_array_add(
            devices, device_json(&plan->devices[i], &intent->devices[i], &observed->devices[i]));
    json_object_object_add(root, "devices", devices);
    (void)fprintf(out, "%s\n",
                  json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN |
                                                           JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
}
