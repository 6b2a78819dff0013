"""Is what the runtime states, and are the keys that it vouches for, what we accept?"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from attest.accepted.runtime import RuntimeReference
from attest.checks import CheckList
from attest.judge.one_of import one_of
from attest.keyset import Keyset, KeysetState
from attest.statement import Statement

_SELF_CHECK: Final = "docs/reference/statement.md#self-check"


def judge_statement(statement: Statement, accepted: RuntimeReference, checks: CheckList) -> None:
    """Judge the statement's members, claim by claim.

    Raises:
        Refused: ``role-not-accepted`` and so on.
    """
    one_of(checks, "role-not-accepted", "role", statement.role, accepted.roles)
    if statement.contract_digest is not None:
        one_of(
            checks, "contract-not-accepted", "contract", statement.contract_digest, accepted.contract_digests
        )
    claims = (
        ("region-not-accepted", "region", statement.region, accepted.regions),
        ("image-not-accepted", "runtime image", statement.runtime_image, accepted.images),
        ("policy-not-accepted", "policy bundle", statement.policy_digest, accepted.policy_digests),
        ("model-not-accepted", "base model", statement.base_model_digest, accepted.base_model_digests),
        ("tokenizer-not-accepted", "tokenizer", statement.tokenizer_digest, accepted.tokenizer_digests),
    )
    for code, name, got, listed in claims:
        one_of(checks, code, name, got, listed)
    _judge_embedding_model(statement.embedding_model_digest, accepted, checks)
    _judge_self_check(statement.self_check, accepted, checks)


def _judge_embedding_model(stated: str | None, accepted: RuntimeReference, checks: CheckList) -> None:
    """Weights that read prompts are accepted by name or not at all; to have none is always accepted."""
    if stated is not None:
        listed = accepted.embedding_model_digests or frozenset({"none"})
        one_of(checks, "embedding-model-not-accepted", "embedding model", stated, listed)


def _judge_self_check(stated: str | None, accepted: RuntimeReference, checks: CheckList) -> None:
    got = stated or "none"
    if accepted.self_checks:
        one_of(checks, "self-check-not-accepted", "self-check", got, accepted.self_checks)
    else:
        checks.noted("self-check", _SELF_CHECK, expected="no reference value", got=got)


def judge_keyset(keyset: Keyset, now: datetime, checks: CheckList) -> None:
    """Require that the keys are in use at ``now``.

    Raises:
        Refused: ``keyset-pending``, ``keyset-stale``.
    """
    state = keyset.state(now)
    checks.require(
        state is KeysetState.ACTIVE,
        "keyset-pending" if state is KeysetState.PENDING else "keyset-stale",
        "keys are in use",
        "docs/reference/statement.md#keyset",
        expected=f"{keyset.not_before.isoformat()} to {keyset.not_after.isoformat()}",
        got=now.isoformat(),
        expires=keyset.not_after,
    )
