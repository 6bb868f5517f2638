/* Drives the client by lines on standard input; every callback becomes one JSON line on standard output. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/kube/kube.h"

static struct loop *loop;
static struct kube *kube;
static struct kube_lease *lease;
static struct loop_fd *input;
static int deadline_ms = 20000; /* of patches; a machine under load is no fault */
static int64_t patched_ms;      /* when the last one was asked for */
static char line_buffer[65536];
static size_t line_len;

/* what the callbacks print */
static char tag_patch[] = "patch";
static char tag_condition[] = "condition";
static char tag_evict[] = "evict";
static char tag_lease[] = "lease";
static char tag_policy[] = "policy";

static void print(struct json_object *o)
{
    (void)printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
    (void)fflush(stdout);
    json_object_put(o);
}

static struct json_object *message(const char *what)
{
    struct json_object *o = json_object_new_object();
    (void)json_object_object_add(o, "what", json_object_new_string(what));
    return o;
}

static void add(struct json_object *o, const char *key, const char *value)
{
    (void)json_object_object_add(o, key, json_object_new_string(value));
}

static void add_pairs(struct json_object *o, const char *key, const struct kube_pair *p, size_t n)
{
    struct json_object *map = json_object_new_object();
    for (size_t i = 0; i < n; i++)
        add(map, p[i].key, p[i].value);
    (void)json_object_object_add(o, key, map);
}

static void on_node(void *arg, const struct kube_node *node)
{
    (void)arg;
    struct json_object *o = message("node");
    (void)json_object_object_add(o, "exists", json_object_new_boolean(node->exists));
    add_pairs(o, "labels", node->labels, node->n_labels);
    add_pairs(o, "annotations", node->annotations, node->n_annotations);
    print(o);
}

static void on_state(void *arg, bool up, const char *reason)
{
    (void)arg;
    struct json_object *o = message("watch");
    (void)json_object_object_add(o, "up", json_object_new_boolean(up));
    add(o, "reason", reason);
    print(o);
}

static struct json_object *result_object(const char *what, const struct kube_result *r)
{
    struct json_object *o = message(what);
    (void)json_object_object_add(o, "status", json_object_new_int(r->status));
    add(o, "code", r->err.code ? strerrorname_np(r->err.code) : "");
    add(o, "message", r->err.msg);
    if (what == tag_patch)
        (void)json_object_object_add(o, "ms",
                                     json_object_new_int64(loop_now_ms(loop) - patched_ms));
    return o;
}

static void on_result(void *arg, const struct kube_result *r)
{
    print(result_object(arg, r));
}

static void on_policy(void *arg, const struct kube_result *r, const char *mode)
{
    struct json_object *o = result_object(arg, r);
    if (mode)
        add(o, "mode", mode);
    print(o);
}

static void print_stats(void)
{
    const struct kube_stats *s = kube_stats(kube);
    struct json_object *o = message("stats"), *requests = json_object_new_object(),
                       *restarts = json_object_new_object();
    for (size_t i = 0; i < s->n_requests; i++) {
        char key[20];
        (void)snprintf(key, sizeof key, "%s %s", s->requests[i].verb, s->requests[i].code);
        (void)json_object_object_add(requests, key,
                                     json_object_new_int64((int64_t)s->requests[i].count));
    }
    for (size_t i = 0; i < s->n_restarts; i++)
        (void)json_object_object_add(restarts, s->restarts[i].reason,
                                     json_object_new_int64((int64_t)s->restarts[i].count));
    (void)json_object_object_add(o, "requests", requests);
    (void)json_object_object_add(o, "restarts", restarts);
    (void)json_object_object_add(o, "documents",
                                 json_object_new_int64((int64_t)s->watch_documents));
    (void)json_object_object_add(o, "changes", json_object_new_int64((int64_t)s->node_changes));
    print(o);
}

/* "key=value" sets, "key-" deletes; words from @from on */
static void patch(char **words, size_t from, size_t n, const char *version)
{
    struct kube_pair pairs[32];
    size_t n_pairs = 0;
    for (size_t i = from; i < n && n_pairs < ARRAY_LEN(pairs); i++) {
        char *equals = strchr(words[i], '=');
        if (equals)
            *equals = 0;
        else
            words[i][strlen(words[i]) - 1] = 0;
        pairs[n_pairs++] = (struct kube_pair){words[i], equals ? equals + 1 : NULL};
    }
    struct kube_patch p = {.n_labels = n_pairs, .labels = pairs, .resource_version = version};
    patched_ms = loop_now_ms(loop);
    kube_patch_node(kube, &p, deadline_ms, on_result, tag_patch);
}

static void command(char *line)
{
    char *words[40] = {NULL};
    size_t n = 0;
    for (char *w = strtok(line, " "); w && n + 1 < ARRAY_LEN(words); w = strtok(NULL, " "))
        words[n++] = w;
    const char *c = n ? words[0] : "";
    if (strcmp(c, "watch") == 0)
        kube_watch(kube);
    else if (strcmp(c, "refresh") == 0)
        kube_refresh(kube);
    else if (strcmp(c, "deadline") == 0)
        deadline_ms = atoi(words[1]);
    else if (strcmp(c, "patch") == 0)
        patch(words, 1, n, NULL);
    else if (strcmp(c, "patch-if") == 0)
        patch(words, 2, n, words[1]);
    else if (strcmp(c, "patch-now") == 0)
        patch(words, 1, n, kube_node_version(kube));
    else if (strcmp(c, "condition") == 0)
        kube_patch_condition(kube,
                             &(struct kube_condition){.type = "ConfidentialGPUsReady",
                                                      .status = words[1],
                                                      .reason = words[2],
                                                      .message = words[3]},
                             deadline_ms, on_result, tag_condition);
    else if (strcmp(c, "event") == 0)
        kube_event(kube, words[1], words[2], "Test", words[3]);
    else if (strcmp(c, "evict") == 0)
        kube_evict(kube, words[1], words[2], atoi(words[3]), on_result, tag_evict);
    else if (strcmp(c, "acquire") == 0)
        lease = kube_lease_acquire(kube, words[1], (unsigned)atoi(words[2]),
                                   (unsigned)atoi(words[3]), on_result, tag_lease);
    else if (strcmp(c, "release") == 0)
        kube_lease_release(TAKE(lease));
    else if (strcmp(c, "policy") == 0)
        kube_get_cluster_policy_mode(kube, on_policy, tag_policy);
    else if (strcmp(c, "stats") == 0)
        print_stats();
    else if (strcmp(c, "quit") == 0)
        loop_stop(loop);
}

static void on_input(void *arg, int fd, uint32_t events)
{
    (void)arg;
    (void)events;
    ssize_t n = read(fd, line_buffer + line_len, sizeof line_buffer - line_len - 1);
    if (n <= 0) {
        loop_stop(loop);
        return;
    }
    line_len += (size_t)n;
    line_buffer[line_len] = 0;
    char *end;
    while ((end = strchr(line_buffer, '\n'))) {
        *end = 0;
        command(line_buffer);
        line_len -= (size_t)(end + 1 - line_buffer);
        memmove(line_buffer, end + 1, line_len + 1);
    }
}

int main(int argc, char **argv)
{
    static const char *const keys[] = {"nvidia.com/*", "ccnode.io/*", NULL};
    struct err err = ERR_INIT;
    if (argc < 5) {
        (void)fprintf(stderr, "usage: driver NODE KUBECONFIG|- EVICT-TOKEN-FILE|- STALL_MS\n");
        return 2;
    }
    loop = loop_new(NULL, NULL);
    struct kube_options o = {.node_name = argv[1],
                             .kubeconfig = strcmp(argv[2], "-") ? argv[2] : NULL,
                             .service_account_dir = getenv("SERVICE_ACCOUNT_DIR"),
                             .evict_token_file = strcmp(argv[3], "-") ? argv[3] : NULL,
                             .user_agent = "ccnode-test/1",
                             .keys = keys,
                             .on_node = on_node,
                             .on_watch_state = on_state,
                             .backoff_min_ms = 40,
                             .backoff_max_ms = 400,
                             .watch_stall_ms = atoi(argv[4])};
    kube = kube_new(loop, &o, &err);
    if (!kube) {
        (void)fprintf(stderr, "%s\n", err.msg);
        loop_free(loop);
        return 1;
    }
    input = loop_add_fd(loop, STDIN_FILENO, EPOLLIN, on_input, NULL);
    loop_run(loop);
    loop_remove_fd(input);
    kube_free(kube);
    loop_free(loop);
    return 0;
}
