/* ccnode preflight: conditions of the host, each seen and judged by itself. */
#ifndef CCN_CLI_PREFLIGHT_H
#define CCN_CLI_PREFLIGHT_H

#include "node-agent/cli/cli.h"
#include "node-agent/gpu/inventory.h"

enum check_state {
    CHECK_OK,
    CHECK_NOTE,    /* worth knowing */
    CHECK_SKIPPED, /* could not be looked at, or does not concern this host */
    CHECK_WARNING, /* something that somebody may need does not work */
    CHECK_ERROR,   /* confidential GPUs do not work */
};
const char *check_state_name(enum check_state state);

#define PREFLIGHT_MAX 256

struct check {
    const char *id; /* "iommu", "tee", … ; static */
    enum check_state state;
    char seen[600], cure[400];
};

struct preflight {
    struct cli *cli;
    struct host_facts facts;
    char cpu[24]; /* "AuthenticAMD", "GenuineIntel", "" = not told */
    bool in_vm;
    char *cmdline;           /* of the kernel; "" = not told */
    bool kata_go, kata_rust; /* which shims of Kata are installed */
    size_t n;
    struct check *checks;
};

/* check_add() - @cure "" with CHECK_OK and CHECK_SKIPPED */
void check_add(struct preflight *p, const char *id, enum check_state state, const char *cure,
               const char *seen_fmt, ...) __attribute__((format(printf, 5, 6)));

/* Hardware, kernel, VFIO. */
void preflight_host(struct preflight *p);
/* CDI files, container runtime, Kata, kubelet. */
void preflight_stack(struct preflight *p);

/* Pure, for tests: a key of a TOML or YAML file, outside comments, of whatever table: "key = value", "key: value"; quotes
 * removed. Return: false when absent. */
bool preflight_key(const char *text, const char *key, char *ret, size_t room);
/* preflight_go_duration() - what Go's time.ParseDuration reads and kubelet with it: "20m0s", "1h30m", "1.5h", "500ms".
 * Return: milliseconds, or -EINVAL; negative ones are none for us. */
int64_t preflight_go_duration(const char *text);
/* preflight_toml_number() - "1200", "1_200". Return: the number, or -EINVAL. */
int64_t preflight_toml_number(const char *text);
/* preflight_has_word() - a word of the kernel command line */
bool preflight_has_word(const char *cmdline, const char *word);
/* preflight_tee_cure() - what to do where no confidential guest can be started; @cpu: vendor_id of /proc/cpuinfo */
const char *preflight_tee_cure(const char *cpu, const char *cmdline);

#endif
