#include "fake_kube.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct fake_kube *fake_of(struct kube *kube)
{
    return (struct fake_kube *)kube;
}

static void put_pairs(char *to, size_t room, const struct kube_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(to);
        (void)snprintf(to + used, room - used, "%s=%s;", pairs[i].key,
                       pairs[i].value ? pairs[i].value : "-");
    }
}

void kube_patch_node(struct kube *kube, const struct kube_patch *patch, int deadline_ms,
                     kube_cb *cb, void *arg)
{
    struct fake_kube *fake = fake_of(kube);
    assert_false(fake->patching.pending); /* at most one */
    assert_true(deadline_ms > 0);
    fake->n_patches++;
    *fake->patch = '\0';
    put_pairs(fake->patch, sizeof fake->patch, patch->labels, patch->n_labels);
    put_pairs(fake->patch, sizeof fake->patch, patch->annotations, patch->n_annotations);
    fake->patching = (struct fake_request){true, cb, arg};
}

void kube_patch_condition(struct kube *kube, const struct kube_condition *condition,
                          int deadline_ms, kube_cb *cb, void *arg)
{
    struct fake_kube *fake = fake_of(kube);
    (void)deadline_ms;
    assert_false(fake->conditioning.pending);
    fake->n_conditions++;
    (void)snprintf(fake->condition, sizeof fake->condition, "%s/%s/%s", condition->status,
                   condition->reason, condition->message);
    fake->transition_ms = condition->transition_ms;
    fake->conditioning = (struct fake_request){true, cb, arg};
}

void kube_remove_condition(struct kube *kube, const char *type, int deadline_ms, kube_cb *cb,
                           void *arg)
{
    struct fake_kube *fake = fake_of(kube);
    (void)type, (void)deadline_ms;
    assert_false(fake->conditioning.pending);
    fake->n_removals++;
    (void)snprintf(fake->condition, sizeof fake->condition, "removed");
    fake->conditioning = (struct fake_request){true, cb, arg};
}

void kube_event(struct kube *kube, const char *type, const char *reason, const char *action,
                const char *note)
{
    struct fake_kube *fake = fake_of(kube);
    (void)type, (void)action, (void)note;
    fake->n_events++;
    (void)snprintf(fake->event, sizeof fake->event, "%s", reason);
}

static const char *value_of(const struct kube_pair *pairs, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(pairs[i].key, key) == 0)
            return pairs[i].value;
    }
    return NULL;
}

const char *kube_node_label(const struct kube_node *node, const char *key)
{
    return value_of(node->labels, node->n_labels, key);
}

const char *kube_node_annotation(const struct kube_node *node, const char *key)
{
    return value_of(node->annotations, node->n_annotations, key);
}

void fake_kube_answer(struct fake_request *request, int code, int retry_after_ms)
{
    struct kube_result result = {.status = code ? 500 : 200, .retry_after_ms = retry_after_ms};
    assert_true(request->pending);
    if (code)
        (void)err_set(&result.err, code, "refused by the test");
    request->pending = false;
    request->cb(request->arg, &result);
}
