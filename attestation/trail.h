/* The verdict in the making: one line per rule, and the first failure decides class and code. */
#ifndef CCN_ATTESTATION_TRAIL_H
#define CCN_ATTESTATION_TRAIL_H

#include <json-c/json.h>

#include "attestation/ccnattest.h"

struct trail_line {
    enum att_mark mark;
    char subject[48];
    const char *rule; /* a literal */
    char text[320];
};

/* Claims a verdict may carry; each NULL until made. Owned. */
struct att_verdict {
    enum att_class class;
    enum att_code code;
    char message[400];
    struct trail_line *lines;
    size_t n_lines, room;
    char subject[48]; /* put on every new line */
    size_t n_devices;
    struct json_object *claims[ATT_CLAIMS_FACTS + 1];
    struct json_object *names; /* array: "GPU-0", … in the order of the claims */
    char *log;
    char nonce_hex[2 * ATT_NONCE_SIZE + 1];
};

struct att_verdict *trail_new(void);
void trail_subject(struct att_verdict *v, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* trail_pass(), trail_note() - always true, so that rules can be chained with && */
bool trail_pass(struct att_verdict *v, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool trail_note(struct att_verdict *v, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* trail_fail() - always false; the first one sets class, code and message of the verdict */
bool trail_fail(struct att_verdict *v, enum att_code code, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* trail_unavailable() - as trail_fail(), but no answer rather than a wrong one. A rejection elsewhere outweighs it. */
bool trail_unavailable(struct att_verdict *v, enum att_code code, const char *rule, const char *fmt,
                       ...) __attribute__((format(printf, 4, 5)));

#endif
