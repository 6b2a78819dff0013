"""Has an issuer revoked a certificate on the way to a device's key or to its golden values? (RFC 6960)

NVIDIA answers for every certificate except roots and a device's own leaf, which the device makes itself at
each start. Missing answers are noted, and the appraisal decides what that means; an answer that came along
is never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from attest.checks import CheckList
from attest.refusal import Malformed
from attest.verify.nvidia_chain import NvidiaChain
from attest.verify.ocsp import Issued, OcspAnswer, require_good

MAX_ANSWERS: Final = 128
CLAUSE: Final = "RFC 6960"


@dataclass(frozen=True, slots=True)
class Revocation:
    """What the answers covered.

    Args:
        complete: whether every certificate that can be revoked had a good answer.
        earliest: when the first of the used answers ends; ``None`` if none was used.
    """

    complete: bool
    earliest: datetime | None


def require_unrevoked(
    answers: tuple[bytes, ...],
    device: NvidiaChain,
    rims: tuple[NvidiaChain, ...],
    *,
    now: datetime,
    checks: CheckList,
) -> Revocation:
    """Require that every answer about one of the chains' certificates is genuine, current and good.

    Answers about other certificates (those of another device of the same board, say) are left alone.

    Raises:
        Malformed: ``ocsp-malformed``, ``ocsp-too-many``.
        Refused: ``certificate-revoked``, ``ocsp-*``, ``certificate-*``.
    """
    if len(answers) > MAX_ANSWERS:
        raise Malformed("ocsp-too-many", f"{len(answers)} answers", clause=CLAUSE)
    revocable = _revocable(device, rims)
    parsed = [OcspAnswer.parse(answer) for answer in answers]
    ends: dict[bytes, datetime] = {}
    for fingerprint, issued in revocable.items():
        for answer in parsed:
            if answer.speaks_of(issued):
                end = require_good(answer, issued, now)
                ends[fingerprint] = min(end, ends.get(fingerprint, end))
    unanswered = [issued.role for fingerprint, issued in revocable.items() if fingerprint not in ends]
    earliest = min(ends.values(), default=None)
    row = checks.noted if unanswered else checks.passed
    row(
        "GPU revocation",
        CLAUSE,
        expected=f"a good answer on each of {len(revocable)} certificates",
        got=f"none on {', '.join(unanswered)}" if unanswered else "all good",
        expires=earliest,
    )
    return Revocation(not unanswered, earliest)


def _revocable(device: NvidiaChain, rims: tuple[NvidiaChain, ...]) -> dict[bytes, Issued]:
    """By the certificates' bytes, since both manifests share all but the signer."""
    of_device = device.issued("gpu")[1:]  # the leaf is the device's own
    of_rims = [issued for rim in rims for issued in rim.issued("rim")]
    return {issued.certificate.tbs_certificate_bytes: issued for issued in (*of_device, *of_rims)}
