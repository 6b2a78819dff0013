"""The SEV-SNP attestation report, byte by byte (AMD 56860, table "ATTESTATION_REPORT"; little endian).

``SnpReport.parse`` accepts exactly one encoding of a report: reserved fields and the unsigned tail must be
zero, so that no bit can be changed unseen. It trusts nothing: whether the report is genuine is said by
``attest.verify.snp``, whether it is acceptable by ``attest.appraise``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from attest.evidence.reader import Reader
from attest.evidence.snp_flags import FirmwareVersion, GuestPolicy, PlatformInfo
from attest.evidence.snp_tcb import TCB_SIZE, Product
from attest.refusal import Malformed, Unsupported

REPORT_SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
REPORT_DATA_SIZE: Final = 64
CHIP_ID_SIZE: Final = 64
HOST_REQUESTED_VMPL: Final = 0xFFFFFFFF

_CLAUSE: Final = "AMD 56860 ATTESTATION_REPORT"
_VERSIONS: Final = frozenset({2, 3, 5})  # 4 is in the ABI and has never been seen
_VERSION_WITH_CPUID: Final = 3
_VERSION_WITH_MITIGATIONS: Final = 5
_ECDSA_P384_SHA384: Final = 1
_COORDINATE_SIZE: Final = 48
_P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)

SigningKey = Literal["vcek", "vlek", "none"]
_SIGNING_KEYS: Final[dict[int, SigningKey]] = {0: "vcek", 1: "vlek", 7: "none"}

# (CPUID family, first model, last model) of each product line whose chain is pinned here.
_MODELS: Final[tuple[tuple[int, int, int, Product], ...]] = (
    (0x19, 0x00, 0x0F, "Milan"),
    (0x19, 0x10, 0x1F, "Genoa"),
    (0x19, 0xA0, 0xAF, "Genoa"),  # Bergamo and Siena dies are Genoa to the key service
    (0x1A, 0x00, 0x11, "Turin"),
)


@dataclass(frozen=True, slots=True)
class SnpReport:
    """One report, fields by AMD's names. TCB versions are raw bytes: their layout needs the product.

    Args:
        version: 2, 3 or 5.
        guest_svn: from the ID block.
        policy: launch policy.
        family_id: 16 bytes from the ID block.
        image_id: 16 bytes from the ID block.
        vmpl: 0 to 3, or ``HOST_REQUESTED_VMPL``.
        current_tcb: 8 bytes, what runs now.
        platform_info: platform facts.
        author_key_enabled: the ID key was signed by an author key.
        mask_chip_key: the host asked the firmware not to sign with the chip's key.
        signing_key: which key signed.
        report_data: 64 bytes chosen by the guest.
        measurement: 48 bytes, launch digest.
        host_data: 32 bytes chosen by the host at launch.
        id_key_digest: 48 bytes.
        author_key_digest: 48 bytes.
        report_id: 32 bytes.
        report_id_ma: 32 bytes, all ones without a migration agent.
        reported_tcb: 8 bytes, the version the signing key was derived for.
        product: by CPUID; ``None`` in version 2, which has none.
        chip_id: 64 bytes.
        committed_tcb: 8 bytes, the anti-rollback floor.
        current_version: firmware now.
        committed_version: firmware floor.
        launch_tcb: 8 bytes, what ran when the guest was launched.
        launch_mitigations: mitigation bits at launch.
        current_mitigations: mitigation bits now.
        signature_r: 1 to order - 1.
        signature_s: 1 to order - 1.
        signed: the 672 bytes that the signature covers.
    """

    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: bytes
    platform_info: PlatformInfo
    author_key_enabled: bool
    mask_chip_key: bool
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    product: Product | None
    chip_id: bytes
    committed_tcb: bytes
    current_version: FirmwareVersion
    committed_version: FirmwareVersion
    launch_tcb: bytes
    launch_mitigations: int
    current_mitigations: int
    signature_r: int = field(repr=False)
    signature_s: int = field(repr=False)
    signed: bytes = field(repr=False)

    @property
    def has_migration_agent(self) -> bool:
        """Whether a migration agent is bound to the guest."""
        return self.report_id_ma != b"\xff" * 32

    @classmethod
    def parse(cls, data: bytes) -> SnpReport:
        """Read a report of exactly 1184 bytes.

        Raises:
            Unsupported: ``snp-report-version``, ``snp-signature-algorithm``, ``snp-signing-key``,
                ``snp-product``.
            Malformed: ``snp-report-length``, ``snp-report-policy``, ``snp-report-vmpl``,
                ``snp-report-flags``, ``snp-report-reserved-not-zero``, ``snp-signature-range``.
        """
        if len(data) != REPORT_SIZE:
            raise Malformed("snp-report-length", f"{len(data)} bytes, not {REPORT_SIZE}", clause=_CLAUSE)
        reader = Reader(data, "snp-report")
        version = _version(reader)
        guest_svn = reader.uint_le(4)
        policy = _policy(reader)
        family_id, image_id = reader.take(16), reader.take(16)
        vmpl = _vmpl(reader)
        _signature_algorithm(reader)
        current_tcb = reader.take(TCB_SIZE)
        platform_info = PlatformInfo(reader.uint_le(8))
        flags, signing_key = _flags(reader)
        reader.zeros(4, "0x04C")
        report_data = reader.take(REPORT_DATA_SIZE)
        measurement, host_data = reader.take(48), reader.take(32)
        id_key_digest, author_key_digest = reader.take(48), reader.take(48)
        report_id, report_id_ma = reader.take(32), reader.take(32)
        reported_tcb = reader.take(TCB_SIZE)
        product = _product(reader, version)
        chip_id = reader.take(CHIP_ID_SIZE)
        committed_tcb = reader.take(TCB_SIZE)
        current_version, committed_version = _firmware_version(reader), _firmware_version(reader)
        launch_tcb = reader.take(TCB_SIZE)
        launch_mitigations, current_mitigations = _mitigations(reader, version)
        reader.zeros(152, "0x208")
        signature_r, signature_s = _coordinate(reader, "r"), _coordinate(reader, "s")
        # Not covered by the signature: any other value would be a second encoding of the same report.
        reader.zeros(368, "unsigned tail")
        return cls(
            version=version,
            guest_svn=guest_svn,
            policy=policy,
            family_id=family_id,
            image_id=image_id,
            vmpl=vmpl,
            current_tcb=current_tcb,
            platform_info=platform_info,
            author_key_enabled=bool(flags & 1),
            mask_chip_key=bool(flags >> 1 & 1),
            signing_key=signing_key,
            report_data=report_data,
            measurement=measurement,
            host_data=host_data,
            id_key_digest=id_key_digest,
            author_key_digest=author_key_digest,
            report_id=report_id,
            report_id_ma=report_id_ma,
            reported_tcb=reported_tcb,
            product=product,
            chip_id=chip_id,
            committed_tcb=committed_tcb,
            current_version=current_version,
            committed_version=committed_version,
            launch_tcb=launch_tcb,
            launch_mitigations=launch_mitigations,
            current_mitigations=current_mitigations,
            signature_r=signature_r,
            signature_s=signature_s,
            signed=bytes(data[:SIGNED_SIZE]),
        )


def _version(reader: Reader) -> int:
    version = reader.uint_le(4)
    if version not in _VERSIONS:
        raise Unsupported("snp-report-version", _CLAUSE, expected="2, 3 or 5", got=str(version))
    return version


def _policy(reader: Reader) -> GuestPolicy:
    offset = reader.position
    raw = reader.uint_le(8)
    if raw >> 26 or not raw >> 17 & 1:
        raise Malformed("snp-report-policy", "reserved bits", offset=offset, clause="AMD 56860 GUEST_POLICY")
    return GuestPolicy(raw)


def _vmpl(reader: Reader) -> int:
    offset = reader.position
    vmpl = reader.uint_le(4)
    if vmpl not in {0, 1, 2, 3, HOST_REQUESTED_VMPL}:
        raise Malformed("snp-report-vmpl", str(vmpl), offset=offset, clause=_CLAUSE)
    return vmpl


def _signature_algorithm(reader: Reader) -> None:
    algorithm = reader.uint_le(4)
    if algorithm != _ECDSA_P384_SHA384:
        raise Unsupported(
            "snp-signature-algorithm", _CLAUSE, expected="1, ECDSA P-384 with SHA-384", got=str(algorithm)
        )


def _flags(reader: Reader) -> tuple[int, SigningKey]:
    offset = reader.position
    flags = reader.uint_le(4)
    if flags >> 5:
        raise Malformed("snp-report-flags", "reserved bits", offset=offset, clause=_CLAUSE)
    signing_key = _SIGNING_KEYS.get(flags >> 2 & 7)
    if signing_key is None:
        raise Unsupported("snp-signing-key", _CLAUSE, expected="VCEK or VLEK", got=str(flags >> 2 & 7))
    return flags, signing_key


def _product(reader: Reader, version: int) -> Product | None:
    if version < _VERSION_WITH_CPUID:
        reader.zeros(24, "0x188")
        return None
    family, model = reader.uint_le(1), reader.uint_le(1)
    reader.take(1)  # stepping: does not choose the chain
    reader.zeros(21, "0x18B")
    for known_family, first, last, product in _MODELS:
        if family == known_family and first <= model <= last:
            return product
    raise Unsupported(
        "snp-product",
        _CLAUSE,
        expected="Milan, Genoa or Turin",
        got=f"CPUID family {family:#04x} model {model:#04x}",
    )


def _firmware_version(reader: Reader) -> FirmwareVersion:
    build, minor, major = reader.uint_le(1), reader.uint_le(1), reader.uint_le(1)
    reader.zeros(1, "after a firmware version")
    return FirmwareVersion(major=major, minor=minor, build=build)


def _mitigations(reader: Reader, version: int) -> tuple[int, int]:
    if version < _VERSION_WITH_MITIGATIONS:
        reader.zeros(16, "0x1F8")
        return 0, 0
    return reader.uint_le(8), reader.uint_le(8)


def _coordinate(reader: Reader, name: str) -> int:
    offset = reader.position
    value = reader.uint_le(_COORDINATE_SIZE)
    if not 0 < value < _P384_ORDER:
        raise Malformed("snp-signature-range", name, offset=offset, clause="FIPS 186-5 section 6.4.2")
    reader.zeros(72 - _COORDINATE_SIZE, f"upper bytes of {name}")
    return value
