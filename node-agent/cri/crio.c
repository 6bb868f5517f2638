/* CRI-O: injects CDI devices since it knows the field for them, and keeps its directories to itself. So they are read
 * from where it reads them: /etc/crio/crio.conf, then /etc/crio/crio.conf.d in order (crio.conf(5), crio.conf.d(5)). */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cri/internal.h"

#define MAX_CONF (1024 * 1024)
#define MAX_FILES 256

/* One array of strings, from behind '=': ["a", 'b', # comment … ], over lines. */
static void scan_array(const char *p, struct strings *dirs)
{
    while (isspace((unsigned char)*p))
        p++;
    if (*p++ != '[')
        return;
    while (*p && *p != ']') {
        if (*p == '#') {
            p += strcspn(p, "\n");
        } else if (*p == '"' || *p == '\'') {
            char quote[2] = {*p++, '\0'};
            size_t n = strcspn(p, quote);
            AUTO_FREE char *text = xstrndup(p, n);
            if (n > 0 && n <= CRI_MAX_TEXT && text_utf8(text, n) && dirs->n < CRI_MAX_CDI_DIRS)
                strings_add(dirs, text);
            p += n + (p[n] != '\0');
        } else {
            p++;
        }
    }
}

bool crio_scan(const char *text, struct strings *dirs)
{
    static const char key[] = "cdi_spec_dirs";
    bool found = false;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *p = line + strspn(line, " \t");
        if (strncmp(p, key, sizeof key - 1) != 0)
            continue;
        p += sizeof key - 1;
        p += strspn(p, " \t");
        if (*p != '=')
            continue;
        strings_free(dirs); /* the last one counts */
        scan_array(p + 1, dirs);
        found = true;
    }
    return found;
}

static void scan_file(const struct host *host, const char *path, struct strings *dirs, bool *any)
{
    struct err err;
    AUTO_FREE char *text = NULL;
    if (fs_read(host, path, MAX_CONF, &text, NULL, &err) < 0)
        return;
    *any = true;
    (void)crio_scan(text, dirs);
}

static void list_conf_d(const struct host *host, const char *path, struct strings *names)
{
    struct err err;
    AUTO_CLOSE int fd = host_openat(host, path, O_RDONLY | O_DIRECTORY, &err);
    AUTO_CLOSEDIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return;
    fd = -1; /* the DIR's now */
    for (const struct dirent *entry; names->n < MAX_FILES && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            strings_add(names, entry->d_name);
    strings_sort(names);
}

void crio_read_conf(struct cri_runtime *runtime, const struct host *host)
{
    unsigned major = 0, minor = 0;
    if (strcmp(runtime->name, "cri-o") != 0)
        return;
    /* kubelet's own field for CDI devices came with Kubernetes 1.28; CRI-O numbers its versions alike */
    if (cri_version_major_minor(runtime->version, &major, &minor) && (major > 1 || minor >= 28))
        runtime->cdi = CRI_YES;
    bool any = false;
    struct strings names = {0}, dirs = {0};
    strings_add(&dirs, "/etc/cdi");
    strings_add(&dirs, "/var/run/cdi");
    scan_file(host, "/etc/crio/crio.conf", &dirs, &any);
    list_conf_d(host, "/etc/crio/crio.conf.d", &names);
    for (size_t i = 0; i < names.n; i++) {
        AUTO_FREE char *path = xasprintf("/etc/crio/crio.conf.d/%s", names.items[i]);
        scan_file(host, path, &dirs, &any);
    }
    strings_free(&names);
    if (any)
        cri_set_cdi_dirs(runtime, &dirs);
    strings_free(&dirs);
}
