/* ccnode cdi print, write, check */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "cdi/cdi.h"
#include "node-agent/cli/cdi_files.h"
#include "node-agent/cli/table.h"
#include "node-agent/naming.h"

static int look_and_build(struct cli *cli, struct cdi_specs *ret)
{
    struct err err = ERR_INIT;
    if (cli_look(cli, false, &err) < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    if (cdi_files_build(cli, NULL, ret, &err) < 0)
        return cli_complain(err.code == EINVAL ? CLI_USAGE : CLI_FAILED, "%s", err.msg);
    return CLI_OK;
}

static struct json_object *spec_json(const struct cdi_spec *spec)
{
    struct json_object *o = json_object_new_object();
    json_add_text(o, "file", spec->file);
    /* the comment line in front is YAML, the rest is JSON */
    json_object_object_add(o, "spec", json_tokener_parse(strchr(spec->text, '{')));
    return o;
}

int cmd_cdi_print(struct cli *cli)
{
    struct cdi_specs specs;
    int status = look_and_build(cli, &specs);
    if (status != CLI_OK)
        return status;
    if (cli->options.json) {
        struct json_object *list = json_object_new_array();
        for (size_t i = 0; i < specs.n; i++)
            (void)json_object_array_add(list, spec_json(&specs.specs[i]));
        json_print(list, stdout);
    } else {
        for (size_t i = 0; i < specs.n; i++)
            (void)printf("--- %s/%s\n%s", cdi_files_dir(cli), specs.specs[i].file,
                         specs.specs[i].text);
        if (specs.n == 0)
            cli_warn("no managed device is bound to VFIO, so there is nothing to offer; see ccnode "
                     "bind");
    }
    cdi_specs_free(&specs);
    return CLI_OK;
}

static void print_written(const struct cli *cli, const struct cdi_specs *specs,
                          const struct cdi_sync_result *result)
{
    if (cli->options.json) {
        struct json_object *o = json_object_new_object(), *files = json_object_new_array();
        json_add_text(o, "directory", cdi_files_dir(cli));
        json_add_natural(o, "written", result->written);
        json_add_natural(o, "unchanged", result->unchanged);
        json_add_natural(o, "removed", result->removed);
        for (size_t i = 0; i < specs->n; i++)
            (void)json_object_array_add(files, json_object_new_string(specs->specs[i].file));
        json_object_object_add(o, "files", files);
        json_print(o, stdout);
        return;
    }
    for (size_t i = 0; i < specs->n; i++)
        (void)printf("%s/%s: %zu names\n", cdi_files_dir(cli), specs->specs[i].file,
                     specs->specs[i].n_entries);
    (void)printf("%u written, %u unchanged, %u removed\n", result->written, result->unchanged,
                 result->removed);
}

int cmd_cdi_write(struct cli *cli)
{
    struct err err = ERR_INIT;
    struct cdi_specs specs;
    struct cdi_sync_result result = {0};
    const char *dir = cdi_files_dir(cli);
    if (cli->options.dry_run)
        return cmd_cdi_print(cli);
    int pid = cli_agent_pid(&cli->host);
    if (pid > 0 && !cli->options.dir)
        return cli_complain(CLI_IMPOSSIBLE,
                            "ccnode-agent (pid %d) keeps the files in %s; stop it, or name another "
                            "directory with --dir",
                            pid, dir);
    int status = look_and_build(cli, &specs);
    if (status != CLI_OK)
        return status;
    int r = cdi_sync(&cli->host, dir, &specs, naming_cdi_durable(dir), &result, &err);
    print_written(cli, &specs, &result);
    cdi_specs_free(&specs);
    if (r == 0)
        return CLI_OK;
    return cli_complain(r == -EEXIST ? CLI_IMPOSSIBLE : CLI_FAILED, "%s", err.msg);
}

static struct json_object *finding_json(const struct cdi_finding *f)
{
    struct json_object *o = json_object_new_object();
    json_add_text(o, "severity", cdi_severity_name(f->severity));
    json_add_text(o, "file", f->file);
    json_add_natural(o, "line", f->line > 0 ? (int64_t)f->line : -1);
    json_add_flag(o, "ours", f->ours);
    json_add_text(o, "cause", f->cause);
    json_add_text(o, "cure", f->cure);
    return o;
}

static void print_report(const struct cli *cli, const struct cdi_report *report)
{
    if (cli->options.json) {
        struct json_object *o = json_object_new_object(), *list = json_object_new_array();
        json_add_natural(o, "files", (int64_t)report->n_files);
        json_add_natural(o, "devices", (int64_t)report->n_devices);
        for (size_t i = 0; i < report->n; i++)
            (void)json_object_array_add(list, finding_json(&report->findings[i]));
        json_object_object_add(o, "findings", list);
        json_print(o, stdout);
        return;
    }
    for (size_t i = 0; i < report->n; i++) {
        const struct cdi_finding *f = &report->findings[i];
        char line[24] = "";
        if (f->line > 0)
            (void)snprintf(line, sizeof line, ":%u", f->line);
        (void)printf("%s%s: %s: %s\n    cure: %s\n", f->file, line, cdi_severity_name(f->severity),
                     f->cause, f->cure);
    }
    (void)printf("%zu files with %zu devices looked at, %zu findings\n", report->n_files,
                 report->n_devices, report->n);
}

int cmd_cdi_check(struct cli *cli)
{
    struct err err = ERR_INIT;
    struct cdi_report report = {0};
    const char *dirs[] = {"/etc/cdi", "/var/run/cdi", cli->config.cdi_directory};
    const char *one[] = {cli->options.dir};
    int r = cli->options.dir ? cdi_check_dirs(&cli->host, one, 1, &report, &err)
                             : cdi_check_dirs(&cli->host, dirs, ARRAY_LEN(dirs), &report, &err);
    if (r < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    print_report(cli, &report);
    int status = cdi_report_worst(&report) == CDI_ERROR ? CLI_FAILED : CLI_OK;
    cdi_report_free(&report);
    return status;
}
