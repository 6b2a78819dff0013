"""``sealgate verify``: fetch or read evidence, judge it, and show every check up to the one that failed."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
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
from gateway.cli.check_table import render_checks, shorten, valid_for, when
from gateway.cli.failure import Exit, Failure
from gateway.cli.output import Output
from gateway.errors import RuntimeRefused, RuntimeUnreachable
from gateway.identity import signing_key
from gateway.settings import load_settings
from gateway.trust.collateral import source_of
from gateway.trust.judge import Judge
from gateway.upstream import outer


@dataclass(frozen=True)
class Target:
    """What to verify, and as of when.

    Args:
        name: ``http://`` or ``https://`` URL of a runtime, or the path of a saved bundle.
        nonce: 64 hex digits that a saved bundle must answer; for a URL a fresh one is made.
        at: RFC 3339 moment to judge by; None is now.
        save: where to keep a fetched bundle.
    """

    name: str
    nonce: str | None = None
    at: str | None = None
    save: Path | None = None

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
    *,
    trust: Path | None = None,
    reference: Path | None = None,
    ear: Path | None = None,
    as_json: bool = False,
) -> None:
    """Judge one runtime and print the tree of checks.

    Args:
        target: what to judge.
        trust: trust file; None is the settings'.
        reference: reference values; None is the settings'.
        ear: where to write the result as a token, signed by the gateway's own key; written if accepted.
        as_json: one document instead of a tree.

    Raises:
        Failure: with exit code 10, 20 or 30 if it is refused; 1 if it cannot be reached; 2 for bad options.
        Malformed: if the trust file or the reference values are.
    """
    output = Output(as_json=as_json)
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
    if judgement.runtime is not None and ear is not None:
        key = signing_key.load_or_create(settings.signing_key_file)
        ear.write_text(sign_ear(judgement.runtime.ear(), key) + "\n")
    if target.save is not None:
        target.save.write_bytes(court.completed(bundle, now))
    if as_json:
        output.document(as_document(judgement, nonce=nonce, now=now))
    else:
        show(judgement, output, now=now)
    if judgement.refusal is not None:
        raise Failure("", code=judgement.refusal.code, exit_code=judgement.refusal.exit_code)


def judge(bundle: bytes, nonce: str | None, judge: Judge, now: datetime) -> Judgement:
    """Verify and appraise; a refusal is an answer here, not an exception."""
    try:
        runtime = judge.judge(bundle, nonce, now)
    except Refused as refusal:
        return Judgement(checks=refusal.checks, refusal=refusal)
    return Judgement(checks=tuple(runtime.checks), runtime=runtime)


def show(judgement: Judgement, output: Output, *, now: datetime) -> None:
    """Print the table and the verdict under it."""
    output.stdout.print(render_checks(judgement.checks, output, now=now))
    output.say()
    if judgement.refusal is not None:
        show_refusal(judgement.refusal, output)
    elif judgement.runtime is not None:
        _show_verdict(judgement.runtime, output, now)


def as_document(judgement: Judgement, *, nonce: str | None, now: datetime) -> dict[str, Any]:
    """The JSON form: everything in the table, in full, and the EAR-shaped result."""
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
        document["ear"] = runtime.ear()
    if refusal is not None:
        document["refusal"] = refusal_document(refusal)
    return document


def refusal_document(refusal: Refused) -> dict[str, Any]:
    """The JSON form of a refusal."""
    return {
        "code": refusal.code,
        "clause": refusal.clause,
        "expected": refusal.expected,
        "got": refusal.got,
        "message": str(refusal),
        "exit_code": refusal.exit_code,
    }


def fetch_evidence(url: str, nonce: str) -> bytes:
    """Ask a runtime for evidence that answers ``nonce``.

    Raises:
        Failure: ``runtime_unreachable`` (exit 1), or a refusal's code if it answers with something else.
    """
    patience = outer.Patience()
    request = outer.evidence_request(url.rstrip("/"), nonce, patience)
    deadline = time.monotonic() + patience.evidence_s
    try:
        with outer.asking_for_evidence(), httpx2.HTTPTransport() as transport:
            response = transport.handle_request(request)
            try:
                outer.check_evidence_head(response.status_code, response.headers)
                return _read(response, deadline)
            finally:
                response.close()
    except RuntimeUnreachable as error:
        raise Failure(
            error.detail,
            f"nothing usable answers at {url}: is the runtime up? ('sealgate up' starts one)",
            code=error.code,
        ) from error
    except RuntimeRefused as error:
        raise Failure(
            f"refused: {error.detail}",
            "what answers there does not behave like a Sealgate runtime",
            code=error.refusal or error.code,
            exit_code=Exit.REFUSED,
        ) from error


def _read(response: httpx2.Response, deadline: float) -> bytes:
    evidence = bytearray()
    for data in response.iter_raw():
        evidence += data
        outer.check_evidence_size(len(evidence))
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(evidence)


def _evidence(target: Target) -> tuple[bytes, str | None]:
    """The bundle, and the nonce that it must answer; None if nobody says which."""
    if not target.is_url:
        path = Path(target.name)
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise Malformed("bundle-too-large", f"at most {MAX_BUNDLE_BYTES} bytes")
        return path.read_bytes(), target.nonce
    if target.nonce is not None:
        raise Failure(
            "a URL is asked with a fresh nonce; --nonce is for saved bundles",
            "leave --nonce out",
            code="usage",
            exit_code=Exit.USAGE,
        )
    nonce = secrets.token_hex(32)
    return fetch_evidence(target.name, nonce), nonce


def load(reader: Any, path: Path, what: str) -> Any:
    """A file of the operator's, or a failure that says where it was looked for."""
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise Failure(
            f"no {what} at {path}",
            "there is no default that accepts: write one (docs/reference/), or let 'sealgate up' write the "
            "development pair for the mock TEE of this machine",
            code="no_trust",
        ) from error


def moment_of(text: str | None) -> datetime:
    """The moment to judge by: an RFC 3339 text, or now."""
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _bad_moment() from error
    if moment.tzinfo is None:
        raise _bad_moment()
    return moment.astimezone(UTC)


def _bad_moment() -> Failure:
    return Failure(
        "--at takes an RFC 3339 moment with its offset",
        "for example --at 2026-03-01T12:00:00Z",
        code="usage",
        exit_code=Exit.USAGE,
    )


def _show_verdict(runtime: AttestedRuntime, output: Output, now: datetime) -> None:
    good = output.symbols.good
    output.say(f"[good]{good} verified[/] {output.symbols.dash} {_vendor(runtime)}")
    output.facts(
        [
            ("valid for", f"{valid_for(runtime.valid_until, now)} (until {when(runtime.valid_until)})"),
            ("statement", shorten(runtime.statement_digest)),
            ("keys", shorten(runtime.keyset_digest)),
        ]
    )


def _vendor(runtime: AttestedRuntime) -> str:
    if runtime.is_mock:
        return "[mock] MOCK [/] a software TEE: it protects nothing from the machine that it runs on"
    return escape(f"{runtime.vendor} hardware")


def show_refusal(refusal: Refused, output: Output) -> None:
    """Print why nothing may be sent."""
    output.say(f"[bad]{output.symbols.bad} refused: {escape(refusal.code)}[/]")
    facts = [("expected", refusal.expected), ("came", refusal.got), ("rule", refusal.clause)]
    if isinstance(refusal, Malformed):
        facts.insert(0, ("because", refusal.reason))
    output.facts([(name, escape(value)) for name, value in facts if value])
    output.say("[faint]nothing after the failed check was looked at, and nothing may be sent[/]")
