#include "simulator/tree/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct {
    bool json, in_list, in_map;
    unsigned members, objects, map_members;
} out;

void out_json(bool json)
{
    out.json = json;
}

static void quoted(const char *text)
{
    (void)putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            (void)printf("\\%c", c);
        else if (c < 0x20)
            (void)printf("\\u%04x", c);
        else
            (void)putchar(c);
    }
    (void)putchar('"');
}

void out_list(void)
{
    out.in_list = true;
    out.objects = 0;
    if (out.json)
        (void)putchar('[');
}

void out_list_end(void)
{
    out.in_list = false;
    if (out.json)
        (void)puts("]");
}

void out_object(void)
{
    if (out.json)
        (void)fputs(out.objects++ ? ",\n {" : "{", stdout);
    out.members = 0;
}

void out_object_end(void)
{
    if (out.json)
        (void)putchar('}');
    if (!out.json || !out.in_list)
        (void)putchar('\n');
}

/* what stands before a value */
static void before(const char *key)
{
    unsigned *n = out.in_map ? &out.map_members : &out.members;
    bool first = (*n)++ == 0;
    if (out.json) {
        (void)fputs(first ? "" : ",", stdout);
        quoted(key);
        (void)putchar(':');
        return;
    }
    if (out.in_map)
        (void)printf("%s%s=", first ? "" : ",", key);
    else if (!first)
        (void)printf(" %s=", key);
}

void out_map(const char *key)
{
    before(key);
    out.in_map = true;
    out.map_members = 0;
    (void)putchar('{');
}

void out_map_end(void)
{
    out.in_map = false;
    (void)putchar('}');
}

void out_text(const char *key, const char *value)
{
    before(key);
    if (out.json)
        quoted(value);
    else
        (void)fputs(value, stdout);
}

void out_number(const char *key, int64_t value)
{
    before(key);
    (void)printf("%" PRId64, value);
}

void out_hex(const char *key, uint32_t value, int digits)
{
    before(key);
    if (out.json)
        (void)printf("%" PRIu32, value);
    else
        (void)printf("0x%0*" PRIx32, digits, value);
}

void out_bool(const char *key, bool value)
{
    before(key);
    (void)fputs(value ? "true" : "false", stdout);
}

void out_word(const char *key, const char *value)
{
    const char *digits = value + (*value == '-');
    if (*digits && strlen(digits) < 10 && digits[strspn(digits, "0123456789")] == '\0') {
        before(key);
        (void)fputs(value, stdout);
    } else {
        out_text(key, value);
    }
}
