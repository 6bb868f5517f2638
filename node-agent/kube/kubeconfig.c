#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/auto.h"
#include "node-agent/kube/creds.h"

/* Only fixed paths are walked, never the whole tree, so aliases that point at each other cannot trap us. */
struct doc {
    yaml_document_t yaml;
    struct err *err;
};

static yaml_node_t *member(struct doc *doc, yaml_node_t *map, const char *key)
{
    if (!map || map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        yaml_node_t *k = yaml_document_get_node(&doc->yaml, p->key);
        if (k && k->type == YAML_SCALAR_NODE && k->data.scalar.length == strlen(key) &&
            memcmp(k->data.scalar.value, key, k->data.scalar.length) == 0)
            return yaml_document_get_node(&doc->yaml, p->value);
    }
    return NULL;
}

/* Text of a scalar, NULL when absent, empty or null; an embedded NUL or another type is an error. */
static int text_member(struct doc *doc, yaml_node_t *map, const char *key, char **ret)
{
    yaml_node_t *n = member(doc, map, key);
    if (!n)
        return 0;
    if (n->type != YAML_SCALAR_NODE)
        return err_set(doc->err, EINVAL, "%s at line %zu is not a text", key,
                       n->start_mark.line + 1);
    const char *s = (const char *)n->data.scalar.value;
    if (memchr(s, 0, n->data.scalar.length))
        return err_set(doc->err, EINVAL, "%s at line %zu holds a NUL", key, n->start_mark.line + 1);
    if (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        (strcmp(s, "null") == 0 || strcmp(s, "~") == 0))
        return 0;
    if (*s) {
        free(*ret);
        *ret = xstrdup(s);
    }
    return 0;
}

/* The entry of list @list whose name is @name; its member @kind. */
static int named(struct doc *doc, yaml_node_t *root, const char *list, const char *name,
                 const char *kind, yaml_node_t **ret)
{
    yaml_node_t *seq = member(doc, root, list);
    if (!seq || seq->type != YAML_SEQUENCE_NODE)
        return err_set(doc->err, EINVAL, "there is no list \"%s\"", list);
    for (yaml_node_item_t *i = seq->data.sequence.items.start; i < seq->data.sequence.items.top;
         i++) {
        yaml_node_t *entry = yaml_document_get_node(&doc->yaml, *i);
        AUTO_FREE char *have = NULL;
        int r = text_member(doc, entry, "name", &have);
        if (r < 0)
            return r;
        if (!have || strcmp(have, name) != 0)
            continue;
        yaml_node_t *body = member(doc, entry, kind);
        if (!body || body->type != YAML_MAPPING_NODE)
            return err_set(doc->err, EINVAL, "entry \"%.100s\" of %s has no \"%s\"", name, list,
                           kind);
        *ret = body;
        return 0;
    }
    return err_set(doc->err, EINVAL, "%s has no entry named \"%.100s\"", list, name);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64 with padding, white space ignored; the result must be PEM-like text. */
static int base64_text(const char *what, const char *in, char **ret, struct err *err)
{
    size_t len = strlen(in), n = 0, digits = 0, pads = 0;
    AUTO_FREE char *out = xmalloc(len / 4 * 3 + 4);
    unsigned acc = 0;
    for (size_t i = 0; i < len; i++) {
        if (isspace((unsigned char)in[i]))
            continue;
        if (in[i] == '=') {
            pads++;
            continue;
        }
        int d = base64_digit(in[i]);
        if (d < 0 || pads)
            return err_set(err, EINVAL, "%s is not base64 (character %zu)", what, i + 1);
        acc = acc << 6 | (unsigned)d;
        if (++digits % 4 == 0) {
            out[n++] = (char)(acc >> 16);
            out[n++] = (char)(acc >> 8);
            out[n++] = (char)acc;
            acc = 0;
        }
    }
    if ((digits + pads) % 4 || digits % 4 == 1 || pads > 2)
        return err_set(err, EINVAL, "%s is not base64 (its length is wrong)", what);
    if (digits % 4 == 2)
        out[n++] = (char)(acc >> 4);
    if (digits % 4 == 3) {
        out[n++] = (char)(acc >> 10);
        out[n++] = (char)(acc >> 2);
    }
    out[n] = 0;
    if (memchr(out, 0, n) || !strstr(out, "-----BEGIN "))
        return err_set(err, EINVAL, "%s does not hold PEM text", what);
    *ret = TAKE(out);
    return 0;
}

/* "<key>-data" (base64) wins over "<key>" (file), as in client-go. */
static int file_or_data(struct doc *doc, yaml_node_t *map, const char *key, const char *dir,
                        char **ret_file, char **ret_data)
{
    AUTO_FREE char *data_key = xasprintf("%s-data", key);
    AUTO_FREE char *data = NULL;
    AUTO_FREE char *file = NULL;
    int r = text_member(doc, map, data_key, &data);
    if (r < 0)
        return r;
    if (data)
        return base64_text(data_key, data, ret_data, doc->err);
    r = text_member(doc, map, key, &file);
    if (r < 0 || !file)
        return r;
    *ret_file = file[0] == '/' ? TAKE(file) : xasprintf("%s/%s", dir, file);
    return 0;
}

static int refuse_members(struct doc *doc, yaml_node_t *map, const char *of,
                          const char *const (*refused)[2])
{
    for (; (*refused)[0]; refused++) {
        yaml_node_t *n = member(doc, map, (*refused)[0]);
        if (!n || (n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0))
            continue;
        yaml_node_t *which = member(doc, n, strcmp((*refused)[0], "exec") ? "name" : "command");
        const char *command = which && which->type == YAML_SCALAR_NODE
                                  ? (const char *)which->data.scalar.value
                                  : NULL;
        return err_set(doc->err, ENOTSUP, "%s uses \"%s\"%s%.100s, which is not supported: %s", of,
                       (*refused)[0], command ? " " : "", command ? command : "", (*refused)[1]);
    }
    return 0;
}

static int read_cluster(struct doc *doc, yaml_node_t *cluster, const char *dir, struct creds *c)
{
    static const char *const refused[][2] = {
        {"proxy-url", "the agent never uses a proxy; use a server address it can reach"},
        {"tls-server-name", "use a server address that is in the certificate"},
        {NULL, NULL}};
    AUTO_FREE char *server = NULL;
    AUTO_FREE char *insecure = NULL;
    int r = refuse_members(doc, cluster, "the cluster", refused);
    if (r == 0)
        r = text_member(doc, cluster, "server", &server);
    if (r == 0)
        r = text_member(doc, cluster, "insecure-skip-tls-verify", &insecure);
    if (r == 0)
        r = file_or_data(doc, cluster, "certificate-authority", dir, &c->ca_file, &c->ca_data);
    if (r < 0)
        return r;
    if (!server)
        return err_set(doc->err, EINVAL, "the cluster has no \"server\"");
    r = server_check(server, &c->server, doc->err);
    if (r < 0)
        return r;
    if (insecure && strcmp(insecure, "true") == 0) {
        c->insecure = true;
        (void)snprintf(c->warning, sizeof c->warning,
                       "insecure-skip-tls-verify is set: the certificate of %.100s is not verified "
                       "and anybody in between can give orders",
                       c->server);
    } else if (insecure && strcmp(insecure, "false") != 0) {
        return err_set(doc->err, EINVAL,
                       "insecure-skip-tls-verify is \"%.40s\"; allowed: true, false", insecure);
    }
    return 0;
}

static int read_user(struct doc *doc, yaml_node_t *user, const char *dir, struct creds *c)
{
    static const char *const refused[][2] = {
        {"exec", "use a token file or a client certificate (a ServiceAccount token, for example)"},
        {"auth-provider", "use a token file or a client certificate"},
        {"username", "API servers no longer take passwords; use a token file"},
        {"password", "API servers no longer take passwords; use a token file"},
        {"as", "the agent does not impersonate; use that user's own credentials"},
        {"as-uid", "the agent does not impersonate"},
        {"as-groups", "the agent does not impersonate"},
        {"as-user-extra", "the agent does not impersonate"},
        {NULL, NULL}};
    AUTO_FREE char *token = NULL;
    AUTO_FREE char *file = NULL;
    int r = refuse_members(doc, user, "the user", refused);
    if (r == 0)
        r = text_member(doc, user, "token", &token);
    if (r == 0)
        r = text_member(doc, user, "tokenFile", &file);
    if (r == 0)
        r = file_or_data(doc, user, "client-certificate", dir, &c->cert_file, &c->cert_data);
    if (r == 0)
        r = file_or_data(doc, user, "client-key", dir, &c->key_file, &c->key_data);
    if (r < 0)
        return r;
    if (!!(c->cert_file || c->cert_data) != !!(c->key_file || c->key_data))
        return err_set(doc->err, EINVAL,
                       "the user needs both client-certificate and client-key, or none");
    if (file) /* wins over token, as in client-go */
        c->token_file = file[0] == '/' ? TAKE(file) : xasprintf("%s/%s", dir, file);
    else if (token)
        return token_parse(token, strlen(token), &c->token, doc->err);
    return 0;
}

static int read_document(struct doc *doc, const char *dir, struct creds *c)
{
    yaml_node_t *root = yaml_document_get_root_node(&doc->yaml);
    yaml_node_t *context = NULL, *cluster = NULL, *user = NULL;
    AUTO_FREE char *cluster_name = NULL;
    AUTO_FREE char *user_name = NULL;
    if (!root || root->type != YAML_MAPPING_NODE)
        return err_set(doc->err, EINVAL, "this is not a kubeconfig: no mapping at its top");
    int r = text_member(doc, root, "current-context", &c->context);
    if (r < 0)
        return r;
    if (!c->context)
        return err_set(
            doc->err, EINVAL,
            "current-context is not set (kubectl config use-context NAME --kubeconfig FILE)");
    r = named(doc, root, "contexts", c->context, "context", &context);
    if (r == 0)
        r = text_member(doc, context, "cluster", &cluster_name);
    if (r == 0)
        r = text_member(doc, context, "user", &user_name);
    if (r == 0)
        r = text_member(doc, context, "namespace", &c->namespace_);
    if (r == 0 && !cluster_name)
        r = err_set(doc->err, EINVAL, "context \"%.100s\" names no cluster", c->context);
    if (r == 0)
        r = named(doc, root, "clusters", cluster_name, "cluster", &cluster);
    if (r == 0)
        r = read_cluster(doc, cluster, dir, c);
    if (r == 0 && user_name)
        r = named(doc, root, "users", user_name, "user", &user);
    if (r == 0 && user)
        r = read_user(doc, user, dir, c);
    return r;
}

static int load_yaml(const char *text, size_t len, struct doc *ret)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return err_set(ret->err, ENOMEM, "cannot start the YAML parser");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int ok = yaml_parser_load(&parser, &ret->yaml);
    int r = ok ? 0
               : err_set(ret->err, EINVAL, "not YAML at line %zu, column %zu: %s",
                         parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                         parser.problem ? parser.problem : "unknown problem");
    yaml_parser_delete(&parser);
    return r;
}

int kubeconfig_parse(const char *text, size_t len, const char *dir, struct creds *ret,
                     struct err *err)
{
    if (len > CREDS_KUBECONFIG_MAX)
        return err_set(err, EINVAL, "larger than %d bytes", CREDS_KUBECONFIG_MAX);
    struct doc doc = {.err = err};
    int r = load_yaml(text, len, &doc);
    if (r < 0)
        return r;
    struct creds c = {0};
    r = read_document(&doc, dir, &c);
    yaml_document_delete(&doc.yaml);
    if (r < 0) {
        creds_done(&c);
        return r;
    }
    *ret = c;
    return 0;
}
