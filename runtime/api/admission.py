"""From an opened message to a request that somebody is answerable for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from starlette.types import Scope

from attest.channel import bhttp
from attest.protocol.tenant_token import TenantClaims, verify_request_token
from attest.refusal import Malformed, Refused
from runtime.api.exchange import SCOPE_KEY, Exchange
from runtime.identity import Epoch

MAX_HEADER_BYTES: Final = 32 * 1024
_BEARER: Final = b"Bearer "
_AUTHORIZATION: Final = b"authorization"


@dataclass(frozen=True, repr=False)
class Admitted:
    """A request by a tenant.

    Args:
        head: of the inner request.
        body: of the inner request.
        claims: of its token.
    """

    head: bhttp.RequestHead
    body: bytes
    claims: TenantClaims

    def __repr__(self) -> str:
        return f"Admitted({self.claims.tenant}, sequence {self.claims.sequence}, {len(self.body)} bytes)"

    def scope(self, exchange: Exchange) -> Scope:
        """The ASGI scope of the inner request. The token ends here: the inner API has no use for it."""
        path, _, query = self.head.path.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.head.method,
            "scheme": self.head.scheme,
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(name, value) for name, value in self.head.headers if name != _AUTHORIZATION],
            "client": None,
            "server": None,
            SCOPE_KEY: exchange,
        }


def parse_message(message: bytes, *, max_body_bytes: int) -> tuple[bhttp.RequestHead, bytes]:
    """Head and body of one binary HTTP request.

    Raises:
        Malformed: ``bhttp-*``.
        Refused: ``bhttp-head-too-large``, ``bhttp-body-too-large``.
    """
    decoder = bhttp.RequestDecoder(max_header_bytes=MAX_HEADER_BYTES, max_body_bytes=max_body_bytes)
    head: bhttp.RequestHead | None = None
    content: list[bytes] = []
    for event in decoder.feed(message) + decoder.finish():
        if isinstance(event, bhttp.RequestHead):
            head = event
        elif isinstance(event, bhttp.Content):
            content.append(event.data)
    if head is None:
        raise Malformed("bhttp-truncated", "no head", clause="RFC 9292 section 3.8")
    return head, content[0] if len(content) == 1 else b"".join(content)


def admit(head: bhttp.RequestHead, body: bytes, epoch: Epoch, now: datetime) -> Admitted:
    """The request with its tenant, whose number it uses up.

    Raises:
        Refused: ``token-missing``, what ``verify_request_token`` raises, ``sequence-replayed``,
            ``sequence-too-old``, ``tenant-store-full``.
    """
    values = [value for name, value in head.headers if name == _AUTHORIZATION]
    if len(values) != 1 or not values[0].startswith(_BEARER):
        raise Refused("token-missing", expected="one Authorization: Bearer field")
    claims = verify_request_token(
        values[0][len(_BEARER) :].decode("latin-1"),
        audience=epoch.keyset_digest,
        body_sha256=hashlib.sha256(body).hexdigest(),
        method=head.method,
        path=head.path,
        now=now,
    )
    epoch.tenants.claim(claims.tenant, claims.sequence)
    return Admitted(head, body, claims)
