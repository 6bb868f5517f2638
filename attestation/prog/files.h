/* Files of the command line: whole, bounded; and the output file, atomically. */
#ifndef CCN_ATTESTATION_PROG_FILES_H
#define CCN_ATTESTATION_PROG_FILES_H

#include "attestation/ccnattest.h"

struct file {
    char *data; /* owned, terminated */
    struct att_text text;
};

void file_done(struct file *file);
/* file_read() - @max bytes at most. Return: 0, -errno with the path. */
int file_read(const char *path, size_t max, struct file *ret, struct err *err);
/* file_replace() - atomic; "-" or NULL is standard output */
int file_replace(const char *path, const char *data, size_t len, struct err *err);

#endif
