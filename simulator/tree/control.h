/* DIR/.sim/fs/ctl: what `ccnode-sim ctl` and the simulated modprobe ask of the server, as files beside sys and dev.
 *
 *   devices            one line a device: BDF and key=value (control.c)
 *   writes             the last writes to files of the tree, one a line: number, errno, path, text
 *   plug               BDF: into its slot; discovered, drivers probed
 *   unplug             BDF: the button: remove (waits for users), then power off
 *   unplug-surprise    BDF: power off first; the kernel notices afterwards
 *   modprobe, rmmod    module name
 *   kill-at-write      N [WHO]: the process that does the N-th write from now is killed right after it took effect; 0 = never
 *   refresh            anything: faults or the clock were changed in the model
 */
#ifndef CCN_SIMULATOR_TREE_CONTROL_H
#define CCN_SIMULATOR_TREE_CONTROL_H

#include <sys/types.h>

#include "simulator/model/model.h"
#include "simulator/tree/node.h"

void control_setup(void);

/* control_wrote() - told of every write to the tree once it is done (lock held); @error: errno or 0.
 * @path, @text: as written, the text's first line. Return: who is to be killed. */
enum model_kill control_wrote(const char *path, const char *text, int error);

#endif
