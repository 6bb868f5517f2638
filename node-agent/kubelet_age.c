#include "node-agent/kubelet_age.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"

int64_t kubelet_age_ms(struct kubelet_age *age, const struct host *host, const char *socket,
                       int64_t now_ms)
{
    struct err ignored = ERR_INIT;
    struct stat st;
    AUTO_CLOSE int fd = host_openat(host, socket, O_PATH, &ignored);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    bool same = age->known && st.st_dev == age->dev && st.st_ino == age->ino &&
                st.st_ctim.tv_sec == age->made.tv_sec && st.st_ctim.tv_nsec == age->made.tv_nsec;
    if (same)
        return now_ms - age->since_ms;
    int64_t old_ms = 0;
    if (!age->known) {
        struct timespec now;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        old_ms = ((int64_t)now.tv_sec - st.st_ctim.tv_sec) * 1000;
    }
    *age = (struct kubelet_age){.known = true,
                                .dev = st.st_dev,
                                .ino = st.st_ino,
                                .made = st.st_ctim,
                                .since_ms = now_ms - (old_ms > 0 ? old_ms : 0)};
    return now_ms - age->since_ms;
}

void kubelet_age_name(const struct kubelet_age *age, char ret[static KUBELET_NAME_SIZE])
{
    *ret = '\0';
    if (age->known)
        (void)snprintf(ret, KUBELET_NAME_SIZE, "%jx.%jx.%jd.%09ld", (uintmax_t)age->dev,
                       (uintmax_t)age->ino, (intmax_t)age->made.tv_sec, age->made.tv_nsec);
}
