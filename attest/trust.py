"""Which vendors' roots may speak: the trust file.

Trust says whose signature counts; reference values say what must have been signed. They are two files
because two people answer for them, and because the mock vendor is accepted only where *both* name its
roots (P8): a mock root in one file alone is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from attest import strict_toml
from attest.refusal import Malformed

FORMAT = "sealgate-trust-v1"
MAX_TRUST_BYTES = 64 * 1024
CLAUSE = "docs/reference/trust-file.md"

SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FORMAT = re.compile(re.escape(FORMAT), re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class MockRoots:
    """The roots of one mock vendor of each kind. Evidence under them protects nothing from its machine.

    All are SHA-256 of DER certificates (of the key set, for ``nras_jwks_sha256``), 64 lower-case hex digits.

    Args:
        ark_sha256: the root of its SEV-SNP chips.
        tdx_root_sha256: the root of its TDX platforms.
        gpu_device_root_sha256: the root of its GPUs.
        gpu_rim_root_sha256: the root of its GPUs' golden values; given exactly with the one before.
        nras_jwks_sha256: the key set of its attestation service for GPUs.
        maa_jwks_sha256: the key set of its attestation service for CPUs.

    Raises:
        Malformed: ``trust-empty`` if none is given, ``trust-value`` for another form.
    """

    ark_sha256: str | None = None
    tdx_root_sha256: str | None = None
    gpu_device_root_sha256: str | None = None
    gpu_rim_root_sha256: str | None = None
    nras_jwks_sha256: str | None = None
    maa_jwks_sha256: str | None = None

    def __post_init__(self) -> None:
        values = self.values()
        if not values:
            raise Malformed("trust-empty", "mock names no root", clause=CLAUSE)
        for name, value in values.items():
            if SHA256_HEX.fullmatch(value) is None:
                raise Malformed("trust-value", f"mock.{name}", clause=CLAUSE)
        if (self.gpu_device_root_sha256 is None) != (self.gpu_rim_root_sha256 is None):
            raise Malformed("trust-value", "mock.gpu_*: one root without the other", clause=CLAUSE)

    @classmethod
    def read(cls, table: strict_toml.Table) -> MockRoots:
        """Read the table ``[mock]``.

        Raises:
            Malformed: ``trust-*``, or that of the table's file.
        """
        names = [field.name for field in fields(cls) if field.name in table]
        roots = cls(**{name: table.text(name, SHA256_HEX) for name in names})
        table.end()
        return roots

    def values(self) -> dict[str, str]:
        """The table's values; what is absent in the file is absent here."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoots:
    """The roots that may vouch for evidence.

    Args:
        amd: accept AMD's pinned root keys (those in ``attest/collateral/roots``).
        intel: accept Intel's.
        nvidia: accept NVIDIA's, for devices and for golden values, and its attestation service.
        azure: accept Microsoft's attestation service, at the address that the reference values name.
        mock: roots of a mock vendor, or None.

    Raises:
        Malformed: ``trust-empty`` if no root of a CPU is named.
    """

    amd: bool
    intel: bool
    nvidia: bool
    azure: bool = False
    mock: MockRoots | None = None

    def __post_init__(self) -> None:
        mock_cpu = self.mock is not None and (self.mock.ark_sha256 or self.mock.tdx_root_sha256)
        if not (self.amd or self.intel or mock_cpu):
            raise Malformed("trust-empty", "no root of a CPU is trusted", clause=CLAUSE)

    @classmethod
    def parse(cls, data: bytes) -> TrustRoots:
        """Read a trust file.

        Raises:
            Malformed: ``trust-*``.
        """
        top = strict_toml.Table.parse(data, name="trust", max_bytes=MAX_TRUST_BYTES)
        top.text("format", _FORMAT)
        roots = cls(
            amd=top.boolean("amd"),
            intel=top.boolean("intel"),
            nvidia=top.boolean("nvidia"),
            azure=top.boolean("azure") if "azure" in top else False,
            mock=MockRoots.read(top.table("mock")) if "mock" in top else None,
        )
        top.end()
        return roots

    @classmethod
    def load(cls, path: Path) -> TrustRoots:
        """Read a trust file from disk; ``OSError`` passes through.

        Raises:
            Malformed: ``trust-*``.
        """
        return cls.parse(path.read_bytes())

    def toml(self) -> str:
        """The trust file that says this."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "amd": self.amd,
            "intel": self.intel,
            "nvidia": self.nvidia,
            "azure": self.azure,
        }
        if self.mock is not None:
            values["mock"] = self.mock.values()
        return strict_toml.dump(values)


HARDWARE_ONLY = TrustRoots(amd=True, intel=True, nvidia=True, azure=True)
"""Every vendor's pinned roots, and no mock: what raw evidence is judged under unless told otherwise."""
