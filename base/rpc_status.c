#include "base/rpc.h"

const char *rpc_status_name(uint32_t status)
{
    switch (status) {
    case RPC_OK:
        return "OK";
    case RPC_CANCELLED:
        return "CANCELLED";
    case RPC_INVALID_ARGUMENT:
        return "INVALID_ARGUMENT";
    case RPC_DEADLINE_EXCEEDED:
        return "DEADLINE_EXCEEDED";
    case RPC_NOT_FOUND:
        return "NOT_FOUND";
    case RPC_PERMISSION_DENIED:
        return "PERMISSION_DENIED";
    case RPC_RESOURCE_EXHAUSTED:
        return "RESOURCE_EXHAUSTED";
    case RPC_FAILED_PRECONDITION:
        return "FAILED_PRECONDITION";
    case RPC_UNIMPLEMENTED:
        return "UNIMPLEMENTED";
    case RPC_INTERNAL:
        return "INTERNAL";
    case RPC_UNAVAILABLE:
        return "UNAVAILABLE";
    default:
        return "UNKNOWN";
    }
}
