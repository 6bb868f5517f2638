/* DIR/.sim/fs/ctl: what `ccnode-sim ctl` asks of the server, as files beside sys and dev.
 *
 *   devices            one line a device: BDF and key=value (see control.c)
 *   plug               BDF: into its slot; discovered, drivers probed
 *   unplug             BDF: the button: remove (waits for users), then power off
 *   unplug-surprise    BDF: power off first; the kernel notices afterwards
 */
#ifndef CCN_SIMULATOR_TREE_CONTROL_H
#define CCN_SIMULATOR_TREE_CONTROL_H

void control_setup(void);

#endif
