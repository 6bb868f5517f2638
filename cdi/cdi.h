/* CDI specs: what is to be offered in, files out; and a checker of every CDI file on the host.
 *
 * Leaf library: plain input structs, only base/. Pure parts (build, check of one text) and I/O (sync, check of
 * directories) are separate. No global state; thread-safe as long as two threads do not sync the same directory.
 *
 * Form of our files (kubernetes-integration.md 3 and 4): CDI 0.5.0, JSON behind one YAML comment line that marks
 * them as ours, one file per kind called "nvidia.com-<class>.yaml" (the name that NVIDIA/sandbox-device-plugin and
 * NVIDIA/k8s-kata-manager use too, so that a leftover of theirs is replaced and not doubled), mode 0644. One
 * device node per entry, edits on the entry, nothing on the level of the spec, no annotations: the Rust shim of
 * Kata reads only entries, and its Go shim knows nothing newer than 0.6.0.
 *
 * Names of a device within a kind, by rank:
 *   1 the advertised id (what PodResources tells Kata)
 *   2 the index "0", "1", … by BDF, only in the indexed class ("nvidia.com/pgpu=0" of the 2023 guide); devices that are
 *     withdrawn are counted, so that a number stays with its device
 *   3 the BDF   4 "vfioN" of its cdev   5 the number of its IOMMU group (of its cdev where it has one), as the peers named it
 * A name that another device has by a higher rank, or that two devices have by the same rank, makes that whole rank
 * vanish from that kind: a number that sometimes means a group and sometimes an index would pass on the wrong GPU.
 */
#ifndef CCN_CDI_CDI_H
#define CCN_CDI_CDI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"

#define CDI_VERSION "0.5.0"
#define CDI_VENDOR "nvidia.com"
#define CDI_NAME_SIZE                                                                              \
    64 /* class and device names with the zero; classes have at most 63 characters */
#define CDI_MAX_DEVICES 256
#define CDI_MAX_FILE ((size_t)1024 * 1024) /* larger files are reported, not read */
#define CDI_MAX_FILES 256                  /* per directory */

/* One device of the node. Offer only what is bound and whose node exists now; what is managed and not offered is passed on
 * as withdrawn: it gets no entry, but its id and its index stay its own. */
struct cdi_device {
    char bdf[16];              /* "0000:18:00.0" */
    char id[CDI_NAME_SIZE];    /* as advertised to kubelet; "" = the BDF */
    char class[CDI_NAME_SIZE]; /* its resource without "nvidia.com/": "GH100_H100_PCIE" */
    char indexed_class
        [CDI_NAME_SIZE]; /* further class with index names: "pgpu"; "" = none; may equal class */
    int iommu_group;     /* node /dev/vfio/<group>, used where there is no cdev */
    char cdev[24];       /* "vfio3": node /dev/vfio/devices/vfio3; "" = none */
    bool withdrawn;
};

/* One finished file. */
struct cdi_spec {
    char class[CDI_NAME_SIZE];
    char file[96]; /* name inside the directory */
    char *text;
    size_t len;
    size_t n_entries;
    struct err err; /* of cdi_sync(): why it is not on disk */
    bool written;   /* of cdi_sync(): the file was another one, or not there */
};

struct cdi_specs {
    size_t n;
    struct cdi_spec *specs; /* sorted by class */
};

/**
 * cdi_build() - all files for @devices; pure, the same devices in any order give the same bytes
 * Devices with the same id and the same node in one class are one entry (ids of the style "number" name a group).
 * Return: 0; -EINVAL an id or class is not a legal CDI name, or a device has neither group nor cdev;
 * -EEXIST two devices have the same id and different nodes; -E2BIG more than CDI_MAX_DEVICES. The first mistake is told;
 * what can be made without it is in @ret all the same: a device counts as withdrawn then, a kind is missing.
 */
int cdi_build(const struct cdi_device *devices, size_t n, struct cdi_specs *ret, struct err *err);
void cdi_specs_free(struct cdi_specs *specs); /* accepts an empty one */
/* cdi_specs_find() - the spec of a class, or NULL */
const struct cdi_spec *cdi_specs_find(const struct cdi_specs *specs, const char *class);

struct cdi_sync_result {
    unsigned written, removed, unchanged;
};

/**
 * cdi_sync() - make our files in @dir say @specs and nothing else
 * Files are replaced by rename, only when their bytes differ; files of ours that @specs does not name are removed
 * (no devices: all of ours). The directory is made when there is something to write. A file that is not ours is
 * never changed or removed, except, under the name of one of ours, a spec of the same kind that lists nothing but VFIO
 * nodes, which is what the peers leave behind, and what is no spec at all.
 * @dir: path below the host root, "/var/run/cdi"
 * @durable: fsync; for directories that survive a boot, not for /run
 * Return: 0; -EEXIST a foreign file is in the way or offers the same kind; other -errno from the file system. The message
 * names the file and the cure; it is the first one, each kind has its own in cdi_spec.err, and those without are on disk.
 * @ret may be NULL.
 */
int cdi_sync(const struct host *host, const char *dir, struct cdi_specs *specs, bool durable,
             struct cdi_sync_result *ret, struct err *err);

/* What our files on disk say, whoever has written there last. A file is read once and again when its stat has changed. */
struct cdi_reader;
struct cdi_reader *cdi_reader_new(const struct host *host);
void cdi_reader_free(struct cdi_reader *reader); /* accepts NULL */
/* cdi_reader_update() - read again what has changed since it was read. Return: whether anything has. */
bool cdi_reader_update(struct cdi_reader *reader);
/**
 * cdi_reader_check() - "nvidia.com/@class=@id" stands for @node in our file in @dir, as it was at the last update
 * Return: 0; -EBADMSG the file is not sound, not ours, or says another node; -ENOENT there is no such device.
 */
int cdi_reader_check(struct cdi_reader *reader, const char *dir, const char *class, const char *id,
                     const char *node, struct err *err);

/* cdi_has_ours() - whether @dir has a file of ours */
bool cdi_has_ours(const struct host *host, const char *dir);

enum cdi_severity {
    CDI_NOTE,    /* worth knowing */
    CDI_WARNING, /* a consumer that we know of refuses it: Kata's Go shim, an old podman */
    CDI_ERROR,   /* every consumer refuses the file or the device */
};
const char *cdi_severity_name(enum cdi_severity severity);

struct cdi_finding {
    enum cdi_severity severity;
    bool ours;
    char file[256]; /* path below the host root */
    unsigned line;  /* from 1; 0 = the file as a whole */
    char cause[400];
    char cure[256];
};

struct cdi_report {
    size_t n;
    struct cdi_finding
        *findings;             /* at most CDI_MAX_FINDINGS; the last one says that there are more */
    size_t n_files, n_devices; /* looked at */
};
#define CDI_MAX_FINDINGS 64

void cdi_report_free(struct cdi_report *report); /* accepts an empty one */
/* cdi_report_worst() - Return: the severity of the worst finding, or -1 when there is none. */
int cdi_report_worst(const struct cdi_report *report);

/**
 * cdi_check_text() - one file's content against the rules of CDI, as the reference parsers apply them; pure, fuzzed
 * @file: for messages
 * Findings are added to @report, which the caller zero-initialises.
 */
void cdi_check_text(const char *file, const char *text, size_t len, struct cdi_report *report);

/**
 * cdi_check_dirs() - every CDI file in every directory, ours and foreign, and what only shows in all of them
 * together: the same device offered twice, nodes that do not exist on this host, unreadable files
 * @dirs: paths below the host root, in order of rising priority; a directory that does not exist is a note.
 * Two names of one directory (/run/cdi, /var/run/cdi) are looked at once.
 * Return: 0 also when there are findings; -errno only when nothing could be looked at.
 */
int cdi_check_dirs(const struct host *host, const char *const *dirs, size_t n_dirs,
                   struct cdi_report *report, struct err *err);

/* Where consumers look when they are not told otherwise (SPEC.md of CDI), in order of rising priority. */
#define CDI_DEFAULT_DIRS                                                                           \
    {                                                                                              \
        "/etc/cdi", "/var/run/cdi"                                                                 \
    }

#endif
