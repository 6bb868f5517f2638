/* Who we are at which API server: the service account of a pod, or a kubeconfig file.
 *
 * Rotation (kubelet replaces projected files through the ..data link; a person edits a kubeconfig): creds_token() reads
 * the token file again at most every 60 s and always when told that the server refused the last one; a kubeconfig with the
 * token or certificate inside is read again as a whole then. CA files are given to the TLS library by name, which reads them
 * for every new connection. Nothing is cached over the life of the process. Not shared between threads.
 */
#ifndef CCN_KUBE_CREDS_H
#define CCN_KUBE_CREDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CREDS_TOKEN_MAX (64 * 1024)
#define CREDS_KUBECONFIG_MAX (1024 * 1024)
#define CREDS_TOKEN_AGE_MS 60000

struct creds {
    char *server; /* "https://10.0.0.1:443", no slash at the end; never NULL after loading */
    char *ca_file, *ca_data;     /* at most one; both NULL = the system's authorities */
    char *cert_file, *cert_data; /* client certificate, PEM */
    char *key_file, *key_data;
    char *token_file;
    char *token;           /* without white space; NULL = none */
    int64_t token_read_ms; /* loop time; 0 = never */
    char *namespace_;      /* of the service account or the context, NULL = not told */
    char *kubeconfig;      /* path it came from, NULL = in-cluster */
    char *context;         /* name used */
    bool insecure;         /* the server's certificate is not verified */
    char warning[256];     /* "" or one sentence for the operator */
};

void creds_done(struct creds *creds);

/**
 * kubeconfig_parse() - YAML text to credentials
 * @dir: what relative file names are relative to
 * @ret: untouched on failure; else the caller's, creds_done()
 *
 * Pure. Uses current-context. Return: 0; -EINVAL malformed, missing pieces, bad base64, http:// to another machine;
 * -ENOTSUP exec and auth-provider plugins, passwords, impersonation, proxies, tls-server-name: refused by name, because ignoring one
 * would act as somebody else or trust something else than was asked for.
 * Source: kubernetes/client-go tools/clientcmd/api/v1/types.go (names of the fields).
 */
int kubeconfig_parse(const char *text, size_t len, const char *dir, struct creds *ret,
                     struct err *err);

/* creds_load_kubeconfig() - read and parse; also reads tokenFile. */
int creds_load_kubeconfig(struct creds *ret, const char *path, struct err *err);

/**
 * creds_load_in_cluster() - KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT[_HTTPS] and the files token, ca.crt, namespace
 * @dir: NULL = /var/run/secrets/kubernetes.io/serviceaccount
 */
int creds_load_in_cluster(struct creds *ret, const char *dir, struct err *err);

/* creds_with_token_file() - the same server and CA with the token of another file and no client certificate */
int creds_with_token_file(const struct creds *base, const char *token_file, struct creds *ret,
                          struct err *err);

/**
 * creds_refresh() - re-read what is due
 * @refused: the server answered 401: read again whatever the age
 * Return: 1 something changed, 0 nothing changed, negative: could not be read; the old values stay.
 */
int creds_refresh(struct creds *creds, int64_t now_ms, bool refused, struct err *err);

/* token_parse() - pure: file content to token, white space at the ends cut. Return: 0, -EINVAL (empty, control or foreign
 * characters: it would become part of a header). */
int token_parse(const char *text, size_t len, char **ret, struct err *err);

/* server_check() - pure: is @url a server we may talk to? @ret: without slashes at the end. */
int server_check(const char *url, char **ret, struct err *err);

#endif
