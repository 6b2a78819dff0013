"""Collateral in and out of its JSON form."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import dcap_qvl
import pytest

from attest.evidence.tdx_evidence import MAX_COLLATERAL_BYTES, TdxCollateral, TdxEvidence
from attest.mock.tdx import MockTdxVendor
from attest.refusal import Malformed

GOOD = MockTdxVendor.create().collateral()
DOCUMENT: dict[str, Any] = json.loads(GOOD.as_json())


def test_round_trip() -> None:
    """What was written is read as the same, by dcap-qvl too; neither shows its content."""
    assert TdxCollateral.from_json(GOOD.as_json()) == GOOD
    theirs = dcap_qvl.QuoteCollateralV3.from_json(GOOD.as_json().decode())
    assert (theirs.tcb_info, bytes(theirs.pck_crl)) == (GOOD.tcb_info, GOOD.pck_crl)
    assert TdxCollateral.from_json(theirs.to_json().encode()) == GOOD
    assert "BEGIN" not in repr(GOOD)
    assert repr(TdxEvidence(b"quote")) == "TdxEvidence(quote 5 bytes, None, no event log)"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"tcb_info": 1}, "tdx-collateral-form"),
        ({"tcb_info": "é"}, "tdx-collateral-form"),
        ({"tcb_info": " " * (96 * 1024 + 1)}, "tdx-collateral-form"),
        ({"pck_crl": "0"}, "tdx-collateral-form"),
        ({"pck_crl": "0A"}, "tdx-collateral-form"),
        ({"pck_crl": "0 a"}, "tdx-collateral-form"),
        ({"pck_crl": "00" * (64 * 1024 + 1)}, "tdx-collateral-form"),
        ({"tcb_info_signature": "00" * 63}, "tdx-collateral-form"),
        ({"qe_identity_signature": "00" * 65}, "tdx-collateral-form"),
        ({"pck_certificate_chain": ""}, "tdx-collateral-members"),
    ],
    ids=str,
)
def test_refusals(change: dict[str, Any], code: str) -> None:
    """Nine members, each of its form and size."""
    with pytest.raises(Malformed) as refusal:
        TdxCollateral.from_json(json.dumps(DOCUMENT | change).encode())
    assert refusal.value.code == code


def test_the_largest_documents() -> None:
    """The bounds belong to what is accepted."""
    largest = replace(GOOD, tcb_info=" " * (96 * 1024), pck_crl=bytes(64 * 1024))
    assert TdxCollateral.from_members(largest.as_members()) == largest


def test_strict_json() -> None:
    """Missing members, a doubled one, and more bytes than any collateral has."""
    for name in DOCUMENT:
        less = {key: value for key, value in DOCUMENT.items() if key != name}
        with pytest.raises(Malformed, match="tdx-collateral-members"):
            TdxCollateral.from_json(json.dumps(less).encode())
    twice = json.dumps(DOCUMENT)[:-1] + ', "pck_crl": ""}'
    with pytest.raises(Malformed, match="tdx-collateral-duplicate-member"):
        TdxCollateral.from_json(twice.encode())
    with pytest.raises(Malformed, match="tdx-collateral-too-large"):
        TdxCollateral.from_json(b" " * (MAX_COLLATERAL_BYTES + 1))


def test_made_in_memory() -> None:
    """The same bounds hold where no JSON was read."""
    with pytest.raises(Malformed, match="tdx-collateral-form"):
        replace(GOOD, tcb_info_signature=b"")
    with pytest.raises(Malformed, match="tdx-collateral-form"):
        replace(GOOD, qe_identity="\udc00")
