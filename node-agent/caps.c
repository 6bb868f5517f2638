#include "node-agent/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"

static const int needed[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN,
                             CAP_SYS_MODULE};

static bool is_needed(int cap)
{
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (needed[i] == cap)
            return true;
    }
    return false;
}

/* What a child of root can get at most. Not being allowed to is no error: see caps.h. */
static void limit_bounding_set(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (!is_needed(cap))
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
}

int caps_limit(struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) < 0)
        return err_errno(err, "read the capabilities of this process");
    limit_bounding_set();
    uint32_t keep[2] = {0, 0};
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        keep[needed[i] / 32] |= 1u << (needed[i] % 32);
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= keep[i];
        data[i].inheritable = data[i].permitted;
        data[i].effective = 0;
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return err_errno(err, "give up capabilities");
    /* not root: exec() hands nothing on by itself */
    for (size_t i = 0; geteuid() != 0 && i < ARRAY_LEN(needed); i++) {
        if (data[needed[i] / 32].permitted & 1u << (needed[i] % 32))
            (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, needed[i], 0, 0);
    }
    return 0;
}
