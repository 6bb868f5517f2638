"""Field numbers: kubernetes/cri-api pkg/apis/runtime/v1/api.proto. Tables as in kubelet/pb.py."""

MESSAGES = {
    "VersionRequest": {1: ("version", "string")},
    "VersionResponse": {1: ("version", "string"), 2: ("runtime_name", "string"), 3: ("runtime_version", "string"),
                        4: ("runtime_api_version", "string")},
    "StatusRequest": {1: ("verbose", "bool")},
    "StatusResponse": {1: ("status", "RuntimeStatus"), 2: ("info", "map"), 3: ("runtime_handlers", "*RuntimeHandler")},
    "RuntimeStatus": {1: ("conditions", "*RuntimeCondition")},
    "RuntimeCondition": {1: ("type", "string"), 2: ("status", "bool"), 3: ("reason", "string"), 4: ("message", "string")},
    "RuntimeHandler": {1: ("name", "string"), 2: ("features", "RuntimeHandlerFeatures")},
    "RuntimeHandlerFeatures": {1: ("recursive_read_only_mounts", "bool"), 2: ("user_namespaces", "bool")},
    "ListPodSandboxResponse": {1: ("items", "*PodSandbox")},
    "PodSandbox": {1: ("id", "string"), 2: ("metadata", "PodSandboxMetadata"), 3: ("state", "int32"), 4: ("created_at", "int64"),
                   5: ("labels", "map"), 6: ("annotations", "map"), 7: ("runtime_handler", "string")},
    "PodSandboxMetadata": {1: ("name", "string"), 2: ("uid", "string"), 3: ("namespace", "string"), 4: ("attempt", "int32")},
}
