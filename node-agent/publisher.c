#include "node-agent/publisher.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/kube/backoff.h"

#define PATCH_DEADLINE_MS 10000
#define LAZY_MS 1000 /* annotation or message alone, nothing under way */
#define LAZY_CHANGING_MS                                                                           \
    20000 /* the same while devices are being changed: the end will tell it all, even on a busy node */
#define STALE_WATCH_MS 1000 /* events from before our own patch are still on the way that long */
#define FIGHT_MS 100        /* first wait before a foreign value is put right; doubles up to */
#define FIGHT_MAX_MS 10000
#define FIGHT_FORGET_MS 60000

enum key { KEY_STATE, KEY_READY, KEY_CAPABLE, KEY_PRESENT, KEY_STATUS, N_KEYS };

static const char *const key_names[N_KEYS] = {
    [KEY_STATE] = LABEL_MODE_STATE, [KEY_READY] = LABEL_READY_STATE,  [KEY_CAPABLE] = LABEL_CAPABLE,
    [KEY_PRESENT] = LABEL_PRESENT,  [KEY_STATUS] = ANNOTATION_STATUS,
};

/* One value per key; NULL = absent. */
struct values {
    char *v[N_KEYS];
    bool keep[N_KEYS]; /* in a wish: not ours to write at present */
};

struct condition {
    char status[8];
    char reason[64];
    char message[1024];
};

struct publisher {
    struct loop *loop;
    struct kube *kube;
    void (*on_progress)(void *arg);
    void *arg;
    struct values known, wish, sent;
    struct values seen; /* what the watch showed last; may be from before our own patch */
    bool node_exists, wished, changing;
    bool hold;                   /* the timer must run out: a failure, or someone else writes too */
    bool patching, unsure_ready; /* a patch with ready=true whose end is not known */
    int64_t sent_ms, acked_ms;
    struct backoff backoff;
    unsigned fights;
    int64_t fought_ms;
    struct loop_timer *timer;   /* the next patch, not before */
    struct loop_timer *recheck; /* what the watch showed too early is looked at again */
    char error[300];
    char denied_labels[300], denied_condition[300];
    struct condition cond_known, cond_wish, cond_sent;
    int64_t transition_ms; /* wall clock of the last change of the condition's status */
    bool cond_patching, cond_is_known;
    struct backoff cond_backoff;
    struct loop_timer *cond_timer;
};

static void send_if_needed(struct publisher *p);
static void send_condition_if_needed(struct publisher *p);

static int64_t wall_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void set_value(struct values *values, enum key key, const char *value)
{
    free(values->v[key]);
    values->v[key] = value ? xstrdup(value) : NULL;
}

static void clear_values(struct values *values)
{
    for (enum key i = 0; i < N_KEYS; i++)
        set_value(values, i, NULL);
    *values = (struct values){0};
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool differs(const struct publisher *p, enum key key)
{
    if (p->wish.keep[key])
        return false;
    if (key == KEY_PRESENT && p->known.v[key])
        return false; /* only set when absent */
    if (key == KEY_READY && p->unsure_ready)
        return true; /* a patch went out and its end is not known: say it again */
    return !same_text(p->wish.v[key], p->known.v[key]);
}

static bool any_label_differs(const struct publisher *p)
{
    for (enum key i = 0; i < KEY_STATUS; i++) {
        if (differs(p, i))
            return true;
    }
    return false;
}

struct publisher *publisher_new(struct loop *loop, struct kube *kube,
                                void (*on_progress)(void *arg), void *arg)
{
    struct publisher *p = xcalloc(1, sizeof *p);
    p->loop = loop;
    p->kube = kube;
    p->on_progress = on_progress;
    p->arg = arg;
    p->unsure_ready =
        true; /* a predecessor may have said anything: the first look at the Node tells */
    p->backoff = p->cond_backoff = (struct backoff){.min_ms = 500, .max_ms = 30000};
    return p;
}

void publisher_free(struct publisher *p)
{
    if (!p)
        return;
    loop_cancel(p->timer);
    loop_cancel(p->recheck);
    loop_cancel(p->cond_timer);
    clear_values(&p->known);
    clear_values(&p->seen);
    clear_values(&p->wish);
    clear_values(&p->sent);
    free(p);
}

static void send_patch(struct publisher *p);

static void on_timer(void *arg)
{
    struct publisher *p = arg;
    p->timer = NULL;
    bool something = any_label_differs(p) || differs(p, KEY_STATUS);
    if (!p->patching && p->wished && p->node_exists && something)
        send_patch(p);
}

/* @hold: nothing is sent earlier, whatever differs */
static void send_later(struct publisher *p, int64_t delay_ms, bool hold)
{
    loop_cancel(p->timer);
    p->hold = hold;
    p->timer = loop_add_timer(p->loop, delay_ms, on_timer, p);
}

static void on_cond_timer(void *arg)
{
    struct publisher *p = arg;
    p->cond_timer = NULL;
    send_condition_if_needed(p);
}

/* Only a further answer of the server changes it. */
static void note_denied(char denied[300], const struct kube_result *result)
{
    if (result->err.code == EACCES)
        (void)snprintf(denied, 300, "%.280s", result->err.msg);
}

static void on_patched(void *arg, const struct kube_result *result)
{
    struct publisher *p = arg;
    p->patching = false;
    if (result->err.code == ECANCELED)
        return; /* the client is going away */
    if (result->err.code == 0) {
        for (enum key i = 0; i < N_KEYS; i++) {
            if (!p->sent.keep[i])
                set_value(&p->known, i, p->sent.v[i]);
        }
        p->unsure_ready = false;
        p->acked_ms = loop_now_ms(p->loop);
        p->backoff.failures = 0;
        *p->error = *p->denied_labels = '\0';
        send_if_needed(p);
    } else {
        if (strcmp(p->error, result->err.msg) != 0)
            log_warning("the Node's labels could not be written", "error", result->err.msg, NULL);
        (void)snprintf(p->error, sizeof p->error, "%.280s", result->err.msg);
        note_denied(p->denied_labels, result);
        send_later(p, backoff_wait(&p->backoff, result->retry_after_ms, random_u32()), true);
    }
    p->on_progress(p->arg);
}

static void send_patch(struct publisher *p)
{
    struct kube_pair labels[N_KEYS], annotation;
    struct kube_patch patch = {.labels = labels, .annotations = &annotation};
    clear_values(&p->sent);
    for (enum key i = 0; i < N_KEYS; i++) {
        p->sent.keep[i] = !differs(p, i);
        if (p->sent.keep[i])
            continue;
        set_value(&p->sent, i, p->wish.v[i]);
        if (i == KEY_STATUS)
            annotation = (struct kube_pair){key_names[i], p->sent.v[i]}, patch.n_annotations = 1;
        else
            labels[patch.n_labels++] = (struct kube_pair){key_names[i], p->sent.v[i]};
    }
    if (!p->sent.keep[KEY_READY] && same_text(p->sent.v[KEY_READY], "true"))
        p->unsure_ready = true;
    p->patching = true;
    p->sent_ms = loop_now_ms(p->loop);
    kube_patch_node(p->kube, &patch, PATCH_DEADLINE_MS, on_patched, p);
}

static void send_if_needed(struct publisher *p)
{
    if (p->patching || !p->wished || !p->node_exists)
        return;
    if (any_label_differs(p)) {
        if (p->timer && p->hold)
            return;
        loop_cancel(p->timer);
        p->timer = NULL;
        send_patch(p);
    } else if (differs(p, KEY_STATUS) && !p->timer) {
        send_later(p, p->changing ? LAZY_CHANGING_MS : LAZY_MS, false);
    }
}

/* ---- the condition ---- */

static void on_condition(void *arg, const struct kube_result *result)
{
    struct publisher *p = arg;
    p->cond_patching = false;
    if (result->err.code == ECANCELED)
        return;
    if (result->err.code == 0) {
        p->cond_known = p->cond_sent;
        p->cond_is_known = true;
        p->cond_backoff.failures = 0;
        *p->denied_condition = '\0';
        send_condition_if_needed(p);
    } else if (!p->cond_timer) {
        if (p->cond_backoff.failures == 0)
            log_warning("the Node's condition could not be written", "error", result->err.msg,
                        NULL);
        note_denied(p->denied_condition, result);
        int wait = backoff_wait(&p->cond_backoff, result->retry_after_ms, random_u32());
        p->cond_timer = loop_add_timer(p->loop, wait, on_cond_timer, p);
    }
    p->on_progress(p->arg);
}

static void send_condition(struct publisher *p)
{
    loop_cancel(p->cond_timer);
    p->cond_timer = NULL;
    if (!p->cond_is_known || strcmp(p->cond_wish.status, p->cond_sent.status) != 0)
        p->transition_ms = wall_ms();
    p->cond_sent = p->cond_wish;
    struct kube_condition condition = {
        .type = CONDITION_TYPE,
        .status = p->cond_sent.status,
        .reason = p->cond_sent.reason,
        .message = p->cond_sent.message,
        .transition_ms = p->transition_ms,
    };
    p->cond_patching = true;
    if (!*p->cond_sent.status) {
        kube_remove_condition(p->kube, CONDITION_TYPE, PATCH_DEADLINE_MS, on_condition, p);
        return;
    }
    kube_patch_condition(p->kube, &condition, PATCH_DEADLINE_MS, on_condition, p);
}

static void on_cond_lazy(void *arg)
{
    struct publisher *p = arg;
    p->cond_timer = NULL;
    if (!p->cond_patching && p->node_exists &&
        strcmp(p->cond_wish.message, p->cond_known.message) != 0)
        send_condition(p);
}

static void send_condition_if_needed(struct publisher *p)
{
    const struct condition *wish = &p->cond_wish, *known = &p->cond_known;
    if (p->cond_patching || !p->wished || !p->node_exists)
        return;
    bool urgent = !p->cond_is_known || strcmp(wish->status, known->status) != 0 ||
                  strcmp(wish->reason, known->reason) != 0;
    if (urgent && !(p->cond_timer && p->cond_backoff.failures > 0)) {
        loop_cancel(p->cond_timer); /* it takes the message along */
        p->cond_timer = NULL;
        send_condition(p);
    } else if (!urgent && strcmp(wish->message, known->message) != 0 && !p->cond_timer) {
        int64_t wait = p->changing ? LAZY_CHANGING_MS : LAZY_MS;
        p->cond_timer = loop_add_timer(p->loop, wait, on_cond_lazy, p);
    }
}

/* ---- wishes and the watch ---- */

static void wish_label(struct publisher *p, enum key key, const struct label_wish *wish)
{
    p->wish.keep[key] = wish->action == LABEL_KEEP;
    if (wish->action != LABEL_KEEP)
        set_value(&p->wish, key, wish->action == LABEL_SET ? wish->value : NULL);
}

/* What waited for the end of the change has come to it. */
static void hurry(struct publisher *p)
{
    if (p->timer && !p->hold) {
        loop_cancel(p->timer);
        p->timer = NULL;
    }
    if (p->cond_timer && p->cond_backoff.failures == 0) {
        loop_cancel(p->cond_timer);
        p->cond_timer = NULL;
    }
}

void publisher_want(struct publisher *p, const struct published *published)
{
    wish_label(p, KEY_STATE, &published->mode_state);
    wish_label(p, KEY_READY, &published->ready_state);
    wish_label(p, KEY_CAPABLE, &published->capable);
    wish_label(p, KEY_PRESENT, &published->present);
    set_value(&p->wish, KEY_STATUS, published->status);
    (void)snprintf(p->cond_wish.status, sizeof p->cond_wish.status, "%s", published->cond_status);
    (void)snprintf(p->cond_wish.reason, sizeof p->cond_wish.reason, "%s", published->cond_reason);
    (void)snprintf(p->cond_wish.message, sizeof p->cond_wish.message, "%s",
                   published->cond_message);
    bool ended = p->changing && published->n_changing == 0;
    p->changing = published->n_changing > 0;
    if (ended)
        hurry(p);
    p->wished = true;
    send_if_needed(p);
    send_condition_if_needed(p);
}

void publisher_withdraw(struct publisher *p)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        set_value(&p->wish, (enum key)i, NULL);
        p->wish.keep[i] = i == KEY_PRESENT;
    }
    p->cond_wish = (struct condition){0};
    p->changing = false;
    p->wished = true;
    send_if_needed(p);
    send_condition_if_needed(p);
}

/* Someone else wrote one of our labels: put right, but never as fast as they write. A wait that is under way is not
 * begun anew, or who writes more often than we wait would keep us silent for good. */
static void answer_foreign_write(struct publisher *p, enum key key)
{
    if (p->timer && p->hold)
        return;
    int64_t now = loop_now_ms(p->loop);
    if (now - p->fought_ms > FIGHT_FORGET_MS)
        p->fights = 0;
    p->fought_ms = now;
    int64_t wait = (int64_t)FIGHT_MS << (p->fights < 7 ? p->fights : 7);
    if (p->fights++ == 3)
        kube_event(p->kube, "Warning", "LabelConflict", "Publish",
                   "another writer keeps changing the labels of ccnode; find it in "
                   "metadata.managedFields and stop it");
    log_warning("someone else wrote a label of ours; it is put right", "label", key_names[key],
                NULL);
    send_later(p, wait < FIGHT_MAX_MS ? wait : FIGHT_MAX_MS, true);
}

static void take_seen(struct publisher *p, bool first)
{
    enum key foreign = N_KEYS;
    for (enum key i = 0; i < N_KEYS; i++) {
        if (same_text(p->seen.v[i], p->known.v[i]))
            continue;
        foreign = i;
        set_value(&p->known, i, p->seen.v[i]);
    }
    if (!first && foreign < N_KEYS && p->wished && any_label_differs(p))
        answer_foreign_write(p, foreign);
    else
        send_if_needed(p);
}

static void on_recheck(void *arg)
{
    struct publisher *p = arg;
    p->recheck = NULL;
    if (p->patching)
        p->recheck = loop_add_timer(p->loop, STALE_WATCH_MS, on_recheck, p);
    else if (p->node_exists)
        take_seen(p, false);
}

static void forget_node(struct publisher *p)
{
    clear_values(&p->known);
    clear_values(&p->seen);
    p->cond_is_known = false;
    p->acked_ms = 0;
    p->unsure_ready = false; /* no Node, no label, no pods */
}

void publisher_saw_node(struct publisher *p, const struct kube_node *node)
{
    p->node_exists = node->exists;
    if (!node->exists) {
        forget_node(p);
        return;
    }
    for (enum key i = 0; i < N_KEYS; i++)
        set_value(&p->seen, i,
                  i == KEY_STATUS ? kube_node_annotation(node, key_names[i])
                                  : kube_node_label(node, key_names[i]));
    bool first = p->acked_ms == 0 && !p->patching;
    bool early =
        p->patching || (p->acked_ms > 0 && loop_now_ms(p->loop) - p->acked_ms < STALE_WATCH_MS);
    if (early && !p->recheck)
        p->recheck = loop_add_timer(p->loop, STALE_WATCH_MS, on_recheck, p);
    if (first)
        p->unsure_ready = false;
    if (!early)
        take_seen(p, first);
    send_condition_if_needed(p);
}

bool publisher_may_say_ready(const struct publisher *p)
{
    return p->unsure_ready || same_text(p->known.v[KEY_READY], "true");
}

bool publisher_is_telling(const struct publisher *p)
{
    return p->patching && loop_now_ms(p->loop) - p->sent_ms < PUBLISHER_TELL_MS;
}

bool publisher_is_settled(const struct publisher *p)
{
    bool condition = p->cond_patching || strcmp(p->cond_wish.status, p->cond_known.status) != 0;
    return !p->patching && !condition && p->wished && !any_label_differs(p);
}

const char *publisher_denied_labels(const struct publisher *p)
{
    return p->denied_labels;
}

const char *publisher_denied_condition(const struct publisher *p)
{
    return p->denied_condition;
}

const char *publisher_error(const struct publisher *p)
{
    return p->error;
}
