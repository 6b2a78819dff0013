"""The vectors of RFC 9180, draft-ietf-hpke-pq and draft-connolly-cfrg-xwing-kem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attest.channel.aead import AeadSequence
from attest.channel.hpke import (
    KEM_MLKEM768_X25519,
    Psk,
    ReceiverContext,
    SenderContext,
    Suite,
    setup_base_receiver,
    setup_base_sender,
    setup_psk_receiver,
    setup_psk_sender,
)
from tests.attest.channel.vector_suites import NOT_RUNNABLE, suite_of

pytestmark = pytest.mark.shared


def _load(shared: Path, name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((shared / "vectors" / "hpke" / name).read_bytes())
    return vectors


def _receiver(suite: Suite, vector: dict[str, Any]) -> ReceiverContext:
    pair = suite.kem.load_key_pair(bytes.fromhex(vector["skRm"]))
    assert pair.public_key.hex() == vector["pkRm"]
    enc, info = bytes.fromhex(vector["enc"]), bytes.fromhex(vector["info"])
    assert pair.decapsulate(enc).hex() == vector["shared_secret"]
    if vector["mode"] == 0:
        return setup_base_receiver(suite, enc, pair, info)
    psk = Psk(bytes.fromhex(vector["psk"]), bytes.fromhex(vector["psk_id"]))
    return setup_psk_receiver(suite, enc, pair, info, psk)


def _sender(suite: Suite, vector: dict[str, Any]) -> SenderContext:
    public, info = bytes.fromhex(vector["pkRm"]), bytes.fromhex(vector["info"])
    ephemeral = bytes.fromhex(vector["skEm"])
    if vector["mode"] == 0:
        enc, context = setup_base_sender(suite, public, info, ephemeral=ephemeral)
    else:
        psk = Psk(bytes.fromhex(vector["psk"]), bytes.fromhex(vector["psk_id"]))
        enc, context = setup_psk_sender(suite, public, info, psk, ephemeral=ephemeral)
    assert enc.hex() == vector["enc"]
    return context


def _numbered(messages: AeadSequence, base_nonce: str, nonce: str) -> AeadSequence:
    """Move a sequence on to the number that a vector used: some list 0, 1, 2, 4, 255, 256."""
    messages._next = int(base_nonce, 16) ^ int(nonce, 16)
    return messages


def _check_receiver(suite: Suite, vector: dict[str, Any]) -> None:
    context = _receiver(suite, vector)
    for case in vector["encryptions"]:
        messages = _numbered(context.messages, vector["base_nonce"], case["nonce"])
        plaintext = messages.open(bytes.fromhex(case["aad"]), bytes.fromhex(case["ct"]))
        assert plaintext.hex() == case["pt"]
    for case in vector["exports"]:
        exported = context.export(bytes.fromhex(case["exporter_context"]), case["L"])
        assert exported.hex() == case["exported_value"]
    assert vector["exports"]


def test_rfc9180_vectors(shared: Path, vector_count: Any) -> None:
    """All 32 vectors of the subset, as receiver and as sender."""
    vectors = _load(shared, "rfc9180-subset.json")
    for vector in vectors:
        suite = suite_of(vector)
        _check_receiver(suite, vector)
        context = _sender(suite, vector)
        for case in vector["encryptions"]:
            messages = _numbered(context.messages, vector["base_nonce"], case["nonce"])
            assert messages.seal(bytes.fromhex(case["aad"]), bytes.fromhex(case["pt"])).hex() == case["ct"]
        for case in vector["exports"]:
            exported = context.export(bytes.fromhex(case["exporter_context"]), case["L"])
            assert exported.hex() == case["exported_value"]
    vector_count("hpke/rfc9180-subset.json", len(vectors), len(vectors), "sender and receiver")
    assert len(vectors) == 32


def test_draft_hpke_pq_vectors(shared: Path, vector_count: Any) -> None:
    """Every vector of draft-ietf-hpke-pq whose primitives exist, as receiver."""
    vectors = _load(shared, "hpke-pq-test-vectors.json")
    runnable = [vector for vector in vectors if vector["kem_id"] not in NOT_RUNNABLE]
    for vector in runnable:
        _check_receiver(suite_of(vector), vector)
    left_out = [NOT_RUNNABLE[v["kem_id"]] for v in vectors if v["kem_id"] in NOT_RUNNABLE]
    vector_count(
        "hpke/hpke-pq-test-vectors.json",
        len(runnable),
        len(vectors),
        "receiver; no derandomised ML-KEM encapsulation in the library; left out: " + "; ".join(left_out),
    )
    assert len(runnable) == 12
    assert len(left_out) == 1


def test_xwing_vectors(shared: Path, vector_count: Any) -> None:
    """X-Wing's key expansion and decapsulation."""
    vectors = _load(shared, "xwing-kem-vectors.json")
    for vector in vectors:
        pair = KEM_MLKEM768_X25519.load_key_pair(bytes.fromhex(vector["sk"]))
        assert pair.public_key.hex() == vector["pk"]
        assert pair.decapsulate(bytes.fromhex(vector["ct"])).hex() == vector["ss"]
    vector_count("hpke/xwing-kem-vectors.json", len(vectors), len(vectors), "key expansion, decapsulation")
    assert len(vectors) == 3
