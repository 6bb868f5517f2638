/* ccnode status: what the running agent says of itself (node-agent/status.h). */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>
#include <time.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cli/cli.h"
#include "node-agent/cli/table.h"
#include "node-agent/status.h"

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    bool is = json_object_object_get_ex(object, key, &value) &&
              json_object_is_type(value, json_type_string);
    return is ? json_object_get_string(value) : "";
}

static int64_t number_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    bool is =
        json_object_object_get_ex(object, key, &value) && json_object_is_type(value, json_type_int);
    return is ? json_object_get_int64(value) : 0;
}

static struct json_object *list_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    bool is = json_object_object_get_ex(object, key, &value) &&
              json_object_is_type(value, json_type_array);
    return is ? value : NULL;
}

/* Return: the file as an object, or NULL after a complaint. */
static struct json_object *read_status(const struct cli *cli)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *text = NULL;
    int r = fs_read(&cli->host, STATUS_DIR "/" STATUS_FILE, STATUS_MAX_BYTES, &text, NULL, &err);
    if (r < 0 && err.code == ENOENT)
        (void)cli_complain(0, "no agent runs on this host (" STATUS_DIR "/" STATUS_FILE
                              " does not exist); ccnode list shows the devices without it");
    else if (r < 0)
        (void)cli_complain(0, "%s", err.msg);
    if (r < 0)
        return NULL;
    struct json_object *root = json_tokener_parse(text);
    if (!json_object_is_type(root, json_type_object)) {
        (void)cli_complain(0, STATUS_DIR "/" STATUS_FILE
                                         " is not what an agent writes; restart the agent");
    } else if (number_of(root, "version") != STATUS_VERSION) {
        (void)cli_complain(0,
                           "the agent writes version %lld of its status, this ccnode reads %d; "
                           "use the ccnode of the same release",
                           (long long)number_of(root, "version"), STATUS_VERSION);
    } else {
        return root;
    }
    json_object_put(root);
    return NULL;
}

static void print_head(struct json_object *root)
{
    struct json_object *condition = NULL;
    int64_t now = (int64_t)time(NULL) * 1000, age = now - number_of(root, "updated_ms");
    (void)printf("agent      %s, pid %lld, said %lld s ago\n", text_of(root, "agent"),
                 (long long)number_of(root, "pid"), (long long)(age > 0 ? age / 1000 : 0));
    if (strcmp(text_of(root, "kubernetes"), "none") == 0)
        (void)printf("kubernetes none\n");
    else
        (void)printf("kubernetes node %s, API server %s\n", text_of(root, "node"),
                     strcmp(text_of(root, "kubernetes"), "away") == 0
                         ? "away, goes on with the last orders"
                         : "watched");
    (void)printf("state      cc.mode.state=%s cc.ready.state=%s\n", text_of(root, "mode_state"),
                 text_of(root, "ready_state"));
    if (json_object_object_get_ex(root, "condition", &condition))
        (void)printf("condition  %s, %s: %s\n", text_of(condition, "status"),
                     text_of(condition, "reason"), text_of(condition, "message"));
    (void)printf("\n");
}

static void device_row(struct table *table, struct json_object *device)
{
    const char *mode = text_of(device, "mode"), *wanted = text_of(device, "wanted_mode");
    const char *step = text_of(device, "step"), *reason = text_of(device, "reason");
    struct json_object *users = list_of(device, "in_use_by"), *offered = NULL;
    const char *user = users && json_object_array_length(users) > 0
                           ? json_object_get_string(json_object_array_get_idx(users, 0))
                           : "";
    (void)json_object_object_get_ex(device, "offered", &offered);
    table_cell(table, "%s", text_of(device, "bdf"));
    table_cell(table, "%s", text_of(device, "name"));
    table_cell(table, "%s", mode);
    table_cell(table, "%s", wanted);
    table_cell(table, "%s", text_of(device, "driver"));
    if (*step)
        table_cell(table, "%s %.1f s", step, (double)number_of(device, "acting_ms") / 1000);
    else
        table_cell(table, "%s", text_of(device, "decision"));
    table_cell(table, "%s", text_of(device, "health"));
    table_cell(table, "%s", json_object_get_boolean(offered) ? "yes" : "no");
    table_cell(table, "%s%s%s", reason, *reason && *user && !strstr(reason, user) ? "; " : "",
               strstr(reason, user) ? "" : user);
}

/* Reasons of the condition with which nothing is left to do (publish.c). Kubelet's refusal has a reason of its own. */
static bool is_in_order(const char *reason)
{
    static const char *const good[] = {"Ready", "NotConfidential", "ContainerWorkload", "HandsOff",
                                       "StandingBack"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        if (strcmp(reason, good[i]) == 0)
            return true;
    }
    return false;
}

/* For scripts and `helm test`. */
static int check(struct json_object *root)
{
    struct json_object *condition = NULL;
    (void)json_object_object_get_ex(root, "condition", &condition);
    const char *reason = condition ? text_of(condition, "reason") : "";
    if (is_in_order(reason))
        return CLI_OK;
    return cli_complain(CLI_FAILED, "the node is not in order: %s: %s",
                        *reason ? reason : "the agent has not looked yet",
                        condition ? text_of(condition, "message") : "");
}

int cmd_status(struct cli *cli)
{
    struct json_object *root = read_status(cli);
    if (!root)
        return CLI_FAILED;
    if (cli_agent_pid(&cli->host) == 0) {
        json_object_put(root);
        return cli_complain(CLI_FAILED, "the agent that wrote " STATUS_DIR "/" STATUS_FILE
                                        " no longer runs; see its log for why it ended");
    }
    int r = cli->options.check ? check(root) : CLI_OK;
    if (cli->options.json) {
        json_print(root, stdout);
        return r;
    }
    print_head(root);
    struct table table;
    table_new(&table, "BDF NAME MODE WANTED DRIVER DOING HEALTH OFFERED IN-USE-BY,-OR-REASON");
    struct json_object *devices = list_of(root, "devices");
    for (size_t i = 0; devices && i < json_object_array_length(devices); i++)
        device_row(&table, json_object_array_get_idx(devices, i));
    table_print(&table, stdout);
    json_object_put(root);
    return r;
}
