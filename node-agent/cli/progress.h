/* Live lines on a terminal, one for each device of a change; silent where standard error is no terminal. */
#ifndef CCN_CLI_PROGRESS_H
#define CCN_CLI_PROGRESS_H

#include <stdbool.h>

#include "base/loop.h"

struct progress;

struct progress *progress_new(struct loop *loop, bool quiet);
/* progress_say() - @bdf is now doing @what; its clock starts with the first call and stops with @over */
void progress_say(struct progress *progress, const char *bdf, const char *name, const char *what,
                  bool over);
/* progress_note() - one line below the others, "" = none: "waiting for 2 devices in use" */
void progress_note(struct progress *progress, const char *text);
void progress_free(struct progress *progress); /* leaves the last picture; accepts NULL */

#endif
