"""Is this bundle genuine, and about this question? The composite check of everything it holds.

    1  the document is well formed, and so are statement and keyset inside it
    2  the statement answers this client's nonce
    3  the keyset is the one that the statement names
    4  the keyset holds keys, and we can seal to each
    5  the CPU evidence is genuine (``attest.verify.snp``, ``.tdx``, ``.azure``)
    6  the CPU evidence binds the statement: report data = SHA-512("sealgate-statement-v1" || statement), or
       the nonce of a vTPM's quote is the digest of that
    7  every device is named by the statement, by its evidence's digest, and every named one is here
    8  every device is genuine, and answers the nonce that was derived from the client's and the keyset

The order matters for what a refusal says, not for what is accepted: all eight must hold. Whether the genuine
thing is one that we *accept* is the question of ``attest.appraise``.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from datetime import datetime
from typing import Final

from attest import digest
from attest.channel.ohttp import choose_suite, parse_key_configs
from attest.checks import Check, CheckList
from attest.evidence.bundle import CLAUSE as BUNDLE_CLAUSE
from attest.evidence.bundle import Bundle, VerdictToken
from attest.keyset import Keyset
from attest.statement import CLAUSE as STATEMENT_CLAUSE
from attest.statement import Statement, checked_nonce, report_data, vtpm_nonce
from attest.trust import TrustRoots
from attest.verify.cpu import VerifiedCpu, verify_cpu
from attest.verify.devices import require_named, verify_devices
from attest.verify.nvidia import VerifiedGpu

_VERIFIER: Final = object()
"""Held by this module alone: what makes a ``VerifiedEvidence`` mean that ``verify_bundle`` returned it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerifiedEvidence:
    """Genuine evidence and what it says. Made by ``verify_bundle`` only.

    Args:
        statement: what the runtime states.
        statement_digest: digest of the statement's bytes.
        keyset: the keys that the statement vouches for.
        keyset_digest: digest of the keyset's bytes.
        bundle_digest: digest of the whole bundle, by which it may be archived.
        cpu: the verified CPU evidence.
        devices: the verified devices, in the statement's order.
        tokens: second verdicts as they came, not looked at yet.
        nonce: the nonce that was answered, or None if none was asked (then this proves no freshness).
        roots: the roots under which all this was verified.
        verified_at: the time of verification.
        checks: the rows.
    """

    statement: Statement
    statement_digest: str
    keyset: Keyset
    keyset_digest: str
    bundle_digest: str
    cpu: VerifiedCpu
    devices: tuple[VerifiedGpu, ...]
    tokens: tuple[VerdictToken, ...]
    nonce: str | None
    roots: TrustRoots
    verified_at: datetime
    checks: tuple[Check, ...]
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _VERIFIER:
            raise TypeError("VerifiedEvidence is made by verify_bundle only")

    def __repr__(self) -> str:
        devices = f"{len(self.devices)} devices"
        return f"VerifiedEvidence({self.cpu.vendor} {self.cpu.kind}, {devices}, {self.statement_digest})"


def verify_bundle(bundle: bytes, *, nonce: str | None, roots: TrustRoots, now: datetime) -> VerifiedEvidence:
    """Verify a bundle, with all the collateral that judging it takes.

    Args:
        bundle: the document's bytes; at most 4 MiB.
        nonce: the client's own fresh nonce, 64 hex digits. None only to judge a saved file: the result then
            proves no freshness, says so in a row, and no verdict built on it can carry data.
        roots: who may vouch.
        now: the time of verification, aware.

    Raises:
        Malformed: the document or a part of it is not of the format.
        Unsupported: it holds evidence of a kind that this version cannot judge.
        Refused: it is not genuine, or not an answer to this nonce. All three carry ``.checks``.
    """
    checks = CheckList()
    with checks.explaining():
        with checks.under("statement"):
            with checks.step("documents are well formed", BUNDLE_CLAUSE):
                parsed = Bundle.parse(bundle)
                statement = Statement.parse(parsed.statement)
                keyset = Keyset.parse(parsed.keyset)
                checks.passed("documents are well formed", BUNDLE_CLAUSE, got=f"{len(bundle)} bytes")
            _require_nonce(statement, nonce, checks)
            keyset_digest = _require_keyset(statement, parsed.keyset, checks)
            _require_usable_keys(keyset, checks)
        with checks.under("CPU"):
            cpu = verify_cpu(parsed.cpu, roots, now=now, checks=checks)
            _require_binding(cpu, parsed.statement, checks)
        with checks.under("devices"):
            require_named(parsed.devices, statement, checks)
            devices = verify_devices(parsed, statement, roots, now=now, checks=checks)
        return VerifiedEvidence(
            statement=statement,
            statement_digest=digest.sha256_digest(parsed.statement),
            keyset=keyset,
            keyset_digest=keyset_digest,
            bundle_digest=digest.sha256_digest(bundle),
            cpu=cpu,
            devices=devices,
            tokens=parsed.tokens,
            nonce=nonce,
            roots=roots,
            verified_at=now,
            checks=checks.rows,
            made_by=_VERIFIER,
        )


def _require_nonce(statement: Statement, nonce: str | None, checks: CheckList) -> None:
    """An old answer may be about a machine that has changed since: replay."""
    got = statement.nonce or "none"
    if nonce is None:
        checks.noted("nonce", STATEMENT_CLAUSE, expected="not asked: freshness is not proved", got=got)
        return
    expected = checked_nonce(nonce)
    checks.require(
        statement.nonce == expected,
        "nonce-mismatch",
        "statement answers our nonce",
        STATEMENT_CLAUSE,
        expected=expected,
        got=got,
    )


def _require_keyset(statement: Statement, keyset: bytes, checks: CheckList) -> str:
    """Keys beside the statement's are a relay's own: it would read everything."""
    got = digest.sha256_digest(keyset)
    checks.require(
        got == statement.keyset_digest,
        "keyset-digest-mismatch",
        "keyset is the statement's",
        STATEMENT_CLAUSE,
        expected=statement.keyset_digest,
        got=got,
    )
    return got


def _require_usable_keys(keyset: Keyset, checks: CheckList) -> None:
    """Whichever key the sender takes later, it can seal to it: found out before anything is prepared."""
    name, clause = "keys to seal to", "RFC 9458 section 3"
    with checks.step(name, clause):
        suites = [choose_suite(config) for config in parse_key_configs(keyset.ohttp_keys)]
        checks.passed(name, clause, expected="suites that we speak", got=", ".join(map(str, suites)))


def _require_binding(cpu: VerifiedCpu, statement: bytes, checks: CheckList) -> None:
    """A genuine report of somebody else's enclave vouches for nothing here."""
    expected = report_data(statement)
    if cpu.kind == "azure-snp":
        expected = vtpm_nonce(expected)
    checks.require(
        cpu.carried == expected,
        "report-data-mismatch",
        "report binds the statement",
        STATEMENT_CLAUSE,
        expected=expected.hex()[:32] + "...",
        got=cpu.carried.hex()[:32] + "...",
    )
