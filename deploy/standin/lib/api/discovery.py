"""What exists, as clients ask for it: /version, /api, /apis, resource lists, and as much OpenAPI as kubectl needs
to send `fieldValidation` instead of refusing to work."""

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0-standin", "gitCommit": "", "gitTreeState": "clean",
           "buildDate": "2025-01-01T00:00:00Z", "goVersion": "go1.23", "compiler": "gc", "platform": "linux/amd64"}


def api_versions(address):
    return {"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]}


def api_group(group, version):
    one = {"groupVersion": f"{group}/{version}", "version": version}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": [one], "preferredVersion": one}


def api_groups(registry):
    groups = [api_group(g, v) for g, v in registry.groups()]
    for g in groups:
        del g["kind"], g["apiVersion"]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(registry, group, version):
    resources = []
    for r in registry.all:
        if (r.group, r.version) != (group, version):
            continue
        resources.append({"name": r.plural, "singularName": r.kind.lower(), "namespaced": r.namespaced, "kind": r.kind,
                          "verbs": VERBS, "shortNames": list(r.short)})
        if r.status:
            resources.append({"name": r.plural + "/status", "singularName": "", "namespaced": r.namespaced,
                              "kind": r.kind, "verbs": ["get", "patch", "update"]})
        for name, kind in r.extra:
            resources.append({"name": f"{r.plural}/{name}", "singularName": "", "namespaced": r.namespaced,
                              "kind": kind, "verbs": ["create"],
                              **({"group": "policy", "version": "v1"} if name == "eviction" else {})})
    return {"kind": "APIResourceList", "apiVersion": "v1", "resources": resources,
            "groupVersion": f"{group}/{version}" if group else version}


def openapi_index(registry):
    names = ["api/v1"] + [f"apis/{g}/{v}" for g, v in registry.groups()]
    return {"paths": {n: {"serverRelativeURL": f"/openapi/v3/{n}?hash=standin"} for n in names}}


def openapi(registry, group, version):
    parameters = [{"name": n, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                  for n in ("dryRun", "fieldManager", "fieldValidation")]
    paths, schemas = {}, {}
    for r in registry.all:
        if (r.group, r.version) != (group, version):
            continue
        gvk = {"group": r.group, "version": r.version, "kind": r.kind}
        base = f"{r.prefix}/{'namespaces/{namespace}/' if r.namespaced else ''}{r.plural}"
        answer = {"200": {"description": "OK"}}
        paths[base] = {"post": {"x-kubernetes-action": "post", "x-kubernetes-group-version-kind": gvk,
                                "parameters": parameters, "responses": answer}}
        paths[base + "/{name}"] = {"patch": {"x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk,
                                             "parameters": parameters, "responses": answer}}
        schemas[f"standin.{r.kind}"] = {"type": "object", "x-kubernetes-group-version-kind": [gvk],
                                        "x-kubernetes-preserve-unknown-fields": True}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]}, "paths": paths,
            "components": {"schemas": schemas}}


def openapi_v2():
    """Swagger 2.0 without definitions, as protobuf (google/gnostic openapiv2/OpenAPIv2.proto: Document{swagger 1, info 2},
    Info{title 1, version 2}): kubectl before 1.26 asks for it and then skips the validation of what it does not find."""
    def text(number, value):
        return bytes([number << 3 | 2, len(value)]) + value
    info = text(1, b"Kubernetes") + text(2, VERSION["gitVersion"].encode())
    return text(1, b"2.0") + text(2, info)
