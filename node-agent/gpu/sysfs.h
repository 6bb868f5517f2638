/* sysfs as bytes from outside: numbers and names of attributes, each checked before it is believed. Inside the room. */
#ifndef CCN_GPU_SYSFS_H
#define CCN_GPU_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"

/* sysfs_hex() - "0x10de" of an id attribute. Return: 0, -errno, -EBADMSG not such a number. */
int sysfs_hex(int dir_fd, const char *name, uint32_t max, uint32_t *ret, struct err *err);
/* sysfs_int() - decimal, may be negative */
int sysfs_int(int dir_fd, const char *name, int *ret, struct err *err);
/* sysfs_word() - a word of printable ASCII; "" when the file is missing, unreadable or not such a word */
void sysfs_word(int dir_fd, const char *name, char *ret, size_t room);
/* sysfs_link_name() - last component of a link's target; "" when there is none */
void sysfs_link_name(int dir_fd, const char *name, char *ret, size_t room);
/* sysfs_copy_name() - @from into @ret when it is a plain file name that fits, else "" */
void sysfs_copy_name(const char *from, char *ret, size_t room);
/* sysfs_number() - a whole string of decimal digits below @max. Return: the number or -1. */
int sysfs_number(const char *text, int max);
bool sysfs_exists(const struct host *host, const char *path);

#define SYS_PCI_DEVICES "/sys/bus/pci/devices"

/* sysfs_is_of_kernel() - the host root of a container shows this kernel's sysfs; that of a simulated node another's, of
 * which this kernel says nothing. */
bool sysfs_is_of_kernel(const struct host *host);

#endif
