"""Answers that are errors: Kubernetes Status objects (apimachinery, meta/v1 Status)."""

REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
    406: "NotAcceptable", 409: "Conflict", 410: "Expired", 413: "RequestEntityTooLarge", 415: "UnsupportedMediaType",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}


def status_object(code, message, reason=None, details=None):
    obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" if code < 300 else "Failure",
           "message": message, "code": code}
    reason = reason or REASONS.get(code)
    if reason and code >= 300:
        obj["reason"] = reason
    if details:
        obj["details"] = details
    return obj


class ApiError(Exception):
    """Raised by anything below a handler; becomes the answer."""

    def __init__(self, code, message, reason=None, details=None, headers=()):
        super().__init__(message)
        self.code = code
        self.headers = list(headers)
        self.body = status_object(code, message, reason, details)


def not_found(res, name):
    qualified = res.plural + ("." + res.group if res.group else "")
    return ApiError(404, f'{qualified} "{name}" not found',
                    details={"name": name, "group": res.group, "kind": res.plural})


def conflict(res, name, why="the object has been modified; please apply your changes to the latest version and try again"):
    qualified = res.plural + ("." + res.group if res.group else "")
    return ApiError(409, f'Operation cannot be fulfilled on {qualified} "{name}": {why}',
                    details={"name": name, "group": res.group, "kind": res.plural})


def invalid(kind, name, causes):
    """causes: (field, message) pairs."""
    text = ", ".join(f"{field}: {message}" for field, message in causes)
    if len(causes) > 1:
        text = f"[{text}]"
    return ApiError(422, f'{kind} "{name}" is invalid: {text}', details={
        "name": name, "kind": kind,
        "causes": [{"reason": "FieldValueInvalid", "message": m, "field": f} for f, m in causes]})


def expired(asked, floor):
    return ApiError(410, f"too old resource version: {asked} ({floor})", reason="Expired")
