"""Compiled forms are kept: a bounded number, each for one tenant alone."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.guide.form import ChoiceForm, FormRefused, JsonForm, RegexForm
from runtime.guide.guides import CompiledForm, Guides
from runtime.guide.limits import GuideLimits
from tests.simulators.guided_walk import allowed_tokens, tiny_guides


@pytest.fixture
def compiled_grammars(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every grammar that was really compiled, in order."""
    grammars: list[str] = []
    compile_ = Guides._compile

    def counted(self: Guides, grammar: str) -> CompiledForm:
        grammars.append(grammar)
        return compile_(self, grammar)

    monkeypatch.setattr(Guides, "_compile", counted)
    return grammars


def choice(number: int) -> ChoiceForm:
    return ChoiceForm((f"option {number}",))


async def test_the_same_form_is_compiled_once_for_a_tenant(compiled_grammars: list[str]) -> None:
    guides = tiny_guides()
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
    first = await guides.compiled(JsonForm(schema), tenant="a")
    again = await guides.compiled(JsonForm({**schema, "title": "says nothing"}), tenant="a")
    assert first is again
    assert len(compiled_grammars) == 1


async def test_no_tenant_is_served_faster_for_what_another_compiled(compiled_grammars: list[str]) -> None:
    """P5: whether it was compiled before would show in the time of the first token."""
    guides = tiny_guides()
    first = await guides.compiled(choice(1), tenant="a")
    assert await guides.compiled(choice(1), tenant="b") is not first
    assert len(compiled_grammars) == 2


async def test_a_flood_of_one_tenant_pushes_out_its_own_forms_alone(compiled_grammars: list[str]) -> None:
    guides = tiny_guides(GuideLimits(kept=6, kept_per_tenant=4))
    for number in range(2):
        await guides.compiled(choice(number), tenant="quiet")
    for number in range(20):
        await guides.compiled(choice(number), tenant="loud")
    compiled_grammars.clear()
    for number in range(2):
        await guides.compiled(choice(number), tenant="quiet")
    for number in range(16, 20):
        await guides.compiled(choice(number), tenant="loud")
    assert compiled_grammars == []
    await guides.compiled(choice(15), tenant="loud")
    assert len(compiled_grammars) == 1


async def test_whoever_keeps_most_makes_room_for_new_tenants(compiled_grammars: list[str]) -> None:
    guides = tiny_guides(GuideLimits(kept=4, kept_per_tenant=4))
    for number in range(4):
        await guides.compiled(choice(number), tenant="first")
    for name in ("second", "third"):
        await guides.compiled(choice(0), tenant=name)
    assert repr(guides) == "Guides(4 kept)"
    compiled_grammars.clear()
    await guides.compiled(choice(3), tenant="first")
    await guides.compiled(choice(0), tenant="second")
    assert compiled_grammars == []


async def test_what_was_used_last_is_kept(compiled_grammars: list[str]) -> None:
    guides = tiny_guides(GuideLimits(kept_per_tenant=2))
    for number in (1, 2, 1, 3, 1):
        await guides.compiled(choice(number), tenant="a")
    assert len(compiled_grammars) == 3


async def test_what_was_refused_is_refused_again() -> None:
    guides = tiny_guides()
    for _ in range(2):
        with pytest.raises(FormRefused):
            await guides.compiled(RegexForm("(?=a)"), tenant="a")
    assert repr(guides) == "Guides(0 kept)"


async def test_answers_of_one_form_go_their_own_ways() -> None:
    compiled = await tiny_guides().compiled(ChoiceForm(("ab", "cd")), tenant="a")
    one, two = compiled.guide(), compiled.guide()
    beginnings = allowed_tokens(one)
    one.advance(beginnings[0])
    assert allowed_tokens(two) == beginnings
    assert allowed_tokens(compiled.guide()) == beginnings
