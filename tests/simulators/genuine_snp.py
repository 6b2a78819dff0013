"""The genuine SEV-SNP evidence under shared/vectors/sev-snp: what each file is and what must come of it.

Outcome and times are those of shared/vectors/SOURCES.md. Almost all of it is expired or not yet issued at
some moment, so each case names its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

SUMMER_2025 = datetime(2025, 6, 1, tzinfo=UTC)
SUMMER_2026 = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class GenuineCase:
    """One (report, leaf, moment).

    Args:
        report: file under sev-snp/.
        leaf: file under sev-snp/.
        now: time of verification.
        product: product line, for a case that verifies.
        key: ``vcek`` or ``vlek``.
        version: report version.
        refusal: the code, for a case that must refuse; empty for one that verifies.
    """

    report: str
    leaf: str
    now: datetime
    product: str
    key: str
    version: int
    refusal: str = ""

    def __str__(self) -> str:
        return f"{self.leaf}@{self.now:%Y-%m-%d}"

    def read(self, folder: Path) -> tuple[bytes, bytes]:
        """Report and leaf (DER)."""
        return (folder / self.report).read_bytes(), read_der(folder / self.leaf)


def _case(folder: str, leaf: str, now: datetime, *facts: str | int) -> GenuineCase:
    return GenuineCase(f"{folder}/report.bin", f"{folder}/{leaf}", now, *facts)  # type: ignore[arg-type]  # facts follow the fields


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


EARLY, LATE = "certificate-not-yet-valid", "certificate-expired"
GENUINE: tuple[GenuineCase, ...] = (
    _case("milan-v2-debug", "vcek.der", SUMMER_2025, "Milan", "vcek", 2),
    _case("milan-v2-debug", "vcek.der", _day(2022, 9, 23), "Milan", "vcek", 2, EARLY),
    _case("milan-v2-debug", "vcek.der", _day(2029, 9, 25), "Milan", "vcek", 2, LATE),
    _case("milan-v2-azure", "vcek.der", SUMMER_2025, "Milan", "vcek", 2),
    _case("milan-v2-azure", "vcek.der", _day(2023, 1, 23), "Milan", "vcek", 2, EARLY),
    _case("milan-v2-azure", "vcek.der", _day(2030, 1, 25), "Milan", "vcek", 2, LATE),
    _case(
        "milan-v2-azure", "vcek-mismatch-legacy.der", SUMMER_2025, "Milan", "vcek", 2, "certificate-signature"
    ),
    _case(
        "milan-v2-azure", "vcek-mismatch-new.der", SUMMER_2025, "Milan", "vcek", 2, "certificate-signature"
    ),
    _case("milan-v3-vlek-aws", "vlek.der", SUMMER_2025, "Milan", "vlek", 3),
    _case("milan-v3-vlek-aws", "vlek.der", _day(2024, 12, 10), "Milan", "vlek", 3, EARLY),
    _case("milan-v3-vlek-aws", "vlek.der", _day(2026, 11, 24), "Milan", "vlek", 3, LATE),
    _case("milan-v3-aci", "vcek-2026.pem", SUMMER_2026, "Milan", "vcek", 3),
    _case("milan-v3-aci", "vcek-2026.pem", _day(2026, 2, 5), "Milan", "vcek", 3, EARLY),
    _case("milan-v3-aci", "vcek-2025.pem", _day(2026, 2, 5), "Milan", "vcek", 3),
    _case("milan-v3-aci", "vcek-2025.pem", _day(2032, 12, 30), "Milan", "vcek", 3, LATE),
    _case("genoa-v3-aci", "vcek.pem", SUMMER_2026, "Genoa", "vcek", 3),
    _case("genoa-v3-aci", "vcek.pem", _day(2033, 2, 6), "Genoa", "vcek", 3, LATE),
    _case("turin-v5-aci", "vcek.pem", SUMMER_2026, "Turin", "vcek", 5),
    _case("turin-v5-aci", "vcek.pem", SUMMER_2025, "Turin", "vcek", 5, EARLY),
    _case("genoa-v5-bergamo", "vcek.der", SUMMER_2026, "Genoa", "vcek", 5),
    _case("genoa-v5-bergamo", "vcek.der", _day(2033, 2, 18), "Genoa", "vcek", 5, LATE),
)
POSITIVE: tuple[GenuineCase, ...] = tuple(case for case in GENUINE if not case.refusal)

# chain file -> (product, leaf kind) whose pinned certificates it must equal.
CHAINS: dict[str, tuple[str, str]] = {
    f"roots/{product.lower()}_{kind}_cert_chain.pem": (product, kind)
    for product in ("Milan", "Genoa", "Turin")
    for kind in ("vcek", "vlek")
}


def read_der(path: Path) -> bytes:
    """A certificate file, PEM or DER, as DER."""
    data = path.read_bytes()
    if path.suffix == ".pem":
        return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
    return data
