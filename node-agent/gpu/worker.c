#include "node-agent/gpu/worker.h"

#include <string.h>

#include "base/auto.h"

/* Limits of the protocol that a step may use up one after another, in ms; what the worker itself keeps stands beside its
 * code. */
enum {
    FIREWALL = 5000, /* Blackwell BAR firewall after a reset (gpu-admin-tools) */
    BOOT =
        30000, /* boot complete: 10 s Blackwell, 5 s Hopper and LS10 (gpu-admin-tools), 30 s with a
                     * Grace processor (Linux nvgrace-gpu) */
    WAKE =
        3000, /* D3cold exit of the device and of every bridge above, 100 ms each, and slow firmware */
    QUEUE =
        5000, /* a mailbox that someone left half used: wait for its answer before it is reset */
    RPC =
        20000, /* all requests of one session together; one alone has 1 s to be taken and 5 s to be answered */
    KERNEL_RESET =
        70000, /* Linux: 0.7 s pending transactions, FLR 0.1 s, then up to 65.5 s for the device to answer */
    MARGIN = 2000, /* a machine under load */
};

static const struct {
    const char *name;
    int deadline_ms;
} steps[] = {
    [WORKER_QUERY] = {"query", WAKE + FIREWALL + BOOT + QUEUE + RPC + MARGIN},
    [WORKER_KNOBS] = {"knobs", WAKE + FIREWALL + BOOT + QUEUE + RPC + MARGIN},
    [WORKER_WAKE] = {"wake", WAKE + FIREWALL + MARGIN},
    /* one session to write, one to put back what a failed one wrote */
    [WORKER_STAGE] = {"stage", WAKE + FIREWALL + BOOT + 2 * (QUEUE + RPC) + MARGIN},
    [WORKER_CHECK_STAGED] = {"check-staged", WAKE + FIREWALL + BOOT + QUEUE + RPC + MARGIN},
    [WORKER_RESET] = {"reset", WAKE + KERNEL_RESET + MARGIN},
    [WORKER_WAIT_BOOT] = {"wait-boot", WAKE + FIREWALL + BOOT + MARGIN},
    [WORKER_VERIFY] = {"verify", WAKE + FIREWALL + BOOT + MARGIN},
    /* opening and closing reset it; a device that hangs does so at the first of the two */
    [WORKER_CHECK_VFIO] = {"check-vfio", WAKE + KERNEL_RESET + MARGIN},
    [WORKER_SLEEP] = {"sleep", WAKE + MARGIN},
    /* a host driver may take seconds to let go; who still uses the device was looked at before */
    [WORKER_UNBIND] = {"unbind", 30000},
    /* with modprobe; nvgrace-gpu waits for the boot of its device in the probe */
    [WORKER_BIND] = {"bind", 30000 + BOOT},
    [WORKER_RELEASE] = {"release",
                        60000}, /* the host's own driver may start the whole GPU in its probe */
    [WORKER_REMOVE] = {"remove", 30000},
    [WORKER_HOLDERS] = {"holders", 15000},
    [WORKER_LOAD_MODULE] = {"load-module", 30000},
    [WORKER_RESCAN] = {"rescan", 60000},
    /* whoever asks for metrics waits for it; Prometheus gives up after 10 s */
    [WORKER_PCI] = {"pci", 3000},
};

const char *worker_step_name(enum worker_step step)
{
    return (size_t)step < ARRAY_LEN(steps) ? steps[step].name : "?";
}

enum worker_step worker_step_find(const char *name, unsigned long len)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (strlen(steps[i].name) == len && memcmp(steps[i].name, name, len) == 0)
            return (enum worker_step)i;
    }
    return WORKER_STEP_MAX;
}

int worker_deadline_ms(enum worker_step step)
{
    return (size_t)step < ARRAY_LEN(steps) ? steps[step].deadline_ms : 0;
}
