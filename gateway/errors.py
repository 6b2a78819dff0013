"""Every way the gateway says no to an application.

    GatewayError
    ├── CallerError           the request must change; nothing left the gateway
    │   ├── InvalidApiKey, RouteNotFound, MethodNotAllowed, UnsupportedMediaType, RequestTooLarge
    │   ├── InvalidJson, MissingParameter, UnknownParameter, UnsupportedParameter, InvalidType, InvalidValue
    │   └── InvalidLabel
    ├── PolicyDenied          the enterprise's own policy said no; nothing left the gateway
    ├── NothingSent           the gateway could not go on safely; nothing left the gateway
    │   ├── RuntimeUnreachable, RuntimeRefused, RuntimeBusy, AuditUnavailable
    │   └── GatewayFault
    └── MayHaveRun            the sealed request left; the runtime may have worked on it
        └── RuntimeTimeout, RuntimeInterrupted, RuntimeMisbehaved, RequestRejected, ReceiptRefused

*Refused* (it answered, and must not be trusted) is never *unreachable* (it did not answer). The two last
families differ in what an application may do: what may have run is not sent again by the gateway, and the
stock ``openai`` client is told so by ``x-should-retry: false``, because it would otherwise repeat every 5xx.

Codes are stable: docs/reference/errors.md lists them and a test compares the two. No error holds content,
keys or tokens; ``refusal`` is the code of a check, from docs/reference/refusal-codes.md.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attest.refusal import Refused


class GatewayError(Exception):
    """Base of all errors that an application sees.

    Args:
        detail: what happened, one sentence, for a person; never content.
        param: the member of the request that is wrong, if one is.
        refusal: code of the check that refused, if one did.
    """

    status: ClassVar[int]
    kind: ClassVar[str]
    code: ClassVar[str]
    what_to_do: ClassVar[str]
    nothing_sent: ClassVar[bool] = True
    worth_retrying: ClassVar[bool] = False

    def __init__(self, detail: str, *, param: str | None = None, refusal: str | None = None) -> None:
        self.detail = detail
        self.param = param
        self.refusal = refusal
        super().__init__(detail)

    def __str__(self) -> str:
        reason = f" [{self.refusal}]" if self.refusal else ""
        return f"{self.code}: {self.detail}{reason}"

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return f"{self.detail} {self.what_to_do}"

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The OpenAI-shaped document, with the refusal code and request id as further members."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        if self.refusal is not None:
            error["refusal"] = self.refusal
        if request_id is not None:
            error["request_id"] = request_id
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        """Tells the stock ``openai`` client whether it may repeat the request by itself."""
        return {"x-should-retry": "true" if self.worth_retrying else "false"}


class CallerError(GatewayError):
    """The request must change before it can succeed."""

    status = 400
    kind = "invalid_request_error"


class InvalidApiKey(CallerError):
    """No API key, a malformed one, an unknown one or a revoked one: the answer is the same for all."""

    status = 401
    code = "invalid_api_key"
    what_to_do = (
        "Send 'Authorization: Bearer sg-...' with a key from 'sealgate keys create' that is not revoked."
    )

    @property
    def headers(self) -> dict[str, str]:
        """With the challenge that a 401 needs (RFC 9110 section 15.5.2)."""
        return {**super().headers, "www-authenticate": "Bearer"}


class InvalidJson(CallerError):
    """The body is not one strict JSON document."""

    code = "invalid_json"
    what_to_do = "Send one JSON object in UTF-8."


class MissingParameter(CallerError):
    """A required member of the body is absent."""

    code = "missing_parameter"
    what_to_do = "Add it; /openapi.json describes what is accepted."


class UnknownParameter(CallerError):
    """A member of the body that this API does not know."""

    code = "unknown_parameter"
    what_to_do = "Remove it; /openapi.json describes what is accepted."


class UnsupportedParameter(CallerError):
    """A member that OpenAI documents, that would change the answer, and that no runtime here honours."""

    code = "unsupported_parameter"
    what_to_do = "Remove it: an answer that ignored it would be taken for one that did not."


class InvalidType(CallerError):
    """A member of a wrong type; nothing is converted."""

    code = "invalid_type"
    what_to_do = "Correct it; /openapi.json describes what is accepted."


class InvalidValue(CallerError):
    """A member out of its range."""

    code = "invalid_value"
    what_to_do = "Correct it; /openapi.json describes what is accepted."


class InvalidLabel(CallerError):
    """The Data-Label header is malformed or names what is not known."""

    code = "invalid_label"
    what_to_do = "Send a Data-Label as docs/reference/labels.md describes; an unreadable label always denies."


class RequestTooLarge(CallerError):
    """The body is longer than this gateway accepts."""

    status = 413
    code = "request_too_large"
    what_to_do = "Shorten the request, or have max_body_bytes raised in the gateway's settings."


class UnsupportedMediaType(CallerError):
    """The body is announced as something other than JSON."""

    status = 415
    code = "unsupported_media_type"
    what_to_do = "Send 'Content-Type: application/json', uncompressed."


class RouteNotFound(CallerError):
    """No such route."""

    status = 404
    code = "route_not_found"
    what_to_do = "Use one of the routes that /openapi.json lists, such as /v1/chat/completions."


class MethodNotAllowed(CallerError):
    """The route exists but not with this method."""

    status = 405
    code = "method_not_allowed"
    what_to_do = "See /openapi.json for the method of each route."


class PolicyDenied(GatewayError):
    """The enterprise's policy denied the action; the audit log names the rules."""

    status = 403
    kind = "permission_error"
    code = "policy_denied"
    what_to_do = "Ask whoever keeps the gateway's policies; the audit log entry names the deciding rules."


class NothingSent(GatewayError):
    """The gateway could not go on safely and sent nothing."""

    status = 503
    kind = "server_error"


class RuntimeUnreachable(NothingSent):
    """No connection to the runtime, or no whole answer to the request for its evidence."""

    status = 502
    code = "runtime_unreachable"
    what_to_do = "Nothing was sent. Check runtime_url and that the runtime is up, then try again."
    worth_retrying = True


class RuntimeRefused(NothingSent):
    """The runtime answered but did not prove what it is; ``refusal`` is the check that failed."""

    code = "runtime_refused"
    what_to_do = (
        "Nothing was sent. Do not retry: run 'sealgate verify' on the runtime and read the failing check."
    )


class RuntimeBusy(NothingSent):
    """The runtime said that it did not process the request."""

    code = "runtime_not_processed"
    what_to_do = "The runtime did not open the request. Try again later."
    worth_retrying = True


class AuditUnavailable(NothingSent):
    """The decision could not be made durable, so it has no effect."""

    code = "audit_unavailable"
    what_to_do = (
        "Check the audit log's disk (space, permissions, single writer); the gateway serves nothing unlogged."
    )


class GatewayFault(NothingSent):
    """A defect of the gateway itself."""

    status = 500
    code = "internal_error"
    what_to_do = (
        "This is a defect in Sealgate. Report it with the request id; the gateway's log has the place."
    )
    nothing_sent = False


class MayHaveRun(GatewayError):
    """The sealed request left the gateway, and no valid answer came back."""

    status = 502
    kind = "server_error"
    nothing_sent = False


class RuntimeTimeout(MayHaveRun):
    """No progress within the time allowed."""

    status = 504
    code = "runtime_timeout"
    what_to_do = (
        "The request may have run and was not repeated. Try again, or raise the timeouts in the settings."
    )


class RuntimeInterrupted(MayHaveRun):
    """The connection ended before the sealed answer did."""

    code = "runtime_interrupted"
    what_to_do = (
        "The request may have run and was not repeated. Discard what arrived and decide whether to retry."
    )


class RuntimeMisbehaved(MayHaveRun):
    """What came back is not a sealed answer to this request; ``refusal`` names the check."""

    code = "runtime_misbehaved"
    what_to_do = (
        "The answer was discarded. Something on the path altered or replaced it: do not trust this host."
    )


class RequestRejected(MayHaveRun):
    """The verified runtime opened the request and rejected the gateway's token."""

    code = "request_rejected"
    what_to_do = "Check the gateway's clock, and that no two gateways share one signing key."


class ReceiptRefused(MayHaveRun):
    """The answer came whole but without a valid receipt for it."""

    code = "receipt_refused"
    what_to_do = "The end of the answer was withheld. Discard what arrived: nobody vouches for it."


_BODY_ERRORS: dict[str, type[CallerError]] = {
    kind.code: kind
    for kind in (
        InvalidJson,
        MissingParameter,
        UnknownParameter,
        UnsupportedParameter,
        InvalidType,
        InvalidValue,
    )
}


def invalid_body(code: str, detail: str, param: str | None) -> CallerError:
    """The error for a code of ``attest.protocol.openai.parse.InvalidBody``."""
    return _BODY_ERRORS.get(code, InvalidValue)(detail, param=param)


def refused(error: Refused) -> RuntimeRefused:
    """The error that an application sees when a check of the runtime's evidence refused."""
    return RuntimeRefused("The runtime's evidence was refused.", refusal=error.code)


def misbehaved(error: Refused) -> RuntimeMisbehaved:
    """The error that an application sees when the sealed channel refused."""
    return RuntimeMisbehaved("The sealed answer was refused.", refusal=error.code)
