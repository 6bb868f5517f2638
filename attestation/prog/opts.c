#include "attestation/prog/opts.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/auto.h"
#include "base/bytes.h"

enum type { TEXT, LIST, FLAG };

struct option_row {
    const char *name; /* without dashes */
    char letter;
    enum type type;
    size_t field, count; /* count: LIST only */
    const char *env;     /* read when the option is not given */
    const char *help;    /* NULL: an alias, not listed */
};

#define T(name, letter, field, env, help)                                                          \
    {                                                                                              \
        name, letter, TEXT, offsetof(struct opts, field), 0, env, help                             \
    }
#define L(name, field, help)                                                                       \
    {                                                                                              \
        name, 0, LIST, offsetof(struct opts, field), offsetof(struct opts, n_##field), NULL, help  \
    }
#define F(name, letter, field, env, help)                                                          \
    {                                                                                              \
        name, letter, FLAG, offsetof(struct opts, field), 0, env, help                             \
    }

static const struct option_row rows[] = {
    L("evidence", evidence, "FILE  evidence JSON; may be given for GPUs and switches"),
    L("gpu-evidence-file", evidence, NULL),
    L("nvswitch-evidence-file", evidence, NULL),
    T("report", 0, report, NULL, "FILE  attestation report as hexadecimal text, or an SNP report"),
    T("chain", 0, chain, NULL, "FILE  certificate chain, PEM, leaf first"),
    T("nonce", 0, nonce, NULL, "HEX  the nonce that was sent, 64 digits"),
    T("at", 0, at, NULL, "TIME  evaluation time, RFC 3339 in UTC, instead of now"),
    T("device-root", 0, device_root, NULL, "FILE  replaces the pinned device root"),
    T("rim-root", 0, rim_root, NULL, "FILE  replaces the pinned RIM root"),
    T("rim-dir", 0, rim_dir, NULL, "DIR  RIMs as <id>.xml"),
    T("rim-url", 0, rim_url, "NVAT_RIM_SERVICE_BASE_URL", "URL  RIM service"),
    T("rim-store", 0, rim_store, NULL,
      "remote|dir  which of the two (default: --rim-dir if given)"),
    T("ocsp-url", 0, ocsp_url, "NVAT_OCSP_BASE_URL", "URL  OCSP responder"),
    T("nras-url", 0, nras_url, "NVAT_NRAS_BASE_URL", "URL  remote attestation service"),
    T("service-key", 0, service_key, "NV_ATTESTATION_SERVICE_KEY",
      "KEY  bearer key of the services"),
    T("ca-file", 0, ca_file, NULL,
      "FILE  certificate authorities for TLS, instead of the system's"),
    T("revocation", 0, revocation, NULL, "required|off  OCSP (default required)"),
    T("policy", 0, policy, NULL, "FILE  JSON policy, or builtin"),
    T("relying-party-policy", 0, policy, NULL, NULL),
    L("claims", claims, "FILE  claims for check policy; overall and detached may be two files"),
    T("token", 0, token, NULL, "FILE  detached EAT"),
    T("jwks", 0, jwks, NULL, "FILE|URL  key set the token is validated with"),
    T("issuer", 0, issuer, NULL, "TEXT|FILE  issuer of a token; PEM file in check ocsp"),
    T("request", 0, request, NULL, "FILE  OCSP request, DER"),
    T("response", 0, response, NULL, "FILE  OCSP response, DER"),
    T("subject", 0, subject, NULL, "FILE  certificate in question, PEM"),
    T("vcek", 0, vcek, NULL, "FILE  VCEK or VLEK certificate, DER or PEM"),
    T("report-data", 0, report_data, NULL, "HEX  expected REPORT_DATA, 128 digits"),
    T("id", 0, id, NULL, "ID  RIM id asked for, in check rim-reply"),
    T("device", 'd', device, NULL, "gpu|nvswitch|all (default gpu)"),
    T("format", 'f', format, "NVAT_FORMAT", "nvat|coco  form of collected evidence"),
    T("output-file", 0, output_file, NULL, "FILE  where the result goes, replaced atomically"),
    T("evidence-out", 0, evidence_out, NULL, "FILE  attest: keep the evidence"),
    T("timeout", 0, timeout, NULL, "SECONDS  for everything that is fetched (default 30)"),
    T("driver-timeout", 0, driver_timeout, NULL,
      "SECONDS  for the GPU driver to answer (default 120)"),
    T("verifier", 0, verifier, NULL, "local|remote (default local)"),
    T("claims-version", 0, claims_version, NULL, "2.0|3.0|2023 (default 3.0)"),
    T("gpus", 0, gpus, NULL, "N  this many GPUs must be there"),
    T("switches", 0, switches, NULL, "N  this many switches must be there"),
    T("gpu-evidence-source", 0, gpu_source, NULL, "nvml|file"),
    T("nvswitch-evidence-source", 0, switch_source, NULL, "nscq|file"),
    T("host-root", 0, host_root, NULL, "DIR  prefix of every host path (default /)"),
    T("nvml", 0, nvml, NULL, "FILE  NVML library instead of the search"),
    T("nscq", 0, nscq, NULL, "FILE  NSCQ library instead of the search"),
    T("output", 'o', output_text, NULL, "text|json|log"),
    T("log-level", 'l', log_level, "NVAT_LOG_LEVEL", "debug|info|warning|error (default info)"),
    T("log-format", 0, log_format, NULL, "text|json  form of log lines (default text)"),
    F("allow-hold-cert", 0, allow_hold, "NV_ALLOW_HOLD_CERT", "tolerate RIM signers on hold"),
    F("allow-hold", 0, allow_hold, NULL, NULL),
    F("allow-missing-fwid", 0, allow_missing_fwid, NULL, "accept GPU reports without FWID"),
    F("protected-pcie", 0, protected_pcie, NULL, "demand 8 GPUs and 4 switches, topology closed"),
    F("set-ready", 0, set_ready, NULL, "open the GPU ready state after success"),
    F("revoke-on-failure", 0, revoke_on_failure, NULL,
      "close an open ready state on failure; final"),
    F("allow-devtools", 0, allow_devtools, NULL, "accept the dev-tools mode"),
    F("with-tee", 0, with_tee, NULL, "bind an SEV-SNP report to nonce, key and evidence"),
    F("help", 'h', help, NULL, "this text"),
    F("version", 0, version, NULL, "the version"),
};

void opts_help(void)
{
    printf("usage: ccnode-attest COMMAND [OPTIONS]\n\n"
           "  collect         evidence of the GPUs (and switches) as JSON\n"
           "  verify          judge stored evidence\n"
           "  attest          collect, verify, appraise; --set-ready makes it a gate\n"
           "  validate-token  judge a detached EAT\n"
           "  status, ready   CC mode and ready state; \"ready set\" opens it after attest\n"
           "  check report|chain|rim|rim-reply|ocsp|policy|snp|tee   one stage alone on files\n\n"
           "exit status: 0 accepted, 1 rejected, 2 usage, 3 collection failed, 4 service failed, "
           "5 policy, 6 ready state\n\noptions:\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].help)
            printf("  --%-24s %s%s%s%s\n", rows[i].name, rows[i].help, rows[i].env ? " [" : "",
                   rows[i].env ? rows[i].env : "", rows[i].env ? "]" : "");
}

static const struct option_row *find_row(const char *arg, const char **value)
{
    *value = NULL;
    if (arg[0] == '-' && arg[1] != '-' && arg[1] && !arg[2]) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
            if (rows[i].letter == arg[1])
                return &rows[i];
        return NULL;
    }
    if (strncmp(arg, "--", 2) != 0)
        return NULL;
    size_t n = strcspn(arg + 2, "=");
    if (arg[2 + n] == '=')
        *value = arg + 3 + n;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strlen(rows[i].name) == n && strncmp(rows[i].name, arg + 2, n) == 0)
            return &rows[i];
    return NULL;
}

static int store(struct opts *o, const struct option_row *row, const char *value, struct err *err)
{
    char *field = (char *)o + row->field;
    if (row->type == FLAG) {
        *(bool *)field = true;
    } else if (row->type == TEXT) {
        *(const char **)field = value;
    } else {
        unsigned *n = (unsigned *)((char *)o + row->count);
        if (*n == OPTS_FILES)
            return err_set(err, EINVAL, "--%s is given more than %d times", row->name, OPTS_FILES);
        ((const char **)field)[(*n)++] = value;
    }
    return 0;
}

static void from_environment(struct opts *o)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *value = rows[i].env ? getenv(rows[i].env) : NULL;
        if (!value || !*value)
            continue;
        if (rows[i].type == TEXT)
            *(const char **)((char *)o + rows[i].field) = value;
        else if (rows[i].type == FLAG)
            *(bool *)((char *)o + rows[i].field) = strcmp(value, "true") == 0 || *value == '1';
    }
}

/* RFC 3339 in UTC: 2026-11-23T12:00:00Z */
static int parse_time(const char *text, int64_t *ret, struct err *err)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end || (strcmp(end, "Z") != 0 && strcmp(end, "+00:00") != 0))
        return err_set(err, EINVAL, "--at \"%s\": a time like 2026-11-23T12:00:00Z is expected",
                       text);
    *ret = (int64_t)timegm(&tm);
    return *ret > 0 ? 0 : err_set(err, EINVAL, "--at \"%s\" is before 1970", text);
}

static int parse_nonce(struct opts *o, struct err *err)
{
    const char *text = o->nonce;
    if (!text)
        return 0;
    if (strncmp(text, "0x", 2) == 0)
        text += 2;
    if (strlen(text) != 64 || hex_decode(text, 64, o->nonce_bytes, 32, err) < 0)
        return err_set(err, EINVAL, "--nonce: 64 hexadecimal digits are expected, %zu are there",
                       strlen(text));
    o->has_nonce = true;
    return 0;
}

static int parse_number(const char *name, const char *text, uint64_t max, uint64_t *ret,
                        struct err *err)
{
    if (!text)
        return 0;
    int r = parse_u64(text, max, ret, err);
    return r < 0 ? err_wrap(err, r, "--%s", name) : 0;
}

static int one_of(const char *name, const char *text, const char *const *words, struct err *err)
{
    if (!text)
        return 0;
    for (int i = 0; words[i]; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    char allowed[80] = "";
    for (int i = 0; words[i]; i++) {
        size_t n = strlen(allowed);
        (void)snprintf(allowed + n, sizeof allowed - n, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return err_set(err, EINVAL, "--%s \"%s\" is unknown; allowed are %s", name, text, allowed);
}

/* nvattest says --format json for what is --output here */
static int parse_output(struct opts *o, struct err *err)
{
    static const char *const words[] = {"text", "json", "log", NULL};
    static const char *const forms[] = {"nvat", "coco", NULL};
    static const char *const yes_no[] = {"required", "off", NULL};
    static const char *const verifiers[] = {"local", "remote", NULL};
    static const char *const devices[] = {"gpu", "nvswitch", "all", NULL};
    static const char *const versions[] = {"3.0", "2.0", "2023", NULL};
    static const char *const stores[] = {"remote", "dir", NULL};
    if (o->format && (strcmp(o->format, "json") == 0 || strcmp(o->format, "text") == 0)) {
        o->output_text = o->output_text ? o->output_text : o->format;
        o->format = NULL;
    }
    int r = one_of("output", o->output_text, words, err);
    if (r < 0)
        return r;
    o->output = (enum output)r;
    if ((r = one_of("format", o->format, forms, err)) < 0 ||
        (r = one_of("revocation", o->revocation, yes_no, err)) < 0 ||
        (r = one_of("verifier", o->verifier, verifiers, err)) < 0 ||
        (r = one_of("device", o->device, devices, err)) < 0 ||
        (r = one_of("rim-store", o->rim_store, stores, err)) < 0 ||
        (r = one_of("claims-version", o->claims_version, versions, err)) < 0)
        return r;
    return 0;
}

/* nvattest has two more words and writes one shorter; what must be said at "off" is no log line (complain()) */
static int parse_log(struct opts *o, struct err *err)
{
    const char *level = o->log_level ? o->log_level : "info";
    if (strcmp(level, "trace") == 0)
        level = "debug";
    else if (strcmp(level, "warn") == 0)
        level = "warning";
    else if (strcmp(level, "off") == 0)
        level = "error";
    int r = log_level_parse(level, &o->level, err);
    return r < 0 ? r : log_format_parse(o->log_format ? o->log_format : "text", &o->lines, err);
}

static int finish(struct opts *o, struct err *err)
{
    uint64_t seconds = 30, gpus = 0, switches = 0, driver = 120;
    int r = parse_nonce(o, err);
    if (r < 0 || (r = parse_output(o, err)) < 0 || (r = parse_log(o, err)) < 0 ||
        (r = parse_number("timeout", o->timeout, 3600, &seconds, err)) < 0 ||
        (r = parse_number("driver-timeout", o->driver_timeout, 3600, &driver, err)) < 0 ||
        (r = parse_number("gpus", o->gpus, 32, &gpus, err)) < 0 ||
        (r = parse_number("switches", o->switches, 32, &switches, err)) < 0)
        return r;
    if (seconds == 0 || driver == 0)
        return err_set(err, EINVAL, "--timeout and --driver-timeout must be at least 1 second");
    o->driver_seconds = (unsigned)driver;
    o->timeout_ms = (int64_t)seconds * 1000;
    o->n_gpus = (unsigned)gpus;
    o->n_switches = (unsigned)switches;
    o->at_seconds = (int64_t)time(NULL);
    return o->at ? parse_time(o->at, &o->at_seconds, err) : 0;
}

int opts_parse(int argc, char **argv, struct opts *ret, struct err *err)
{
    *ret = (struct opts){0};
    from_environment(ret);
    for (int i = 0; i < argc; i++) {
        const char *value;
        const struct option_row *row = find_row(argv[i], &value);
        if (!row && argv[i][0] != '-') {
            if (ret->n_args == OPTS_ARGS)
                return err_set(err, EINVAL, "too many arguments: %s", argv[i]);
            ret->args[ret->n_args++] = argv[i];
            continue;
        }
        if (!row)
            return err_set(err, EINVAL, "unknown option %s (ccnode-attest --help lists them)",
                           argv[i]);
        if (row->type == FLAG && value)
            return err_set(err, EINVAL, "--%s takes no value", row->name);
        if (row->type != FLAG && !value && !(value = ++i < argc ? argv[i] : NULL))
            return err_set(err, EINVAL, "--%s needs a value", row->name);
        int r = store(ret, row, value, err);
        if (r < 0)
            return r;
    }
    return finish(ret, err);
}
