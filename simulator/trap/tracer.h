/* The trap for statically linked programs: they ignore LD_PRELOAD, so a tracer does what the preload does.
 *
 * A seccomp filter stops the program at mmap of a file only; every other system call runs at full speed. A mapping of
 * a simulated resourceN becomes memory without access rights, and the tracer carries out the instructions that fault
 * on it (13 to 70 µs an access). Children and threads are followed. Not for VFIO: its ioctls need the preload.
 * Cannot be combined with a debugger or LeakSanitizer on the same program. (REF: gpu-simulator section 4, item 10.)
 */
#ifndef CCN_SIMULATOR_TRAP_TRACER_H
#define CCN_SIMULATOR_TRAP_TRACER_H

#include <stdbool.h>

#include "base/err.h"
#include "simulator/model/model.h"

/* tracer_wanted() - is the program that execvp(name) would run a static one? */
bool tracer_wanted(const char *name);

/**
 * tracer_run() - run a command under the tracer until it ends
 * Signals to end (TERM, HUP, INT, QUIT) go on to the program.
 * Return: its exit status; when a signal ended it the caller is ended by the same one. Negative: could not start.
 */
int tracer_run(struct model *model, char **command, struct err *err);

#endif
