#include "node-agent/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/config_keys.h"

static void set_default(const struct config_key *key, struct config *config)
{
    char why[160];
    if (key->type != KEY_LIST && key->type != KEY_MAP) {
        (void)config_key_set(key, config, key->fallback, why);
        return;
    }
    AUTO_FREE char *items = xstrdup(key->fallback);
    char *rest = NULL;
    for (char *item = strtok_r(items, ",", &rest); item; item = strtok_r(NULL, ",", &rest))
        (void)config_key_add(key, config, NULL, item);
}

void config_default(struct config *ret)
{
    *ret = (struct config){0};
    for (size_t i = 0; i < config_n_keys; i++)
        set_default(&config_keys[i], ret);
}

void config_done(struct config *config)
{
    for (size_t i = 0; i < config_n_keys; i++)
        config_key_clear(&config_keys[i], config);
    *config = (struct config){0};
}

int config_load(const char *path, struct config *ret, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "open configuration %s", path);
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = fs_read_fd(fd, path, CONFIG_MAX_BYTES, &text, &len, err);
    return r < 0 ? r : config_parse(path, text, len, ret, err);
}

const char *config_needs_restart(const struct config *running, const struct config *wanted)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->restart && !config_key_equal(key, running, wanted))
            return key->restart;
    }
    return NULL;
}

static void print_allowed(const struct config_key *key, FILE *out)
{
    static const char *const types[] = {
        [KEY_BOOL] = "true | false",
        [KEY_INT] = "number",
        [KEY_DURATION] = "duration",
        [KEY_TEXT] = "text",
        [KEY_LIST] = "list",
        [KEY_MAP] = "map",
        [KEY_WORD] = "",
    };
    (void)fputs(types[key->type], out);
    for (const struct word *w = key->words; w && w->text; w++)
        (void)fprintf(out, "%s%s", w == key->words ? "" : " | ", w->text);
}

void config_print_help(FILE *out)
{
    const char *section = "";
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(section, key->section) != 0)
            (void)fprintf(out, "%s:\n", key->section);
        section = key->section;
        (void)fprintf(out, "  %s (", key->name);
        print_allowed(key, out);
        (void)fprintf(out, "; default %s)%s\n      %s\n", *key->fallback ? key->fallback : "empty",
                      key->restart ? ", needs a restart" : "", key->help);
    }
}
