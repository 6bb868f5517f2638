#include "node-agent/status.h"

#include <json-c/json.h>
#include <string.h>
#include <time.h>

#include "base/auto.h"
#include "base/fs.h"
#include "base/log.h"
#include "node-agent/agent.h"
#include "version.h"

#define SOON_MS 100

static void add_text(struct json_object *object, const char *key, const char *text)
{
    (void)json_object_object_add(object, key, json_object_new_string(text));
}

static void add_number(struct json_object *object, const char *key, int64_t number)
{
    (void)json_object_object_add(object, key, json_object_new_int64(number));
}

static struct json_object *users_json(const struct observed_device *seen)
{
    struct json_object *array = json_object_new_array();
    char text[400];
    for (size_t i = 0; i < seen->n_pods; i++) {
        (void)snprintf(text, sizeof text, "pod %s/%s", seen->pods[i].namespace, seen->pods[i].name);
        (void)json_object_array_add(array, json_object_new_string(text));
    }
    for (size_t i = 0; i < seen->n_holders && i < NV_MAX_HOLDERS; i++) {
        (void)snprintf(text, sizeof text, "%s (pid %d, %s)", seen->holders[i].comm,
                       seen->holders[i].pid, seen->holders[i].what);
        (void)json_object_array_add(array, json_object_new_string(text));
    }
    return array;
}

static struct json_object *device_json(struct agent *agent, const struct publish_input *in,
                                       size_t i)
{
    const struct observed_device *seen = &agent->observed->devices[i];
    const struct device_intent *wish = &agent->intent->devices[i];
    const struct track *track = agent_track(agent, seen->dev.bdf);
    bool known = seen->knowledge != KNOWN_NOT;
    struct json_object *o = json_object_new_object();
    add_text(o, "bdf", seen->dev.bdf);
    add_text(o, "kind", nv_kind_name(seen->dev.kind));
    add_text(o, "name", seen->dev.name);
    add_text(o, "resource", in->devices[i].resource);
    add_text(o, "mode", cc_mode_name(known ? seen->report.active : CC_MODE_UNKNOWN));
    add_text(o, "pending_mode", cc_mode_name(known ? seen->report.pending : CC_MODE_UNKNOWN));
    add_text(o, "wanted_mode", cc_mode_name(wish->mode));
    add_text(o, "source", wish->source ? wish->source : "");
    add_text(o, "driver", seen->dev.driver);
    add_text(o, "decision", decision_name(agent->plan->devices[i].decision));
    add_text(o, "health", publish_health(in, i));
    add_text(o, "reason", publish_reason(in, i));
    bool stepping = track && track->step != WORKER_STEP_MAX;
    add_text(o, "step", stepping ? worker_step_name(track->step) : "");
    add_number(o, "acting_ms",
               track && track->acting ? loop_now_ms(agent->loop) - track->acting_since_ms : 0);
    add_number(o, "failures", seen->failures);
    (void)json_object_object_add(o, "offered", json_object_new_boolean(in->devices[i].offered));
    (void)json_object_object_add(o, "in_use_by", users_json(seen));
    return o;
}

static struct json_object *root_json(struct agent *agent)
{
    const struct published *p = &agent->published;
    struct publish_input in = {
        &agent->config,         agent->intent,         agent->observed, agent->plan,
        agent->publish_devices, agent->trouble_reason, agent->trouble,  NULL};
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    struct json_object *root = json_object_new_object();
    struct json_object *condition = json_object_new_object();
    struct json_object *devices = json_object_new_array();
    add_number(root, "version", STATUS_VERSION);
    add_number(root, "pid", getpid());
    add_text(root, "agent", CCN_VERSION);
    add_number(root, "updated_ms", (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
    add_text(root, "node", agent->options.node_name ? agent->options.node_name : "");
    add_text(root, "kubernetes", !agent->kube ? "none" : agent->watch_up ? "watching" : "away");
    add_text(root, "mode_state", p->mode_state.action == LABEL_SET ? p->mode_state.value : "");
    add_text(root, "ready_state", p->ready_state.action == LABEL_SET ? p->ready_state.value : "");
    const char *foreign = node_check_foreign(agent->node_check);
    add_text(condition, "status", *foreign ? "Unknown" : p->cond_status);
    add_text(condition, "reason", *foreign ? "ForeignNode" : p->cond_reason);
    add_text(condition, "message", *foreign ? foreign : p->cond_message);
    (void)json_object_object_add(root, "condition", condition);
    for (size_t i = 0; i < agent->observed->n; i++)
        (void)json_object_array_add(devices, device_json(agent, &in, i));
    (void)json_object_object_add(root, "devices", devices);
    return root;
}

void status_write(struct agent *agent)
{
    struct err err = ERR_INIT;
    struct json_object *root = root_json(agent);
    const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE);
    int r = fs_mkdirs(&agent->host, STATUS_DIR, &err);
    if (r == 0)
        r = fs_replace(&agent->host, STATUS_DIR, STATUS_FILE, text, strlen(text), 0644, false,
                       &err);
    json_object_put(root);
    if (r < 0 && !agent->status_failed)
        log_warning("the status file cannot be written", "error", err.msg, NULL);
    agent->status_failed = r < 0;
}

static void on_soon(void *arg)
{
    struct agent *agent = arg;
    agent->status_timer = NULL;
    status_write(agent);
}

void status_soon(struct agent *agent)
{
    if (!agent->status_timer && !agent->options.explain)
        agent->status_timer = loop_add_timer(agent->loop, SOON_MS, on_soon, agent);
}

void status_remove(struct agent *agent)
{
    struct err ignored = ERR_INIT;
    loop_cancel(agent->status_timer);
    agent->status_timer = NULL;
    (void)fs_remove(&agent->host, STATUS_DIR, STATUS_FILE, &ignored);
}
