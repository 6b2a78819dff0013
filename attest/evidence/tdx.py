"""The Intel TDX quote, byte by byte (Intel DCAP Quoting Library API, quote formats 4 and 5; little endian).

``TdxQuote.parse`` accepts one encoding of a quote: known versions and body types, the lengths stated add up,
and nothing but zeros may follow (some clouds pad to a fixed size). It trusts nothing: whether the quote is
genuine is said by ``attest.verify.tdx``, whether it is acceptable by the appraisal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from attest.evidence.reader import Reader
from attest.evidence.tdx_attributes import TdAttributes
from attest.evidence.tdx_evidence import MAX_QUOTE_BYTES
from attest.evidence.tdx_signature import QuoteSignature
from attest.refusal import Malformed, Unsupported

REPORT_DATA_SIZE: Final = 64
REGISTER_SIZE: Final = 48
TEE_TCB_SVN_SIZE: Final = 16

CLAUSE: Final = "Intel DCAP Quoting Library API, quote format"
_ECDSA_P256: Final = 2
_TEE_TDX: Final = 0x81
_INTEL_QE: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_BODY_TD10: Final = (2, 584)  # type, size
_BODY_TD15: Final = (3, 648)


@dataclass(frozen=True, slots=True)
class TdReport:
    """What the TDX module says of one trust domain, fields by Intel's names.

    Args:
        tee_tcb_svn: 16 bytes; [0] the module's version, [1] its major version.
        mrseam: 48 bytes, the TDX module's measurement.
        mrsignerseam: 48 bytes, zero for Intel's module.
        seam_attributes: 8 bytes.
        attributes: of the TD.
        xfam: extended features, as a number.
        mrtd: 48 bytes, initial contents of the TD.
        mrconfigid: 48 bytes chosen by the host.
        mrowner: 48 bytes chosen by the host.
        mrownerconfig: 48 bytes chosen by the host.
        rtmrs: four runtime registers of 48 bytes.
        report_data: 64 bytes chosen by the guest.
        tee_tcb_svn_2: 16 bytes, of the module that runs now; ``None`` in a TD 1.0 report.
        mrservicetd: 48 bytes, bound service TDs; ``None`` in a TD 1.0 report.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    attributes: TdAttributes
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes | None
    mrservicetd: bytes | None

    @property
    def module_svn(self) -> int:
        """Security version of the TDX module."""
        return self.tee_tcb_svn[0]

    @property
    def module_major(self) -> int:
        """Major version of the TDX module: 0 for the first line, judged by the platform's levels alone."""
        return self.tee_tcb_svn[1]

    @property
    def has_service_td(self) -> bool:
        """Whether a service TD (one that may, say, migrate this one) is bound."""
        return self.mrservicetd is not None and any(self.mrservicetd)

    @classmethod
    def read(cls, reader: Reader, *, is_td15: bool) -> TdReport:
        """Read a report body of 584 or, for TD 1.5, 648 bytes.

        Raises:
            Malformed: ``tdx-td-attributes``, ``tdx-quote-truncated``.
        """
        tee_tcb_svn = reader.take(TEE_TCB_SVN_SIZE)
        mrseam, mrsignerseam = reader.take(REGISTER_SIZE), reader.take(REGISTER_SIZE)
        seam_attributes = reader.take(8)
        attributes = TdAttributes.read(reader)
        xfam = reader.uint_le(8)
        mrtd, mrconfigid = reader.take(REGISTER_SIZE), reader.take(REGISTER_SIZE)
        mrowner, mrownerconfig = reader.take(REGISTER_SIZE), reader.take(REGISTER_SIZE)
        rtmrs = (
            reader.take(REGISTER_SIZE),
            reader.take(REGISTER_SIZE),
            reader.take(REGISTER_SIZE),
            reader.take(REGISTER_SIZE),
        )
        return cls(
            tee_tcb_svn=tee_tcb_svn,
            mrseam=mrseam,
            mrsignerseam=mrsignerseam,
            seam_attributes=seam_attributes,
            attributes=attributes,
            xfam=xfam,
            mrtd=mrtd,
            mrconfigid=mrconfigid,
            mrowner=mrowner,
            mrownerconfig=mrownerconfig,
            rtmrs=rtmrs,
            report_data=reader.take(REPORT_DATA_SIZE),
            tee_tcb_svn_2=reader.take(TEE_TCB_SVN_SIZE) if is_td15 else None,
            mrservicetd=reader.take(REGISTER_SIZE) if is_td15 else None,
        )


@dataclass(frozen=True, slots=True)
class TdxQuote:
    """One quote.

    Args:
        version: 4 or 5.
        report: what is said of the trust domain.
        signature: who says it.
        signed: the bytes that the attestation key signed.
        trimmed: the quote without padding: what a hash must be taken over.
    """

    version: int
    report: TdReport
    signature: QuoteSignature = field(repr=False)
    signed: bytes = field(repr=False)
    trimmed: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> TdxQuote:
        """Read a quote.

        Raises:
            Unsupported: ``tdx-quote-version``, ``tdx-quote-key-type``, ``tdx-quote-tee-type``,
                ``tdx-quote-qe-vendor``, ``tdx-quote-body-type``, ``tdx-certification-data``,
                ``tdx-qe-authentication``.
            Malformed: ``tdx-quote-too-large``, ``tdx-quote-truncated``, ``tdx-quote-length``,
                ``tdx-quote-padding``, ``tdx-td-attributes``, ``tdx-signature-range``, ``tdx-pck-pem``.
        """
        if len(data) > MAX_QUOTE_BYTES:
            raise Malformed("tdx-quote-too-large", f"{len(data)} bytes, at most {MAX_QUOTE_BYTES}")
        reader = Reader(data, "tdx-quote")
        version = _header(reader)
        report = TdReport.read(reader, is_td15=_is_td15(reader, version))
        signed_size = reader.position
        size = reader.uint_le(4)
        signature = QuoteSignature.parse(reader.take(size))
        end = reader.position
        # The signature does not cover what follows: anything but padding would travel unseen.
        if any(reader.take(reader.remaining)):
            raise Malformed("tdx-quote-padding", "bytes other than zero", offset=end, clause=CLAUSE)
        return cls(version, report, signature, bytes(data[:signed_size]), bytes(data[:end]))


def _header(reader: Reader) -> int:
    version = reader.uint_le(2)
    if version not in {4, 5}:
        raise Unsupported("tdx-quote-version", CLAUSE, expected="4 or 5", got=str(version))
    key_type = reader.uint_le(2)
    if key_type != _ECDSA_P256:
        raise Unsupported("tdx-quote-key-type", CLAUSE, expected="2, ECDSA P-256", got=str(key_type))
    tee_type = reader.uint_le(4)
    if tee_type != _TEE_TDX:
        raise Unsupported("tdx-quote-tee-type", CLAUSE, expected=f"{_TEE_TDX:#x}, TDX", got=f"{tee_type:#x}")
    reader.take(4)  # versions of QE and PCE, informative: what counts is in the QE report and the PCK leaf
    vendor = reader.take(16)
    if vendor != _INTEL_QE:
        raise Unsupported("tdx-quote-qe-vendor", CLAUSE, expected=_INTEL_QE.hex(), got=vendor.hex())
    reader.take(20)  # user data: signed, and of no meaning here
    return version


def _is_td15(reader: Reader, version: int) -> bool:
    """Which body follows; version 5 says so, and version 4 has but one."""
    if version == 4:  # noqa: PLR2004  the quote format's own number
        return False
    body = reader.uint_le(2), reader.uint_le(4)
    if body not in {_BODY_TD10, _BODY_TD15}:
        raise Unsupported(
            "tdx-quote-body-type",
            CLAUSE,
            expected="type 2 of 584 bytes or type 3 of 648",
            got=f"type {body[0]} of {body[1]} bytes",
        )
    return body == _BODY_TD15
