#define FUSE_USE_VERSION 314
#include "simulator/tree/treefs.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "simulator/tree/control.h"
#include "simulator/tree/node.h"

/* A removal is pushed to the kernel (node.h), so entries and attributes may be kept for good. */
#define KEEP_S 1e6
/* Blocked unbinds, removes and resets sleep in their worker thread; a node has at most 64 devices. */
#define WORKERS 256

static struct fuse_session *session;
static int mount_fd = -1;

static void fill_stat(const struct node *node, struct stat *ret)
{
    *ret = (struct stat){.st_ino = node->ino,
                         .st_mode = node->mode,
                         .st_nlink = S_ISDIR(node->mode) ? 2 : 1,
                         .st_size = S_ISDIR(node->mode) ? 0 : node->size,
                         .st_uid = node->uid,
                         .st_gid = node->gid,
                         .st_blksize = TREE_PAGE};
}

static void op_init(void *arg, struct fuse_conn_info *conn)
{
    (void)arg;
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
    conn->want |= conn->capable & FUSE_CAP_CACHE_SYMLINKS;
    /* truncation at open is a SETATTR of its own, which is accepted and ignored (REF-S 5.1) */
    conn->want &= ~(unsigned)FUSE_CAP_ATOMIC_O_TRUNC;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    tree_lock();
    struct node *node = node_find(node_of_id(parent), name);
    if (!node) {
        tree_unlock();
        (void)fuse_reply_err(req, ENOENT);
        return;
    }
    struct fuse_entry_param entry = {.ino = node_looked_up(node),
                                     .attr_timeout = KEEP_S,
                                     .entry_timeout = node->ops && node->ops->waits ? 0 : KEEP_S};
    fill_stat(node, &entry.attr);
    tree_unlock();
    (void)fuse_reply_entry(req, &entry);
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t count)
{
    tree_lock();
    node_forget(id, count);
    tree_unlock();
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *list)
{
    tree_lock();
    for (size_t i = 0; i < count; i++)
        node_forget(list[i].ino, list[i].nlookup);
    tree_unlock();
    fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st;
    tree_lock();
    fill_stat(node_of_id(id), &st);
    tree_unlock();
    (void)fuse_reply_attr(req, &st, KEEP_S);
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st;
    tree_lock();
    struct node *node = node_of_id(id);
    if (to_set & FUSE_SET_ATTR_MODE)
        node->mode = (node->mode & S_IFMT) | (attr->st_mode & 07777);
    if (to_set & FUSE_SET_ATTR_UID)
        node->uid = attr->st_uid;
    if (to_set & FUSE_SET_ATTR_GID)
        node->gid = attr->st_gid;
    fill_stat(node, &st);
    tree_unlock();
    (void)fuse_reply_attr(req, &st, KEEP_S);
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
    tree_lock();
    const struct node *node = node_of_id(id);
    AUTO_FREE char *target = node->target ? xstrdup(node->target) : NULL;
    tree_unlock();
    if (target)
        (void)fuse_reply_readlink(req, target);
    else
        (void)fuse_reply_err(req, EINVAL);
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    int r = 0;
    tree_lock();
    struct node *node = node_of_id(id);
    if (node->gone || node->leaving)
        r = node->gone ? -ENODEV : -ENOENT;
    else if (node->ops->open)
        r = node->ops->open(node, fuse_req_ctx(req)->pid, fi->flags, &fi->fh);
    bool mappable = node->ops->mappable, constant = node->ops->constant;
    tree_unlock();
    if (r < 0) {
        (void)fuse_reply_err(req, -r);
        return;
    }
    fi->direct_io = !mappable && !constant;
    fi->keep_cache = constant;
    /* device nodes can't be sought; sysfs files can */
    if (fuse_reply_open(req, fi) == -ENOENT && fi->fh != 0) { /* the opener was killed meanwhile */
        tree_lock();
        if (!node->gone && node->ops->release)
            node->ops->release(node, fi->fh);
        tree_unlock();
    }
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    tree_lock();
    struct node *node = node_of_id(id);
    if (node->ops->release)
        node->ops->release(node, fi->fh);
    tree_unlock();
    (void)fuse_reply_err(req, 0);
}

static ssize_t read_text(struct node *node, char *buf, size_t len, off_t at)
{
    char page[TREE_PAGE];
    ssize_t n = node->ops->show(node, page);
    if (n <= at)
        return n < 0 ? n : 0;
    size_t left = (size_t)(n - at);
    memcpy(buf, page + at, left < len ? left : len);
    return (ssize_t)(left < len ? left : len);
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t len, off_t at, struct fuse_file_info *fi)
{
    (void)fi;
    char buf[TREE_PAGE];
    ssize_t n = -EIO;
    len = len < sizeof buf ? len : sizeof buf;
    tree_lock();
    struct node *node = node_of_id(id);
    if (node->gone)
        n = -ENODEV;
    else if (node->ops->pread)
        n = node->ops->pread(node, buf, len, at);
    else if (node->ops->show)
        n = read_text(node, buf, len, at);
    tree_unlock();
    if (n < 0)
        (void)fuse_reply_err(req, (int)-n);
    else
        (void)fuse_reply_buf(req, buf, (size_t)n);
}

static int write_text(struct node *node, const char *buf, size_t len)
{
    char text[TREE_PAGE];
    if (len >= sizeof text)
        return -EINVAL;
    memcpy(text, buf, len);
    text[len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return node->ops->store(node, text);
}

/* for the log: text as it is, bytes (config) in hexadecimal */
static const char *first_line(char *ret, const char *buf, size_t len)
{
    size_t n = len < 64 ? len : 64, i = 0;
    while (i < n && buf[i] >= ' ' && buf[i] <= '~')
        i++;
    if (i == n || buf[i] == '\n') {
        memcpy(ret, buf, i);
        ret[i] = '\0';
        return ret;
    }
    n = n < 32 ? n : 32;
    hex_encode((const uint8_t *)buf, n, ret);
    return ret;
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t len, off_t at,
                     struct fuse_file_info *fi)
{
    (void)fi;
    ssize_t r = -EIO;
    char text[80];
    tree_lock();
    struct node *node = node_of_id(id);
    /* the write may remove its own file */
    AUTO_FREE char *path = node->gone ? NULL : node_path_of(node);
    if (node->gone)
        r = -ENODEV;
    else if (node->ops->pwrite)
        r = node->ops->pwrite(node, buf, len, at);
    else if (node->ops->store)
        r = write_text(node, buf, len);
    enum model_kill who = MODEL_KILL_NONE;
    if (path)
        who = control_wrote(path, first_line(text, buf, len), r < 0 ? (int)-r : 0);
    if (who != MODEL_KILL_NONE)
        model_kill(fuse_req_ctx(req)->pid, who);
    tree_unlock();
    if (r < 0)
        (void)fuse_reply_err(req, (int)-r);
    else
        (void)fuse_reply_write(req, r > 0 ? (size_t)r : len);
}

static void op_readdir(fuse_req_t req, fuse_ino_t id, size_t room, off_t at,
                       struct fuse_file_info *fi)
{
    (void)fi;
    AUTO_FREE char *buf = xmalloc(room);
    size_t used = 0;
    tree_lock();
    const struct node *dir = node_of_id(id);
    off_t i = 2;
    struct stat st = {.st_ino = dir->ino, .st_mode = S_IFDIR};
    static const char *const dots[] = {".", ".."};
    for (off_t k = at; k < 2; k++)
        used += fuse_add_direntry(req, buf + used, room - used, dots[k], &st, k + 1);
    for (const struct node *n = dir->children; n; n = n->next) {
        if (i++ < at)
            continue;
        st = (struct stat){.st_ino = n->ino, .st_mode = n->mode & S_IFMT};
        size_t need = fuse_add_direntry(req, buf + used, room - used, n->name, &st, i);
        if (need > room - used)
            break;
        used += need;
    }
    tree_unlock();
    (void)fuse_reply_buf(req, buf, used);
}

/* Only our own requests get an answer here (change_node()): nobody else makes or removes files in sysfs. */
static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)mode, (void)rdev;
    struct fuse_entry_param entry = {.attr_timeout = KEEP_S, .entry_timeout = KEEP_S};
    tree_lock();
    struct node *node = node_admit(node_of_id(parent), name);
    if (node) {
        entry.ino = node_looked_up(node);
        fill_stat(node, &entry.attr);
    }
    tree_unlock();
    if (node)
        (void)fuse_reply_entry(req, &entry);
    else
        (void)fuse_reply_err(req, EPERM);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    tree_lock();
    int r = node_dismiss(node_of_id(parent), name);
    tree_unlock();
    (void)fuse_reply_err(req, r < 0 ? EPERM : 0);
}

static void op_access(fuse_req_t req, fuse_ino_t id, int mask)
{
    (void)id, (void)mask;
    (void)fuse_reply_err(req, ENOSYS); /* the kernel checks modes itself and does not ask again */
}

static const struct fuse_lowlevel_ops ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .open = op_open,
    .release = op_release,
    .read = op_read,
    .write = op_write,
    .readdir = op_readdir,
    .access = op_access,
    .mknod = op_mknod,
    .unlink = op_unlink,
};

static void tell_kernel(uint64_t parent, const char *name)
{
    if (session)
        (void)fuse_lowlevel_notify_inval_entry(session, parent, name, strlen(name));
}

/* node_announce(), node_retire() */
static void change_node(const char *path, bool create)
{
    const char *below = path + 1;
    int r = create ? mknodat(mount_fd, below, S_IFREG | 0600, 0) : unlinkat(mount_fd, below, 0);
    if (r == 0)
        return;
    tree_lock();
    node_settle(path, create);
    tree_unlock();
}

void treefs_announce(const char *dir)
{
    mount_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (mount_fd >= 0)
        tree_on_change(change_node);
}

int treefs_mount(const char *dir, struct err *err)
{
    char *argv[] = {(char[]){"ccnode-sim"}, (char[]){"-o"},
                    (char[]){"allow_other,default_permissions,fsname=ccnode-sim"}};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    session = fuse_session_new(&args, &ops, sizeof ops, NULL);
    fuse_opt_free_args(&args);
    if (!session)
        return err_set(err, EIO, "libfuse could not make a session");
    if (fuse_session_mount(session, dir) != 0) {
        fuse_session_destroy(TAKE(session));
        return err_set(err, EIO, "could not mount FUSE at %s: needs root and /dev/fuse", dir);
    }
    tree_on_removed(tell_kernel);
    return 0;
}

int treefs_serve(struct err *err)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(config, WORKERS);
    fuse_loop_cfg_set_idle_threads(config, 8);
    fuse_loop_cfg_set_clone_fd(config, 0);
    int r = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    return r < 0 ? err_set(err, -r, "FUSE session ended: %s", strerror(-r)) : 0;
}

void treefs_stop(void)
{
    fuse_session_exit(session);
}

void treefs_unmount(void)
{
    fuse_session_unmount(session);
    fuse_session_destroy(TAKE(session));
}
