"""The second judge: dcap-qvl, a verifier written by others in another language.

Every quote is judged here in full, with our own codes. Then dcap-qvl judges the same bytes, and must come to
the same answer: a mistake has to be made twice before it lets a quote through. Of its behaviour, known and
closed off: it returns ``OutOfDate`` as a success (so the status is compared, and judged by the appraisal);
it takes bytes after the quote (it gets the trimmed form); its ``get_*`` functions ask a third party for
collateral (never called); and it refuses a paravisor's quotes, which ``attest.verify.tdx`` judges alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import dcap_qvl

from attest.collateral.tdx_documents import Judgement, TcbStatus
from attest.evidence.tdx_evidence import TdxCollateral
from attest.refusal import Refused

CLAUSE: Final = "a second verifier, dcap-qvl"
_RELAUNCH: Final = {
    TcbStatus.TD_RELAUNCH_ADVISED: TcbStatus.OUT_OF_DATE,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}


def require_second_opinion(
    quote: bytes, collateral: TdxCollateral, root: bytes, ours: Judgement, *, now: datetime
) -> TcbStatus:
    """Require that dcap-qvl accepts the quote with the same status; returns the more exact of the two.

    It is more exact where it sees that an out-of-date TDX module has been updated since the TD was launched.

    Args:
        quote: without padding.
        collateral: as judged by us.
        root: DER.
        ours: our answer.
        now: time of verification, aware.

    Raises:
        Refused: ``tdx-verifiers-disagree``.
    """
    try:
        report = dcap_qvl.verify_with_root_ca(quote, _native(collateral), root, int(now.timestamp()))
        theirs = TcbStatus(report.status)
    except ValueError as error:
        raise _disagree(ours, "a refusal, or a status that is unknown here") from error
    if _RELAUNCH.get(theirs, theirs) is not ours.status:
        raise _disagree(ours, theirs)
    if set(report.advisory_ids) != set(ours.advisory_ids):
        raise _disagree(ours, f"{theirs} with {len(report.advisory_ids)} advisories")
    return theirs


def _native(collateral: TdxCollateral) -> dcap_qvl.QuoteCollateralV3:
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )


def _disagree(ours: Judgement, got: str) -> Refused:
    expected = f"{ours.status} with {len(ours.advisory_ids)} advisories"
    return Refused("tdx-verifiers-disagree", CLAUSE, expected=expected, got=got)
