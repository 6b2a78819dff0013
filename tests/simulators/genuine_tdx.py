"""The genuine TDX evidence under shared/vectors/tdx and /joint: what each file is and what must come of it.

Outcomes and times are those of shared/vectors/SOURCES.md.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from attest.collateral.tdx import TdxCollateral, signed_text
from attest.evidence.tdx import TdxQuote

JOINT = "tdx-h100-2026-06-29"
JOINT_TIME = datetime(2026, 6, 29, 2, 8, 5, tzinfo=UTC)


@dataclass(frozen=True)
class TdxCase:
    """One quote with its collateral at its time.

    Args:
        folder: under tdx/.
        refusal: the code, or empty for one that verifies.
        status: of one that verifies.
        advisories: of one that verifies, without the common prefix.
        version: of the quote.
        paravisor: verify as an Azure paravisor's.
        cut: take only so many bytes of the file.
    """

    folder: str
    refusal: str = ""
    status: str = ""
    advisories: tuple[str, ...] = ()
    version: int = 4
    paravisor: bool = False
    cut: int | None = None

    def __str__(self) -> str:
        return f"{self.folder}{'-paravisor' if self.paravisor else ''}{'-cut' if self.cut else ''}"

    def quote(self, tdx: Path) -> bytes:
        """The quote."""
        return (tdx / self.folder / "quote.bin").read_bytes()[: self.cut]

    def collateral(self, tdx: Path) -> TdxCollateral:
        """The collateral beside it."""
        return TdxCollateral.from_json((tdx / self.folder / "collateral.json").read_bytes())

    def now(self, tdx: Path) -> datetime:
        """The time of verification."""
        case = json.loads((tdx / self.folder / "case.json").read_bytes())
        return datetime.fromtimestamp(case["verify_at"], UTC)


_SUMMER_2025 = ("00960", "00982", "00986")
GENUINE: tuple[TdxCase, ...] = (
    TdxCase("v4-uptodate", status="UpToDate"),
    TdxCase("v4-debug-td", "tdx-debug"),
    # The file ends in the words "extra bytes": refused for them alone, and without them for what it says.
    TdxCase("v4-tcb-too-old", "tdx-quote-padding"),
    TdxCase("v4-tcb-too-old", "tdx-tcb-not-supported", cut=4935),
    TdxCase("v4-gcp-cos113-uptodate", status="UpToDate"),
    TdxCase("v4-gcp-outofdate", status="OutOfDate", advisories=_SUMMER_2025),
    TdxCase("v4-outofdate-no-advisory", status="OutOfDate"),
    TdxCase("v4-azure-no-septve", "tdx-sept-ve"),
    TdxCase("v4-azure-no-septve", status="OutOfDate", advisories=_SUMMER_2025, paravisor=True),
    TdxCase("v5-td15-uptodate", status="UpToDate", version=5),
    TdxCase("v5-td15-no-level", "tdx-tcb-not-supported", version=5),
    TdxCase("v5-td15-service-td", "tdx-service-td", version=5),
)
POSITIVE: tuple[TdxCase, ...] = tuple(case for case in GENUINE if not case.refusal)

COS = "v4-gcp-cos113-uptodate"
FILES_APART = frozenset(
    {
        "roots/intel_sgx_root_ca.der",
        f"{COS}/ccel_data.bin",
        f"{COS}/ccel_table.bin",
        f"{COS}/nonce.bin",
        *(
            f"raw-pcs/{name}"
            for name in (
                "tcb_info_90c06f000000.json",
                "td_qe_identity.json",
                "pck_crl_platform.der",
                "root_ca_crl.der",
                "tcb_signing_chain.pem",
            )
        ),
    }
)
"""Files that no case of ``GENUINE`` reads; each has a test of its own."""


def pck_issuer_chain(quote: bytes) -> str:
    """PCK authority and root out of a quote, PEM: they come with a PCK CRL by another way than the body."""
    chain = TdxQuote.parse(quote).signature.pck_chain[1:]
    return "".join(_pem(der) for der in chain)


def joint_quote(joint: Path) -> bytes:
    """The quote of the live evidence."""
    document = json.loads((joint / JOINT / "attestation.json").read_bytes())
    return base64.b64decode(document["cpu"]["report"])


def joint_collateral(joint: Path) -> TdxCollateral:
    """Intel's answers as they were recorded with it."""
    folder = joint / JOINT
    tcb_info, tcb_signature = signed_text((folder / "pcs_tcb_info.json").read_bytes(), "tcbInfo")
    identity, qe_signature = signed_text((folder / "pcs_qe_identity.json").read_bytes(), "enclaveIdentity")
    return TdxCollateral(
        pck_crl_issuer_chain=pck_issuer_chain(joint_quote(joint)),
        root_ca_crl=(folder / "root_ca_crl.der").read_bytes(),
        pck_crl=(folder / "pcs_pck_crl.der").read_bytes(),
        tcb_info_issuer_chain=_header(folder / "pcs_tcb_info.headers.json", "Tcb-Info-Issuer-Chain"),
        tcb_info=tcb_info,
        tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=_header(
            folder / "pcs_qe_identity.headers.json", "Sgx-Enclave-Identity-Issuer-Chain"
        ),
        qe_identity=identity,
        qe_identity_signature=qe_signature,
    )


def _header(path: Path, name: str) -> str:
    return unquote(json.loads(path.read_bytes())["headers"][name][0])


def _pem(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
