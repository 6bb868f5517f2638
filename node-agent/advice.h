/* What is wrong around the agent and is not its own to mend: told beside the state of the devices, which it does not
 * change, in the Node's condition, an Event and the log, each with the cure. In the order in which it is to be mended. */
#ifndef CCN_AGENT_ADVICE_H
#define CCN_AGENT_ADVICE_H

#include <stdbool.h>

enum advice_kind {
    ADVICE_PERMISSION, /* what the API server forbids us */
    ADVICE_TEE,        /* no confidential guest can be started, and one is wanted */
    ADVICE_VFIO,       /* the kernel's VFIO lacks what the host's TEE needs */
    ADVICE_RIVAL,      /* another device plugin has one of our resources */
    ADVICE_CDI_FILES,  /* somebody else's CDI file that fails every pod with a GPU */
    ADVICE_RUNTIME,    /* what the container runtime lacks */
    ADVICE_GET,        /* kubelet lacks what Kata asks it */
    ADVICE_SWITCHES,   /* GPUs that need NVSwitches which are not offered */
    ADVICE_KINDS,
};

struct advice {
    bool blocks; /* pods cannot start; false with a text: some ways of starting them do not work */
    char text[640]; /* "" = nothing is wrong; else all of it, each with its cause and cure */
};

/* advice_reason() - CamelCase, of Event and condition. advice_title(), advice_relief() - sentences for the log: when it
 * begins, when it is over. */
const char *advice_reason(enum advice_kind kind);
const char *advice_title(enum advice_kind kind);
const char *advice_relief(enum advice_kind kind);

/* advice_add() - one more sentence; what does not fit is cut */
void advice_add(struct advice *advice, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
