/* The configuration file (interface.md section 2): YAML in, one checked struct out.
 *
 * config_parse() is pure. Unknown keys, duplicate keys, wrong types and impossible values are errors that name the
 * key, the line and the column, and what would be allowed; nothing is ever half applied. Input is hostile: at most
 * CONFIG_MAX_BYTES, no YAML anchors or tags, bounded depth.
 */
#ifndef CCN_AGENT_CONFIG_H
#define CCN_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "node-agent/gpu/device.h"

#define CONFIG_MAX_BYTES (256 * 1024)
#define CONFIG_MAX_ENTRIES 64 /* of one list or map */

enum workload { WORKLOAD_VM_PASSTHROUGH, WORKLOAD_CONTAINER };
enum busy_policy { BUSY_WAIT, BUSY_EVICT, BUSY_FAIL };
enum failure_policy { FAILURE_SERVE_REST, FAILURE_HOLD_ALL };
enum naming { NAMING_MODEL, NAMING_ALIAS };
enum device_id_style { DEVICE_ID_BDF, DEVICE_ID_NUMBER };

struct config_pair {
    char *key;
    char *value;
};

struct config_list {
    size_t n;
    char **items;
};

struct config_map {
    size_t n;
    struct config_pair *pairs;
};

struct config {
    enum cc_mode default_mode;      /* mode.default */
    bool mode_manage;               /* mode.manage */
    enum workload default_workload; /* workload.default */
    struct config_list include;     /* devices.include: selectors */
    struct config_list exclude;     /* devices.exclude */
    struct config_map modes;        /* devices.modes: selector -> mode text, checked */
    int verify_interval_ms; /* devices.verifyInterval: registers of idle devices are re-read this often */
    enum busy_policy busy_policy; /* busy.policy */
    int evict_timeout_ms;         /* busy.evictTimeout */
    enum failure_policy failure_policy;
    bool vfio_manage;    /* vfio.manage */
    char *vfio_driver;   /* vfio.driver: "auto" or a driver name */
    bool plugin_enabled; /* devicePlugin.* */
    char *plugin_directory;
    enum naming naming;
    struct config_map partitions; /* devicePlugin.partitions: selector -> name, checked */
    struct config_map names;      /* devicePlugin.names: "10de:2331" or BDF -> resource name */
    char *gpu_alias, *switch_alias;
    enum device_id_style device_id_style;
    bool cdi_devices;
    bool cdi_enabled;
    char *cdi_directory;
    char *pod_resources_socket;
    bool validations_enabled;
    char *validations_directory;
    char *cri_socket; /* "auto", "" = do not ask, or a path */
    int concurrency_max;
    char *concurrency_lease;
    bool recovery_rescan, recovery_load_modules, recovery_check_released;
    char *state_directory;
    char *http_listen; /* "" = no listener */
    enum log_level log_level;
    enum log_format log_format;
};

/* config_default() - what an empty file means. config_done() empties; accepts a zeroed struct. */
void config_default(struct config *ret);
void config_done(struct config *config);

/**
 * config_parse() - @text as configuration; keys that are absent keep their default
 * @name: file name for messages
 * Return: 0; -EINVAL "ccnode.yaml:12:3: devicePlugin.namimg: unknown key, did you mean naming?"; -EFBIG.
 */
int config_parse(const char *name, const char *text, size_t len, struct config *ret,
                 struct err *err);

/* config_load() - read and parse a file (a path of this process, not of the host root). */
int config_load(const char *path, struct config *ret, struct err *err);

/* config_needs_restart() - the first key that differs and cannot be changed while running, or NULL. */
const char *config_needs_restart(const struct config *running, const struct config *wanted);

/* config_print_help() - every key with its type, default and meaning, for --help-config. */
void config_print_help(FILE *out);

#endif
