"""Protocol buffers by hand: messages are dictionaries, described by tables of field numbers.

Field numbers: kubernetes staging/src/k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto and
pkg/apis/podresources/v1/api.proto. Wire format: protobuf.dev/programming-guides/encoding."""

# name -> {number: (field, type)}; "*T" is repeated, "map" is map<string,string>, a capital names a message
MESSAGES = {
    "Empty": {},
    "DevicePluginOptions": {1: ("pre_start_required", "bool"), 2: ("get_preferred_allocation_available", "bool")},
    "RegisterRequest": {1: ("version", "string"), 2: ("endpoint", "string"), 3: ("resource_name", "string"),
                        4: ("options", "DevicePluginOptions")},
    "ListAndWatchResponse": {1: ("devices", "*Device")},
    "Device": {1: ("ID", "string"), 2: ("health", "string"), 3: ("topology", "TopologyInfo")},
    "TopologyInfo": {1: ("nodes", "*NUMANode")},
    "NUMANode": {1: ("ID", "int64")},
    "PreferredAllocationRequest": {1: ("container_requests", "*ContainerPreferredAllocationRequest")},
    "ContainerPreferredAllocationRequest": {1: ("available_deviceIDs", "*string"), 2: ("must_include_deviceIDs", "*string"),
                                            3: ("allocation_size", "int32")},
    "PreferredAllocationResponse": {1: ("container_responses", "*ContainerPreferredAllocationResponse")},
    "ContainerPreferredAllocationResponse": {1: ("deviceIDs", "*string")},
    "AllocateRequest": {1: ("container_requests", "*ContainerAllocateRequest")},
    "ContainerAllocateRequest": {1: ("devices_ids", "*string")},
    "AllocateResponse": {1: ("container_responses", "*ContainerAllocateResponse")},
    "ContainerAllocateResponse": {1: ("envs", "map"), 2: ("mounts", "*Mount"), 3: ("devices", "*DeviceSpec"),
                                  4: ("annotations", "map"), 5: ("cdi_devices", "*CDIDevice")},
    "CDIDevice": {1: ("name", "string")},
    "Mount": {1: ("container_path", "string"), 2: ("host_path", "string"), 3: ("read_only", "bool")},
    "DeviceSpec": {1: ("container_path", "string"), 2: ("host_path", "string"), 3: ("permissions", "string")},
    "PreStartContainerRequest": {1: ("devices_ids", "*string")},
    "PreStartContainerResponse": {},
    "ListPodResourcesRequest": {},
    "ListPodResourcesResponse": {1: ("pod_resources", "*PodResources")},
    "PodResources": {1: ("name", "string"), 2: ("namespace", "string"), 3: ("containers", "*ContainerResources")},
    "ContainerResources": {1: ("name", "string"), 2: ("devices", "*ContainerDevices")},
    "ContainerDevices": {1: ("resource_name", "string"), 2: ("device_ids", "*string"), 3: ("topology", "TopologyInfo")},
    "AllocatableResourcesRequest": {},
    "AllocatableResourcesResponse": {1: ("devices", "*ContainerDevices")},
    "GetPodResourcesRequest": {1: ("pod_name", "string"), 2: ("pod_namespace", "string")},
    "GetPodResourcesResponse": {1: ("pod_resources", "PodResources")},
}

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


class DecodeError(Exception):
    pass


def _varint(n):
    n &= (1 << 64) - 1                  # negative numbers are ten bytes long
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(number, wire, payload):
    key = _varint(number << 3 | wire)
    return key + (_varint(len(payload)) + payload if wire == _LEN else payload)


def _value(kind, number, value):
    if kind == "string":
        return _field(number, _LEN, value.encode())
    if kind in ("bool", "int32", "int64"):
        return _field(number, _VARINT, _varint(int(value)))
    return _field(number, _LEN, encode(kind, value))


def encode(message, values):
    out = []
    known = MESSAGES[message]
    for number, (name, kind) in known.items():
        value = values.get(name)
        if value is None:
            continue
        if kind == "map":
            out += [_field(number, _LEN, _field(1, _LEN, k.encode()) + _field(2, _LEN, v.encode())) for k, v in value.items()]
        elif kind.startswith("*"):
            out += [_value(kind[1:], number, v) for v in value]
        elif value or isinstance(value, dict):
            out.append(_value(kind, number, value))
    unknown = set(values) - {name for name, _ in known.values()}
    if unknown:
        raise ValueError(f"{message} has no field {', '.join(sorted(unknown))}")
    return b"".join(out)


def _read_varint(data, at):
    result, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise DecodeError("varint is cut off or too long")
        byte = data[at]
        result |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return result & (1 << 64) - 1, at
        shift += 7


def fields(data):
    """(number, wire type, value) of every field on the wire."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise DecodeError("field number 0")
        if wire == _VARINT:
            value, at = _read_varint(data, at)
        elif wire in (_I64, _I32):
            size = 8 if wire == _I64 else 4
            value, at = data[at:at + size], at + size
        elif wire == _LEN:
            size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise DecodeError(f"wire type {wire}")
        if at > len(data):
            raise DecodeError(f"field {number} is cut off")
        yield number, wire, value


def _default(kind):
    return {} if kind == "map" else [] if kind[0] == "*" else "" if kind == "string" else False if kind == "bool" else 0 if kind[:3] == "int" else None


def _text(value, where):
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise DecodeError(f"{where} is not UTF-8") from e


def _decode_value(kind, wire, value, where):
    want = _VARINT if kind in ("bool", "int32", "int64") else _LEN
    if wire != want:
        raise DecodeError(f"{where} has wire type {wire}")
    if kind == "string":
        return _text(value, where)
    if kind == "bool":
        return value != 0
    if kind in ("int32", "int64"):
        return value - (1 << 64) if value >= 1 << 63 else value
    return decode(kind, value)


def decode(message, data):
    """Every known field is present in the result; unknown ones are skipped, as proto3 demands."""
    known = MESSAGES[message]
    result = {name: _default(kind) for name, kind in known.values()}
    for number, wire, value in fields(data):
        if number not in known:
            continue
        name, kind = known[number]
        where = f"{message}.{name}"
        if kind == "map":
            if wire != _LEN:
                raise DecodeError(f"{where} has wire type {wire}")
            pair = {1: b"", 2: b""}
            pair.update({n: v for n, w, v in fields(value) if w == _LEN})
            result[name][_text(pair[1], where)] = _text(pair[2], where)
        elif kind.startswith("*"):
            result[name].append(_decode_value(kind[1:], wire, value, where))
        else:
            result[name] = _decode_value(kind, wire, value, where)
    return result
