#include "attestation/humanlog.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"

struct text {
    char *p;
    size_t len, room;
};

static void line(struct text *t, unsigned level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void line(struct text *t, unsigned level, const char *fmt, ...)
{
    char buf[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    size_t need = t->len + level + strlen(buf) + 2;
    if (need > t->room) {
        t->room = 2 * need;
        t->p = xrealloc(t->p, t->room, 1);
    }
    memset(t->p + t->len, '\t', level);
    t->len += level;
    t->len += (size_t)sprintf(t->p + t->len, "%s\n", buf);
}

static void lower(const char *from, char to[REPORT_TEXT])
{
    size_t i = 0;
    for (; from[i]; i++)
        to[i] = (char)tolower((unsigned char)from[i]);
    to[i] = 0;
}

/* Return: false when the printed check failed and the log of this GPU ends */
static bool revocation(const struct session *s, struct text *t, bool ok)
{
    if (s->options->revocation == ATT_REVOCATION_OFF)
        line(t, 3, "The certificate chain revocation status was not checked.");
    else if (ok)
        line(t, 3, "The certificate chain revocation status verification successful.");
    else
        line(t, 3, "The certificate chain revocation status verification was not successful.");
    return ok || s->options->revocation == ATT_REVOCATION_OFF;
}

static bool chain(const struct session *s, struct text *t, const struct device *d)
{
    line(t, 1, "Validating GPU certificate chains.");
    if (!d->chain_verdict.valid) {
        line(t, 2, "GPU attestation report certificate chain validation failed.");
        return false;
    }
    line(t, 2, "GPU attestation report certificate chain validation successful.");
    return revocation(s, t, d->revocation_ok);
}

static bool report(struct text *t, const struct device *d)
{
    char bios[REPORT_TEXT];
    lower(d->report.bios, bios);
    line(t, 1, "Authenticating attestation report");
    if (!d->nonce_ok) {
        line(t, 2,
             "The nonce in the SPDM GET MEASUREMENT request message is not matching with the "
             "generated nonce.");
        return false;
    }
    line(t, 2,
         "The nonce in the SPDM GET MEASUREMENT request message is matching with the generated "
         "nonce.");
    line(t, 2, "Driver version fetched from the attestation report : %s", d->report.driver);
    line(t, 2, "VBIOS version fetched from the attestation report : %s", bios);
    if (!d->signature_ok) {
        line(t, 2, "Attestation report signature verification failed.");
        return false;
    }
    line(t, 2, "Attestation report signature verification successful.");
    line(t, 2,
         d->evidence_ok ? "Attestation report verification successful."
                        : "Attestation report verification failed.");
    return d->evidence_ok;
}

static bool rim(const struct session *s, struct text *t, const struct rim_entry *e, bool version_ok,
                const char *lower_name, const char *name)
{
    if (!e || !e->fetched) {
        line(t, 3, "%s RIM could not be fetched.", name);
        return false;
    }
    line(t, 3,
         e->rim.schema_ok ? "RIM Schema validation passed." : "RIM Schema validation failed.");
    if (!e->rim.chain_verdict.valid) {
        line(t, 3, "%s RIM certificate chain verification failed.", lower_name);
        return false;
    }
    line(t, 3, "%s RIM certificate chain verification successful.", lower_name);
    if (!revocation(s, t, e->revoked_ok))
        return false;
    line(t, 3, "%s RIM signature verification %s.", lower_name,
         e->rim.signature_ok ? "successful" : "failed");
    if (!e->loaded || !version_ok) {
        line(t, 3, "%s RIM verification failed", name);
        return false;
    }
    line(t, 3, "%s RIM verification successful", name);
    return true;
}

static bool measurements(struct text *t, const struct device *d)
{
    line(t, 1, "Comparing measurements (runtime vs golden)");
    if (d->comparison.match) {
        line(t, 3, "The runtime measurements are matching with the golden measurements.");
        line(t, 2, "GPU is in expected state.");
        return true;
    }
    line(t, 3, "The runtime measurements are not matching with the");
    line(t, 3, "golden measurements at the following indexes(starting from 0) :");
    line(t, 3, "[");
    for (size_t i = 0; i < d->comparison.n; i++)
        line(t, 3, "%u%s", d->comparison.list[i].index, i + 1 < d->comparison.n ? ", " : "");
    line(t, 3, "]");
    line(t, 2, "GPU is NOT in the expected state.");
    return false;
}

static bool gpu(const struct session *s, struct text *t, const struct device *d, unsigned i)
{
    char bios[REPORT_TEXT];
    lower(d->report.bios, bios);
    line(t, 0, "-----------------------------------");
    line(t, 0, "Fetching GPU %u information from GPU driver.", i);
    line(t, 0, "VERIFYING GPU : %u", i);
    if (d->parsed) {
        line(t, 1, "Driver version fetched : %s", d->report.driver);
        line(t, 1, "VBIOS version fetched : %s", bios);
    }
    if (!chain(s, t, d) || !report(t, d))
        return false;
    line(t, 1, "Authenticating the RIMs.");
    line(t, 2, "Authenticating Driver RIM");
    if (!rim(s, t, d->driver, d->driver_version_ok, "driver", "Driver"))
        return false;
    line(t, 2, "Authenticating VBIOS RIM.");
    if (!rim(s, t, d->bios, d->bios_version_ok, "vbios", "VBIOS"))
        return false;
    return measurements(t, d);
}

void humanlog_make(const struct session *s, const struct device *devices, size_t n,
                   struct att_verdict *v)
{
    struct text t = {0};
    unsigned gpus = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        gpus += devices[i].kind == ATT_GPU;
    line(&t, 0, "Number of GPUs available : %u", gpus);
    for (size_t i = 0; i < n; i++) {
        if (devices[i].kind != ATT_GPU)
            continue;
        bool ok = gpu(s, &t, &devices[i], at);
        line(&t, 1,
             ok ? "GPU %u verified successfully."
                : "The verification of GPU %u resulted in failure.",
             at++);
    }
    bool all = v->class == ATT_ACCEPTED;
    line(&t, 1, all ? "GPU Attested Successfully" : "GPU Attestation failed");
    line(&t, 0, all ? "True" : "False");
    v->log = t.p;
}
