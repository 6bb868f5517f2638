"""Events have two faces (core/v1 and events.k8s.io/v1) and one store: the core face is kept.
Field pairs: kubernetes pkg/apis/events/v1/conversion.go"""

_PAIRS = (("involvedObject", "regarding"), ("message", "note"), ("reportingComponent", "reportingController"),
          ("source", "deprecatedSource"), ("firstTimestamp", "deprecatedFirstTimestamp"),
          ("lastTimestamp", "deprecatedLastTimestamp"), ("count", "deprecatedCount"))
_TO_NEW = dict(_PAIRS)
_TO_CORE = {new: core for core, new in _PAIRS}


def _rename(obj, names, api_version):
    out = {names.get(key, key): value for key, value in obj.items()}
    out["apiVersion"] = api_version
    return out


def to_core(obj):
    return _rename(obj, _TO_CORE, "v1")


def to_new(obj):
    return _rename(obj, _TO_NEW, "events.k8s.io/v1")
