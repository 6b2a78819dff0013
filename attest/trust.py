"""Which vendors' roots may speak: the trust file.

Trust says whose signature counts; reference values say what must have been signed. They are two files
because two people answer for them, and because the mock vendor is accepted only where *both* name its
root (P8): a mock root in one file alone is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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
class TrustRoots:
    """The roots that may vouch for evidence.

    Args:
        amd: accept AMD's pinned root keys (those in ``attest/collateral/roots``).
        mock_ark_sha256: SHA-256 of the DER root certificate of one mock vendor, 64 lower-case hex digits,
            or None. Evidence under it protects nothing from the machine it runs on.

    Raises:
        Malformed: ``trust-empty`` if no root is named, ``trust-value`` for another form of fingerprint.
    """

    amd: bool
    mock_ark_sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.amd and self.mock_ark_sha256 is None:
            raise Malformed("trust-empty", "no root is trusted", clause=CLAUSE)
        if self.mock_ark_sha256 is not None and SHA256_HEX.fullmatch(self.mock_ark_sha256) is None:
            raise Malformed("trust-value", "mock.ark_sha256", clause=CLAUSE)

    @classmethod
    def parse(cls, data: bytes) -> TrustRoots:
        """Read a trust file.

        Raises:
            Malformed: ``trust-*``.
        """
        top = strict_toml.Table.parse(data, name="trust", max_bytes=MAX_TRUST_BYTES)
        top.text("format", _FORMAT)
        mock_ark_sha256 = None
        if "mock" in top:
            mock = top.table("mock")
            mock_ark_sha256 = mock.text("ark_sha256", SHA256_HEX)
            mock.end()
        roots = cls(amd=top.boolean("amd"), mock_ark_sha256=mock_ark_sha256)
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
        values: dict[str, Any] = {"format": FORMAT, "amd": self.amd}
        if self.mock_ark_sha256 is not None:
            values["mock"] = {"ark_sha256": self.mock_ark_sha256}
        return strict_toml.dump(values)
