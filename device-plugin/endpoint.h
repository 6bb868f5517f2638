/* One resource: its socket, its streams, its registration. Internal to this folder. */
#ifndef CCN_DEVICE_PLUGIN_ENDPOINT_H
#define CCN_DEVICE_PLUGIN_ENDPOINT_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "device-plugin/offer.h"

#define ENDPOINT_MAX_STREAMS 8 /* kubelet has one, two while it changes over */

/* Which kubelet.sock: an inode number alone may be used again at once. */
struct kubelet_id {
    bool there;
    dev_t dev;
    ino_t ino;
    struct timespec changed;
};

struct endpoint {
    struct endpoint *next;
    struct loop *loop;
    struct rpc *rpc;
    const struct dp_options *options;
    char *name; /* of the resource; outlives the offers */
    struct offer *offer;
    char socket[96]; /* "ccnode-GH100_H100_PCIE.sock" */
    struct rpc_service service;
    struct rpc_server *server; /* NULL: the directory is not there */
    size_t n_streams;
    struct rpc_stream *streams[ENDPOINT_MAX_STREAMS];
    struct rpc_call *call;            /* Register under way */
    struct kubelet_id kubelet, asked; /* the one that accepted; the one that is being asked */
    bool accepted;                    /* Register was answered with OK and nothing has ended it */
    bool registered;                  /* and the list is open: DP_REGISTERED was told */
    bool waiting;                     /* DP_WAITING was told */
    bool refused;                     /* DP_REFUSED was told */
    bool standing_back;               /* a newer instance has the socket */
    const char *ended_because;        /* why we ended the streams ourselves */
    int64_t ending_since_ms;          /* 0: not */
    int64_t registered_at_ms;
    unsigned flaps;        /* registrations in a row that the same kubelet ended soon */
    unsigned attempt;      /* failures in a row */
    int64_t retry_at_ms;   /* 0: nothing planned */
    int64_t refresh_at_ms; /* 0: nothing planned */
    unsigned refreshes;
    bool put_off; /* the next refresh, once: neighbours that come and go must not hold it up */
    bool marked;  /* for whoever goes through all of them while callbacks change the list */
    struct loop_timer *end_timer;
    void (*replan)(void *arg);                          /* endpoint_due_ms() has changed */
    void (*gone)(void *arg, struct endpoint *endpoint); /* set: ending */
    void *arg;                                          /* of the two */
};

/* endpoint_new() - takes over the offer; due at once. */
struct endpoint *endpoint_new(struct loop *loop, struct rpc *rpc, const struct dp_options *options,
                              struct offer *offer, void (*replan)(void *arg), void *arg);
/* endpoint_offer() - another offer of the same name; the list is sent if kubelet would see a difference. */
void endpoint_offer(struct endpoint *e, struct offer *offer);
/* endpoint_check() - do what is to be done now: socket, registration. @retry_absent_ms: when to look again for a kubelet or
 * directory that is not there. */
void endpoint_check(struct endpoint *e, int retry_absent_ms);
/* endpoint_register_again() - the registration is worth nothing any more, @why says what has become of it */
void endpoint_register_again(struct endpoint *e, const char *why, int retry_absent_ms);
/* endpoint_kubelet_changed() - kubelet.sock came or went: waiting is over */
void endpoint_kubelet_changed(struct endpoint *e);
/* endpoint_neighbour_came() - another plugin has made its socket */
void endpoint_neighbour_came(struct endpoint *e);
/* endpoint_tick() - the planned time has come */
void endpoint_tick(struct endpoint *e, int64_t now_ms, int retry_absent_ms);
int64_t endpoint_due_ms(const struct endpoint *e); /* 0: nothing planned */
/* endpoint_end() - @gone once, from the loop; it frees the endpoint */
void endpoint_end(struct endpoint *e, enum dp_stop how,
                  void (*gone)(void *arg, struct endpoint *endpoint));
void endpoint_free(struct endpoint *e); /* at once; no callback comes any more */

#endif
