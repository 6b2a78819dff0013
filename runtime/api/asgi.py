"""The little of ASGI that both apps need by hand."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Receive, Scope, Send


class ClientGone(Exception):
    """The other side hung up; there is nobody to answer."""


class BodyTooLarge(Exception):
    """The body passed its bound; the rest of it was not read."""


def header(scope: Scope, name: bytes) -> bytes:
    """The first value of a header, or nothing."""
    return next((value for key, value in scope["headers"] if key == name), b"")


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than ``max_bytes``.
        ClientGone: it ended early.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise BodyTooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def respond(
    send: Send, status: int, body: bytes, media_type: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """One whole answer."""
    fields = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
