"""``sealgate reference init``: draft reference values from a runtime's evidence, everything pinned."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path
from typing import Final

from attest.checks import Outcome
from attest.collateral.cache import Cache
from attest.collateral.source import Offline
from attest.draft import Draft, draft_reference
from attest.evidence.bundle import MAX_BUNDLE_BYTES
from attest.reference import ReferenceValues
from attest.refusal import Malformed
from attest.trust import TrustRoots
from attest.verify.bundle import VerifiedEvidence, verify_bundle
from gateway.cli.failure import Failure
from gateway.cli.output import Output
from gateway.cli.verify.fetch import fetch_evidence
from gateway.cli.verify.inputs import load, moment_of
from gateway.settings import load_settings
from gateway.trust.collateral import source_of
from gateway.trust.judge import completed

_HEAD: Final = """\
# Drafted by 'sealgate reference init' from evidence that was genuine on {moment:%Y-%m-%d %H:%M} UTC.
# It accepts exactly that runtime. Evidence says what runs, not what should: compare every digest with what
# your own build says before you use this, and widen nothing that you cannot name.

"""


def init(source: str, draft: Draft, *, out: Path | None, trust: Path | None, at: str | None) -> None:
    """Verify evidence, and write values that accept exactly it.

    Args:
        source: a runtime's URL, or a saved bundle.
        draft: name and life of the values.
        out: file to write, never one that is there; None is standard output.
        trust: trust file; None is the settings'.
        at: RFC 3339 moment to judge by; None is now.

    Raises:
        Refused: the evidence is not genuine under the trust file.
        Failure: ``not_ours`` if ``out`` is there already.
    """
    output = Output()
    settings = load_settings()
    now = moment_of(at)
    roots = load(TrustRoots.load, trust or settings.trust_file, "trust file")
    verified = _verified(source, roots, now)
    values = draft_reference(verified, draft, now=now)
    text = _HEAD.format(moment=now) + values.toml()
    ReferenceValues.parse(text.encode())  # what is written can be read
    if out is None:
        print(text, end="")
        return
    try:
        with out.open("x") as file:
            file.write(text)
    except FileExistsError as error:
        raise Failure(
            f"{out} is there already and is left as it is", "name another file", code="not_ours"
        ) from error
    unsure = [row.name for row in verified.checks if row.outcome is Outcome.NOTED]
    output.say(f"{out} accepts exactly this runtime until {values.not_after:%Y-%m-%d}")
    if unsure:
        output.say(f"[note]not proved by the evidence: {', '.join(dict.fromkeys(unsure))}[/]")


def _verified(source: str, roots: TrustRoots, now: datetime) -> VerifiedEvidence:
    settings = load_settings()
    if source.startswith(("http://", "https://")):
        nonce = secrets.token_hex(32)
        bundle = completed(fetch_evidence(source, nonce), source_of(settings), now)
        return verify_bundle(bundle, nonce=nonce, roots=roots, now=now)
    path = Path(source)
    if path.stat().st_size > MAX_BUNDLE_BYTES:
        raise Malformed("bundle-too-large", f"at most {MAX_BUNDLE_BYTES} bytes")
    bundle = completed(path.read_bytes(), Offline(Cache(settings.collateral_dir)), now)
    return verify_bundle(bundle, nonce=None, roots=roots, now=now)
