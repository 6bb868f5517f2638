/* Request bodies and times, as text; the caller's. Pure. Texts are made valid UTF-8 and cut to the server's limits. */
#ifndef CCN_KUBE_BODIES_H
#define CCN_KUBE_BODIES_H

#include <stdint.h>

#include "node-agent/kube/kube.h"

#define BODY_NOTE_MAX 1024     /* Event note (kubernetes/api events/v1) */
#define BODY_MESSAGE_MAX 32768 /* condition message (meta/v1 Condition) */
#define BODY_WORD_MAX 128      /* Event reason and action */

/* "2026-01-02T03:04:05Z" and "2026-01-02T03:04:05.678901Z" (Time and MicroTime); room for 28 characters */
void time_text(int64_t us_since_1970, char ret[32]);
void micro_time_text(int64_t us_since_1970, char ret[32]);
int64_t wall_us(void);

/* text_clean() - a copy of at most @max bytes, cut on a character border, invalid UTF-8 and control characters as "?"
 * (line breaks and tabs as spaces) */
char *text_clean(const char *text, size_t max);

/* metadata.labels, metadata.annotations (null deletes), metadata.resourceVersion when given; merge patch */
char *body_patch(const struct kube_patch *patch);
/* status.conditions[] with one entry; strategic merge patch, merged by type */
char *body_condition(const struct kube_condition *condition, int64_t now_us);
char *body_condition_removed(const char *type); /* strategic merge patch */

struct event_text {
    const char *name; /* of the Event */
    const char *node;
    const char *type, *reason, *action, *note;
    const char *instance; /* reportingInstance */
};
char *body_event(const struct event_text *event, int64_t now_us);
char *body_event_series(unsigned count, int64_t now_us);

char *body_eviction(const char *namespace_, const char *name, const char *uid);

struct lease_text {
    const char *namespace_, *name,
        *semaphore;               /* semaphore: value of the label ccnode.io/semaphore */
    const char *resource_version; /* NULL: create */
    const char *holder;           /* "" = given back */
    unsigned duration_s, transitions;
    const char *acquire_time; /* MicroTime */
};
char *body_lease(const struct lease_text *lease, int64_t now_us);

/* url_escape() - everything but unreserved characters as %XX (RFC 3986 2.3) */
char *url_escape(const char *text);

#endif
