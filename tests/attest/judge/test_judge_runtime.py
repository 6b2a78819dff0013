"""What reference values ask of a statement: the rows, in order and in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attest.checks import CheckList, Outcome
from attest.digest import sha256_digest
from attest.judge.runtime import judge_keyset, judge_statement
from attest.mock.world import MockWorld
from attest.refusal import Refused
from tests.simulators.mock_runtime import FAR, NONCE, NOW

CONTRACT = sha256_digest(b"contract")


@pytest.mark.parametrize("contract", [None, CONTRACT])
def test_the_rows_of_an_honest_statement(mock_world: MockWorld, contract: str | None) -> None:
    """Every member that is judged has its row; a contract, only where there is one."""
    role = "serve" if contract is None else "tune"
    statement = replace(mock_world.stated(NONCE), role=role, contract_digest=contract)  # type: ignore[arg-type]  # a role
    accepted = mock_world.reference(not_after=FAR).runtime
    accepted = replace(accepted, roles=frozenset({"serve", "tune"}), contract_digests=frozenset({CONTRACT}))
    checks = CheckList()
    judge_statement(statement, accepted, checks)
    judge_keyset(mock_world.keyset, NOW, checks)
    clause = "docs/reference/reference-values.md"
    assert [(row.name, row.clause) for row in checks if row.outcome is Outcome.PASSED] == [
        ("role", clause),
        *([] if contract is None else [("contract", clause)]),
        ("region", clause),
        ("runtime image", clause),
        ("policy bundle", clause),
        ("base model", clause),
        ("tokenizer", clause),
        ("keys are in use", "docs/reference/statement.md#keyset"),
    ]
    assert checks.expires == mock_world.keyset.not_after


@pytest.mark.parametrize("asked", [True, False])
def test_the_row_of_a_self_check(mock_world: MockWorld, asked: bool) -> None:
    """Judged where values are named for it, and shown where none are."""
    statement = replace(mock_world.stated(NONCE), self_check=CONTRACT)
    accepted = mock_world.reference(not_after=FAR).runtime
    accepted = replace(accepted, self_checks=frozenset({CONTRACT}) if asked else frozenset())
    checks = CheckList()
    judge_statement(statement, accepted, checks)
    clause = "docs/reference/reference-values.md" if asked else "docs/reference/statement.md#self-check"
    row = list(checks)[-1]
    assert (row.name, row.clause, row.got) == ("self-check", clause, CONTRACT)
    assert row.outcome is (Outcome.PASSED if asked else Outcome.NOTED)


def test_an_embedding_model_that_nobody_named(mock_world: MockWorld) -> None:
    """It is refused where no value is named for it, and accepted in a row of its own where one is."""
    statement = replace(mock_world.stated(NONCE), embedding_model_digest=CONTRACT)
    accepted = mock_world.reference(not_after=FAR).runtime
    with pytest.raises(Refused) as refusal:
        judge_statement(statement, replace(accepted, embedding_model_digests=frozenset()), CheckList())
    assert (refusal.value.code, refusal.value.expected) == ("embedding-model-not-accepted", "none")
    checks = CheckList()
    judge_statement(statement, replace(accepted, embedding_model_digests=frozenset({CONTRACT})), checks)
    assert "embedding model" in {row.name for row in checks}
