/* config_parse(): libyaml events into the table of keys. Line and column go into every message. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <yaml.h>

#include "base/auto.h"
#include "node-agent/config_keys.h"
#include "node-agent/nearest.h"

#define MAX_KEYS 64

struct reading {
    const char *name;
    yaml_parser_t yaml;
    yaml_event_t event;
    bool have_event;
    struct config config;
    bool seen[MAX_KEYS];
    struct err *err;
};

/* A word of the file inside a message: short, printable. */
struct shown {
    char text[64];
};

static struct shown show(const char *text)
{
    struct shown s = {""};
    size_t n = 0;
    for (; *text && n < sizeof s.text - 4; text++)
        s.text[n++] = isprint((unsigned char)*text) ? *text : '?';
    if (*text)
        memcpy(s.text + n, "...", 3);
    return s;
}

static int refuse(struct reading *in, const yaml_mark_t *mark, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(struct reading *in, const yaml_mark_t *mark, const char *fmt, ...)
{
    char what[ERR_MSG_SIZE - 128];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(in->err, EINVAL, "%s:%zu:%zu: %s", in->name, mark->line + 1, mark->column + 1,
                   what);
}

static int next(struct reading *in)
{
    if (in->have_event)
        yaml_event_delete(&in->event);
    in->have_event = yaml_parser_parse(&in->yaml, &in->event) != 0;
    if (!in->have_event) {
        const yaml_parser_t *y = &in->yaml;
        if (y->error == YAML_READER_ERROR)
            return err_set(in->err, EINVAL, "%s: byte %zu: %s: this is not a YAML text file",
                           in->name, y->problem_offset, y->problem);
        return refuse(in, &y->problem_mark, "%s%s%s", y->problem ? y->problem : "not YAML",
                      y->context ? ", " : "", y->context ? y->context : "");
    }
    const yaml_event_t *e = &in->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (e->type == YAML_SCALAR_EVENT) {
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
    } else if (e->type == YAML_MAPPING_START_EVENT) {
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
    } else if (e->type == YAML_SEQUENCE_START_EVENT) {
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
    }
    if (anchor || e->type == YAML_ALIAS_EVENT)
        return refuse(in, &e->start_mark, "anchors and aliases are not allowed here");
    if (tag)
        return refuse(in, &e->start_mark, "tags are not allowed here");
    return 0;
}

/* Value of the scalar in `event`: short, without control characters. NULL: refused. */
static const char *scalar(struct reading *in, const char *what)
{
    const yaml_event_t *e = &in->event;
    if (e->type != YAML_SCALAR_EVENT) {
        (void)refuse(in, &e->start_mark, "%s: a single value is expected here", what);
        return NULL;
    }
    const char *text = (const char *)e->data.scalar.value;
    if (e->data.scalar.length > CONFIG_TEXT_MAX) {
        (void)refuse(in, &e->start_mark, "%s: longer than %d characters", what, CONFIG_TEXT_MAX);
        return NULL;
    }
    for (size_t i = 0; i < e->data.scalar.length; i++) {
        if (iscntrl((unsigned char)text[i])) {
            (void)refuse(in, &e->start_mark, "%s: control characters are not allowed", what);
            return NULL;
        }
    }
    return text;
}

static bool is_plain(const struct reading *in)
{
    return in->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const struct reading *in)
{
    const yaml_event_t *e = &in->event;
    if (e->type != YAML_SCALAR_EVENT || !is_plain(in))
        return false;
    const char *text = (const char *)e->data.scalar.value;
    return !*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static int read_list(struct reading *in, const struct config_key *key, const char *what)
{
    if (in->event.type != YAML_SEQUENCE_START_EVENT)
        return refuse(in, &in->event.start_mark, "%s: must be a list", what);
    for (;;) {
        int r = next(in);
        if (r < 0)
            return r;
        if (in->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        const char *text = scalar(in, what);
        if (!text)
            return -EINVAL;
        const char *wanted = config_key_add(key, &in->config, NULL, text);
        if (wanted)
            return refuse(in, &in->event.start_mark, "%s: \"%s\" is not allowed: must be %s", what,
                          show(text).text, wanted);
    }
}

static bool has_key(const struct config_map *map, const char *key)
{
    for (size_t i = 0; i < map->n; i++) {
        if (strcasecmp(map->pairs[i].key, key) == 0)
            return true;
    }
    return false;
}

static int read_map(struct reading *in, const struct config_key *key, const char *what)
{
    if (in->event.type != YAML_MAPPING_START_EVENT)
        return refuse(in, &in->event.start_mark, "%s: must be a map", what);
    const struct config_map *map =
        (const struct config_map *)(const void *)((const char *)&in->config + key->offset);
    for (;;) {
        int r = next(in);
        if (r < 0)
            return r;
        if (in->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        const char *text = scalar(in, what);
        if (!text)
            return -EINVAL;
        AUTO_FREE char *map_key = xstrdup(text);
        if (has_key(map, map_key))
            return refuse(in, &in->event.start_mark, "%s: \"%s\" is there twice", what,
                          show(map_key).text);
        r = next(in);
        if (r < 0)
            return r;
        text = scalar(in, what);
        if (!text)
            return -EINVAL;
        const char *wanted = config_key_add(key, &in->config, map_key, text);
        if (wanted)
            return refuse(in, &in->event.start_mark, "%s: \"%s: %s\" is not allowed: must be %s",
                          what, show(map_key).text, show(text).text, wanted);
    }
}

static int read_value(struct reading *in, const struct config_key *key)
{
    char what[64], why[160];
    (void)snprintf(what, sizeof what, "%s.%s", key->section, key->name);
    int r = next(in);
    if (r < 0)
        return r;
    if (is_null(in))
        return refuse(in, &in->event.start_mark,
                      "%s: has no value; leave the key out for its default", what);
    if (key->type == KEY_LIST || key->type == KEY_MAP) {
        config_key_clear(key, &in->config);
        return key->type == KEY_LIST ? read_list(in, key, what) : read_map(in, key, what);
    }
    const char *text = scalar(in, what);
    if (!text)
        return -EINVAL;
    bool number_like = key->type == KEY_BOOL || key->type == KEY_INT;
    const char *wanted =
        number_like && !is_plain(in)
            ? (key->type == KEY_BOOL ? "true or false, without quotes" : "a number, without quotes")
            : config_key_set(key, &in->config, text, why);
    if (wanted)
        return refuse(in, &in->event.start_mark, "%s: \"%s\" is not allowed: must be %s", what,
                      show(text).text, wanted);
    return 0;
}

/* Names of a section's keys, or of the sections (@section NULL). Return: how many. */
static size_t names_of(const char *section, const char *ret[static MAX_KEYS])
{
    size_t n = 0;
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (section && strcmp(key->section, section) == 0)
            ret[n++] = key->name;
        else if (!section && (n == 0 || strcmp(ret[n - 1], key->section) != 0))
            ret[n++] = key->section;
    }
    return n;
}

static int unknown(struct reading *in, const char *section, const char *typed)
{
    const char *names[MAX_KEYS];
    size_t n = names_of(section, names), used = 0;
    const char *meant = nearest(typed, names, n);
    char allowed[256] = "";
    for (size_t i = 0; i < n; i++) {
        int w = snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "", names[i]);
        used += w > 0 && (size_t)w < sizeof allowed - used ? (size_t)w : 0;
    }
    return refuse(in, &in->event.start_mark, "%s%s%s: unknown key, %s%s%s", section ? section : "",
                  section ? "." : "", show(typed).text,
                  meant ? "did you mean " : "allowed are: ", meant ? meant : allowed,
                  meant ? "?" : "");
}

static const struct config_key *find_key(const char *section, const char *name)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    }
    return NULL;
}

static int read_section(struct reading *in, const char *section)
{
    int r = next(in);
    if (r < 0 || is_null(in))
        return r;
    if (in->event.type != YAML_MAPPING_START_EVENT)
        return refuse(in, &in->event.start_mark, "%s: must be a map of keys", section);
    while ((r = next(in)) == 0 && in->event.type != YAML_MAPPING_END_EVENT) {
        const char *name = scalar(in, section);
        if (!name)
            return -EINVAL;
        const struct config_key *key = find_key(section, name);
        if (!key)
            return unknown(in, section, name);
        bool *seen = &in->seen[key - config_keys];
        if (*seen)
            return refuse(in, &in->event.start_mark, "%s.%s: is there twice", section, name);
        *seen = true;
        r = read_value(in, key);
        if (r < 0)
            return r;
    }
    return r;
}

static int read_root(struct reading *in)
{
    const char *sections[MAX_KEYS];
    bool seen[MAX_KEYS] = {false};
    size_t n = names_of(NULL, sections);
    int r;
    while ((r = next(in)) == 0 && in->event.type != YAML_MAPPING_END_EVENT) {
        const char *name = scalar(in, "section");
        if (!name)
            return -EINVAL;
        size_t i = 0;
        while (i < n && strcmp(sections[i], name) != 0)
            i++;
        if (i == n)
            return unknown(in, NULL, name);
        if (seen[i])
            return refuse(in, &in->event.start_mark, "%s: is there twice", name);
        seen[i] = true;
        r = read_section(in, sections[i]);
        if (r < 0)
            return r;
    }
    return r;
}

static int read_file(struct reading *in)
{
    int r = next(in); /* stream start */
    if (r == 0)
        r = next(in);
    if (r < 0 || in->event.type == YAML_STREAM_END_EVENT)
        return r; /* an empty file */
    r = next(in);
    if (r < 0)
        return r;
    if (in->event.type == YAML_MAPPING_START_EVENT)
        r = read_root(in);
    else if (!is_null(in))
        r = refuse(in, &in->event.start_mark, "the file must be a map of sections");
    if (r == 0)
        r = next(in); /* document end */
    if (r == 0)
        r = next(in);
    if (r == 0 && in->event.type != YAML_STREAM_END_EVENT)
        r = refuse(in, &in->event.start_mark, "only one document is allowed in the file");
    return r;
}

int config_parse(const char *name, const char *text, size_t len, struct config *ret,
                 struct err *err)
{
    _Static_assert(MAX_KEYS >= 40, "room for every key of the table");
    if (len > CONFIG_MAX_BYTES)
        return err_set(err, EFBIG, "%s: %zu bytes are no configuration; at most %d are read", name,
                       len, CONFIG_MAX_BYTES);
    struct reading in = {.name = name, .err = err};
    if (!yaml_parser_initialize(&in.yaml))
        abort(); /* out of memory */
    yaml_parser_set_encoding(&in.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&in.yaml, (const unsigned char *)text, len);
    config_default(&in.config);
    int r = read_file(&in);
    if (in.have_event)
        yaml_event_delete(&in.event);
    yaml_parser_delete(&in.yaml);
    if (r < 0) {
        config_done(&in.config);
        return r;
    }
    *ret = in.config;
    return 0;
}
