/* Capabilities (design 3.12): the agent itself runs without any in effect; ccnode-device, the only program that it starts,
 * gets the few that its steps need.
 *
 * | capability       | which step needs it                                                             |
 * |------------------|---------------------------------------------------------------------------------|
 * | DAC_OVERRIDE     | sysfs and /dev/vfio nodes of another owner                                       |
 * | DAC_READ_SEARCH  | holders: /proc/PID/fd of other users                                            |
 * | SYS_PTRACE       | holders: /proc/PID/fd and maps of processes with more capabilities (QEMU)        |
 * | SYS_ADMIN        | configuration space beyond 64 bytes; VFIO                                        |
 * | SYS_MODULE       | load-module                                                                     |
 */
#ifndef CCN_AGENT_CAPS_H
#define CCN_AGENT_CAPS_H

#include "base/err.h"

/**
 * caps_limit() - before any thread is started: nothing in effect from now on, the list above kept for children, all
 * others gone for good where that is allowed (it needs SETPCAP; a container has a small bounding set anyway)
 * Return: 0, -errno.
 */
int caps_limit(struct err *err);

#endif
