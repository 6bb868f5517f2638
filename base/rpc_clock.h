/* Keeps gRPC core's timer threads asleep while nothing is due. Internal to base/rpc. */
#ifndef CCN_BASE_RPC_CLOCK_H
#define CCN_BASE_RPC_CLOCK_H

/* rpc_clock_calm() - before grpc_init(); process-wide */
void rpc_clock_calm(void);

#endif
