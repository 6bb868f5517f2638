/* A small host-side client of the model, written from the protocol description: what a test needs to talk to an FSP. */
#ifndef CCN_TESTS_SIMULATOR_MODEL_CLIENT_H
#define CCN_TESTS_SIMULATOR_MODEL_CLIENT_H

#include "simulator/model/model.h"

struct bench {
    struct model *m;
    int port, h100, b200, gb202, ls10, a100;
};

/* bench_new() - one device of each kind; b200 etc. have a root port of their own. Time does not wait: scale 1, advance. */
struct bench bench_new(void);
void bench_free(struct bench *b);

int add(struct model *m, const char *bdf, int device, unsigned class_code, int parent);
void ms(struct model *m, int n); /* time passes */

/* emem_call(), mnoc_call() - one packet there, one back. Return: dwords of answer, 0 = none within a second. */
int emem_call(struct model *m, int hw, int channel, const uint32_t *words, int n, uint32_t *answer);
int mnoc_call(struct model *m, int hw, const uint32_t *words, int n, uint32_t *answer);
/* knob_get() - value, or minus the error code; knob_set() likewise, 0 = done */
int knob_get(struct model *m, int hw, unsigned id);
int knob_set(struct model *m, int hw, unsigned id, unsigned value);

#endif
