/* ccnode-sim ctl: looks at a served node and changes it. */
#ifndef CCN_SIMULATOR_TREE_CTL_H
#define CCN_SIMULATOR_TREE_CTL_H

/* ctl_main() - one command. Return: exit status (0 done, 1 failed, 2 usage). */
int ctl_main(const char *root, int argc, char **argv);

#endif
