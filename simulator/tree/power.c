/* Runtime power management and resets. Facts: reference tables 6.4 (what binding does), 6.6 (reset), 6.8 (what
 * blocks). */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "simulator/tree/kernel.h"

/* pci_dev_wait(): pauses double from 1 ms on, the one that would be longer than this is not made any more
 * (Linux include/linux/pci.h PCIE_RESET_READY_POLL_MS; seen: "not ready 65535ms after FLR; giving up") */
#define READY_POLL_MS 60000
#define D3HOT_EXIT_MS 10
#define D3COLD_EXIT_MS 100
#define EARLY_MS 5              /* REF-S 3: enough to make NVIDIA's tool read the old mode */
#define FAULT_POLL_NS 100000000 /* while something hangs and nowhere else */

static void set_state(struct pdev *dev, enum power power)
{
    static const enum model_power to[] = {[POWER_UNKNOWN] = MODEL_D0,
                                          [POWER_D0] = MODEL_D0,
                                          [POWER_D3HOT] = MODEL_D3HOT,
                                          [POWER_D3COLD] = MODEL_D3COLD};
    dev->power = power;
    model_set_power(kernel.model, dev->hw, to[power]);
}

void power_wake(struct pdev *dev)
{
    if (dev->power == POWER_D0)
        return;
    if (model_fault(kernel.model, dev->hw, MODEL_FAULT_D3COLD_STUCK) && dev->power == POWER_D3COLD)
        return;
    enum power was = dev->power;
    set_state(dev, POWER_D0);
    if (!pdev_active(dev) && (was == POWER_D3HOT || was == POWER_D3COLD))
        kernel_sleep_ms(was == POWER_D3HOT ? D3HOT_EXIT_MS : D3COLD_EXIT_MS);
}

void power_idle(struct pdev *dev)
{
    bool vfio = dev->driver && dev->driver->vfio;
    if (vfio && dev->pm_auto && kernel.profile->idle_d3)
        set_state(dev, model_fault(kernel.model, dev->hw, MODEL_FAULT_D3COLD_STUCK) ? POWER_D3COLD
                                                                                    : POWER_D3HOT);
}

void power_refresh(struct pdev *dev)
{
    bool stuck = model_fault(kernel.model, dev->hw, MODEL_FAULT_D3COLD_STUCK);
    if (stuck && dev->power == POWER_D3HOT)
        set_state(dev, POWER_D3COLD);
    else if (!stuck && dev->power == POWER_D3COLD && !model_dead(kernel.model, dev->hw))
        set_state(dev, dev->pm_auto ? POWER_D3HOT : POWER_D0);
}

/* The state as it is now: a VFIO user in another process wakes the device without asking us; dev->power is then
 * what comes after him. */
static enum power state_now(struct pdev *dev)
{
    return pdev_active(dev) ? POWER_D0 : dev->power;
}

const char *power_name(struct pdev *dev)
{
    static const char *const names[] = {"unknown", "D0", "D3hot", "D3cold"};
    return names[state_now(dev)];
}

static ssize_t show_power_state(struct node *node, char *buf)
{
    return sprintf(buf, "%s\n", power_name(node->owner));
}
const struct node_ops power_state_ops = {.show = show_power_state};

static ssize_t show_runtime_status(struct node *node, char *buf)
{
    enum power now = state_now(node->owner);
    bool asleep = now == POWER_D3HOT || now == POWER_D3COLD;
    return sprintf(buf, "%s\n", asleep ? "suspended" : "active");
}
const struct node_ops runtime_status_ops = {.show = show_runtime_status};

static ssize_t show_control(struct node *node, char *buf)
{
    const struct pdev *dev = node->owner;
    return sprintf(buf, "%s\n", dev->pm_auto ? "auto" : "on");
}

static int store_control(struct node *node, const char *text)
{
    struct pdev *dev = node->owner;
    bool to_auto = strcmp(text, "auto") == 0;
    if (!to_auto && strcmp(text, "on") != 0)
        return -EINVAL;
    pdev_lock(dev);
    if (dev->present) {
        dev->pm_auto = to_auto;
        if (to_auto)
            power_idle(dev);
        else if (dev->power != POWER_UNKNOWN)
            power_wake(dev);
    }
    pdev_unlock(dev);
    return 0;
}
const struct node_ops power_control_ops = {
    .show = show_control, .store = store_control, .waits = true};

/* --- reset ------------------------------------------------------------------------------------------------- */

/* pci_dev_wait(): poll until configuration answers, with doubling pauses */
static int wait_ready(struct pdev *dev)
{
    for (uint32_t pause = 1; pause <= READY_POLL_MS; pause *= 2) {
        if (model_config_ready(kernel.model, dev->hw))
            return 0;
        kernel_sleep_ms(pause);
    }
    return model_config_ready(kernel.model, dev->hw) ? 0 : -ENOTTY;
}

static int one_method(struct pdev *dev, const char *method)
{
    if (strcmp(method, "flr") == 0)
        model_reset(kernel.model, dev->hw, MODEL_RESET_FLR);
    else if (dev->up)
        model_reset(kernel.model, dev->hw, MODEL_RESET_SBR);
    else
        return -ENOTTY;
    kernel_sleep_ms(model_delay(kernel.model, MODEL_DELAY_FLR));
    return wait_ready(dev);
}

static int real_reset(struct pdev *dev)
{
    char methods[sizeof dev->reset_method], *save = NULL;
    int r = -ENOTTY;
    (void)snprintf(methods, sizeof methods, "%s", dev->reset_method);
    power_wake(dev);
    struct model_saved saved;
    model_config_save(kernel.model, dev->hw, &saved);
    for (char *m = strtok_r(methods, " ", &save); m; m = strtok_r(NULL, " ", &save)) {
        r = one_method(dev, m);
        if (r == 0) {
            model_config_restore(kernel.model, dev->hw, &saved);
            break;
        }
    }
    if (dev->power == POWER_UNKNOWN)
        dev->power = POWER_D0;
    if (r == -ENOTTY && *dev->reset_method && model_dead(kernel.model, dev->hw))
        dev->power =
            POWER_D3COLD; /* as seen: what Linux believes of a device that does not answer */
    else
        power_idle(dev);
    return r;
}

/* fault reset-early: success is reported before anything happened */
static void *late_reset(void *arg)
{
    struct pdev *dev = arg;
    tree_lock();
    kernel_sleep_ms(EARLY_MS);
    pdev_lock(dev);
    dev->config_blocked = true;
    if (dev->present)
        (void)real_reset(dev);
    dev->config_blocked = false;
    pdev_unlock(dev);
    tree_unlock();
    return NULL;
}

static int reset_later(struct pdev *dev)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, late_reset, dev) != 0)
        return -EAGAIN;
    (void)pthread_detach(thread);
    return 0;
}

/* What faults make of a reset instead of the real one. Return: true when there is nothing more to do. */
static bool faulty_reset(struct pdev *dev, int *ret)
{
    int error = model_fault(kernel.model, dev->hw, MODEL_FAULT_RESET_ERROR);
    while (model_fault(kernel.model, dev->hw, MODEL_FAULT_RESET_HANGS))
        tree_wait(tree_now_ns() + FAULT_POLL_NS);
    if (error) {
        *ret = error == 1 ? -ENOTTY : -error;
        return true;
    }
    *ret = 0;
    return model_fault(kernel.model, dev->hw, MODEL_FAULT_RESET_EARLY) && reset_later(dev) == 0;
}

int pdev_reset(struct pdev *dev)
{
    int r = 0;
    dev->config_blocked = true;
    if (!faulty_reset(dev, &r))
        r = real_reset(dev);
    dev->config_blocked = false;
    tree_wake();
    return r;
}

static int store_reset(struct node *node, const char *text)
{
    struct pdev *dev = node->owner;
    if (strcmp(text, "1") != 0)
        return -EINVAL;
    pdev_lock(dev);
    int r = dev->present ? pdev_reset(dev) : -ENODEV;
    pdev_unlock(dev);
    return r;
}
const struct node_ops reset_ops = {.store = store_reset, .waits = true};

static ssize_t show_reset_method(struct node *node, char *buf)
{
    const struct pdev *dev = node->owner;
    return *dev->reset_method ? sprintf(buf, "%s\n", dev->reset_method) : 0;
}

static int store_reset_method(struct node *node, const char *text)
{
    struct pdev *dev = node->owner;
    const char *all = dev->bdf[11] == '0' ? "flr bus" : "flr";
    char copy[32], chosen[sizeof dev->reset_method] = "", *save = NULL;
    size_t len = 0;
    if (strcmp(text, "default") == 0)
        text = all;
    if (strlen(text) >= sizeof copy)
        return -EINVAL;
    (void)snprintf(copy, sizeof copy, "%s", text);
    for (char *m = strtok_r(copy, " ", &save); m; m = strtok_r(NULL, " ", &save)) {
        bool known = strcmp(m, "flr") == 0 || (strcmp(m, "bus") == 0 && strstr(all, "bus"));
        if (!known || strstr(chosen, m))
            return -EINVAL;
        len += (size_t)snprintf(chosen + len, sizeof chosen - len, "%s%s", len ? " " : "", m);
    }
    (void)snprintf(dev->reset_method, sizeof dev->reset_method, "%s", chosen);
    return 0;
}
const struct node_ops reset_method_ops = {.show = show_reset_method, .store = store_reset_method};
