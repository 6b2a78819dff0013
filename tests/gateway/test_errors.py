"""Errors are documented, shaped as OpenAI's, and tell the stock client the truth about repeating."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gateway import errors
from gateway.errors import GatewayError

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "reference" / "errors.md"


def _kinds(kind: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    found = [kind] if "code" in vars(kind) else []
    return found + [leaf for child in kind.__subclasses__() for leaf in _kinds(child)]


KINDS = {kind.code: kind for kind in _kinds()}


def _rows() -> dict[str, list[str]]:
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return {code: [cell.strip() for cell in cells.split("|")] for code, cells in lines}


def test_the_document_lists_exactly_the_codes_that_exist() -> None:
    assert set(_rows()) == set(KINDS)


@pytest.mark.parametrize("code", sorted(KINDS))
def test_each_row_of_the_document_says_what_the_code_does(code: str) -> None:
    kind = KINDS[code]
    status, _, what_to_do, sent, retry = _rows()[code]
    assert status == str(kind.status)
    assert what_to_do == kind.what_to_do
    assert sent == ("no" if kind.nothing_sent else "maybe")
    assert retry == ("true" if kind.worth_retrying else "false")


def test_every_error_that_the_gateway_raises_has_a_code() -> None:
    """Each ``raise X(...)`` of one of the tree's classes names a class that an application can match on."""
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    raised = set()
    for source in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in tree:
                raised.add(node.func.id)
    assert raised, "the search found nothing, so it would find nothing wrong either"
    documented = {kind.__name__ for kind in KINDS.values()}
    assert raised & {kind for kind in tree if issubclass(vars(errors)[kind], GatewayError)} <= documented


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_may_have_run_is_never_worth_repeating(kind: type[GatewayError]) -> None:
    """The stock client repeats a 5xx unless it is told not to; nothing may be sent twice."""
    error = kind("What happened.")
    if not kind.nothing_sent:
        assert error.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_shape_is_openais(kind: type[GatewayError]) -> None:
    body = kind("What happened.", param="p", refusal="some-check").body("req_1")
    assert set(body) == {"error"}
    error = body["error"]
    assert (error["code"], error["param"], error["refusal"], error["request_id"]) == (
        kind.code,
        "p",
        "some-check",
        "req_1",
    )
    assert error["message"] == f"What happened. {kind.what_to_do}"
    assert error["type"] in {"invalid_request_error", "permission_error", "server_error"}


def test_a_body_error_of_an_unknown_code_is_still_the_callers() -> None:
    assert errors.invalid_body("never-heard-of", "Wrong.", None).status == 400
