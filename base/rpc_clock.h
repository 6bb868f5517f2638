/* Keeps gRPC core's timer threads asleep while nothing is due. Internal to base/rpc. */
#ifndef CCN_BASE_RPC_CLOCK_H
#define CCN_BASE_RPC_CLOCK_H

/* rpc_clock_begin() - before grpc_init(); does nothing where gRPC runs already */
void rpc_clock_begin(void);
/* rpc_clock_settle() - when both timer threads have been started; waits (some 100 µs) until they sleep */
void rpc_clock_settle(void);

#endif
