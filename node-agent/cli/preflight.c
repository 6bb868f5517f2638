#include "node-agent/cli/preflight.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cli/table.h"

const char *check_state_name(enum check_state state)
{
    static const char *const names[] = {[CHECK_OK] = "ok",
                                        [CHECK_NOTE] = "note",
                                        [CHECK_SKIPPED] = "skipped",
                                        [CHECK_WARNING] = "warning",
                                        [CHECK_ERROR] = "error"};
    return names[state];
}

void check_add(struct preflight *p, const char *id, enum check_state state, const char *cure,
               const char *seen_fmt, ...)
{
    va_list args;
    va_start(args, seen_fmt);
    if (p->n < PREFLIGHT_MAX) {
        struct check *c = &p->checks[p->n++];
        *c = (struct check){.id = id, .state = state};
        (void)vsnprintf(c->seen, sizeof c->seen, seen_fmt, args);
        (void)snprintf(c->cure, sizeof c->cure, "%s", cure);
    }
    va_end(args);
}

bool preflight_key(const char *text, const char *key, char *ret, size_t room)
{
    size_t len = strlen(key);
    for (const char *line = text; *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : "") {
        const char *p = line + strspn(line, " \t");
        if (strncmp(p, key, len) != 0)
            continue;
        p += len + strspn(p + len, " \t");
        if (*p != '=' && *p != ':')
            continue;
        p += 1 + strspn(p + 1, " \t");
        char quote = *p == '"' || *p == '\'' ? *p : '\0';
        size_t n = 0;
        if (quote)
            p++;
        while (p[n] && p[n] != '\n' && (quote ? p[n] != quote : p[n] != '#'))
            n++;
        while (!quote && n > 0 && isspace((unsigned char)p[n - 1]))
            n--;
        (void)snprintf(ret, room, "%.*s", (int)(n < 1000 ? n : 1000), p);
        return true;
    }
    return false;
}

static bool take_unit(const char **text, double *ret_ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\u00b5s", 1e-3}, {"\u03bcs", 1e-3},
                 {"ms", 1},    {"s", 1e3},   {"m", 60e3},       {"h", 3600e3}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t len = strlen(units[i].unit);
        if (strncmp(*text, units[i].unit, len) == 0) {
            *text += len;
            *ret_ms = units[i].ms;
            return true;
        }
    }
    return false;
}

int64_t preflight_go_duration(const char *text)
{
    double sum = 0;
    if (strcmp(text, "0") == 0)
        return 0;
    if (*text == '+')
        text++;
    do {
        double value = 0, digit = 1, unit;
        bool any = false;
        for (; isdigit((unsigned char)*text); text++, any = true)
            value = 10 * value + (*text - '0');
        if (*text == '.')
            for (text++; isdigit((unsigned char)*text); text++, any = true)
                value += (*text - '0') * (digit /= 10);
        if (!any || !take_unit(&text, &unit))
            return -EINVAL;
        sum += value * unit;
        if (sum > (double)INT64_MAX / 1e6) /* Go counts nanoseconds */
            return -EINVAL;
    } while (*text);
    return (int64_t)sum;
}

int64_t preflight_toml_number(const char *text)
{
    int64_t value = 0;
    const char *p = text;
    for (; isdigit((unsigned char)*p) || (*p == '_' && p > text); p++) {
        if (*p != '_')
            value = value > INT64_MAX / 100 ? value : value * 10 + (*p - '0');
    }
    return p > text && !*p ? value : -EINVAL;
}

bool preflight_has_word(const char *cmdline, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = cmdline; (p = strstr(p, word)); p += len) {
        bool starts = p == cmdline || isspace((unsigned char)p[-1]);
        if (starts && (p[len] == '\0' || isspace((unsigned char)p[len])))
            return true;
    }
    return false;
}

static void read_cpu(struct preflight *p)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *text = NULL;
    /* the file grows with the number of cores: 1.5 kB each */
    if (fs_read(&p->cli->host, "/proc/cpuinfo", 8 << 20, &text, NULL, &err) < 0)
        return;
    (void)preflight_key(text, "vendor_id", p->cpu, sizeof p->cpu);
    char *flags = strstr(text, "\nflags");
    char *end = flags ? strchr(flags + 1, '\n') : NULL;
    if (end)
        *end = '\0';
    p->in_vm = flags && preflight_has_word(flags, "hypervisor");
}

static void print_text(const struct preflight *p, const size_t count[CHECK_ERROR + 1])
{
    struct table table;
    table_new(&table, "CONDITION STATE SEEN");
    for (size_t i = 0; i < p->n; i++) {
        table_cell(&table, "%s", p->checks[i].id);
        table_cell(&table, "%s", check_state_name(p->checks[i].state));
        table_cell(&table, "%s", p->checks[i].seen);
    }
    table_print(&table, stdout);
    bool first = true;
    for (enum check_state state = CHECK_ERROR; state > CHECK_OK; state--)
        for (size_t i = 0; i < p->n; i++) {
            if (p->checks[i].state != state || !*p->checks[i].cure)
                continue;
            (void)printf("%s%s (%s): %s\n", first ? "\nwhat to do\n  " : "  ", p->checks[i].id,
                         check_state_name(state), p->checks[i].cure);
            first = false;
        }
    (void)printf("\n%zu ok, %zu errors, %zu warnings, %zu notes, %zu skipped\n", count[CHECK_OK],
                 count[CHECK_ERROR], count[CHECK_WARNING], count[CHECK_NOTE], count[CHECK_SKIPPED]);
}

static void print_json(const struct preflight *p, bool ok)
{
    struct json_object *root = json_object_new_object(), *list = json_object_new_array();
    for (size_t i = 0; i < p->n; i++) {
        struct json_object *o = json_object_new_object();
        json_add_text(o, "id", p->checks[i].id);
        json_add_text(o, "state", check_state_name(p->checks[i].state));
        json_add_text(o, "seen", p->checks[i].seen);
        json_add_text(o, "cure", *p->checks[i].cure ? p->checks[i].cure : NULL);
        (void)json_object_array_add(list, o);
    }
    json_add_flag(root, "ok", ok);
    json_object_object_add(root, "checks", list);
    json_print(root, stdout);
}

int cmd_preflight(struct cli *cli)
{
    struct err err = ERR_INIT;
    struct preflight p = {.cli = cli};
    p.checks = xcalloc(PREFLIGHT_MAX, sizeof *p.checks);
    if (cli_look(cli, false, &err) < 0 && cli->workers) /* without workers: see check_rights() */
        check_add(&p, "devices", CHECK_ERROR, "", "%s", err.msg);
    host_facts_read(&cli->host, &p.facts);
    read_cpu(&p);
    if (fs_read(&cli->host, "/proc/cmdline", 64 << 10, &p.cmdline, NULL, &err) < 0)
        p.cmdline = xstrdup("");
    preflight_host(&p);
    preflight_stack(&p);
    size_t count[CHECK_ERROR + 1] = {0};
    for (size_t i = 0; i < p.n; i++)
        count[p.checks[i].state]++;
    if (cli->options.json)
        print_json(&p, count[CHECK_ERROR] == 0);
    else
        print_text(&p, count);
    free(p.cmdline);
    free(p.checks);
    return count[CHECK_ERROR] > 0 ? CLI_FAILED : CLI_OK;
}
