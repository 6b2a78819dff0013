"""A runtime as a peer: genuine mock evidence, real keys, and answers that may lie inside the seal.

It shares no code with ``runtime``: what the gateway accepts from it, it accepts by the formats alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.channel import bhttp
from attest.channel.chunked import ChunkedRequestOpener, ChunkedResponseSealer
from attest.channel.key_config import serialise_key_configs
from attest.channel.ohttp import KeyPair
from attest.keyset import Keyset
from attest.mock.faults import FAULTS
from attest.mock.machine import MockBoard, MockMachine, MockSnpCpu
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockVendor
from attest.mock.world import MockWorld
from attest.protocol import paths
from attest.protocol.receipt import Receipt, sign_receipt
from attest.protocol.tenant_token import TenantClaims, verify_request_token
from attest.reference import ReferenceValues
from attest.statement import Statement
from attest.trust import TrustRoots

DIGEST = "sha256:" + "11" * 32
JSON_ANSWER = b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[]}'
EVENTS = tuple(
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % word
    for word in (b"one ", b"two ", b"three")
)
END = b"data: [DONE]\n\n"

TOLD_BY_PEERS = sorted(
    name for name, fault in FAULTS.items() if fault.level == "bundle" and fault.needs in {"any", "snp", "gpu"}
)
"""The lies in evidence that a machine like a peer's can tell: SEV-SNP, one GPU."""


@dataclass(frozen=True)
class Opened:
    """A request that the peer opened."""

    head: bhttp.RequestHead
    body: bytes
    claims: TenantClaims
    sealer: ChunkedResponseSealer


class MockPeer:
    """One runtime under ``vendor``, with fresh keys."""

    def __init__(self, vendor: MockVendor) -> None:
        self._vendor = vendor
        self._gpu_vendor = MockGpuVendor.create()
        self.opened: list[Opened] = []
        self.change_keys()

    def change_keys(self) -> None:
        """Begin anew, as a runtime that was restarted."""
        now = datetime.now(UTC).replace(microsecond=0)
        self.key_pair = KeyPair.generate(1)
        self.receipt_key = Ed25519PrivateKey.generate()
        keyset = Keyset(
            ohttp_keys=serialise_key_configs([self.key_pair.config]),
            receipt_key=self.receipt_key.public_key().public_bytes_raw(),
            not_before=now - timedelta(minutes=1),
            not_after=now + timedelta(hours=1),
        )
        statement = Statement(
            nonce=None,
            keyset_digest=keyset.digest,
            policy_digest=DIGEST,
            base_model_digest=DIGEST,
            tokenizer_digest=DIGEST,
            runtime_image="sealgate/runtime:test",
            key_scope="replica-1",
            region="test-1",
            devices=(),
            role="serve",
            contract_digest=None,
            previous_statement=None,
            self_check=None,
            embedding_model_digest=None,
        )
        board = MockBoard(self._gpu_vendor, devices_of(1))
        machine = MockMachine(MockSnpCpu(self._vendor, MockLaunch()), board)
        self.world = MockWorld(machine=machine, statement=statement, keyset=keyset)

    @property
    def trust(self) -> TrustRoots:
        """Roots that accept this peer."""
        return self.world.trust()

    @property
    def reference(self) -> ReferenceValues:
        """Reference values that accept this peer."""
        return self.world.reference(not_after=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))

    def open(self, sealed: bytes) -> Opened:
        """Open a request as a runtime does, token and all."""
        opener = ChunkedRequestOpener({self.key_pair.config.key_id: self.key_pair}, max_bytes=8 << 20)
        plain = b"".join(opener.feed(sealed) + opener.finish())
        head, body = _decode_request(plain)
        headers = dict(head.headers)
        claims = verify_request_token(
            headers[b"authorization"].removeprefix(b"Bearer ").decode(),
            audience=self.world.keyset.digest,
            body_sha256=hashlib.sha256(body).hexdigest(),
            method=head.method,
            path=head.path,
            now=datetime.now(UTC),
        )
        opened = Opened(head, body, claims, opener.response_sealer())
        self.opened.append(opened)
        return opened

    def receipt(self, opened: Opened, content: bytes, status: int = 200) -> Receipt:
        """The honest receipt for ``content``."""
        return Receipt(
            receipt_id="rcpt-1",
            statement_digest=opened.claims.statement_digest,
            keyset_digest=self.world.keyset.digest,
            tenant=opened.claims.tenant,
            sequence=opened.claims.sequence,
            request_sha256=hashlib.sha256(opened.body).hexdigest(),
            response_sha256=hashlib.sha256(content).hexdigest(),
            model="m",
            base_model_digest=DIGEST,
            adapter_digest=None,
            label_id=opened.claims.label_id,
            prompt_tokens=3,
            completion_tokens=3,
            finish_reason="stop",
            status=status,
            backend="peer",
            issued_at=datetime.now(UTC).replace(microsecond=0),
        )

    def sealed_parts(
        self,
        opened: Opened,
        parts: Iterable[bytes],
        *,
        status: int = 200,
        content_type: str = "text/event-stream",
        receipt: str | None = None,
        with_receipt: bool = True,
        receipt_id: str | None = "rcpt-1",
        **members: object,
    ) -> list[bytes]:
        """The sealed answer, one item per part, the last with the receipt.

        Args:
            opened: the request.
            parts: of the content.
            status: inner status.
            content_type: of the answer.
            receipt: the trailer's text instead of a signed receipt.
            with_receipt: without, there is no trailer.
            receipt_id: of the head; None for a head without one.
            members: what the receipt says instead of the truth.
        """
        parts = list(parts)
        fields = [(b"content-type", content_type.encode())]
        if receipt_id is not None:
            fields.append((paths.RECEIPT_ID_HEADER.encode(), receipt_id.encode()))
        encoder = bhttp.ResponseEncoder()
        sealed = [
            opened.sealer.preamble
            + opened.sealer.seal(encoder.head(bhttp.ResponseHead(status, tuple(fields))))
        ]
        sealed += [opened.sealer.seal(encoder.content(part)) for part in parts]
        text = receipt
        if text is None:
            honest = self.receipt(opened, b"".join(parts), status)
            text = sign_receipt(self.receipt_key, replace(honest, **members))  # type: ignore[arg-type]
        trailers = ((paths.RECEIPT_TRAILER.encode(), text.encode()),) if with_receipt else ()
        sealed.append(opened.sealer.seal(encoder.end(trailers), final=True))
        return sealed

    def honest_stream(self, sealed_request: bytes) -> list[bytes]:
        """A streamed answer without a lie."""
        return self.sealed_parts(self.open(sealed_request), [*EVENTS, END])

    def honest_answer(self, sealed_request: bytes) -> list[bytes]:
        """An answer in one piece without a lie."""
        opened = self.open(sealed_request)
        return self.sealed_parts(opened, [JSON_ANSWER], content_type="application/json")


def _decode_request(plain: bytes) -> tuple[bhttp.RequestHead, bytes]:
    decoder = bhttp.RequestDecoder(max_header_bytes=64 << 10, max_body_bytes=8 << 20)
    head: bhttp.RequestHead | None = None
    body = b""
    for event in decoder.feed(plain) + decoder.finish():
        if isinstance(event, bhttp.RequestHead):
            head = event
        elif isinstance(event, bhttp.Content):
            body += event.data
    if head is None:
        raise AssertionError("a request without a head")
    return head, body
