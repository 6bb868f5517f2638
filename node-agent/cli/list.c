/* ccnode list, ccnode get-mode, ccnode names */
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cli/cli.h"
#include "node-agent/cli/knobs.h"
#include "node-agent/cli/table.h"
#include "node-agent/gpu/names.h"
#include "node-agent/naming.h"

static const enum cc_mode modes[] = {CC_MODE_OFF, CC_MODE_ON, CC_MODE_DEVTOOLS, CC_MODE_PPCIE};

static enum cc_mode active_of(const struct observed_device *d)
{
    return d->knowledge == KNOWN_NOT ? CC_MODE_UNKNOWN : d->report.active;
}

static enum cc_mode pending_of(const struct observed_device *d)
{
    return d->knowledge == KNOWN_NOT ? CC_MODE_UNKNOWN : d->report.pending;
}

/* One word: healthy, busy (its registers belong to somebody else), failed, unknown. @ret_reason "" = healthy */
static const char *health(const struct observed *observed, size_t i, char *ret_reason, size_t room)
{
    const struct observed_device *d = &observed->devices[i];
    *ret_reason = '\0';
    if (!observed->holders_known || !observed->pods_known) {
        (void)snprintf(ret_reason, room, "%s", observed->unknown_why);
        return "unknown";
    }
    if (d->n_holders > 0 || d->n_pods > 0) {
        (void)snprintf(ret_reason, room, "in use%s",
                       d->knowledge == KNOWN_JOURNAL ? "; mode as last verified"
                                                     : "; its mode cannot be read now");
        return "busy";
    }
    if (*d->error || (d->knowledge == KNOWN_REGISTERS && *d->report.fault)) {
        (void)snprintf(ret_reason, room, "%s", *d->error ? d->error : d->report.fault);
        return "failed";
    }
    if (d->knowledge == KNOWN_REGISTERS && d->report.unlisted) {
        (void)snprintf(ret_reason, room, "%s", NV_UNLISTED_TEXT);
        return "unknown";
    }
    if (d->knowledge == KNOWN_REGISTERS && d->report.active == CC_MODE_INVALID) {
        (void)snprintf(
            ret_reason, room,
            "an interrupted switch left devtools without CC; set a mode to put it right");
        return "failed";
    }
    if (!d->dev.group_viable && d->dev.driver_is_vfio) {
        (void)snprintf(ret_reason, room, "IOMMU group %d is not viable: %s", d->dev.iommu_group,
                       d->dev.group_blocker);
        return "failed";
    }
    return d->knowledge == KNOWN_NOT ? "unknown" : "healthy";
}

static struct json_object *users_json(const struct observed *observed, size_t i)
{
    char *users[NV_MAX_HOLDERS + NODE_MAX_PODS];
    size_t n = cli_users(observed, i, users, ARRAY_LEN(users));
    struct json_object *list = json_object_new_array();
    for (size_t k = 0; k < n; k++) {
        (void)json_object_array_add(list, json_object_new_string(users[k]));
        free(users[k]);
    }
    return list;
}

static struct json_object *capable_json(const struct observed_device *d)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < ARRAY_LEN(modes) && d->knowledge == KNOWN_REGISTERS; i++)
        if (d->report.capable_modes & CC_MODE_BIT(modes[i]))
            (void)json_object_array_add(list, json_object_new_string(cc_mode_name(modes[i])));
    return list;
}

static void add_id(struct json_object *o, const char *key, uint16_t id)
{
    char text[8];
    (void)snprintf(text, sizeof text, "%04x", id);
    json_add_text(o, key, text);
}

static struct json_object *device_json(const struct cli *cli, size_t i)
{
    const struct observed_device *d = &cli->observed.devices[i];
    struct json_object *o = json_object_new_object();
    char resource[128], reason[700];
    naming_resource(&cli->config, &d->dev, resource, sizeof resource);
    const char *word = health(&cli->observed, i, reason, sizeof reason);
    json_add_text(o, "bdf", d->dev.bdf);
    add_id(o, "vendor_id", d->dev.vendor_id);
    add_id(o, "device_id", d->dev.device_id);
    json_add_text(o, "kind", nv_kind_name(d->dev.kind));
    json_add_text(o, "chip", *d->dev.chip ? d->dev.chip : NULL);
    json_add_text(o, "name", d->dev.name);
    json_add_text(o, "resource", resource);
    json_add_text(o, "driver", *d->dev.driver ? d->dev.driver : NULL);
    json_add_natural(o, "iommu_group", d->dev.iommu_group);
    json_add_natural(o, "numa_node", d->dev.numa_node);
    json_add_text(o, "mode", cc_mode_name(active_of(d)));
    json_add_text(o, "pending_mode", cc_mode_name(pending_of(d)));
    json_object_object_add(o, "capable_modes", capable_json(d));
    json_object_object_add(o, "in_use_by", users_json(&cli->observed, i));
    json_add_text(o, "health", word);
    json_add_text(o, "reason", reason);
    return o;
}

static void user_cell(struct table *table, const struct observed *observed, size_t i)
{
    char *users[NV_MAX_HOLDERS + NODE_MAX_PODS];
    size_t n = cli_users(observed, i, users, ARRAY_LEN(users));
    if (n > 1)
        table_cell(table, "%s and %zu more", users[0], n - 1);
    else
        table_cell(table, "%s", n == 1 ? users[0] : "");
    for (size_t k = 0; k < n; k++)
        free(users[k]);
}

static void mode_cell(struct table *table, const struct observed_device *d)
{
    const char *active = cc_mode_name(active_of(d));
    if (pending_of(d) != CC_MODE_UNKNOWN && pending_of(d) != active_of(d))
        table_cell(table, "%s (%s at next reset)", active, cc_mode_name(pending_of(d)));
    else
        table_cell(table, "%s", active);
}

static void list_row(const struct cli *cli, struct table *table, size_t i)
{
    const struct observed_device *d = &cli->observed.devices[i];
    char resource[128], reason[700];
    naming_resource(&cli->config, &d->dev, resource, sizeof resource);
    table_cell(table, "%s", d->dev.bdf);
    table_cell(table, "%s", d->dev.name);
    table_cell(table, "%04x:%04x", d->dev.vendor_id, d->dev.device_id);
    mode_cell(table, d);
    table_cell(table, "%s", d->dev.driver);
    if (d->dev.iommu_group >= 0)
        table_cell(table, "%d", d->dev.iommu_group);
    else
        table_cell(table, "%s", "");
    if (d->dev.numa_node >= 0)
        table_cell(table, "%d", d->dev.numa_node);
    else
        table_cell(table, "%s", "");
    table_cell(table, "%s", resource);
    const char *word = health(&cli->observed, i, reason, sizeof reason);
    table_cell(table, "%s", word);
    if (strcmp(word, "busy") == 0)
        user_cell(table, &cli->observed, i);
    else
        table_cell(table, "%s", reason);
}

int cmd_list(struct cli *cli)
{
    struct err err = ERR_INIT;
    if (cli_look(cli, true, &err) < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    int r = cli_choose(cli);
    if (r != CLI_OK)
        return r;
    cli_read_modes(cli);
    if (cli->options.json) {
        struct json_object *list = json_object_new_array();
        for (size_t i = 0; i < cli->observed.n; i++)
            if (cli->chosen[i])
                (void)json_object_array_add(list, device_json(cli, i));
        json_print(list, stdout);
        return CLI_OK;
    }
    struct table table;
    table_new(&table, "BDF NAME ID MODE DRIVER GROUP NUMA RESOURCE HEALTH IN-USE-BY,-OR-REASON");
    for (size_t i = 0; i < cli->observed.n; i++)
        if (cli->chosen[i])
            list_row(cli, &table, i);
    table_print(&table, stdout);
    return CLI_OK;
}

/* ---- get-mode ---- */

static int mode_status(const struct cli *cli, size_t i)
{
    const struct observed_device *d = &cli->observed.devices[i];
    if (d->knowledge != KNOWN_NOT && d->report.active != CC_MODE_UNKNOWN && !*d->report.fault)
        return CLI_OK;
    return cli_in_use(&cli->observed, i) ? CLI_IN_USE
                                         : cli_status_of(cli->read_code[i], WORKER_QUERY);
}

static struct json_object *mode_json(const struct cli *cli, size_t i, struct json_object *knobs)
{
    const struct observed_device *d = &cli->observed.devices[i];
    struct json_object *o = json_object_new_object();
    char reason[700];
    const char *word = health(&cli->observed, i, reason, sizeof reason);
    json_add_text(o, "bdf", d->dev.bdf);
    json_add_text(o, "mode", cc_mode_name(active_of(d)));
    json_add_text(o, "pending_mode", cc_mode_name(pending_of(d)));
    json_object_object_add(o, "capable_modes", capable_json(d));
    json_object_object_add(o, "in_use_by", users_json(&cli->observed, i));
    json_add_text(o, "health", word);
    json_add_text(o, "reason", reason);
    if (cli->options.knobs)
        json_object_object_add(o, "knobs", json_object_get(knobs));
    return o;
}

static void mode_row(const struct cli *cli, struct table *table, size_t i)
{
    const struct observed_device *d = &cli->observed.devices[i];
    char reason[700];
    const char *word = health(&cli->observed, i, reason, sizeof reason);
    table_cell(table, "%s", d->dev.bdf);
    table_cell(table, "%s", d->dev.name);
    table_cell(table, "%s", cc_mode_name(active_of(d)));
    table_cell(table, "%s", cc_mode_name(pending_of(d)));
    if (strcmp(word, "busy") == 0)
        user_cell(table, &cli->observed, i);
    else
        table_cell(table, "%s", reason);
}

int cmd_get_mode(struct cli *cli)
{
    struct err err = ERR_INIT;
    if (cli_look(cli, true, &err) < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    int status = cli_choose(cli);
    if (status != CLI_OK)
        return status;
    cli_read_modes(cli);
    struct json_object *knobs[NV_MAX_DEVICES] = {NULL};
    if (cli->options.knobs)
        status = cli_worse(status, knobs_read(cli, knobs));
    struct json_object *list = json_object_new_array();
    struct table table;
    table_new(&table, "BDF NAME MODE PENDING IN-USE-BY,-OR-REASON");
    for (size_t i = 0; i < cli->observed.n; i++) {
        if (!cli->chosen[i])
            continue;
        status = cli_worse(status, mode_status(cli, i));
        mode_row(cli, &table, i);
        (void)json_object_array_add(list, mode_json(cli, i, knobs[i]));
    }
    if (cli->options.json) {
        table_print(&table, NULL);
        json_print(list, stdout);
    } else {
        table_print(&table, stdout);
        json_object_put(list);
        if (cli->options.knobs)
            knobs_print(cli, knobs);
    }
    for (size_t i = 0; i < NV_MAX_DEVICES; i++)
        json_object_put(knobs[i]);
    return status;
}

/* ---- names ---- */

/* As the agent would name a device of that model: configuration included. */
static void resource_of(const struct cli *cli, const struct nv_model *model, char *ret, size_t room)
{
    struct nv_device dev = {.vendor_id = 0x10de, .device_id = model->device_id};
    dev.kind = strstr(model->resource, "NVSWITCH") ? NV_KIND_NVSWITCH : NV_KIND_GPU;
    (void)snprintf(dev.resource, sizeof dev.resource, "%s", model->resource);
    naming_resource(&cli->config, &dev, ret, room);
}

int cmd_names(struct cli *cli)
{
    size_t n;
    const struct nv_model *models = names_table(&n);
    struct json_object *list = json_object_new_array();
    struct table table;
    table_new(&table, "ID NAME RESOURCE");
    for (size_t i = 0; i < n; i++) {
        char resource[128];
        resource_of(cli, &models[i], resource, sizeof resource);
        struct json_object *o = json_object_new_object();
        char id[16];
        (void)snprintf(id, sizeof id, "10de:%04x", models[i].device_id);
        json_add_text(o, "device_id", id);
        json_add_text(o, "name", models[i].name);
        json_add_text(o, "resource", resource);
        (void)json_object_array_add(list, o);
        table_cell(&table, "%s", id);
        table_cell(&table, "%s", models[i].name);
        table_cell(&table, "%s", resource);
    }
    if (cli->options.json) {
        table_print(&table, NULL);
        json_print(list, stdout);
    } else {
        table_print(&table, stdout);
        json_object_put(list);
    }
    return CLI_OK;
}
