#include "attestation/prog/print.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/files.h"
#include "attestation/prog/ready.h"
#include "base/auto.h"

int print_status(const struct att_verdict *verdict)
{
    switch (att_verdict_class(verdict)) {
    case ATT_ACCEPTED:
        return EXIT_ACCEPTED;
    case ATT_UNAVAILABLE:
        return EXIT_SERVICE;
    case ATT_POLICY:
        return EXIT_POLICY;
    default:
        return EXIT_REJECTED;
    }
}

static const char *mark_name(enum att_mark mark)
{
    return mark == ATT_PASS ? "pass" : mark == ATT_FAIL ? "fail" : "note";
}

static struct json_object *rules(const struct att_verdict *verdict)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < att_verdict_lines(verdict); i++) {
        struct att_line line = att_verdict_line(verdict, i);
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "result", json_object_new_string(mark_name(line.mark)));
        json_object_object_add(o, "subject", json_object_new_string(line.subject));
        json_object_object_add(o, "rule", json_object_new_string(line.rule));
        json_object_object_add(o, "text", json_object_new_string(line.text));
        json_object_array_add(list, o);
    }
    return list;
}

static enum att_claims wanted_claims(const struct opts *opts)
{
    if (!opts->claims_version)
        return ATT_CLAIMS_V3;
    return strcmp(opts->claims_version, "2.0") == 0    ? ATT_CLAIMS_V2
           : strcmp(opts->claims_version, "2023") == 0 ? ATT_CLAIMS_2023
                                                       : ATT_CLAIMS_V3;
}

static void add_text(struct json_object *o, const char *name, const char *json)
{
    json_object_object_add(o, name, json_tokener_parse(json)); /* our own text */
}

static char *as_json(const struct opts *opts, const struct att_verdict *verdict, const char *token,
                     const char *jwks)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "result_code", json_object_new_int((int)att_verdict_code(verdict)));
    json_object_object_add(o, "result_message",
                           json_object_new_string(att_verdict_class(verdict) == ATT_ACCEPTED
                                                      ? "ok"
                                                      : att_verdict_message(verdict)));
    add_text(o, "claims", att_verdict_claims(verdict, wanted_claims(opts)));
    add_text(o, "overall_claims", att_verdict_claims(verdict, ATT_CLAIMS_OVERALL));
    add_text(o, "claims_2023", att_verdict_claims(verdict, ATT_CLAIMS_2023));
    if (strcmp(att_verdict_claims(verdict, ATT_CLAIMS_FACTS), "[]") != 0)
        add_text(o, "facts", att_verdict_claims(verdict, ATT_CLAIMS_FACTS));
    add_text(o, "detached_eat", token ? token : "{}");
    if (jwks)
        add_text(o, "jwks", jwks);
    json_object_object_add(o, "rules", rules(verdict));
    char *text =
        xasprintf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return text;
}

static const char *conclusion(const struct att_verdict *verdict)
{
    switch (att_verdict_class(verdict)) {
    case ATT_ACCEPTED:
        return "ACCEPTED";
    case ATT_UNAVAILABLE:
        return "NOT DECIDED, a service did not answer";
    case ATT_POLICY:
        return "REFUSED BY POLICY";
    default:
        return "REJECTED";
    }
}

static char *as_text(const struct att_verdict *verdict)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        abort();
    for (size_t i = 0; i < att_verdict_lines(verdict); i++) {
        struct att_line line = att_verdict_line(verdict, i);
        (void)fprintf(f, "%s %s%s%s: %s\n", mark_name(line.mark), line.subject,
                      line.subject[0] ? " " : "", line.rule, line.text);
    }
    enum att_code code = att_verdict_code(verdict);
    (void)fprintf(f, "%s", conclusion(verdict));
    if (code != ATT_OK)
        (void)fprintf(f, " (code %d): %s", (int)code, att_verdict_message(verdict));
    (void)fprintf(f, "\n");
    if (fclose(f) != 0 || !text)
        abort();
    return text;
}

static char *as_log(const struct opts *opts, const struct att_verdict *verdict)
{
    const char *log = att_verdict_log(verdict);
    bool opens = opts->announce_ready && att_verdict_class(verdict) == ATT_ACCEPTED;
    return opens ? ready_announce(log) : xstrdup(log);
}

int print_verdict(const struct opts *opts, const struct att_verdict *verdict, const char *token,
                  const char *jwks, struct err *err)
{
    AUTO_FREE char *text = opts->output == OUTPUT_JSON  ? as_json(opts, verdict, token, jwks)
                           : opts->output == OUTPUT_LOG ? as_log(opts, verdict)
                                                        : as_text(verdict);
    return file_replace(opts->output_file, text, strlen(text), err);
}

/* nvattest's numbers (REF-A 5.9): 500 no library, 501 a call of the driver failed, 509 mode, 2 anything else */
static int failure_code(const struct err *why)
{
    switch (why->code) {
    case ENOENT:
    case ENOSYS:
        return 500;
    case EREMOTEIO:
    case ENODEV:
    case EBADMSG:
        return 501;
    case EPERM:
        return ATT_ERR_MODE;
    default:
        return ATT_ERR_INTERNAL;
    }
}

int print_failure(const struct opts *opts, const struct err *why, struct err *err)
{
    if (opts->output != OUTPUT_JSON)
        return 0;
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "result_code", json_object_new_int(failure_code(why)));
    json_object_object_add(o, "result_message", json_object_new_string(why->msg));
    json_object_object_add(o, "claims", json_object_new_object());
    json_object_object_add(o, "detached_eat", json_object_new_object());
    AUTO_FREE char *text =
        xasprintf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return file_replace(opts->output_file, text, strlen(text), err);
}
