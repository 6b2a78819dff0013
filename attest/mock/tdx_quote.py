"""Lay out and sign TDX quotes as module and quoting enclave do (Intel DCAP Quoting Library API)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.evidence.tdx_attributes import SEPT_VE_DISABLE

QE_SIGNER: Final = hashlib.sha256(b"Sealgate MOCK quoting enclave").digest()
QE_PRODUCT: Final = 2
QE_ATTRIBUTES: Final = bytes.fromhex("11000000000000001500000000000000")

_INTEL_QE: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_QE_AUTHENTICATION: Final = bytes(range(32))


@dataclass(frozen=True, slots=True)
class MockTdLaunch:
    """How a trust domain was launched, as far as a quote shows it.

    Args:
        mrtd: 48 bytes.
        rtmrs: four registers of 48 bytes.
        attributes: TDATTRIBUTES as a number.
        xfam: extended features as a number.
        tee_tcb_svn: 16 bytes; module version, module major version, SEAM loader and so on.
        mrsignerseam: 48 bytes, the module's signer.
        seam_attributes: 8 bytes.
        mrconfigid: 48 bytes chosen by the host.
        mrowner: 48 bytes chosen by the host.
        mrownerconfig: 48 bytes chosen by the host.
        qe_isvsvn: the quoting enclave's security version.
        mrservicetd: 48 bytes and a TD 1.5 body in a version 5 quote; ``None`` for a version 4 quote.
        tee_tcb_svn_2: 16 bytes, the module that runs now; TD 1.5 only.
    """

    mrtd: bytes = b"\x7d" * 48
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(48), bytes(48), bytes(48), bytes(48))
    attributes: int = SEPT_VE_DISABLE
    xfam: int = 0x618E7
    tee_tcb_svn: bytes = bytes([5, 1, 2]) + bytes(13)
    mrsignerseam: bytes = bytes(48)
    seam_attributes: bytes = bytes(8)
    mrconfigid: bytes = bytes(48)
    mrowner: bytes = bytes(48)
    mrownerconfig: bytes = bytes(48)
    qe_isvsvn: int = 8
    mrservicetd: bytes | None = None
    tee_tcb_svn_2: bytes = bytes([5, 1, 2]) + bytes(13)


@dataclass(frozen=True, slots=True, repr=False)
class QuoteKeys:
    """Who signs a quote: the quoting enclave's key and the platform's, and the chain of the latter in PEM."""

    attestation: ec.EllipticCurvePrivateKey
    platform: ec.EllipticCurvePrivateKey
    pck_chain: bytes

    def __repr__(self) -> str:
        return "QuoteKeys(private)"


def signed_quote(report_data: bytes, launch: MockTdLaunch, keys: QuoteKeys) -> bytes:
    """A whole quote.

    Args:
        report_data: 64 bytes.
        launch: what to say of the TD; decides the version.
        keys: who signs.

    Raises:
        ValueError: a field has the wrong length.
    """
    signed = _header(launch) + _body(report_data, launch)
    attestation_key = _point(keys.attestation)
    qe_report = _qe_report(attestation_key, launch.qe_isvsvn)
    inner = _sized(5, keys.pck_chain)
    vouched = (
        qe_report
        + raw_signature(keys.platform, qe_report)
        + len(_QE_AUTHENTICATION).to_bytes(2, "little")
        + _QE_AUTHENTICATION
        + inner
    )
    signature = raw_signature(keys.attestation, signed) + attestation_key + _sized(6, vouched)
    return signed + len(signature).to_bytes(4, "little") + signature


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA P-256 with SHA-256 as r and s, 32 bytes each, big endian."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _header(launch: MockTdLaunch) -> bytes:
    version = 4 if launch.mrservicetd is None else 5
    header = version.to_bytes(2, "little") + (2).to_bytes(2, "little") + (0x81).to_bytes(4, "little")
    header += bytes(4) + _INTEL_QE + bytes(20)
    if launch.mrservicetd is None:
        return header
    return header + (3).to_bytes(2, "little") + (648).to_bytes(4, "little")


def _body(report_data: bytes, launch: MockTdLaunch) -> bytes:
    fields: list[tuple[str, int, bytes]] = [
        ("tee_tcb_svn", 16, launch.tee_tcb_svn),
        ("mrseam", 48, b"\x5e" * 48),
        ("mrsignerseam", 48, launch.mrsignerseam),
        ("seam_attributes", 8, launch.seam_attributes),
        ("attributes", 8, launch.attributes.to_bytes(8, "little")),
        ("xfam", 8, launch.xfam.to_bytes(8, "little")),
        ("mrtd", 48, launch.mrtd),
        ("mrconfigid", 48, launch.mrconfigid),
        ("mrowner", 48, launch.mrowner),
        ("mrownerconfig", 48, launch.mrownerconfig),
        *((f"rtmr{i}", 48, register) for i, register in enumerate(launch.rtmrs)),
        ("report_data", 64, report_data),
    ]
    if launch.mrservicetd is not None:
        fields += [("tee_tcb_svn_2", 16, launch.tee_tcb_svn_2), ("mrservicetd", 48, launch.mrservicetd)]
    for name, size, value in fields:
        if len(value) != size:
            raise ValueError(f"{name} takes {size} bytes, not {len(value)}")
    return b"".join(value for _, _, value in fields)


def _qe_report(attestation_key: bytes, isvsvn: int) -> bytes:
    named = hashlib.sha256(attestation_key + _QE_AUTHENTICATION).digest()
    report = bytearray(384)
    report[48:64] = QE_ATTRIBUTES
    report[128:160] = QE_SIGNER
    report[256:260] = QE_PRODUCT.to_bytes(2, "little") + isvsvn.to_bytes(2, "little")
    report[320:352] = named
    return bytes(report)


def _sized(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(body).to_bytes(4, "little") + body


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
