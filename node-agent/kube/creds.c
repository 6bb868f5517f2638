#include "node-agent/kube/creds.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/fs.h"

#define SERVICE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void creds_done(struct creds *c)
{
    free(c->server);
    free(c->ca_file);
    free(c->ca_data);
    free(c->cert_file);
    free(c->cert_data);
    free(c->key_file);
    wipe(c->key_data);
    free(c->token_file);
    wipe(c->token);
    free(c->namespace_);
    free(c->kubeconfig);
    free(c->context);
    *c = (struct creds){0};
}

int token_parse(const char *text, size_t len, char **ret, struct err *err)
{
    while (len && isspace((unsigned char)*text)) {
        text++;
        len--;
    }
    while (len && isspace((unsigned char)text[len - 1]))
        len--;
    if (!len)
        return err_set(err, EINVAL, "the token is empty");
    if (len > CREDS_TOKEN_MAX)
        return err_set(err, EINVAL, "the token is longer than %d bytes", CREDS_TOKEN_MAX);
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f)
            return err_set(err, EINVAL,
                           "the token holds a character that is not allowed at position %zu",
                           i + 1);
    *ret = xstrndup(text, len);
    return 0;
}

static bool is_loopback(const char *host, size_t len)
{
    char text[64];
    struct in_addr v4;
    if (len == 0 || len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = 0;
    if (strcasecmp(text, "localhost") == 0 || strcmp(text, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* Length of the host part of "host[:port][/path]" with a checked port; 0 = malformed. */
static size_t host_length(const char *s)
{
    size_t host = s[0] == '[' ? strcspn(s, "]/") + 1 : strcspn(s, ":/");
    if (s[0] == '[' && s[host - 1] != ']')
        return 0;
    if (s[host] == ':') {
        size_t digits = strspn(s + host + 1, "0123456789");
        if (digits == 0 || digits > 5 || (s[host + 1 + digits] && s[host + 1 + digits] != '/'))
            return 0;
    } else if (s[host] && s[host] != '/') {
        return 0;
    }
    return host;
}

int server_check(const char *url, char **ret, struct err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._~:/[]%";
    bool tls = strncmp(url, "https://", 8) == 0;
    if (!tls && strncmp(url, "http://", 7) != 0)
        return err_set(err, EINVAL, "server \"%.100s\" does not begin with https://", url);
    const char *rest = url + (tls ? 8 : 7);
    size_t len = strlen(url);
    if (len > 1024 || rest[strspn(rest, allowed)])
        return err_set(
            err, EINVAL,
            "server \"%.100s\" is too long or holds characters that do not belong into a "
            "server address",
            url);
    size_t host = host_length(rest);
    if (!host)
        return err_set(err, EINVAL, "server \"%.100s\" is not https://HOST[:PORT][/PATH]", url);
    if (!tls && !is_loopback(rest, host))
        return err_set(err, EINVAL,
                       "server \"%.100s\" is plain http on another machine: use https (http is for "
                       "loopback addresses)",
                       url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    *ret = xstrndup(url, len);
    return 0;
}

static int read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    return fs_read_fd(fd, path, max, ret, ret_len, err);
}

/* Return: 1 changed, 0 same, negative. */
static int read_token_file(struct creds *c, struct err *err)
{
    AUTO_FREE char *text = NULL;
    char *token = NULL;
    size_t len = 0;
    int r = read_file(c->token_file, CREDS_TOKEN_MAX + 64, &text, &len, err);
    if (r < 0)
        return r;
    r = token_parse(text, len, &token, err);
    explicit_bzero(text, len);
    if (r < 0)
        return err_wrap(err, r, "%s", c->token_file);
    bool changed = !c->token || strcmp(c->token, token) != 0;
    wipe(c->token);
    c->token = token;
    return changed;
}

int creds_load_kubeconfig(struct creds *ret, const char *path, struct err *err)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    int r = read_file(path, CREDS_KUBECONFIG_MAX, &text, &len, err);
    if (r < 0)
        return r;
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
    struct creds c = {0};
    r = kubeconfig_parse(text, len, dir, &c, err);
    explicit_bzero(text, len);
    if (r < 0)
        return err_wrap(err, r, "kubeconfig %s", path);
    c.kubeconfig = xstrdup(path);
    if (c.token_file)
        r = read_token_file(&c, err);
    if (r < 0) {
        creds_done(&c);
        return err_wrap(err, r, "kubeconfig %s", path);
    }
    *ret = c;
    return 0;
}

static int server_from_environment(char **ret, struct err *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST");
    const char *port = getenv("KUBERNETES_SERVICE_PORT_HTTPS");
    if (!port || !*port)
        port = getenv("KUBERNETES_SERVICE_PORT");
    if (!host || !*host || !port || !*port)
        return err_set(err, ENOENT,
                       "not in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not "
                       "set): give a kubeconfig with --kubeconfig FILE");
    uint64_t number;
    int r = parse_u64(port, 65535, &number, err);
    if (r < 0)
        return err_wrap(err, r, "KUBERNETES_SERVICE_PORT");
    bool v6 = strchr(host, ':') && host[0] != '[';
    AUTO_FREE char *url =
        xasprintf("https://%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", (unsigned)number);
    return server_check(url, ret, err);
}

int creds_load_in_cluster(struct creds *ret, const char *dir, struct err *err)
{
    if (!dir || !*dir)
        dir = SERVICE_ACCOUNT_DIR;
    struct creds c = {0};
    int r = server_from_environment(&c.server, err);
    if (r < 0)
        return r;
    c.token_file = xasprintf("%s/token", dir);
    c.ca_file = xasprintf("%s/ca.crt", dir);
    AUTO_FREE char *ns_file = xasprintf("%s/namespace", dir);
    AUTO_FREE char *ns = NULL;
    struct err ignored = ERR_INIT;
    if (read_file(ns_file, 256, &ns, NULL, &ignored) == 0) {
        ns[strcspn(ns, " \t\r\n")] = 0;
        c.namespace_ = *ns ? TAKE(ns) : NULL;
    }
    r = read_token_file(&c, err);
    if (r >= 0 && access(c.ca_file, R_OK) < 0)
        r = err_errno(err, "cannot read the API server's authority %s", c.ca_file);
    if (r < 0) {
        creds_done(&c);
        return err_wrap(err, r, "service account of this pod");
    }
    *ret = c;
    return 0;
}

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

int creds_with_token_file(const struct creds *base, const char *token_file, struct creds *ret,
                          struct err *err)
{
    struct creds c = {.server = copy(base->server),
                      .ca_file = copy(base->ca_file),
                      .ca_data = copy(base->ca_data),
                      .namespace_ = copy(base->namespace_),
                      .insecure = base->insecure,
                      .token_file = xstrdup(token_file)};
    int r = read_token_file(&c, err);
    if (r < 0) {
        creds_done(&c);
        return r;
    }
    *ret = c;
    return 0;
}

static int refresh_kubeconfig(struct creds *c, struct err *err)
{
    struct creds fresh = {0};
    int r = creds_load_kubeconfig(&fresh, c->kubeconfig, err);
    if (r < 0)
        return r;
    creds_done(c);
    *c = fresh;
    return 1;
}

int creds_refresh(struct creds *c, int64_t now_ms, bool refused, struct err *err)
{
    if (!refused && c->token_read_ms && now_ms - c->token_read_ms < CREDS_TOKEN_AGE_MS)
        return 0;
    int r = 0;
    if (refused && c->kubeconfig)
        r = refresh_kubeconfig(c, err);
    else if (c->token_file)
        r = read_token_file(c, err);
    c->token_read_ms = now_ms > 0 ? now_ms : 1;
    return r;
}
