/* ccnode-sim ctl hold: a process that really has a device open, as a VM would. */
#ifndef CCN_SIMULATOR_TREE_HOLD_H
#define CCN_SIMULATOR_TREE_HOLD_H

/**
 * hold_main() - the holder itself: opens, says "held", sleeps (or a limit of seconds), exits
 * argv: BDF HOW SECONDS; HOW is group, device, cdev, resource0 or nvidia. Runs with the trap preloaded.
 */
int hold_main(const char *root, int argc, char **argv);

/* hold_start() - starts the holder in the background and waits until it holds. Return: exit status; prints the pid. */
int hold_start(const char *root, const char *bdf, const char *how, const char *seconds);

#endif
