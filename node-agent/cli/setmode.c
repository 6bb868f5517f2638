/* ccnode set-mode, bind, unbind: arguments in, results out. */
#include <json-c/json.h>

#include "base/auto.h"
#include "node-agent/cli/change.h"
#include "node-agent/cli/table.h"

static struct json_object *steps_json(const struct change_device *c)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < c->n_steps; i++) {
        struct json_object *o = json_object_new_object();
        json_add_text(o, "step", c->steps[i].text);
        json_add_flag(o, "ok", c->steps[i].ok);
        json_add_natural(o, "ms", c->steps[i].ms);
        (void)json_object_array_add(list, o);
    }
    return list;
}

static struct json_object *result_json(const struct change_device *c, bool modes)
{
    struct json_object *o = json_object_new_object();
    json_add_text(o, "bdf", c->bdf);
    json_add_text(o, "result", change_result_name(c->result));
    if (modes) {
        json_add_text(o, "from", cc_mode_name(c->from));
        json_add_text(o, "to", cc_mode_name(c->to));
    } else {
        json_add_text(o, "from", *c->from_driver ? c->from_driver : NULL);
        json_add_text(o, "to", *c->to_driver ? c->to_driver : NULL);
    }
    json_object_object_add(o, "steps", steps_json(c));
    json_add_natural(o, "duration_ms", c->duration_ms);
    json_add_text(o, "error", *c->error ? c->error : NULL);
    return o;
}

static void print_results(const struct cli *cli, const struct change *change, bool modes)
{
    if (cli->options.json) {
        struct json_object *list = json_object_new_array();
        for (size_t i = 0; i < change->n; i++)
            (void)json_object_array_add(list, result_json(&change->devices[i], modes));
        json_print(list, stdout);
        return;
    }
    struct table table;
    table_new(&table, "BDF NAME RESULT FROM TO SECONDS REASON");
    for (size_t i = 0; i < change->n; i++) {
        const struct change_device *c = &change->devices[i];
        table_cell(&table, "%s", c->bdf);
        table_cell(&table, "%s", c->name);
        table_cell(&table, "%s", change_result_name(c->result));
        table_cell(&table, "%s", modes ? cc_mode_name(c->from) : c->from_driver);
        table_cell(&table, "%s", modes ? cc_mode_name(c->to) : c->to_driver);
        table_cell(&table, "%.1f", (double)c->duration_ms / 1000);
        table_cell(&table, "%s", c->error);
    }
    table_print(&table, stdout);
}

static int run(struct cli *cli, const struct change_wish *wish)
{
    struct change change;
    int status = change_run(cli, wish, &change);
    if (status == CLI_OK && change.n > 0) {
        print_results(cli, &change, wish->mode != CC_MODE_UNKNOWN);
        status = change.status;
    }
    change_free(&change);
    return status;
}

int cmd_set_mode(struct cli *cli)
{
    struct change_wish wish = {.mode = cc_mode_parse(cli->options.argument),
                               .binding = BINDING_LEAVE};
    return run(cli, &wish);
}

int cmd_bind(struct cli *cli)
{
    struct change_wish wish = {.mode = CC_MODE_UNKNOWN, .binding = BINDING_VFIO};
    return run(cli, &wish);
}

int cmd_unbind(struct cli *cli)
{
    struct change_wish wish = {.mode = CC_MODE_UNKNOWN, .binding = BINDING_RELEASE};
    return run(cli, &wish);
}
