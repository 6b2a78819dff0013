"""``sealgate verify TARGET``: fetch or read a bundle, judge it, and show every check up to the failed one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from attest.appraise import AttestedRuntime
from attest.checks import Check
from attest.collateral.cache import Cache
from attest.collateral.source import Offline
from attest.ear_token import sign_ear
from attest.evidence.bundle import MAX_BUNDLE_BYTES
from attest.reference import ReferenceValues
from attest.refusal import Malformed, Refused
from attest.trust import TrustRoots
from gateway.cli.check_table import render_checks, shorten
from gateway.cli.failure import Failure
from gateway.cli.output import Output
from gateway.cli.verify.fetch import fetch_evidence
from gateway.cli.verify.inputs import load, moment_of, usage
from gateway.cli.verify.show import end_document, end_fact, refusal_document, show_refusal
from gateway.identity import signing_key
from gateway.settings import load_settings
from gateway.trust.collateral import source_of
from gateway.trust.judge import Judge


@dataclass(frozen=True)
class Target:
    """What to verify, and as of when.

    Args:
        name: ``http://`` or ``https://`` URL of a runtime, or the path of a saved bundle.
        nonce: 64 hex digits that a saved bundle must answer; for a URL a fresh one is made.
        at: RFC 3339 moment to judge by; None is now.
        save: where to keep a fetched bundle.
        ear: where to write the result as a signed token; written if accepted.
        ear_key: Ed25519 key in PEM that signs it; None is the gateway's own.
    """

    name: str
    nonce: str | None = None
    at: str | None = None
    save: Path | None = None
    ear: Path | None = None
    ear_key: Path | None = None

    @property
    def is_url(self) -> bool:
        """Whether evidence has to be fetched."""
        return self.name.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Judgement:
    """A verdict or a refusal, with its rows."""

    checks: tuple[Check, ...]
    runtime: AttestedRuntime | None = None
    refusal: Refused | None = None


def verify(
    target: Target,
    output: Output,
    *,
    trust: Path | None = None,
    reference: Path | None = None,
    full: bool = False,
) -> None:
    """Judge one runtime and print the tree of checks.

    Args:
        target: what to judge.
        output: where to print.
        trust: trust file; None is the settings'.
        reference: reference values; None is the settings'.
        full: everything about every check.

    Raises:
        Failure: with exit code 10, 20 or 30 if it is refused; 1 if it cannot be reached; 2 for bad options.
        Malformed: if the trust file or the reference values are.
    """
    if target.ear_key is not None and target.ear is None:
        raise usage("--ear-key signs what --ear writes", "name the file: --ear FILE")
    now = moment_of(target.at)
    settings = load_settings()
    roots = load(TrustRoots.load, trust or settings.trust_file, "trust file")
    values = load(ReferenceValues.load, reference or settings.reference_file, "reference values")
    with output.working(f"asking {target.name}" if target.is_url else f"reading {target.name}"):
        bundle, nonce = _evidence(target)
        # A saved file is judged without a network, whatever the settings say: alike today and in ten years.
        offline = Offline(Cache(settings.collateral_dir))
        court = Judge(roots, values, source_of(settings, values) if target.is_url else offline)
        judgement = judge(bundle, nonce, court, now)
    if judgement.runtime is not None and target.ear is not None:
        _write_ear(target.ear, target.ear_key, settings.signing_key_file, judgement.runtime)
    if target.save is not None:
        target.save.write_bytes(court.completed(bundle, now))
    if output.as_json:
        output.document(as_document(judgement, nonce=nonce, now=now))
    else:
        show(judgement, output, now=now, full=full)
    if judgement.refusal is not None:
        raise Failure("", code=judgement.refusal.code, exit_code=judgement.refusal.exit_code)


def judge(bundle: bytes, nonce: str | None, judge: Judge, now: datetime) -> Judgement:
    """Verify and appraise; a refusal is an answer here, not an exception."""
    try:
        runtime = judge.judge(bundle, nonce, now)
    except Refused as refusal:
        return Judgement(checks=refusal.checks, refusal=refusal)
    return Judgement(checks=tuple(runtime.checks), runtime=runtime)


def show(judgement: Judgement, output: Output, *, now: datetime, full: bool = False) -> None:
    """Print the tree and the verdict under it."""
    output.stdout.print(render_checks(judgement.checks, output, now=now, full=full))
    output.say()
    if judgement.refusal is not None:
        show_refusal(judgement.refusal, output)
    elif judgement.runtime is not None:
        _show_verdict(judgement.runtime, output, now)


def as_document(judgement: Judgement, *, nonce: str | None, now: datetime) -> dict[str, Any]:
    """The JSON form: everything in the tree, in full, and the EAR-shaped result."""
    runtime, refusal = judgement.runtime, judgement.refusal
    document: dict[str, Any] = {
        "ok": runtime is not None,
        "judged_at": now.isoformat(),
        "nonce": nonce,
        "checks": [check.as_dict() for check in judgement.checks],
    }
    if runtime is not None:
        document["mock"] = runtime.is_mock
        document["vendor"] = runtime.vendor
        document["statement_digest"] = runtime.statement_digest
        document["keyset_digest"] = runtime.keyset_digest
        document["valid_until"] = runtime.valid_until.isoformat()
        document["ends_first"] = end_document(judgement.checks)
        document["ear"] = runtime.ear()
    if refusal is not None:
        document["refusal"] = refusal_document(refusal)
    return document


def _write_ear(path: Path, key_file: Path | None, own_key: Path, runtime: AttestedRuntime) -> None:
    # A key that was named must be there: a new one in its place would sign what nobody can check.
    key = signing_key.load_or_create(own_key) if key_file is None else signing_key.load(key_file)
    path.write_text(sign_ear(runtime.ear(), key) + "\n")


def _evidence(target: Target) -> tuple[bytes, str | None]:
    """The bundle, and the nonce that it must answer; None if nobody says which."""
    if not target.is_url:
        path = Path(target.name)
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise Malformed("bundle-too-large", f"at most {MAX_BUNDLE_BYTES} bytes")
        return path.read_bytes(), target.nonce
    if target.nonce is not None:
        raise usage("a URL is asked with a fresh nonce; --nonce is for saved bundles", "leave --nonce out")
    nonce = secrets.token_hex(32)
    return fetch_evidence(target.name, nonce), nonce


def _show_verdict(runtime: AttestedRuntime, output: Output, now: datetime) -> None:
    good = output.symbols.good
    output.say(f"[good]{good} verified[/] {output.symbols.dash} {_vendor(runtime)}")
    output.facts(
        [
            *end_fact(runtime.checks, now),
            ("statement", shorten(runtime.statement_digest)),
            ("keys", shorten(runtime.keyset_digest)),
        ]
    )


def _vendor(runtime: AttestedRuntime) -> str:
    if runtime.is_mock:
        return "[mock] MOCK [/] a software TEE: it protects nothing from the machine that it runs on"
    return escape(f"{runtime.vendor} hardware")
