#include "attestation/jsonin.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

#define MAX_DEPTH 32
#define MAX_VALUES (1u << 16) /* a tree costs sixty times what two bytes of text do */

/* A scan that only says yes or no; json-c builds the tree afterwards. It counts the members it sees: json-c keeps the
 * last of two equal names, so a tree with fewer members than the text has duplicates. */
struct scan {
    const unsigned char *p, *end, *start;
    size_t members, values;
    const char *why;
};

static bool refuse(struct scan *s, const char *why)
{
    if (!s->why)
        s->why = why;
    return false;
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool scan_escape(struct scan *s)
{
    if (s->p == s->end)
        return refuse(s, "string ends in an escape");
    unsigned char c = *s->p++;
    if (c != 'u')
        return strchr("\"\\/bfnrt", c) && c ? true : refuse(s, "unknown escape");
    if (s->end - s->p < 4)
        return refuse(s, "short \\u escape");
    unsigned value = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        unsigned char h = *s->p;
        unsigned lower = h | 32u;
        unsigned digit = 16;
        if (h >= '0' && h <= '9')
            digit = h - (unsigned)'0';
        else if (lower >= 'a' && lower <= 'f')
            digit = lower - 'a' + 10;
        if (digit > 15)
            return refuse(s, "bad \\u escape");
        value = value << 4 | digit;
    }
    return value ? true : refuse(s, "NUL character in a string");
}

/* one UTF-8 sequence of two bytes and more; no overlong forms, no surrogates, nothing above U+10FFFF */
static bool scan_utf8(struct scan *s)
{
    unsigned char c = s->p[-1];
    unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || (size_t)(s->end - s->p) < more)
        return refuse(s, "not UTF-8");
    unsigned char d = s->p[0];
    if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
        (c == 0xf4 && d > 0x8f))
        return refuse(s, "not UTF-8");
    for (unsigned i = 0; i < more; i++)
        if ((*s->p++ & 0xc0) != 0x80)
            return refuse(s, "not UTF-8");
    return true;
}

static bool scan_string(struct scan *s)
{
    if (s->p == s->end || *s->p++ != '"')
        return refuse(s, "a string is expected");
    while (s->p < s->end) {
        unsigned char c = *s->p++;
        if (c == '"')
            return true;
        if (c < 0x20)
            return refuse(s, "control character in a string");
        if (c == '\\' && !scan_escape(s))
            return false;
        if (c >= 0x80 && !scan_utf8(s))
            return false;
    }
    return refuse(s, "unterminated string");
}

static bool is_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static bool scan_digits(struct scan *s)
{
    if (!is_digit(s))
        return refuse(s, "a digit is expected");
    while (is_digit(s))
        s->p++;
    return true;
}

static bool scan_number(struct scan *s)
{
    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!scan_digits(s))
        return false;
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!scan_digits(s))
            return false;
    }
    if (s->p < s->end && (*s->p | 32) == 'e') {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        return scan_digits(s);
    }
    return true;
}

static bool scan_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return refuse(s, "unknown word");
    s->p += n;
    return true;
}

static bool scan_value(struct scan *s, int depth);

static bool scan_list(struct scan *s, int depth, unsigned char close)
{
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == close) {
        s->p++;
        return true;
    }
    for (;;) {
        if (close == '}') {
            skip_space(s);
            if (!scan_string(s))
                return false;
            s->members++;
            skip_space(s);
            if (s->p == s->end || *s->p++ != ':')
                return refuse(s, "a colon is expected");
        }
        if (!scan_value(s, depth + 1))
            return false;
        skip_space(s);
        if (s->p == s->end)
            return refuse(s, "ends too early");
        unsigned char c = *s->p++;
        if (c == close)
            return true;
        if (c != ',')
            return refuse(s, "a comma is expected");
    }
}

static bool scan_value(struct scan *s, int depth) /* NOLINT(misc-no-recursion): MAX_DEPTH levels */
{
    if (depth > MAX_DEPTH)
        return refuse(s, "nested too deeply");
    if (++s->values > MAX_VALUES)
        return refuse(s, "too many values");
    skip_space(s);
    if (s->p == s->end)
        return refuse(s, "ends too early");
    switch (*s->p) {
    case '{':
        return scan_list(s, depth, '}');
    case '[':
        return scan_list(s, depth, ']');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return scan_number(s);
    }
}

static size_t count_members(struct json_object *value)
{
    size_t n = 0;
    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++)
            n += count_members(json_object_array_get_idx(value, i));
    } else if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, name, member)
        {
            (void)name;
            n += 1 + count_members(member);
        }
    }
    return n;
}

static int parse(const char *text, size_t len, size_t max, bool duplicates,
                 struct json_object **ret, struct err *err)
{
    if (len > max)
        return err_set(err, EFBIG, "JSON of %zu bytes, %zu are allowed", len, max);
    struct scan s = {.p = (const unsigned char *)text};
    s.start = s.p;
    s.end = s.p + len;
    bool ok = scan_value(&s, 0);
    skip_space(&s);
    if (ok && s.p != s.end)
        ok = refuse(&s, "something follows the value");
    if (!ok)
        return err_set(err, EINVAL, "not JSON: %s at byte %zu", s.why, (size_t)(s.p - s.start));
    struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH + 2);
    if (!tokener)
        abort();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    struct json_object *value = json_tokener_parse_ex(tokener, text, (int)len);
    enum json_tokener_error why = json_tokener_get_error(tokener);
    if (why == json_tokener_continue) { /* a bare number ends only with the text */
        value = json_tokener_parse_ex(tokener, "", 1);
        why = json_tokener_get_error(tokener);
    }
    json_tokener_free(tokener);
    if (why != json_tokener_success)
        return err_set(err, EINVAL, "not JSON: %s", json_tokener_error_desc(why));
    if (!duplicates && count_members(value) != s.members) {
        json_object_put(value);
        return err_set(err, EINVAL, "an object has two members of the same name");
    }
    *ret = value;
    return 0;
}

int jsonin_parse(const char *text, size_t len, size_t max, struct json_object **ret,
                 struct err *err)
{
    return parse(text, len, max, false, ret, err);
}

int jsonin_parse_claims(const char *text, size_t len, size_t max, struct json_object **ret,
                        struct err *err)
{
    return parse(text, len, max, true, ret, err);
}

const char *jsonin_string(struct json_object *object, const char *name)
{
    struct json_object *member = jsonin_member(object, name);
    return json_object_is_type(member, json_type_string) ? json_object_get_string(member) : NULL;
}

struct json_object *jsonin_member(struct json_object *object, const char *name)
{
    struct json_object *member = NULL;
    if (!json_object_is_type(object, json_type_object))
        return NULL;
    return json_object_object_get_ex(object, name, &member) ? member : NULL;
}
