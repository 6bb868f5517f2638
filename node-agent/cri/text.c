#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cri/internal.h"

void strings_add(struct strings *strings, const char *text)
{
    for (size_t i = 0; i < strings->n; i++)
        if (strcmp(strings->items[i], text) == 0)
            return;
    strings->items = xrealloc(strings->items, strings->n + 1, sizeof(char *));
    strings->items[strings->n++] = xstrdup(text);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strings_sort(struct strings *strings)
{
    if (strings->n > 1)
        qsort(strings->items, strings->n, sizeof(char *), by_text);
}

void strings_free(struct strings *strings)
{
    for (size_t i = 0; i < strings->n; i++)
        free(strings->items[i]);
    free(strings->items);
    *strings = (struct strings){0};
}

char *cri_copy(const ProtobufCBinaryData *text)
{
    return xstrndup(text->len ? (const char *)text->data : "", text->len);
}

void cri_free_text(const char *text)
{
    char *p;
    memcpy(&p, &text, sizeof p);
    free(p);
}

static void free_array(size_t n, const char *const *items)
{
    for (size_t i = 0; i < n; i++)
        cri_free_text(items[i]);
    void *p;
    memcpy(&p, &items, sizeof p);
    free(p);
}

static const char *const *hand_over(struct strings *strings)
{
    const char *const *items;
    char **own = TAKE(strings->items);
    memcpy(&items, &own, sizeof items);
    strings->n = 0;
    return items;
}

void cri_set_handlers(struct cri_runtime *runtime, struct strings *handlers)
{
    free_array(runtime->n_handlers, runtime->handlers);
    strings_sort(handlers);
    runtime->handlers_known = true;
    runtime->n_handlers = handlers->n;
    runtime->handlers = hand_over(handlers);
}

void cri_set_cdi_dirs(struct cri_runtime *runtime, struct strings *dirs)
{
    free_array(runtime->n_cdi_dirs, runtime->cdi_dirs);
    runtime->cdi_dirs_known = true;
    runtime->n_cdi_dirs = dirs->n;
    runtime->cdi_dirs = hand_over(dirs);
}

void cri_runtime_free(struct cri_runtime *runtime)
{
    cri_free_text(runtime->socket);
    cri_free_text(runtime->name);
    cri_free_text(runtime->version);
    cri_free_text(runtime->api);
    cri_free_text(runtime->not_ready_why);
    free_array(runtime->n_handlers, runtime->handlers);
    free_array(runtime->n_cdi_dirs, runtime->cdi_dirs);
    *runtime = (struct cri_runtime){0};
}
