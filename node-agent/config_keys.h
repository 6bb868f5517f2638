/* The one table of configuration keys: parsing, defaults, comparison and the help text derive from it. Internal to
 * config*.c. */
#ifndef CCN_AGENT_CONFIG_KEYS_H
#define CCN_AGENT_CONFIG_KEYS_H

#include "node-agent/config.h"

enum key_type {
    KEY_WORD,     /* one of `words`, stored as its number */
    KEY_BOOL,     /* true, false */
    KEY_INT,      /* 0 … max */
    KEY_DURATION, /* 250ms, 90s, 5m, 1h: stored in milliseconds, at most max */
    KEY_TEXT,     /* checked by `check` */
    KEY_LIST,     /* of texts, each checked by `check` */
    KEY_MAP,      /* text to text, checked by `check_key` and `check` */
};

struct word {
    const char *text;
    int value;
};

/* A check returns NULL when @text is fine, else what would be: "an absolute path". */
typedef const char *key_check_fn(const char *text);

struct config_key {
    const char *section, *name;
    enum key_type type;
    size_t offset;            /* of the field in struct config */
    const char *fallback;     /* default, as one would write it; lists: comma separated */
    const struct word *words; /* ended by a NULL text */
    int max;
    key_check_fn *check, *check_key;
    const char *restart; /* cannot be changed while the agent runs: its whole name; else NULL */
    const char *help;
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;

#define CONFIG_TEXT_MAX 255 /* characters of one value */

/* config_key_set() - @text into a KEY_WORD, KEY_BOOL, KEY_INT, KEY_DURATION or KEY_TEXT field.
 * Return: NULL, or what would be allowed (written to @why when it is put together). */
const char *config_key_set(const struct config_key *key, struct config *config, const char *text,
                           char why[static 160]);
/* config_key_add() - one more item of a list, or (with @map_key) of a map. Return: as above. */
const char *config_key_add(const struct config_key *key, struct config *config, const char *map_key,
                           const char *text);
void config_key_clear(const struct config_key *key, struct config *config);
bool config_key_equal(const struct config_key *key, const struct config *a, const struct config *b);

#endif
