#include "attestation/trail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"

void att_bytes_done(struct att_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct att_bytes){0};
}

struct att_verdict *trail_new(void)
{
    return xcalloc(1, sizeof(struct att_verdict));
}

void trail_subject(struct att_verdict *v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(v->subject, sizeof v->subject, fmt, ap);
    va_end(ap);
}

__attribute__((format(printf, 4, 0))) static void add(struct att_verdict *v, enum att_mark mark,
                                                      const char *rule, const char *fmt, va_list ap)
{
    if (v->n_lines == v->room) {
        v->room = v->room ? 2 * v->room : 64;
        v->lines = xrealloc(v->lines, v->room, sizeof *v->lines);
    }
    struct trail_line *line = &v->lines[v->n_lines++];
    line->mark = mark;
    line->rule = rule;
    (void)snprintf(line->subject, sizeof line->subject, "%s", v->subject);
    (void)vsnprintf(line->text, sizeof line->text, fmt, ap);
    /* values come from files and peers: nothing may forge a line of a terminal or a log */
    for (char *p = line->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

bool trail_pass(struct att_verdict *v, const char *rule, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(v, ATT_PASS, rule, fmt, ap);
    va_end(ap);
    return true;
}

bool trail_note(struct att_verdict *v, const char *rule, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(v, ATT_NOTE, rule, fmt, ap);
    va_end(ap);
    return true;
}

static void decide(struct att_verdict *v, enum att_class class, enum att_code code)
{
    bool outweighs = v->class == ATT_UNAVAILABLE && class == ATT_REJECTED;
    if (v->class != ATT_ACCEPTED && !outweighs)
        return;
    const struct trail_line *line = &v->lines[v->n_lines - 1];
    v->class = class;
    v->code = code;
    (void)snprintf(v->message, sizeof v->message, "%s%s%s: %s", line->subject,
                   line->subject[0] ? ": " : "", line->rule, line->text);
}

bool trail_fail(struct att_verdict *v, enum att_code code, const char *rule, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(v, ATT_FAIL, rule, fmt, ap);
    va_end(ap);
    decide(v, ATT_REJECTED, code);
    return false;
}

bool trail_unavailable(struct att_verdict *v, enum att_code code, const char *rule, const char *fmt,
                       ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(v, ATT_FAIL, rule, fmt, ap);
    va_end(ap);
    decide(v, ATT_UNAVAILABLE, code);
    return false;
}

void att_verdict_free(struct att_verdict *verdict)
{
    if (!verdict)
        return;
    free(verdict->lines);
    for (size_t i = 0; i < ARRAY_LEN(verdict->claims); i++)
        json_object_put(verdict->claims[i]);
    json_object_put(verdict->names);
    free(verdict->log);
    free(verdict);
}

enum att_class att_verdict_class(const struct att_verdict *verdict)
{
    return verdict->class;
}

enum att_code att_verdict_code(const struct att_verdict *verdict)
{
    return verdict->code;
}

const char *att_verdict_message(const struct att_verdict *verdict)
{
    return verdict->message;
}

size_t att_verdict_lines(const struct att_verdict *verdict)
{
    return verdict->n_lines;
}

struct att_line att_verdict_line(const struct att_verdict *verdict, size_t i)
{
    const struct trail_line *line = &verdict->lines[i];
    return (struct att_line){line->mark, line->subject, line->rule, line->text};
}

size_t att_verdict_devices(const struct att_verdict *verdict)
{
    return verdict->n_devices;
}

const char *att_verdict_claims(const struct att_verdict *verdict, enum att_claims which)
{
    struct json_object *claims = verdict->claims[which];
    if (!claims)
        return which == ATT_CLAIMS_2023 || which == ATT_CLAIMS_OVERALL ? "{}" : "[]";
    return json_object_to_json_string_ext(claims,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

const char *att_verdict_log(const struct att_verdict *verdict)
{
    return verdict->log ? verdict->log : "";
}
