/* The CDI library for scripts.
 *
 *   cdi_tool write ROOT DIR     lines "bdf id class indexed_class group cdev" ("-" = empty) on standard input
 *   cdi_tool check FILE         prints the worst severity, or "fine", then the findings
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/cdi.h"

static int fail(const struct err *err)
{
    (void)fprintf(stderr, "%s\n", err->msg);
    return 1;
}

static void take(char *ret, size_t room, const char *word)
{
    (void)snprintf(ret, room, "%s", word && strcmp(word, "-") != 0 ? word : "");
}

static int write_specs(const char *root, const char *dir)
{
    struct err err = ERR_INIT;
    struct host host;
    struct cdi_device devices[CDI_MAX_DEVICES];
    char line[512];
    size_t n = 0;
    while (n < CDI_MAX_DEVICES && fgets(line, sizeof line, stdin)) {
        struct cdi_device *dev = &devices[n++];
        char *rest = NULL;
        *dev = (struct cdi_device){0};
        take(dev->bdf, sizeof dev->bdf, strtok_r(line, " \n", &rest));
        take(dev->id, sizeof dev->id, strtok_r(NULL, " \n", &rest));
        take(dev->class, sizeof dev->class, strtok_r(NULL, " \n", &rest));
        take(dev->indexed_class, sizeof dev->indexed_class, strtok_r(NULL, " \n", &rest));
        const char *group = strtok_r(NULL, " \n", &rest);
        dev->iommu_group = group ? (int)strtol(group, NULL, 10) : -1;
        take(dev->cdev, sizeof dev->cdev, strtok_r(NULL, " \n", &rest));
    }
    struct cdi_specs specs;
    if (cdi_build(devices, n, &specs, &err) < 0 || host_open(&host, root, &err) < 0)
        return fail(&err);
    int r = cdi_sync(&host, dir, &specs, false, NULL, &err);
    for (size_t i = 0; i < specs.n; i++)
        (void)printf("%s %zu\n", specs.specs[i].file, specs.specs[i].n_entries);
    cdi_specs_free(&specs);
    host_close(&host);
    return r < 0 ? fail(&err) : 0;
}

static int check(const char *path)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fs_read_fd(fd, path, CDI_MAX_FILE, &text, &len, &err) < 0)
        return fail(&err);
    struct cdi_report report = {0};
    cdi_check_text(path, text, len, &report);
    int worst = cdi_report_worst(&report);
    (void)printf("%s\n", worst < 0 ? "fine" : cdi_severity_name((enum cdi_severity)worst));
    for (size_t i = 0; i < report.n; i++)
        (void)printf("line %u: %s\n", report.findings[i].line, report.findings[i].cause);
    cdi_report_free(&report);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "write") == 0)
        return write_specs(argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return check(argv[2]);
    (void)fprintf(stderr, "usage: cdi_tool write ROOT DIR | check FILE\n");
    return 2;
}
