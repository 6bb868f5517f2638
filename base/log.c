#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"

#define LINE_MAX_BYTES 4096

static atomic_int current_level = LOG_LEVEL_INFO;
static atomic_int current_format = LOG_FORMAT_TEXT;
static const char *const level_names[] = {"debug", "info", "warning", "error"};

int log_level_parse(const char *text, enum log_level *ret, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    }
    return err_set(err, EINVAL, "log level '%.40s' is none of debug, info, warning, error", text);
}

int log_format_parse(const char *text, enum log_format *ret, struct err *err)
{
    if (strcmp(text, "text") == 0)
        *ret = LOG_FORMAT_TEXT;
    else if (strcmp(text, "json") == 0)
        *ret = LOG_FORMAT_JSON;
    else
        return err_set(err, EINVAL, "log format '%.40s' is none of text, json", text);
    return 0;
}

void log_setup(enum log_level level, enum log_format format)
{
    atomic_store(&current_level, (int)level);
    atomic_store(&current_format, (int)format);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load(&current_level);
}

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void put(struct line *line, const char *s, size_t n)
{
    size_t room =
        sizeof line->text - 2 - line->len; /* the closing brace or nothing, and the newline */
    if (n > room)
        n = room;
    memcpy(line->text + line->len, s, n);
    line->len += n;
}

static void put_str(struct line *line, const char *s)
{
    put(line, s, strlen(s));
}

static void put_quoted(struct line *line, const char *s)
{
    put(line, "\"", 1);
    /* 8 spare characters: an escape and the closing quote always fit whole */
    for (; *s && line->len + 8 < sizeof line->text; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            char pair[2] = {'\\', (char)c};
            put(line, pair, 2);
        } else if (c == '\n') {
            put(line, "\\n", 2);
        } else if (c < 0x20 || c == 0x7f) {
            char escape[8];
            put(line, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        } else {
            put(line, (const char *)&c, 1);
        }
    }
    put(line, "\"", 1);
}

static bool is_plain(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                           "_-.:/,+@%[]") == strlen(s);
}

static void put_pair(struct line *line, const char *key, const char *value, bool json)
{
    put_str(line, json ? ",\"" : " ");
    put_str(line, key);
    put_str(line, json ? "\":" : "=");
    if (json || !is_plain(value))
        put_quoted(line, value);
    else
        put_str(line, value);
}

void log_line(enum log_level level, const char *sentence, ...)
{
    if (!log_enabled(level))
        return;
    bool json = atomic_load(&current_format) == LOG_FORMAT_JSON;
    struct line line = {.len = 0};
    struct timespec now;
    struct tm tm;
    char stamp[64], whole[96];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(whole, sizeof whole, "%s.%03ldZ", stamp, now.tv_nsec / 1000000);

    put_str(&line, json ? "{\"time\":\"" : "time=");
    put_str(&line, whole);
    put_str(&line, json ? "\"" : "");
    put_pair(&line, "level", level_names[level], json);
    put_pair(&line, "msg", sentence, json);

    va_list ap;
    va_start(ap, sentence);
    for (const char *key; (key = va_arg(ap, const char *));) {
        const char *value = va_arg(ap, const char *);
        put_pair(&line, key, value ? value : "", json);
    }
    va_end(ap);
    if (json)
        line.text[line.len++] = '}';
    line.text[line.len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line.text, line.len); /* nobody left to tell */
    (void)ignored;
}
