"""The seam between a runtime and whatever TEE it stands in."""

from __future__ import annotations

from typing import Protocol

from attest.evidence.cpu import CpuEvidence


class AttesterFailure(RuntimeError):
    """The TEE gave no evidence: absent, busy, or in a state that this attester does not know.

    Never a verdict: the runtime answers "try later", and a verifier sees nothing at all.
    """


class Attester(Protocol):
    """Makes evidence about the guest that calls it."""

    @property
    def kind(self) -> str:
        """The TEE's kind as evidence names it, e.g. ``"snp"``."""
        ...

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """A fresh report over ``report_data`` (64 bytes, chosen by the caller and signed by the hardware).

        May block for tens of milliseconds: call it off the event loop.

        Raises:
            AttesterFailure: no evidence could be made.
            ValueError: ``report_data`` is not 64 bytes.
        """
        ...
