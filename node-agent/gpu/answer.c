#include "node-agent/gpu/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

static void put(struct answer *a, const char *text, size_t n)
{
    if (a->len + n + 1 > a->room) {
        a->room = a->room ? a->room * 2 + n : 512 + n;
        a->text = xrealloc(a->text, a->room, 1);
    }
    memcpy(a->text + a->len, text, n);
    a->len += n;
    a->text[a->len] = '\0';
}

static void put_quoted(struct answer *a, const char *text)
{
    put(a, "\"", 1);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char escaped[8];
        if (c == '"' || c == '\\')
            (void)snprintf(escaped, sizeof escaped, "\\%c", c);
        else if (c < 0x20)
            (void)snprintf(escaped, sizeof escaped, "\\u%04x", c);
        else
            (void)snprintf(escaped, sizeof escaped, "%c", c < 0x7f ? c : '?');
        put(a, escaped, strlen(escaped));
    }
    put(a, "\"", 1);
}

static void begin(struct answer *a, const char *key)
{
    if (!a->first && a->len > 0)
        put(a, ",", 1);
    a->first = false;
    if (key) {
        put_quoted(a, key);
        put(a, ":", 1);
    }
}

void answer_open(struct answer *a, const char *key, char bracket)
{
    begin(a, key);
    put(a, &bracket, 1);
    a->first = true;
}

void answer_close(struct answer *a, char bracket)
{
    put(a, &bracket, 1);
    a->first = false;
}

void answer_text(struct answer *a, const char *key, const char *value)
{
    begin(a, key);
    put_quoted(a, value);
}

void answer_number(struct answer *a, const char *key, int64_t value)
{
    char text[24];
    begin(a, key);
    put(a, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void answer_bool(struct answer *a, const char *key, bool value)
{
    begin(a, key);
    put(a, value ? "true" : "false", value ? 4 : 5);
}

void answer_null(struct answer *a, const char *key)
{
    begin(a, key);
    put(a, "null", 4);
}

void answer_append(struct answer *a, const struct answer *members)
{
    begin(a, NULL);
    put(a, members->text, members->len);
}

void answer_free(struct answer *a)
{
    free(a->text);
    *a = (struct answer){0};
}
