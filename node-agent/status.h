/* What the running agent is doing now, for `ccnode status`: /run/ccnode/status.json below the host root.
 *
 * Replaced as a whole (rename), so a reader never sees half of it; removed when the agent ends in order. A reader takes
 * it for stale when nobody holds the lock. At most ten times a second.
 *
 * The running agent holds a lock on AGENT_LOCK beside it: that, and not its pid, tells whether it is alive, since it may be in
 * a container with pids of its own.
 *
 * {"version":1,"pid":123,"agent":"0.1.0","updated_ms":<wall clock, ms since 1970>,
 *  "node":"<name or empty>","kubernetes":"watching|away|none","mode_state":"changing","ready_state":"false",
 *  "condition":{"status":"False","reason":"ChangingMode","message":"…"},
 *  "devices":[{"bdf":"0000:18:00.0","kind":"gpu","name":"H100 PCIe","resource":"nvidia.com/GH100_H100_PCIE",
 *    "mode":"off","pending_mode":"on","wanted_mode":"on","source":"label","driver":"vfio-pci","decision":"acting",
 *    "health":"changing","reason":"…","step":"wait-boot","acting_ms":1200,"failures":0,"offered":false,
 *    "in_use_by":["pod ml/train","qemu-system-x86 (pid 4242)"]}, …]}
 *
 * mode, pending_mode, wanted_mode: as in interface.md, "unknown" where not known. decision: as plan.h. step: "" = none.
 */
#ifndef CCN_AGENT_STATUS_H
#define CCN_AGENT_STATUS_H

#define STATUS_DIR "/run/ccnode"
#define STATUS_FILE "status.json"
#define AGENT_LOCK "agent.lock"
#define STATUS_VERSION 1
#define STATUS_MAX_BYTES (512 * 1024)

struct agent;

/* status_write() - now. status_soon() - within 100 ms, once however many ask. status_remove() - at the end. */
void status_write(struct agent *agent);
void status_soon(struct agent *agent);
void status_remove(struct agent *agent);

#endif
