"""TCB info and QE identity as Intel's PCS serves them, about the mock's platform only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from attest.mock.tdx_certificates import BACKDATE, MockPlatform
from attest.mock.tdx_quote import QE_ATTRIBUTES, QE_PRODUCT, QE_SIGNER

LIFETIME: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class MockTcb:
    """What the mock's maker says of its own platform, by Intel's names of statuses.

    Args:
        platform: status of the level that the mock's platform reaches.
        module: status of its TDX module.
        qe: status of its quoting enclave.
        advisory_ids: of the platform's level.
        evaluation_number: of both documents.
    """

    platform: str = "UpToDate"
    module: str = "UpToDate"
    qe: str = "UpToDate"
    advisory_ids: tuple[str, ...] = ()
    evaluation_number: int = 18


def tcb_info(platform: MockPlatform, tcb: MockTcb, *, issued_at: datetime) -> dict[str, Any]:
    """The value of ``tcbInfo``: one level, which the mock's platform just reaches, and module line 1."""
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    level = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn} for svn in platform.components],
            "pcesvn": platform.pcesvn,
            "tdxtcbcomponents": [{"svn": svn} for svn in (5, 0, 2, *[0] * 13)],
        },
        "tcbDate": "2026-01-01T00:00:00Z",
        "tcbStatus": tcb.platform,
        "advisoryIDs": list(tcb.advisory_ids),
    }
    return {
        "id": "TDX",
        "version": 3,
        **_window(issued_at),
        "fmspc": platform.fmspc.hex().upper(),
        "pceId": platform.pceid.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": tcb.evaluation_number,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": [_enclave_level(5, tcb.module)]}],
        "tcbLevels": [level],
    }


def qe_identity(tcb: MockTcb, *, issued_at: datetime) -> dict[str, Any]:
    """The value of ``enclaveIdentity``."""
    return {
        "id": "TD_QE",
        "version": 2,
        **_window(issued_at),
        "tcbEvaluationDataNumber": tcb.evaluation_number,
        "miscselect": "00" * 4,
        "miscselectMask": "FF" * 4,
        "attributes": QE_ATTRIBUTES[:8].hex().upper() + "00" * 8,
        "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": QE_PRODUCT,
        "tcbLevels": [_enclave_level(8, tcb.qe)],
    }


def text_of(document: dict[str, Any]) -> str:
    """The document as it is signed."""
    return json.dumps(document, separators=(",", ":"))


def _window(issued_at: datetime) -> dict[str, str]:
    start = issued_at - BACKDATE
    return {
        "issueDate": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "nextUpdate": f"{start + LIFETIME:%Y-%m-%dT%H:%M:%SZ}",
    }


def _enclave_level(isvsvn: int, status: str) -> dict[str, Any]:
    return {"tcb": {"isvsvn": isvsvn}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status}
