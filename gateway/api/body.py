"""Reads a request's body within its bound, before anything is parsed."""

from __future__ import annotations

from starlette.requests import Request

from attest.protocol import paths
from gateway.errors import RequestTooLarge, UnsupportedMediaType

_MAX_DIGITS = 15  # of a Content-Length: more would be petabytes, and int() need not be asked


async def read_json_body(request: Request, *, max_bytes: int) -> bytes:
    """The body of a POST.

    Raises:
        UnsupportedMediaType: it is not announced as plain JSON.
        RequestTooLarge: it is longer than ``max_bytes``, by its announcement or by what came.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != paths.MEDIA_JSON:
        raise UnsupportedMediaType("The body is not announced as application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body is compressed.")
    announced = request.headers.get("content-length", "0")
    if len(announced) > _MAX_DIGITS or not announced.isdecimal() or int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for data in request.stream():
        body += data
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body is longer than {max_bytes} bytes.")
