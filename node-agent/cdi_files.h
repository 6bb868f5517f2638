/* Watches the CDI directories: the files of others, and that ours are left alone. One that no consumer accepts fails every pod with a GPU on the node, ours too: Kata's
 * shims and the container runtimes read all files of a directory, and refuse all for one.
 *
 * Looked at soon after the start, a second after something changed in one of the directories (inotify), and every minute
 * (10 s while our directory cannot be watched): a directory may be made later. Only what is not ours and a CDI_ERROR
 * counts; "ccnode cdi check" and "ccnode preflight" tell the rest.
 */
#ifndef CCN_AGENT_CDI_FILES_H
#define CCN_AGENT_CDI_FILES_H

#include "base/host.h"
#include "base/loop.h"
#include "cdi/cdi.h"
#include "node-agent/advice.h"

/* cdi_files_judge() - what counts of a report. Pure. */
void cdi_files_judge(const struct cdi_report *report, struct advice *ret);

struct cdi_files;
/* @is_stale: asked at every look, whether our own files are not as we left them
 * @on_change: the advice is another one now, or our files are stale. Nothing is looked at before cdi_files_configure(). */
struct cdi_files *cdi_files_new(struct loop *loop, const struct host *host,
                                bool (*is_stale)(void *arg), void (*on_change)(void *arg),
                                void *arg);
void cdi_files_free(struct cdi_files *files); /* accepts NULL */
/* cdi_files_configure() - our directory, copied; it is looked at besides the usual ones. "" = CDI is of no concern. */
void cdi_files_configure(struct cdi_files *files, const char *dir);
const struct advice *cdi_files_advice(const struct cdi_files *files);

#endif
