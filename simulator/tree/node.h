/* The tree of nodes behind the FUSE mount: directories, links, attribute files, device nodes.
 *
 * What kernfs is to sysfs: nodes exist while they are linked; a removed node lives on until FUSE forgot it, and its
 * attributes answer ENODEV then. Everything here is called with the tree lock held (tree_lock()); show and store
 * functions too. A store function that must wait releases the lock with tree_unlock() and takes it again.
 *
 * Entries are cached by the kernel without limit (a scan costs two requests a file, not ten); so every removal is
 * queued and told to the kernel before the lock's holder answers its caller: tree_unlock() sends what is queued.
 */
#ifndef CCN_SIMULATOR_TREE_NODE_H
#define CCN_SIMULATOR_TREE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TREE_PAGE 4096 /* an attribute never holds more (Linux PAGE_SIZE) */

struct node;

/* What a file does. Return: bytes or 0, or -errno. NULL = EIO, as sysfs has it for a missing method. */
struct node_ops {
    /* text into buf (TREE_PAGE bytes) */
    ssize_t (*show)(struct node *node, char *buf);
    /* text is terminated, without its newline; empty text is a bare newline */
    int (*store)(struct node *node, const char *text);
    /* binary attributes (config): instead of the two above */
    ssize_t (*pread)(struct node *node, char *buf, size_t len, off_t at);
    ssize_t (*pwrite)(struct node *node, const char *buf, size_t len, off_t at);
    /* device nodes; *ret_handle is handed back to release */
    int (*open)(struct node *node, pid_t pid, int flags, uint64_t *ret_handle);
    void (*release)(struct node *node, uint64_t handle);
    /* Writes may block for long. The kernel lets one write at a time into an inode, sysfs one per open file: such a
     * file is given to the kernel as a new inode at each lookup. */
    bool waits;
    /* The text never changes: read once and kept by the kernel; st_size is its length then, not a page. */
    bool constant;
    bool mappable; /* no direct I/O: else mmap is refused before the trap sees it (REF-S 5.1) */
};

struct node {
    struct node *parent, *next, *children;
    char *name;
    char *target; /* symbolic links */
    const struct node_ops *ops;
    void *owner; /* the device, driver, … it belongs to; valid while linked */
    long arg;    /* the attribute's own */
    struct node
        *real; /* this is only another inode of that one (waits); nothing else here is valid then */
    uint64_t ino; /* st_ino: never used twice */
    uint64_t lookups;
    int64_t size;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    bool leaving; /* retired, not yet unlinked: can't be opened */
    bool gone;
};

void tree_lock(void);
void tree_unlock(void);
/* tree_wait() - release the lock until tree_wake() or the deadline (CLOCK_MONOTONIC ns; 0 = none). */
void tree_wait(int64_t deadline_ns);
void tree_wake(void);
int64_t tree_now_ns(void); /* CLOCK_MONOTONIC */

struct node *tree_root(void);

/* All add functions return the node, or the one that already has this name in parent. */
struct node *node_dir(struct node *parent, const char *name);
struct node *node_path(const char *path); /* directories "a/b/c" below the root, made as needed */
struct node *node_file(struct node *parent, const char *name, mode_t mode,
                       const struct node_ops *ops, void *owner, long arg);
struct node *node_text(struct node *parent, const char *name,
                       const char *text); /* constant, 0444 */
/* node_link() - to another node: the relative path is computed */
struct node *node_link(struct node *parent, const char *name, const struct node *to);

struct node *node_find(const struct node *parent, const char *name);
/* node_remove() - with everything below it; accepts NULL */
void node_remove(struct node *node);
/* node_path_of() - "/sys/devices/…" from the tree's root; the caller's */
char *node_path_of(const struct node *node);

/* Device nodes come and go through the VFS, as devtmpfs does it, so that inotify tells of them: what is queued here is
 * carried out by tree_unlock() with mknod(2) and unlink(2) on our own mount, which end in node_admit() and
 * node_dismiss(). Without a mount (yet) it is done at once.
 * @slot: where the node is kept, NULL until it is there and after it went; node_retire() accepts both. */
void node_announce(struct node *parent, const char *name, mode_t mode, const struct node_ops *ops,
                   void *owner, struct node **slot);
void node_retire(struct node **slot);
/* node_admit() - the kernel asks for an announced one. Return: NULL when there is none of that name. */
struct node *node_admit(const struct node *parent, const char *name);
/* node_dismiss() - the kernel unlinks a retired one. Return: 0 or -ENOENT. */
int node_dismiss(const struct node *parent, const char *name);
/* node_settle() - the system call failed: without it then. */
void node_settle(const char *path, bool create);
/* who makes the system calls: set by the FUSE side; called without the lock. @path: below the mount */
void tree_on_change(void (*cb)(const char *path, bool create));

/* who tells the kernel of a removed entry: set by the FUSE side; called without the lock */
void tree_on_removed(void (*cb)(uint64_t parent_ino, const char *name));

/* Nodes as FUSE knows them: the root is 1, others their address. An id is valid from node_looked_up() until it is
 * forgotten as often; a removed node lives on until then. */
uint64_t node_id(const struct node *node);
struct node *node_of_id(uint64_t id);
/* node_looked_up() - FUSE is about to tell the kernel. Return: the id to tell. */
uint64_t node_looked_up(struct node *node);
void node_forget(uint64_t id, uint64_t lookups);

#endif
