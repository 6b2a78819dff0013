"""The receipt: what the runtime says, under its own signature, that it did.

A DSSE envelope (secure-systems-lab/dsse v1) around an in-toto Statement v1, so that tools that are not ours
read it. Its subject is the answer's body; the predicate says who asked what, which model answered, under
which label and statement, and how much was counted. It is signed with the keyset's receipt key, which the
attested statement names.

On the wire it is base64url of the envelope's canonical JSON, because it travels in a header-like field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attest import digest, strict_json
from attest.protocol.tenant_token import CLOCK_SKEW, MAX_SEQUENCE, thumbprint
from attest.refusal import Malformed, Refused

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://sealgate.dev/receipt/v1"
MAX_RECEIPT_BYTES: Final = 16 * 1024
"""A receipt is about 2 kB."""

MAX_AGE: Final = timedelta(hours=1)
"""Between an answer's end and the check of its receipt; the gateway checks at once, so this is generous."""

CLAUSE: Final = "docs/reference/receipt.md"

_ENVELOPE = frozenset({"payload", "payloadType", "signatures"})
_SIGNATURE = frozenset({"keyid", "sig"})
_STATEMENT = frozenset({"_type", "subject", "predicateType", "predicate"})
_SIGNATURE_BYTES = 64
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEXT = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,255}", re.ASCII)
_STATUSES = range(100, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What happened to one request; no content.

    Args:
        receipt_id: announced in the answer's head.
        statement_digest: the statement that the tenant had verified.
        keyset_digest: the keyset whose receipt key signed this.
        tenant: thumbprint of the tenant's key.
        sequence: the tenant's number of the request.
        request_sha256: hex digest of the request's body as opened.
        response_sha256: hex digest of the answer's body as sealed, whole.
        model: the name it was asked for by; None where no model ran.
        base_model_digest: of the weights that ran, or would have.
        adapter_digest: of the adapter that ran with them.
        label_id: of the data in the request.
        prompt_tokens: counted in.
        completion_tokens: counted out, over all choices.
        finish_reason: ``stop``, ``length``, or None where nothing was generated.
        status: HTTP status of the inner answer.
        backend: the engine's name.
        issued_at: aware, whole seconds.
    """

    receipt_id: str
    statement_digest: str
    keyset_digest: str
    tenant: str
    sequence: int
    request_sha256: str
    response_sha256: str
    model: str | None
    base_model_digest: str
    adapter_digest: str | None
    label_id: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None
    status: int
    backend: str
    issued_at: datetime

    def predicate(self) -> dict[str, Any]:
        """The members as JSON; times as seconds since 1970."""
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**members, "issued_at": int(self.issued_at.timestamp())}


_PREDICATE = frozenset(field.name for field in fields(Receipt))


def sign_receipt(key: Ed25519PrivateKey, receipt: Receipt) -> str:
    """The signed receipt, base64url."""
    payload = strict_json.canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": "response", "digest": {"sha256": receipt.response_sha256}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": receipt.predicate(),
        }
    )
    envelope = {
        "payload": strict_json.b64encode(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {
                "keyid": thumbprint(key.public_key().public_bytes_raw()),
                "sig": strict_json.b64encode(key.sign(_pre_authentication_encoding(payload))),
            }
        ],
    }
    return strict_json.b64url_encode(strict_json.canonical(envelope))


def open_receipt(text: str, *, receipt_key: bytes) -> Receipt:
    """The receipt, if ``receipt_key`` (raw Ed25519) signed it. For auditors; says nothing of any one request.

    Raises:
        Malformed: ``receipt-*``: not a receipt.
        Refused: ``receipt-signature``, ``receipt-kind`` for an envelope around something else.
    """
    data = strict_json.b64url_decode(text, name="receipt", max_bytes=MAX_RECEIPT_BYTES)
    envelope = _object(data, _ENVELOPE)
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise Refused("receipt-kind", "DSSE v1", expected=PAYLOAD_TYPE, got="another payload type")
    payload = strict_json.b64decode(envelope["payload"], name="receipt", max_bytes=MAX_RECEIPT_BYTES)
    _require_signature(envelope["signatures"], payload, receipt_key)
    statement = _object(payload, _STATEMENT)
    if (statement["_type"], statement["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise Refused("receipt-kind", CLAUSE, expected=PREDICATE_TYPE, got="another statement")
    receipt = _receipt(strict_json.members_exactly(statement["predicate"], _PREDICATE, name="receipt"))
    if statement["subject"] != [{"name": "response", "digest": {"sha256": receipt.response_sha256}}]:
        raise Malformed("receipt-subject", "not the answer of the predicate", clause=CLAUSE)
    return receipt


def verify_receipt(
    text: str,
    *,
    receipt_key: bytes,
    now: datetime,
    receipt_id: str,
    statement_digest: str,
    keyset_digest: str,
    tenant: str,
    sequence: int,
    label_id: str,
    request_sha256: str,
    response_sha256: str,
    status: int,
    adapter_digest: str | None,
) -> Receipt:
    """The receipt, if it vouches for exactly this request and this answer.

    Every expectation is what the caller sent, received or verified itself; none comes from the receipt.

    Raises:
        Malformed: as ``open_receipt``.
        Refused: as ``open_receipt``; ``receipt-time``; ``receipt-<member>`` for a member other than expected,
            e.g. ``receipt-response-sha256``.
    """
    receipt = open_receipt(text, receipt_key=receipt_key)
    expected: dict[str, object] = {
        "receipt_id": receipt_id,
        "statement_digest": statement_digest,
        "keyset_digest": keyset_digest,
        "tenant": tenant,
        "sequence": sequence,
        "label_id": label_id,
        "request_sha256": request_sha256,
        "response_sha256": response_sha256,
        "status": status,
        "adapter_digest": adapter_digest,
    }
    for name, value in expected.items():
        if getattr(receipt, name) != value:
            raise Refused(f"receipt-{name.replace('_', '-')}", CLAUSE, expected=str(value), got="another")
    if not now - MAX_AGE <= receipt.issued_at <= now + CLOCK_SKEW + timedelta(seconds=1):
        raise Refused("receipt-time", CLAUSE, expected=f"about {now.isoformat()}", got="another time")
    return receipt


def _pre_authentication_encoding(payload: bytes) -> bytes:
    """DSSE v1 PAE: what is signed, unambiguous about where type and payload end."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _require_signature(signatures: Any, payload: bytes, receipt_key: bytes) -> None:
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise Malformed("receipt-signatures", "not a list of exactly one", clause=CLAUSE)
    members = strict_json.members_exactly(signatures[0], _SIGNATURE, name="receipt")
    signature = strict_json.b64decode(members["sig"], name="receipt", max_bytes=_SIGNATURE_BYTES)
    # The key id only hints: which key must have signed was settled by the verdict.
    if members["keyid"] != thumbprint(receipt_key):
        raise Refused("receipt-signature", CLAUSE, expected="the keyset's receipt key", got="another key id")
    try:
        Ed25519PublicKey.from_public_bytes(receipt_key).verify(
            signature, _pre_authentication_encoding(payload)
        )
    except InvalidSignature as error:
        raise Refused("receipt-signature", "DSSE v1") from error


def _object(data: bytes, members: frozenset[str]) -> Mapping[str, Any]:
    value = strict_json.loads(data, name="receipt", max_bytes=MAX_RECEIPT_BYTES)
    checked = strict_json.members_exactly(value, members, name="receipt")
    try:
        canonical = strict_json.canonical(checked)
    except ValueError as error:  # lone surrogates, numbers beyond 2**53
        raise Malformed("receipt-not-canonical", "has no RFC 8785 form", clause="RFC 8785") from error
    if canonical != data:
        raise Malformed("receipt-not-canonical", "not RFC 8785 JSON", clause="RFC 8785")
    return checked


def _receipt(members: dict[str, Any]) -> Receipt:
    for name in ("statement_digest", "keyset_digest", "base_model_digest", "label_id"):
        digest.checked(members[name], code="receipt-member", field=name)
    if members["adapter_digest"] is not None:
        digest.checked(members["adapter_digest"], code="receipt-member", field="adapter_digest")
    for name in ("request_sha256", "response_sha256"):
        _require(isinstance(members[name], str) and _HEX.fullmatch(members[name]) is not None, name)
    for name in ("receipt_id", "tenant", "backend", "model", "finish_reason"):
        optional = name in {"model", "finish_reason"}
        _require((optional and members[name] is None) or _is_text(members[name]), name)
    for name in ("sequence", "prompt_tokens", "completion_tokens", "issued_at"):
        _require(type(members[name]) is int and 0 <= members[name] <= MAX_SEQUENCE, name)
    _require(type(members["status"]) is int and members["status"] in _STATUSES, "status")
    try:
        issued_at = datetime.fromtimestamp(members["issued_at"], UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed("receipt-member", "issued_at", clause=CLAUSE) from error
    return Receipt(**{**members, "issued_at": issued_at})


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise Malformed("receipt-member", name, clause=CLAUSE)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None
