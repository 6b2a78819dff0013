"""One sealed request and its answer, without I/O.

    request  -> binary HTTP, padded -> sealed to the key that the verdict holds
    sealed answer -> opened -> binary HTTP -> head, content, receipt

Errors stick: after one refusal nothing more comes out. The object is good for one exchange.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus

from attest.appraise import AttestedRuntime
from attest.channel import bhttp, padding
from attest.channel.chunked import ChunkedRequestSealer
from attest.channel.hpke import DEFAULT_SUITE
from attest.channel.key_config import KeyConfig, parse_key_configs
from attest.protocol import paths
from attest.protocol.receipt import Receipt, verify_receipt
from attest.protocol.tenant_token import RequestSigner, sign_request_token
from attest.refusal import Refused

MAX_HEADER_BYTES = 64 << 10
_PLAIN = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, repr=False)
class InnerRequest:
    """What the runtime's inner API is asked."""

    method: str
    path: str
    body: bytes
    wants_stream: bool

    def __repr__(self) -> str:
        return f"InnerRequest({self.method} {self.path}, {len(self.body)} bytes)"

    @property
    def sha256(self) -> str:
        """Hex digest of the body, as token and receipt carry it."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class AnswerHead:
    """How a sealed answer begins."""

    status: int
    content_type: str
    receipt_id: str
    retry_after: str | None
    adapter: str | None = None

    @property
    def is_stream(self) -> bool:
        """Whether server-sent events follow."""
        return self.content_type.partition(";")[0].strip() == paths.MEDIA_EVENT_STREAM


class SealedExchange:
    """Seals one request to ``runtime`` and opens the answer.

    Args:
        runtime: a live verdict; where the key comes from and who must sign the receipt.
        signer: the gateway's key, which makes it a tenant.
        request: what to ask.
        sequence: the tenant's number of this request, from the audit log.
        label_id: of the data in the request.
        now: for the token's times.
        profile: padding profile of the request.
        max_response_bytes: of the opened answer.

    Raises:
        Refused: ``verdict-expired``, and what ``attest.channel`` raises.
    """

    def __init__(
        self,
        runtime: AttestedRuntime,
        signer: RequestSigner,
        request: InnerRequest,
        *,
        sequence: int,
        label_id: str,
        now: datetime,
        profile: padding.Profile,
        max_response_bytes: int,
    ) -> None:
        runtime.require_live(now)
        self._runtime = runtime
        self._tenant = signer.thumbprint
        self._request = request
        self._sequence = sequence
        self._label_id = label_id
        token = sign_request_token(
            signer,
            audience=runtime.keyset_digest,
            statement_digest=runtime.statement_digest,
            sequence=sequence,
            label_id=label_id,
            body_sha256=request.sha256,
            method=request.method,
            path=request.path,
            now=now,
        )
        sealer = ChunkedRequestSealer(_key_of(runtime))
        message = _encode(request, token, profile)
        self.sealed_request = sealer.preamble + sealer.seal(message, final=True)
        self._opener = sealer.response_opener(max_bytes=2 * max_response_bytes)
        self._decoder = bhttp.ResponseDecoder(
            max_header_bytes=MAX_HEADER_BYTES, max_body_bytes=max_response_bytes
        )
        self._content_hash = hashlib.sha256()
        self._head: AnswerHead | None = None
        self._receipt_text: str | None = None
        self._finished = False

    def __repr__(self) -> str:
        return f"SealedExchange({self._request!r}, sequence {self._sequence})"

    @property
    def head(self) -> AnswerHead | None:
        """The answer's head, once it came."""
        return self._head

    def feed(self, data: bytes) -> bytes:
        """Open the next bytes of the sealed answer and return the content that they complete.

        Raises:
            Refused: what ``attest.channel`` raises, ``answer-head-malformed``.
        """
        return b"".join(
            self._take(event) for plain in self._opener.feed(data) for event in self._decoder.feed(plain)
        )

    def finish(self) -> bytes:
        """The sealed answer ended here: the content that was still under way.

        Raises:
            Refused: ``ohttp-truncated`` and what else ``attest.channel`` raises.
        """
        events = [event for plain in self._opener.finish() for event in self._decoder.feed(plain)]
        content = b"".join(self._take(event) for event in events + self._decoder.finish())
        self._finished = True
        return content

    def receipt(self, now: datetime) -> Receipt:
        """The verified receipt for exactly this request and all of this answer.

        Raises:
            Refused: ``receipt-missing``, and what ``verify_receipt`` raises.
        """
        if not self._finished or self._head is None or self._receipt_text is None:
            raise Refused("receipt-missing", expected="a receipt in the trailer", got="none")
        return verify_receipt(
            self._receipt_text,
            receipt_key=self._runtime.keyset.receipt_key,
            now=now,
            receipt_id=self._head.receipt_id,
            statement_digest=self._runtime.statement_digest,
            keyset_digest=self._runtime.keyset_digest,
            tenant=self._tenant,
            sequence=self._sequence,
            label_id=self._label_id,
            request_sha256=self._request.sha256,
            response_sha256=self._content_hash.hexdigest(),
            status=self._head.status,
            adapter_digest=self._head.adapter,
        )

    def _take(self, event: bhttp.ResponseEvent) -> bytes:
        match event:
            case bhttp.ResponseHead():
                self._head = _head(event)
            case bhttp.Content():
                self._content_hash.update(event.data)
                return event.data
            case bhttp.Trailers():
                self._receipt_text = _only(event.fields, paths.RECEIPT_TRAILER)
        return b""


def _head(head: bhttp.ResponseHead) -> AnswerHead:
    content_type = _only(head.headers, "content-type")
    receipt_id = _only(head.headers, paths.RECEIPT_ID_HEADER)
    if content_type is None or (receipt_id is None and head.status != HTTPStatus.UNAUTHORIZED):
        raise Refused("answer-head-malformed", expected="a content type and a receipt id")
    return AnswerHead(
        status=head.status,
        content_type=content_type,
        receipt_id=receipt_id or "",
        retry_after=_only(head.headers, "retry-after"),
        adapter=_only(head.headers, paths.ADAPTER_HEADER),
    )


def _only(fields: bhttp.Fields, name: str) -> str | None:
    """The value of the one field of this name, or None.

    Raises:
        Refused: ``answer-head-malformed`` if there are two, or the value could not be passed on.
    """
    values = [value for field, value in fields if field == name.encode()]
    if not values:
        return None
    if len(values) > 1 or not _PLAIN.fullmatch(values[0]):
        raise Refused("answer-head-malformed", got=f"{len(values)} values of {name}")
    return values[0].decode("ascii")


def _key_of(runtime: AttestedRuntime) -> KeyConfig:
    """The post-quantum key if the runtime has one, otherwise its first that we speak."""
    return _best_key(runtime.keyset.ohttp_keys)


@lru_cache(maxsize=64)
def _best_key(ohttp_keys: bytes) -> KeyConfig:
    configs = parse_key_configs(ohttp_keys)
    return next((config for config in configs if config.kem_id == DEFAULT_SUITE.kem), configs[0])


def _encode(request: InnerRequest, token: str, profile: padding.Profile) -> bytes:
    head = bhttp.RequestHead(
        method=request.method,
        scheme="https",
        authority="sealgate.local",
        path=request.path,
        headers=(
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + token.encode()),
        ),
    )
    return padding.pad_message(profile, bhttp.encode_request(head, request.body))
