"""Did an Azure confidential VM boot as we accept?"""

from __future__ import annotations

from attest.accepted.azure import AzureReference
from attest.checks import CheckList
from attest.evidence.hcl import CLAUSE
from attest.verify.azure import PcrPolicy, VerifiedVtpm, require_boot


def judge_vtpm(vtpm: VerifiedVtpm, accepted: AzureReference, checks: CheckList) -> None:
    """Judge the paravisor's claims and the quoted PCRs.

    Raises:
        Refused: ``azure-secure-boot``, ``azure-pcr-unquoted``, ``azure-pcr``.
    """
    checks.require(
        vtpm.runtime.secure_boot or not accepted.require_secure_boot,
        "azure-secure-boot",
        "Secure Boot",
        CLAUSE,
        expected="on" if accepted.require_secure_boot else "on or off",
        got="on" if vtpm.runtime.secure_boot else "off",
    )
    allowed = {index: frozenset(map(bytes.fromhex, values)) for index, values in accepted.pcrs.items()}
    require_boot(vtpm, PcrPolicy(allowed), checks)
