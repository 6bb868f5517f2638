/* Stand-in for the RIM service, the OCSP responders and the remote verifier, over loopback, well or misbehaved.
 *
 *   attest_services SET_DIR      prints its port, serves until its standard input closes
 *
 * The first part of a path names the fault: /ok/v1/rim/ID, /stale/ocsp, /html/v4/attest/gpu, /ok/.well-known/jwks.json;
 * /count gives the number of requests so far. One thread a connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <json-c/json.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "attestation/b64.h"
#include "attestation/jose.h"
#include "attestation/jsonin.h"
#include "base/auto.h"
#include "base/bytes.h"

#define BODY_MAX (8u << 20)

struct responder {
    EVP_PKEY *key;
    X509 *cert, *issuer;
};

static struct {
    char *rims; /* folder */
    struct responder responders[8];
    size_t n_responders;
    struct att_key *key;
    int port;
} set;
static atomic_uint requests;

struct call {
    int fd;
    char method[8], fault[400], path[256];
    char *body;
    size_t len;
    bool close;
};

static bool is(const struct call *c, const char *fault)
{
    return strcmp(c->fault, fault) == 0;
}

/* Answers --------------------------------------------------------------------------------------------------------- */

static bool send_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static void head(struct call *c, int status, const char *type, long long len, const char *more)
{
    char text[768];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %lld\r\n%s\r\n", status,
                     type, len, more);
    c->close |= !send_all(c->fd, text, (size_t)n);
}

static void pause_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&ts, NULL);
}

/* the answer @data, delivered as the fault wants it; true when the fault was one of delivery */
static bool deliver_badly(struct call *c, const char *type, const char *data, size_t len)
{
    static const char html[] = "<html><body>502 from a proxy</body></html>";
    if (is(c, "huge")) {
        head(c, 200, type, 300ll << 20, "");
        for (int i = 0; i < 300 * 16 && !c->close; i++) {
            static char block[64 << 10];
            c->close |= !send_all(c->fd, block, sizeof block);
        }
    } else if (is(c, "endless")) {
        static const char start[] =
            "HTTP/1.1 200 X\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n";
        char text[256];
        c->close |= !send_all(c->fd, text, (size_t)snprintf(text, sizeof text, start, type));
        while (!c->close)
            c->close |= !send_all(c->fd, "10\r\n                \r\n", 22);
    } else if (is(c, "slow")) {
        head(c, 200, type, (long long)len, "");
        for (size_t i = 0; i < len && !c->close; i++, pause_ms(100))
            c->close |= !send_all(c->fd, data + i, 1);
    } else if (is(c, "stalled")) {
        head(c, 200, type, (long long)len, "");
        pause_ms(90000); /* more than any test waits */
        c->close = true;
    } else if (is(c, "truncated")) {
        head(c, 200, type, (long long)len, "");
        (void)send_all(c->fd, data, len / 2);
        c->close = true;
    } else if (is(c, "html")) {
        head(c, 200, "text/html", sizeof html - 1, "");
        (void)send_all(c->fd, html, sizeof html - 1);
    } else if (is(c, "html-as-right-type")) {
        head(c, 200, type, sizeof html - 1, "");
        (void)send_all(c->fd, html, sizeof html - 1);
    } else if (is(c, "wrong-type")) {
        head(c, 200, "application/octet-stream", (long long)len, "");
        (void)send_all(c->fd, data, len);
    } else if (is(c, "redirect")) {
        char more[400];
        (void)snprintf(more, sizeof more, "Location: http://127.0.0.1:%d/ok%s\r\n", set.port,
                       c->path);
        head(c, 302, type, 0, more);
    } else if (is(c, "reset")) {
        c->close = true;
    } else if (is(c, "404") || is(c, "403") || is(c, "503")) {
        head(c, (int)strtol(c->fault, NULL, 10), type, 0, "");
    } else if (is(c, "503-once")) {
        static atomic_uint seen;
        if (atomic_fetch_add(&seen, 1) == 0) {
            head(c, 503, type, 0, "");
            return true;
        }
        return false;
    } else {
        return false;
    }
    return true;
}

static void answer(struct call *c, const char *type, const char *data, size_t len)
{
    if (deliver_badly(c, type, data, len))
        return;
    head(c, 200, type, (long long)len, "");
    c->close |= !send_all(c->fd, data, len);
}

/* RIM service ----------------------------------------------------------------------------------------------------- */

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *data = xmalloc(BODY_MAX);
    *len = fread(data, 1, BODY_MAX, f);
    (void)fclose(f);
    return data;
}

static void serve_rim(struct call *c, const char *id)
{
    size_t len = 0;
    AUTO_FREE char *path = xasprintf("%s/%s.xml", set.rims, id);
    AUTO_FREE char *xml = strchr(id, '/') ? NULL : read_file(path, &len);
    if (!xml) {
        head(c, 404, "application/json", 0, "");
        return;
    }
    uint8_t digest[32];
    char hex[65];
    if (EVP_Digest(xml, len, digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    if (is(c, "wrong-digest"))
        digest[0] ^= 1;
    hex_encode(digest, sizeof digest, hex);
    AUTO_FREE char *rim = b64_encode((uint8_t *)xml, len);
    if (is(c, "wrong-base64"))
        rim[100] = '!';
    AUTO_FREE char *json = xasprintf("{\"id\":\"%s%s\",\"rim\":\"%s\",\"sha256\":\"%s\",\"rim_"
                                     "format\":\"%s\",\"request_id\":\"1\"}",
                                     id, is(c, "other-id") ? "X" : "", rim, hex,
                                     is(c, "other-format") ? "CORIM" : "SWID");
    answer(c, "application/json", json, strlen(json));
}

/* OCSP ------------------------------------------------------------------------------------------------------------ */

static const struct responder *find_responder(OCSP_CERTID *id)
{
    ASN1_OBJECT *hash = NULL;
    (void)OCSP_id_get0_info(NULL, &hash, NULL, NULL, id);
    for (size_t i = 0; i < set.n_responders; i++) {
        OCSP_CERTID *mine =
            OCSP_cert_to_id(EVP_get_digestbyobj(hash), NULL, set.responders[i].issuer);
        bool same = mine && OCSP_id_issuer_cmp(mine, id) == 0;
        OCSP_CERTID_free(mine);
        if (same)
            return &set.responders[i];
    }
    return NULL;
}

static ASN1_TIME *at(long offset)
{
    return ASN1_GENERALIZEDTIME_set(NULL, time(NULL) + offset);
}

static void add_status(const struct call *c, OCSP_BASICRESP *basic, OCSP_CERTID *id)
{
    ASN1_TIME *from = at(is(c, "stale") ? -7200 : is(c, "future") ? 3600 : -60);
    ASN1_TIME *until = is(c, "no-next-update") ? NULL : at(is(c, "stale") ? -3600 : 7200);
    ASN1_TIME *when = at(-86400);
    bool revoked = is(c, "revoked") || is(c, "hold");
    int status = revoked            ? V_OCSP_CERTSTATUS_REVOKED
                 : is(c, "unknown") ? V_OCSP_CERTSTATUS_UNKNOWN
                                    : V_OCSP_CERTSTATUS_GOOD;
    if (!OCSP_basic_add1_status(basic, id, status,
                                is(c, "hold") ? OCSP_REVOKED_STATUS_CERTIFICATEHOLD
                                              : OCSP_REVOKED_STATUS_KEYCOMPROMISE,
                                revoked ? when : NULL, from, until))
        abort();
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    ASN1_TIME_free(when);
}

static OCSP_CERTID *other_id(const OCSP_CERTID *id)
{
    OCSP_CERTID *copy = OCSP_CERTID_dup(id);
    ASN1_INTEGER *serial = NULL;
    (void)OCSP_id_get0_info(NULL, NULL, NULL, &serial, copy);
    if (!ASN1_INTEGER_set(serial, 4711))
        abort();
    return copy;
}

static OCSP_RESPONSE *respond(const struct call *c)
{
    const unsigned char *p = (const unsigned char *)c->body;
    OCSP_REQUEST *req = d2i_OCSP_REQUEST(NULL, &p, (long)c->len);
    if (!req)
        return OCSP_response_create(OCSP_RESPONSE_STATUS_MALFORMEDREQUEST, NULL);
    OCSP_CERTID *id = OCSP_onereq_get0_id(OCSP_request_onereq_get0(req, 0));
    ASN1_OBJECT *hash = NULL;
    (void)OCSP_id_get0_info(NULL, &hash, NULL, NULL, id);
    int error = is(c, "try-later")      ? OCSP_RESPONSE_STATUS_TRYLATER
                : is(c, "unauthorized") ? OCSP_RESPONSE_STATUS_UNAUTHORIZED
                : is(c, "sha1-only") && OBJ_obj2nid(hash) != NID_sha1
                    ? OCSP_RESPONSE_STATUS_MALFORMEDREQUEST
                    : 0;
    const struct responder *r = find_responder(id);
    if (error || !r) {
        OCSP_REQUEST_free(req);
        return OCSP_response_create(error ? error : OCSP_RESPONSE_STATUS_UNAUTHORIZED, NULL);
    }
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *about = is(c, "other-certificate") ? other_id(id) : OCSP_CERTID_dup(id);
    add_status(c, basic, about);
    unsigned char wrong[32] = {1};
    if (is(c, "other-nonce"))
        (void)OCSP_basic_add1_nonce(basic, wrong, sizeof wrong);
    else if (!is(c, "no-nonce"))
        (void)OCSP_copy_nonce(basic, req);
    const struct responder *signer =
        is(c, "other-responder") ? &set.responders[r == set.responders ? 1 : 0] : r;
    if (OCSP_basic_sign(basic, signer->cert, signer->key, EVP_sha384(), NULL, 0) != 1)
        abort();
    OCSP_RESPONSE *resp = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    OCSP_CERTID_free(about);
    OCSP_BASICRESP_free(basic);
    OCSP_REQUEST_free(req);
    return resp;
}

static void serve_ocsp(struct call *c)
{
    OCSP_RESPONSE *resp = respond(c);
    unsigned char *der = NULL;
    int n = i2d_OCSP_RESPONSE(resp, &der);
    if (is(c, "cut"))
        n -= 20;
    answer(c, "application/ocsp-response", (char *)der, (size_t)n);
    OPENSSL_free(der);
    OCSP_RESPONSE_free(resp);
}

/* Remote verifier ------------------------------------------------------------------------------------------------- */

static struct json_object *common_claims(const struct call *c, const char *nonce, int64_t now)
{
    struct json_object *o = json_object_new_object();
    AUTO_FREE char *issuer = xasprintf("http://127.0.0.1:%d/%s", set.port, c->fault);
    json_object_object_add(o, "iss", json_object_new_string(issuer));
    json_object_object_add(o, "iat", json_object_new_int64(now));
    json_object_object_add(o, "nbf", json_object_new_int64(now));
    json_object_object_add(o, "exp", json_object_new_int64(now + 3600));
    json_object_object_add(o, "eat_nonce", json_object_new_string(nonce));
    return o;
}

static char *sign(struct json_object *claims)
{
    struct err err = ERR_INIT;
    char *token = NULL;
    if (jose_sign(set.key, claims, &token, &err) < 0)
        abort();
    json_object_put(claims);
    return token;
}

static char *submodule(const struct call *c, const char *nonce, int64_t now)
{
    struct json_object *o = common_claims(c, is(c, "nras-submodule-nonce") ? "00" : nonce, now);
    static const char chain[] =
        "{\"x-nvidia-cert-status\":\"valid\",\"x-nvidia-cert-ocsp-status\":\"good\"}";
    json_object_object_add(
        o, "measres", json_object_new_string(is(c, "nras-submodule-fails") ? "fail" : "success"));
    json_object_object_add(o, "x-nvidia-gpu-attestation-report-cert-chain",
                           json_tokener_parse(chain));
    json_object_object_add(o, "x-nvidia-gpu-driver-rim-cert-chain", json_tokener_parse(chain));
    return sign(o);
}

static void serve_nras(struct call *c)
{
    struct err err = ERR_INIT;
    AUTO_JSON struct json_object *root = NULL;
    AUTO_JSON struct json_object *list = json_object_new_array();
    if (jsonin_parse(c->body, c->len, BODY_MAX, &root, &err) < 0) {
        head(c, 400, "application/json", 0, "");
        return;
    }
    const char *nonce = jsonin_string(root, "nonce");
    size_t n = json_object_array_length(jsonin_member(root, "evidence_list"));
    if (is(c, "nras-fewer"))
        n--;
    int64_t now = (int64_t)time(NULL);
    struct json_object *overall = common_claims(c, nonce, now), *tokens = json_object_new_object();
    struct json_object *digests = json_object_new_object(), *pair = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *token = submodule(c, nonce, now);
        uint8_t digest[32];
        char name[32], hex[65];
        if (EVP_Digest(token, strlen(token), digest, NULL, EVP_sha256(), NULL) != 1)
            abort();
        hex_encode(digest, sizeof digest, hex);
        (void)snprintf(name, sizeof name, "GPU-%zu", i);
        AUTO_FREE char *entry = xasprintf("[\"DIGEST\",[\"SHA-256\",\"%s\"]]", hex);
        json_object_object_add(digests, name, json_tokener_parse(entry));
        json_object_object_add(tokens, name, json_object_new_string(token));
    }
    json_object_object_add(overall, "x-nvidia-overall-att-result",
                           json_object_new_boolean(!is(c, "nras-false")));
    json_object_object_add(overall, "submods", digests);
    AUTO_FREE char *token = sign(overall);
    json_object_array_add(pair, json_object_new_string("JWT"));
    json_object_array_add(pair, json_object_new_string(token));
    json_object_array_add(list, pair);
    json_object_array_add(list, tokens);
    const char *text = json_object_to_json_string(list);
    answer(c, "application/json", text, strlen(text));
}

static void serve_jwks(struct call *c)
{
    AUTO_FREE char *text = xasprintf(
        "{\"keys\":[{\"alg\":\"ES384\",\"kid\":\"%s\",\"use\":\"sig\",%s]}",
        is(c, "nras-other-kid") ? "other" : att_key_kid(set.key), att_key_jwk(set.key) + 1);
    answer(c, "application/json", text, strlen(text));
}

/* HTTP ------------------------------------------------------------------------------------------------------------ */

/* one request; @buf keeps what came too early */
static bool read_call(struct call *c, char *buf, size_t room, size_t *have)
{
    char *end;
    while (!(end = *have ? memmem(buf, *have, "\r\n\r\n", 4) : NULL)) {
        ssize_t n = *have < room ? recv(c->fd, buf + *have, room - *have, 0) : 0;
        if (n <= 0)
            return false;
        *have += (size_t)n;
    }
    *end = 0;
    char url[400] = "";
    if (sscanf(buf, "%7s %399s", c->method, url) != 2)
        return false;
    char *slash = strchr(url + 1, '/');
    (void)snprintf(c->path, sizeof c->path, "%s", slash ? slash : "");
    if (slash)
        *slash = 0;
    (void)snprintf(c->fault, sizeof c->fault, "%s", url + 1);
    const char *length = strcasestr(buf, "\r\nContent-Length:");
    c->len = length ? strtoul(length + 17, NULL, 10) : 0;
    size_t used = (size_t)(end + 4 - buf), rest = *have - used;
    if (c->len > BODY_MAX)
        return false;
    c->body = xmalloc(c->len + 1);
    size_t now = rest < c->len ? rest : c->len;
    memcpy(c->body, end + 4, now);
    memmove(buf, end + 4 + now, rest - now);
    *have = rest - now;
    for (; now < c->len;) {
        ssize_t n = recv(c->fd, c->body + now, c->len - now, 0);
        if (n <= 0)
            return false;
        now += (size_t)n;
    }
    return true;
}

static void serve(struct call *c)
{
    if (is(c, "count")) {
        char text[32];
        int n = snprintf(text, sizeof text, "%u", atomic_load(&requests));
        head(c, 200, "text/plain", n, "");
        c->close |= !send_all(c->fd, text, (size_t)n);
        return;
    }
    (void)atomic_fetch_add(&requests, 1);
    if (strncmp(c->path, "/v1/rim/", 8) == 0)
        serve_rim(c, c->path + 8);
    else if (strcmp(c->path, "/ocsp") == 0)
        serve_ocsp(c);
    else if (strncmp(c->path, "/v4/attest/", 11) == 0 || strncmp(c->path, "/v3/attest/", 11) == 0)
        serve_nras(c);
    else if (strcmp(c->path, "/.well-known/jwks.json") == 0)
        serve_jwks(c);
    else
        head(c, 404, "text/plain", 0, "");
}

static void *connection(void *arg)
{
    struct call c = {.fd = *(int *)arg};
    free(arg);
    char *buf = xmalloc(64 << 10);
    size_t have = 0;
    while (!c.close && read_call(&c, buf, (64 << 10) - 1, &have)) {
        serve(&c);
        free(TAKE(c.body));
    }
    free(c.body);
    free(buf);
    (void)close(c.fd);
    return NULL;
}

static void *wait_for_end(void *arg)
{
    char c;
    (void)arg;
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    _exit(0);
}

static void load_set(const char *dir)
{
    static const char *const names[] = {"dev-root", "dev-identity", "dev-provisioner",
                                        "rim-root", "rim-ca",       "rim-l3"};
    struct err err = ERR_INIT;
    set.rims = xasprintf("%s/rims", dir);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = xasprintf("%s/ocsp/%s.pem", dir, names[i]);
        FILE *f = fopen(path, "r");
        struct responder *r = &set.responders[set.n_responders++];
        if (!f || !(r->key = PEM_read_PrivateKey(f, NULL, NULL, NULL)) ||
            !(r->cert = PEM_read_X509(f, NULL, NULL, NULL)) ||
            !(r->issuer = PEM_read_X509(f, NULL, NULL, NULL))) {
            (void)fprintf(stderr, "%s can't be read\n", path);
            exit(1);
        }
        (void)fclose(f);
    }
    if (att_key_generate(&set.key, &err) < 0)
        exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    (void)signal(SIGPIPE, SIG_IGN);
    load_set(argv[1]);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof addr;
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        return 1;
    set.port = ntohs(addr.sin_port);
    printf("%d\n", set.port);
    (void)fflush(stdout);
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_end, NULL) != 0)
        return 1;
    for (;;) {
        int *client = xmalloc(sizeof *client);
        *client = accept(fd, NULL, NULL);
        if (*client < 0)
            continue;
        (void)setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, NULL, connection, client) == 0)
            (void)pthread_detach(thread);
    }
}
