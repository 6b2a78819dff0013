"""What is kept of an answer: what has the form of what was asked for, and says when it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from attest import strict_json
from attest.collateral import items
from attest.collateral.ends import ends
from attest.collateral.items import Item
from attest.evidence.snp import SnpReport
from attest.evidence.snp_tcb import TcbVersion
from attest.evidence.tdx_evidence import MAX_DOCUMENT_BYTES
from attest.refusal import Refused
from tests.simulators.collateral_services import empty_list
from tests.simulators.genuine_nvidia import COMPLETE, OCSP
from tests.simulators.genuine_snp import POSITIVE
from tests.simulators.genuine_tdx import JOINT

LIST = empty_list()
PAGE = b"<html>Please log in</html>"
FMSPC = bytes.fromhex("90C06F000000")
CHAIN = {
    "tcb-info-issuer-chain": "a%20b",
    "sgx-enclave-identity-issuer-chain": "a%20b",
    "sgx-pck-crl-issuer-chain": "a%20b",
}


def refused(item: Item, body: bytes, headers: dict[str, str] | None = None) -> str:
    """The code with which an answer is not kept."""
    with pytest.raises(Refused) as refusal:
        item.keep(headers or CHAIN, body)
    return refusal.value.code


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (items.vcek("Genoa", bytes(64), TcbVersion(1, 0, 1, 1)), "collateral-answer"),
        (items.amd_crl("Genoa", "vlek"), "collateral-answer"),
        (items.intel_root_crl(), "collateral-answer"),
        (items.pck_crl("platform"), "collateral-answer"),
        (items.tcb_info(FMSPC), "tdx-pcs-answer"),
        (items.qe_identity(), "tdx-pcs-answer"),
        (items.rim("NV_1"), "collateral-not-json"),
        (items.nras_keys(), "collateral-not-json"),
        (items.maa_keys("https://a.example"), "collateral-not-json"),
    ],
    ids=lambda value: value.key if isinstance(value, Item) else "",
)
@pytest.mark.parametrize("body", [PAGE, b""])
def test_a_page_of_a_portal_is_not_kept(item: Item, code: str, body: bytes) -> None:
    """Whatever was asked for: it would be refused by the verifier for a day."""
    assert refused(item, body) == code


def test_the_certificate_of_the_chip_that_was_asked_about(sev_snp: Path) -> None:
    """Of each product; not of another chip, of another firmware version or of another product."""
    for case in [each for each in POSITIVE if each.key == "vcek" and each.version > 2]:
        data, leaf = case.read(sev_snp)
        report = SnpReport.parse(data)
        assert report.product is not None
        tcb = TcbVersion.parse(report.reported_tcb, report.product)
        assert items.vcek(report.product, report.chip_id, tcb).keep({}, leaf) == leaf
        other_chip = bytes([report.chip_id[0] ^ 1]) + report.chip_id[1:]
        assert refused(items.vcek(report.product, other_chip, tcb), leaf) == "collateral-answer"
        other_tcb = TcbVersion(tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode ^ 1, tcb.fmc)
        assert refused(items.vcek(report.product, report.chip_id, other_tcb), leaf) == "collateral-answer"
        assert refused(items.vcek(report.product, report.chip_id, tcb), LIST) == "collateral-answer"
        unversioned = leaf.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020143"), 1)
        asked = items.vcek(report.product, report.chip_id, tcb)
        assert refused(asked, unversioned) == "collateral-answer"
        assert ends(unversioned) is None
        end = x509.load_der_x509_certificate(leaf).not_valid_after_utc
        assert ends(leaf) == end


def test_a_word_on_the_certificate_that_was_asked_about(nvidia_vectors: Path) -> None:
    """Not on another, and not a responder's "try later"."""
    folder = nvidia_vectors / COMPLETE / "ocsp"
    answers = [(folder / f"{name}.der").read_bytes() for name in OCSP]
    serials = [x509.ocsp.load_der_ocsp_response(each).serial_number for each in answers]
    asked = items.answers.word_on(serials[0])
    assert asked({}, answers[0]) == answers[0]
    with pytest.raises(Refused, match="collateral-answer"):
        asked({}, next(each for each, serial in zip(answers, serials, strict=True) if serial != serials[0]))
    try_later = bytes.fromhex("30030a0103")
    for body in (try_later, PAGE):
        with pytest.raises(Refused, match="collateral-answer"):
            asked({}, body)
    said = x509.ocsp.load_der_ocsp_response(answers[0]).next_update_utc
    assert said is not None
    assert ends(answers[0]) == said
    assert ends(try_later) is None


def test_intels_documents(shared: Path) -> None:
    """With their chains, decoded; of the family that was asked about; until their next update."""
    folder = shared / "vectors" / "joint" / JOINT
    info = (folder / "pcs_tcb_info.json").read_bytes()
    identity = (folder / "pcs_qe_identity.json").read_bytes()
    kept = items.tcb_info(FMSPC).keep(CHAIN, info)
    assert items.parted(kept) == (info, "a b")
    assert items.parted(items.qe_identity().keep(CHAIN, identity)) == (identity, "a b")
    assert refused(items.tcb_info(bytes(6)), info) == "collateral-answer"
    assert refused(items.qe_identity(), info) == "tdx-pcs-answer"
    until = datetime.strptime(json.loads(info)["tcbInfo"]["nextUpdate"], "%Y-%m-%dT%H:%M:%S%z")
    assert ends(kept) == until
    until = datetime.strptime(json.loads(identity)["enclaveIdentity"]["nextUpdate"], "%Y-%m-%dT%H:%M:%S%z")
    assert ends(items.qe_identity().keep(CHAIN, identity)) == until
    for headers in ({"x": ""}, CHAIN | {"tcb-info-issuer-chain": "a" * (MAX_DOCUMENT_BYTES + 1)}):
        assert refused(items.tcb_info(FMSPC), info, headers) == "collateral-answer"


def test_intels_lists() -> None:
    """Those of a PCK authority come with their chain, the root's does not."""
    until = datetime(2026, 7, 1, tzinfo=UTC)
    kept = items.pck_crl("processor").keep(CHAIN, LIST)
    assert items.parted(kept) == (LIST, "a b")
    assert ends(kept) == ends(items.intel_root_crl().keep({}, LIST)) == until
    assert refused(items.pck_crl("processor"), LIST, {"x": ""}) == "collateral-answer"


def test_a_chain_that_is_no_text_is_kept_as_text() -> None:
    """Whatever a header decodes to: it is the verifier who reads it."""
    kept = items.pck_crl("processor").keep({"sgx-pck-crl-issuer-chain": "%ff%ed%a0%80"}, LIST)
    assert items.parted(kept)[0] == LIST


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}'])
def test_keys_that_are_no_set(body: bytes) -> None:
    """An object with a list of keys, or it is not kept."""
    assert refused(items.nras_keys(), body).startswith("collateral-")
    assert ends(b'{"keys":[]}') is None


def test_golden_values_end_with_their_signers(nvidia_vectors: Path) -> None:
    """The earliest of the certificates that came with them."""
    rim = (nvidia_vectors / COMPLETE / "driver_rim.xml").read_bytes()
    end = ends(rim)
    assert end is not None
    assert end.tzinfo is UTC
    assert ends(rim[:-9]) is None


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"tcbInfo":7}',
        b'{"tcbInfo":{"nextUpdate":7}}',
        b'{"tcbInfo":{"nextUpdate":"soon"}}',
        b'{"enclaveIdentity":{}}',
        b"{",
    ],
)
def test_documents_that_name_no_end(body: bytes) -> None:
    """Nothing is read into them."""
    kept = strict_json.canonical({"body": strict_json.b64encode(body), "issuer_chain": ""})
    assert ends(kept) is None
    assert ends(body) is None
