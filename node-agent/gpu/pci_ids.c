#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node-agent/gpu/names.h"

struct line {
    const char *p;
    size_t n;
};

static bool next_line(const char **at, const char *end, struct line *ret)
{
    if (*at >= end)
        return false;
    const char *nl = memchr(*at, '\n', (size_t)(end - *at));
    const char *stop = nl ? nl : end;
    *ret = (struct line){*at, (size_t)(stop - *at)};
    *at = nl ? nl + 1 : end;
    return true;
}

/* "XXXX  text" at @skip; -1 when the line is not of that form */
static int parse_entry(struct line line, size_t skip, char *text, size_t room)
{
    char digits[5] = "";
    if (line.n < skip + 6)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)line.p[skip + i]))
            return -1;
        digits[i] = line.p[skip + i];
    }
    size_t from = skip + 4;
    while (from < line.n && line.p[from] == ' ')
        from++;
    size_t n = line.n - from;
    if (from == skip + 4 || n == 0)
        return -1;
    if (n >= room)
        n = room - 1;
    for (size_t i = 0; i < n; i++)
        text[i] = isprint((unsigned char)line.p[from + i]) ? line.p[from + i] : ' ';
    text[n] = '\0';
    return (int)strtol(digits, NULL, 16);
}

static bool is_in_table(const char *resource)
{
    size_t n;
    const struct nv_model *models = names_table(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(models[i].resource, resource) == 0)
            return true;
    }
    return false;
}

/* Lines of NVIDIA's section: from "10de  …" to the next line that starts with a digit. Subsystem lines (two tabs)
 * are not read: a GPU must not get the name of a board that shares its number. */
static void walk(const char *text, size_t len, void (*cb)(void *arg, int id, const char *name),
                 void *arg)
{
    const char *at = text, *end = text + len;
    struct line line;
    char name[256];
    bool inside = false;
    while (next_line(&at, end, &line)) {
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (line.p[0] != '\t') {
            if (inside)
                return;
            inside = parse_entry(line, 0, name, sizeof name) == 0x10de;
            continue;
        }
        if (!inside || (line.n > 1 && line.p[1] == '\t'))
            continue;
        int id = parse_entry(line, 1, name, sizeof name);
        if (id >= 0)
            cb(arg, id, name);
    }
}

struct search {
    int id;
    char name[64], resource[64];
    bool found, twice;
};

static void on_find(void *arg, int id, const char *name)
{
    struct search *s = arg;
    struct err ignored = ERR_INIT;
    if (id != s->id || s->found)
        return;
    if (names_format(name, s->resource, sizeof s->resource, &ignored) < 0)
        return;
    (void)snprintf(s->name, sizeof s->name, "%.63s", name);
    s->found = true;
}

static void on_compare(void *arg, int id, const char *name)
{
    struct search *s = arg;
    struct err ignored = ERR_INIT;
    char resource[64];
    if (id != s->id && names_format(name, resource, sizeof resource, &ignored) == 0 &&
        strcmp(resource, s->resource) == 0)
        s->twice = true;
}

int names_from_pci_ids(const char *text, size_t len, struct nv_device *dev, struct err *err)
{
    struct search s = {.id = dev->device_id};
    walk(text, len, on_find, &s);
    if (!s.found)
        return err_set(err, ENOENT, "10de:%04x is not in pci.ids", dev->device_id);
    walk(text, len, on_compare, &s);
    if (s.twice || is_in_table(s.resource))
        return err_set(err, ENOENT, "10de:%04x shares its name '%s' in pci.ids with another model",
                       dev->device_id, s.name);
    (void)snprintf(dev->name, sizeof dev->name, "%s", s.name);
    (void)snprintf(dev->resource, sizeof dev->resource, "%s", s.resource);
    return 0;
}
