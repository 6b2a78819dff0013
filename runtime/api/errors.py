"""Every way the inner API says no, in the shape of the OpenAI API.

Codes are stable. Messages hold names, numbers and rules; never text or tokens of a request.
"""

from __future__ import annotations

import json
import math
import re
from http import HTTPStatus

from attest.protocol.openai.parse import InvalidBody
from attest.refusal import Refused
from runtime.engine.adapters import AdapterRefused
from runtime.engine.base import EngineRefusal

_KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}

_ENGINE = {
    "engine_overloaded": (HTTPStatus.TOO_MANY_REQUESTS, "The engine is full. Try again in a moment."),
    "engine_stopped": (HTTPStatus.SERVICE_UNAVAILABLE, "The engine is stopping. Try again later."),
    "engine_failed": (HTTPStatus.INTERNAL_SERVER_ERROR, "The engine failed. The request may be sent again."),
    "deadline_exceeded": (HTTPStatus.GATEWAY_TIMEOUT, "The request's deadline passed before it was done."),
    "guide_failed": (HTTPStatus.BAD_REQUEST, "No token can go on with the answer in the form asked for."),
    "adapter_not_found": (HTTPStatus.NOT_FOUND, "No such adapter is loaded."),
    "adapter_failed": (HTTPStatus.BAD_REQUEST, "The adapter cannot be used with this model."),
    "duplicate_request": (HTTPStatus.CONFLICT, "A request of this id is running."),
    "invalid_parameter": (HTTPStatus.BAD_REQUEST, "The engine cannot run a request with these parameters."),
    "context_length_exceeded": (HTTPStatus.BAD_REQUEST, "The request does not fit the model's context."),
}


_ADAPTER_CODE = re.compile(r"adapter-[a-z-]{1,64}", re.ASCII)


class ApiError(Exception):
    """One answer that is an error.

    Args:
        status: HTTP status.
        code: stable identifier.
        message: what happened and what to do, for a person.
        param: the parameter that is wrong, if one is.
        retry_after: seconds after which trying again makes sense, where that is known.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        self._retry_after = retry_after
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        super().__init__(code)

    @property
    def retry_after_s(self) -> int | None:
        """Seconds after which trying again makes sense; None where it does not."""
        if self._retry_after is not None:
            return max(1, math.ceil(self._retry_after))
        return 1 if self.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} else None

    def body(self) -> bytes:
        """The document, UTF-8 JSON."""
        server = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        kind = _KINDS.get(HTTPStatus(self.status), "server_error" if server else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    @classmethod
    def of_body(cls, error: InvalidBody) -> ApiError:
        """For a body that is no request of this API."""
        return cls(HTTPStatus.BAD_REQUEST, error.code, error.message, error.param)

    @classmethod
    def of_engine(cls, error: EngineRefusal) -> ApiError:
        """For a request that the engine does not run."""
        unknown = (HTTPStatus.INTERNAL_SERVER_ERROR, "The engine refused the request.")
        if error.code == "adapter_failed" and _ADAPTER_CODE.fullmatch(error.detail):
            return adapter_refused(AdapterRefused(error.detail))
        status, message = _ENGINE.get(error.code, unknown)
        return cls(status, error.code, message, retry_after=error.retry_after)

    @classmethod
    def of_identity(cls, error: Refused) -> ApiError:
        """For a request whose tenant is not established, or that was sent before."""
        busy = error.code == "tenant-store-full"
        status = HTTPStatus.SERVICE_UNAVAILABLE if busy else HTTPStatus.UNAUTHORIZED
        message = f"The request's token was refused ({error.code}). Sign a new one for the new request."
        return cls(status, error.code.replace("-", "_"), message, "authorization")


def context_exceeded(context: int, prompt: int, completion: int | None, param: str) -> ApiError:
    """The prompt, or prompt and completion together, do not fit: with all three numbers."""
    if completion is None:
        asked = f"'{param}' already has {prompt} tokens"
    else:
        asked = f"you asked for {prompt + completion} ({prompt} in the {param}, {completion} to generate)"
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        "context_length_exceeded",
        f"This model's maximum context length is {context} tokens, but {asked}. "
        f"Shorten the {param}{'' if completion is None else ' or lower the number of tokens to generate'}.",
        param,
    )


def adapter_refused(refusal: AdapterRefused) -> ApiError:
    """The adapter asked for is there and cannot be used: which check says so, and what it would accept."""
    rule = f", {refusal.rule}" if refusal.rule else ""
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        "adapter_failed",
        f"The adapter cannot be used with this model ({refusal.code}{rule}).",
        "model",
    )


def internal_error() -> ApiError:
    """A fault of ours; the log names its type."""
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "The runtime failed. The request may be sent again.",
    )
