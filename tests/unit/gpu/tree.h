/* A fake host root in a temporary directory, file by file. */
#ifndef CCN_TEST_GPU_TREE_H
#define CCN_TEST_GPU_TREE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/host.h"

struct tree {
    char root[64];
    struct host host;
};

struct tree *tree_new(void);
void tree_free(struct tree *tree);
/* paths below the root, parents are made */
void tree_file(struct tree *tree, const char *path, const char *text);
void tree_link(struct tree *tree, const char *path, const char *target);
void tree_dir(struct tree *tree, const char *path);
void tree_remove(struct tree *tree, const char *path);

/* tree_device() - a PCI function with the usual files; class as "0x030200"; group -1 = none */
void tree_device(struct tree *tree, const char *bdf, const char *vendor, const char *device,
                 const char *class_text, int group);
void tree_driver(struct tree *tree, const char *bdf, const char *driver);

#endif
