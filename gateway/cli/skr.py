"""``sealgate reference export-skr`` and ``import-skr``: Azure's key release policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attest import strict_toml
from attest.keyrelease.claim_places import Accepted
from attest.keyrelease.reference_rules import Imported, export_rules, import_rule
from attest.keyrelease.release_policy import MAX_POLICY_BYTES, export_policy, parse_policy
from attest.reference import ReferenceValues
from attest.refusal import Malformed
from gateway.cli.failure import Exit, Failure
from gateway.cli.output import Output
from gateway.cli.verify.inputs import load
from gateway.settings import load_settings


def export_skr(
    path: Path, *, reference: Path | None, issuer: str | None, policy_hashes: list[str], kind: str
) -> None:
    """Write the release policy of reference values.

    Args:
        path: file to write.
        reference: reference values; None is the settings'.
        issuer: of attestation tokens; None is the reference values' quorum's.
        policy_hashes: accepted policies of that instance; none is the quorum's.
        kind: ``raw`` or ``azurevm``.

    Raises:
        Failure: usage, where neither options nor quorum name an instance and its policies.
    """
    output = Output()
    values: ReferenceValues = load(
        ReferenceValues.load, reference or load_settings().reference_file, "reference values"
    )
    quorum = values.quorum
    address = issuer or (None if quorum is None else quorum.maa_issuer)
    hashes = frozenset(policy_hashes) or (frozenset() if quorum is None else quorum.maa_policy_hashes)
    if address is None or not hashes:
        raise Failure(
            "which instance of Azure Attestation, and which of its policies, may vouch?",
            "name --issuer and --policy-hash, or a [quorum] with them in the reference values",
            code="usage",
            exit_code=Exit.USAGE,
        )
    exported = export_rules(values, address, hashes, kind=kind)
    path.write_bytes(export_policy(exported.rules))
    output.say(f"{path}: {len(exported.rules)} rules")
    output.say(f"[note]the key store does not ask for: {', '.join(exported.unsaid)}[/]")


def import_skr(path: Path, *, as_json: bool = False) -> None:
    """Show what a release policy accepts, in the words of reference values.

    Raises:
        Refused: ``release-policy-*`` for a policy with anything that reference values cannot say.
    """
    output = Output(as_json=as_json)
    if path.stat().st_size > MAX_POLICY_BYTES:
        raise Malformed("release-policy-too-large", f"at most {MAX_POLICY_BYTES} bytes")
    rules = [import_rule(rule) for rule in parse_policy(path.read_bytes())]
    if as_json:
        output.document({"rules": [_as_dict(rule) for rule in rules]})
        return
    for rule in rules:
        table, key = ("snp", "measurements") if rule.tee == "sevsnpvm" else ("tdx", "mrtds")
        quorum = {
            "services": ["maa"],
            "maa_issuer": rule.issuer,
            "maa_policy_hashes": sorted(rule.policy_hashes),
        }
        values = {name: _plain(value) for name, value in rule.values.items()}
        print(strict_toml.dump({table: {key: sorted(rule.measurements), **values}, "quorum": quorum}))
        print(f"# the policy leaves open: {', '.join(f'{table}.{key}' for key in rule.unsaid)}")


def _as_dict(rule: Imported) -> dict[str, Any]:
    return {
        "issuer": rule.issuer,
        "kind": rule.kind,
        "tee": rule.tee,
        "policy_hashes": sorted(rule.policy_hashes),
        "measurements": sorted(rule.measurements),
        "values": {name: _plain(value) for name, value in rule.values.items()},
        "unsaid": list(rule.unsaid),
    }


def _plain(value: Accepted) -> bool | list[Any]:
    return value if isinstance(value, bool) else sorted(value)
