#include "simulator/tree/node.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/auto.h"

struct removal {
    struct removal *next;
    uint64_t parent;
    char name[];
};

/* a device node that is announced and not there yet */
struct announced {
    struct announced *next;
    struct node *parent, **slot;
    char *name;
    mode_t mode;
    const struct node_ops *ops;
    void *owner;
};

/* a system call to make */
struct change {
    struct change *next;
    bool create;
    char path[];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ready;
    struct node root;
    uint64_t last_ino;
    struct removal *removed;
    struct change *changes; /* in order */
    struct announced *announced;
    void (*on_removed)(uint64_t parent_ino, const char *name);
    void (*on_change)(const char *path, bool create);
} tree = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .root = {.name = (char[]){""}, .mode = S_IFDIR | 0755, .ino = 1, .lookups = 1},
          .last_ino = 1};

void tree_lock(void)
{
    (void)pthread_mutex_lock(&tree.lock);
    if (tree.ready)
        return;
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&tree.changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    tree.ready = true;
}

/* Gives up the lock and carries out what is queued. Return: whether there was anything. */
static bool unlock_and_tell(void)
{
    struct removal *list = TAKE(tree.removed);
    struct change *changes = TAKE(tree.changes);
    bool any = list || changes;
    (void)pthread_mutex_unlock(&tree.lock);
    while (list) {
        struct removal *next = list->next;
        if (tree.on_removed)
            tree.on_removed(list->parent, list->name);
        free(list);
        list = next;
    }
    while (changes) {
        struct change *next = changes->next;
        tree.on_change(changes->path, changes->create);
        free(changes);
        changes = next;
    }
    return any;
}

void tree_unlock(void)
{
    (void)unlock_and_tell();
}

int64_t tree_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void tree_wait(int64_t deadline_ns)
{
    if (tree.removed || tree.changes) {
        /* others must see the change before anybody sleeps; a wake-up may be missed: callers loop */
        (void)unlock_and_tell();
        (void)pthread_mutex_lock(&tree.lock);
        return;
    }
    if (deadline_ns == 0) {
        (void)pthread_cond_wait(&tree.changed, &tree.lock);
        return;
    }
    struct timespec at = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    (void)pthread_cond_timedwait(&tree.changed, &tree.lock, &at);
}

void tree_wake(void)
{
    (void)pthread_cond_broadcast(&tree.changed);
}

struct node *tree_root(void)
{
    return &tree.root;
}

void tree_on_removed(void (*cb)(uint64_t parent_ino, const char *name))
{
    tree.on_removed = cb;
}

uint64_t node_id(const struct node *node)
{
    return node == &tree.root ? 1 : (uint64_t)(uintptr_t)node;
}

static struct node *raw_of_id(uint64_t id)
{
    return id == 1 ? &tree.root : (struct node *)(uintptr_t)id;
}

struct node *node_of_id(uint64_t id)
{
    struct node *node = raw_of_id(id);
    return node->real ? node->real : node;
}

static void free_if_done(struct node *node)
{
    if (!node->gone || node->lookups > 0)
        return;
    free(node->name);
    free(node->target);
    free(node);
}

uint64_t node_looked_up(struct node *node)
{
    node->lookups++;
    if (!node->ops || !node->ops->waits)
        return node_id(node);
    struct node *alias = xcalloc(1, sizeof *alias);
    alias->real = node;
    alias->lookups = 1;
    return node_id(alias);
}

void node_forget(uint64_t id, uint64_t lookups)
{
    struct node *node = raw_of_id(id);
    if (node == &tree.root)
        return;
    node->lookups -= lookups;
    struct node *real = node->real;
    if (real && node->lookups == 0) {
        free(node);
        real->lookups--;
        node = real;
    }
    free_if_done(node);
}

struct node *node_find(const struct node *parent, const char *name)
{
    for (struct node *n = parent->children; n; n = n->next)
        if (strcmp(n->name, name) == 0)
            return n;
    return NULL;
}

static struct node *add(struct node *parent, const char *name, mode_t mode)
{
    struct node *node = xcalloc(1, sizeof *node);
    node->parent = parent;
    node->name = xstrdup(name);
    node->mode = mode;
    node->ino = ++tree.last_ino;
    struct node **end = &parent->children;
    while (*end)
        end = &(*end)->next;
    *end = node;
    return node;
}

struct node *node_dir(struct node *parent, const char *name)
{
    struct node *old = node_find(parent, name);
    return old ? old : add(parent, name, S_IFDIR | 0755);
}

struct node *node_path(const char *path)
{
    AUTO_FREE char *copy = xstrdup(path);
    struct node *at = &tree.root;
    char *save = NULL;
    for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save))
        at = node_dir(at, part);
    return at;
}

struct node *node_file(struct node *parent, const char *name, mode_t mode,
                       const struct node_ops *ops, void *owner, long arg)
{
    struct node *old = node_find(parent, name);
    if (old)
        return old;
    struct node *node = add(parent, name, S_IFREG | mode);
    node->ops = ops;
    node->owner = owner;
    node->arg = arg;
    char page[TREE_PAGE];
    node->size = ops->constant ? (int64_t)ops->show(node, page) : TREE_PAGE;
    return node;
}

static ssize_t show_text(struct node *node, char *buf)
{
    return snprintf(buf, TREE_PAGE, "%s\n", node->target ? node->target : "");
}
static const struct node_ops text_ops = {.show = show_text, .constant = true};

struct node *node_text(struct node *parent, const char *name, const char *text)
{
    struct node *node = node_file(parent, name, 0444, &text_ops, NULL, 0);
    if (!node->target) {
        node->target = xstrdup(text);
        node->size = (int64_t)strlen(text) + 1;
    }
    return node;
}

static int depth(const struct node *node)
{
    int n = 0;
    for (; node->parent; node = node->parent)
        n++;
    return n;
}

static void append_path(const struct node *node, const struct node *top, char **text)
{
    if (node == top)
        return;
    append_path(node->parent, top, text);
    char *longer = xasprintf("%s%s%s", *text, **text ? "/" : "", node->name);
    free(*text);
    *text = longer;
}

struct node *node_link(struct node *parent, const char *name, const struct node *to)
{
    struct node *old = node_find(parent, name);
    if (old)
        return old;
    const struct node *a = parent, *b = to;
    char *text = xstrdup("");
    int ups = 0;
    for (int da = depth(a), db = depth(b); a != b;) {
        if (da >= db) {
            a = a->parent;
            da--;
            ups++;
        } else {
            b = b->parent;
            db--;
        }
    }
    for (int i = 0; i < ups; i++) {
        char *longer = xasprintf("%s%s..", text, *text ? "/" : "");
        free(text);
        text = longer;
    }
    append_path(to, a, &text);
    struct node *node = add(parent, name, S_IFLNK | 0777);
    node->target = text;
    node->size = (int64_t)strlen(text);
    return node;
}

char *node_path_of(const struct node *node)
{
    char *text = xstrdup("");
    append_path(node, &tree.root, &text);
    char *path = xasprintf("/%s", text);
    free(text);
    return path;
}

static void mark_gone(struct node *node)
{
    struct node *child = node->children;
    node->children = NULL;
    while (child) {
        struct node *next = child->next;
        mark_gone(child);
        child = next;
    }
    node->gone = true;
    node->parent = NULL;
    node->next = NULL;
    node->owner = NULL;
    free_if_done(node);
}

static void unlink_node(struct node *node)
{
    struct node **at = &node->parent->children;
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
}

void node_remove(struct node *node)
{
    if (!node)
        return;
    unlink_node(node);
    size_t len = strlen(node->name) + 1;
    struct removal *r = xmalloc(sizeof *r + len);
    r->next = tree.removed;
    r->parent = node_id(node->parent);
    memcpy(r->name, node->name, len);
    tree.removed = r;
    mark_gone(node);
}

/* --- device nodes ------------------------------------------------------------------------------------------ */
void tree_on_change(void (*cb)(const char *path, bool create))
{
    tree.on_change = cb;
}

static void queue_change(const struct node *parent, const char *name, bool create)
{
    AUTO_FREE char *dir = node_path_of(parent);
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    struct change *change = xmalloc(sizeof *change + strlen(path) + 1);
    change->next = NULL;
    change->create = create;
    memcpy(change->path, path, strlen(path) + 1);
    struct change **end = &tree.changes;
    while (*end)
        end = &(*end)->next;
    *end = change;
}

static void free_announced(struct announced *a)
{
    free(a->name);
    free(a);
}

/* takes it out of the list; by slot, or by place */
static struct announced *take_announced(struct node *const *slot, const struct node *parent,
                                        const char *name)
{
    for (struct announced **at = &tree.announced; *at; at = &(*at)->next) {
        struct announced *a = *at;
        if (slot ? a->slot != slot : a->parent != parent || strcmp(a->name, name) != 0)
            continue;
        *at = a->next;
        return a;
    }
    return NULL;
}

struct node *node_admit(const struct node *parent, const char *name)
{
    struct announced *a = take_announced(NULL, parent, name);
    if (!a)
        return NULL;
    struct node *node = node_file(a->parent, a->name, a->mode, a->ops, a->owner, 0);
    *a->slot = node;
    free_announced(a);
    return node;
}

void node_announce(struct node *parent, const char *name, mode_t mode, const struct node_ops *ops,
                   void *owner, struct node **slot)
{
    struct announced *again = take_announced(slot, NULL, NULL);
    if (again)
        free_announced(again);
    struct node *old = node_find(parent, name);
    if (old && old->leaving)
        node_remove(old);
    struct announced *a = xcalloc(1, sizeof *a);
    *a = (struct announced){.next = tree.announced,
                            .parent = parent,
                            .slot = slot,
                            .name = xstrdup(name),
                            .mode = mode,
                            .ops = ops,
                            .owner = owner};
    tree.announced = a;
    if (tree.on_change)
        queue_change(parent, name, true);
    else
        (void)node_admit(parent, name);
}

void node_retire(struct node **slot)
{
    struct announced *a = take_announced(slot, NULL, NULL);
    if (a)
        free_announced(a);
    struct node *node = TAKE(*slot);
    if (!node)
        return;
    node->leaving = true;
    if (tree.on_change)
        queue_change(node->parent, node->name, false);
    else
        node_remove(node);
}

int node_dismiss(const struct node *parent, const char *name)
{
    struct node *node = node_find(parent, name);
    if (!node || !node->leaving)
        return -ENOENT;
    unlink_node(node); /* the kernel knows: it asked */
    mark_gone(node);
    return 0;
}

void node_settle(const char *path, bool create)
{
    AUTO_FREE char *dir = xstrdup(path);
    char *name = strrchr(dir, '/');
    *name++ = '\0';
    struct node *parent = node_path(dir);
    struct node *node = create ? node_admit(parent, name) : node_find(parent, name);
    if (!create && node && node->leaving)
        node_remove(node);
}
