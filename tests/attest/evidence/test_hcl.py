"""Azure's paravisor report: claims within their bounds, and where refusals point."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attest.evidence.hcl import HclReport
from attest.refusal import Malformed

KEY = {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "AA"}
CLAIMS: dict[str, Any] = {
    "keys": [KEY],
    "vm-configuration": {
        "secure-boot": True,
        "tpm-enabled": True,
        "console-enabled": False,
        "vmUniqueId": "00000000-0000-4000-8000-00000000000F",
    },
}


def u32(*numbers: int) -> bytes:
    """Little-endian words."""
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def report(claims: Any = CLAIMS, *, version: int = 2, kind: int = 2, request: int = 2) -> bytes:
    """A report laid out by hand: header, hardware report, data header, claims."""
    text = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    header = b"HCLA" + u32(version, 0x20 + 0x4A0 + 20 + len(text), request) + bytes(16)
    area = bytes(range(1, 129)) * 8 + (b"\x01" if kind == 2 else b"\x00") * 160
    return header + area + u32(20 + len(text), 1, kind, 1, len(text)) + text


@pytest.mark.parametrize("version", [1, 2])
def test_members(version: int) -> None:
    """Either version of the header; a SEV-SNP report is longer than a TDREPORT."""
    snp, tdx = HclReport.parse(report(version=version)), HclReport.parse(report(version=version, kind=4))
    assert (snp.version, snp.kind, len(snp.hardware_report)) == (version, "snp", 1184)
    assert (tdx.version, tdx.kind, len(tdx.hardware_report)) == (version, "tdx", 1024)
    assert tdx.tdreport_data == bytes(range(1, 65))
    claims = snp.runtime_claims()
    assert (claims.attestation_key, claims.vm_id) == (KEY, CLAIMS["vm-configuration"]["vmUniqueId"])
    assert (claims.secure_boot, claims.console_enabled, claims.user_data) == (True, False, bytes(64))


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"keys": [{"kid": str(number)} for number in range(7)] + [KEY]}, True),
        ({"keys": [{"kid": str(number)} for number in range(8)] + [KEY]}, False),
        ({"keys": ["HCLAkPub", KEY]}, True),
        ({"keys": [KEY, KEY]}, False),
        ({"user-data": "aB" * 64}, True),
        ({"user-data": "ab" * 63}, False),
        ({"user-data": "ab" * 65}, False),
        ({"user-data": "zz" * 64}, False),
        ({"user-data": "X" * 128}, False),
        ({"vm-configuration": CLAIMS["vm-configuration"] | {"vmUniqueId": "0" * 64}}, True),
        ({"vm-configuration": CLAIMS["vm-configuration"] | {"vmUniqueId": "0" * 65}}, False),
        ({"vm-configuration": CLAIMS["vm-configuration"] | {"vmUniqueId": ""}}, False),
        ({"vm-configuration": CLAIMS["vm-configuration"] | {"console-enabled": None}}, False),
        ({"vm-configuration": CLAIMS["vm-configuration"] | {"later": 1}}, True),
    ],
)
def test_claims(changes: dict[str, Any], accepted: bool) -> None:
    """Eight keys, of which one is the vTPM's; 64 bytes of the guest's; a name that can be one."""
    parsed = HclReport.parse(report(CLAIMS | changes))
    if accepted:
        assert parsed.runtime_claims().attestation_key == KEY
        return
    with pytest.raises(Malformed, match="hcl-runtime"):
        parsed.runtime_claims()


def test_where_a_refusal_points() -> None:
    """At the field that has another value."""
    changed = bytearray(report())
    changed[0x4C4] = 2
    for data, offset in ((report(request=3), 12), (bytes(changed), 0x4C4)):
        with pytest.raises(Malformed, match="hcl-field") as refusal:
            HclReport.parse(data)
        assert refusal.value.offset == offset


def test_the_longest_report() -> None:
    """The size of the NV index (0x01400001), filled up with zeros."""
    assert HclReport.parse(report().ljust(2600, b"\x00")).runtime_claims().attestation_key == KEY
    with pytest.raises(Malformed, match="hcl-too-large"):
        HclReport.parse(report().ljust(2601, b"\x00"))


def test_claims_that_are_no_json() -> None:
    """They have a code of their own."""
    with pytest.raises(Malformed) as refusal:
        HclReport.parse(report(b"{")).runtime_claims()
    assert refusal.value.code == "hcl-runtime-not-json"


def test_claims_without_a_key_set() -> None:
    """The name of a member alone says nothing."""
    for claims in ({}, [], CLAIMS | {"keys": None}, {"keys": [KEY]}):
        with pytest.raises(Malformed, match="hcl-runtime"):
            HclReport.parse(report(claims)).runtime_claims()
