"""One form is compiled at a time, tenants take turns, and a compiler that hangs costs new forms alone."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator

import pytest

from runtime.guide.form import ChoiceForm, FormRefused, FormsBusy, RegexForm
from runtime.guide.guides import CompiledForm, Guides
from runtime.guide.limits import GuideLimits
from tests.simulators.guided_walk import allowed_tokens, tiny_guides

WAIT_S = 10


class HeldCompiler:
    """The compiler, which waits to be let go on before each form.

    Args:
        monkeypatch: puts it in.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began: list[str] = []
        self._begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._permits = threading.Semaphore(0)
        compile_ = Guides._compile

        def held(guides: Guides, grammar: str) -> CompiledForm:
            self.began.append(grammar)
            self._begun.put(None)
            assert self._permits.acquire(timeout=WAIT_S)
            return compile_(guides, grammar)

        monkeypatch.setattr(Guides, "_compile", held)

    def release(self, forms: int = 1) -> None:
        """Let so many be compiled."""
        for _ in range(forms):
            self._permits.release()

    async def next(self) -> None:
        """One more was begun."""
        await asyncio.to_thread(self._begun.get, timeout=WAIT_S)


@pytest.fixture
async def compiler(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HeldCompiler]:
    held = HeldCompiler(monkeypatch)
    yield held
    held.release(100)


def asked(guides: Guides, text: str, tenant: str) -> asyncio.Task[CompiledForm]:
    return asyncio.create_task(guides.compiled(ChoiceForm((text,)), tenant=tenant))


async def test_a_tenant_with_many_forms_lets_others_in_between(compiler: HeldCompiler) -> None:
    guides = tiny_guides()
    loud = [asked(guides, "loud 0", "loud")]
    await compiler.next()
    loud += [asked(guides, f"loud {number}", "loud") for number in range(1, 6)]
    await asyncio.sleep(0.05)
    quiet = asked(guides, "quiet", "quiet")
    await asyncio.sleep(0.05)
    compiler.release(2)
    await asyncio.wait_for(quiet, WAIT_S)
    assert sum("quiet" in grammar for grammar in compiler.began[:3]) == 1
    assert sum(task.done() for task in loud) <= 2
    compiler.release(10)
    await asyncio.gather(*loud)


async def test_forms_that_were_given_up_are_not_compiled(compiler: HeldCompiler) -> None:
    """Who asks and hangs up again and again keeps one thread busy, with one form at a time."""
    guides = tiny_guides()
    for number in range(20):
        task = asked(guides, f"form {number}", f"tenant {number % 3}")
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(compiler.began) <= 1
    compiler.release(2)
    assert allowed_tokens((await asked(guides, "wanted", "other")).guide())
    assert len(compiler.began) <= 2


async def test_a_compiler_that_hangs_costs_new_forms_alone(compiler: HeldCompiler) -> None:
    """Whoever has a form already goes on with it; others hear in time that theirs is not to be had now."""
    guides = tiny_guides(GuideLimits(patience_s=0.2))
    compiler.release()
    kept = await asked(guides, "kept", "a")
    await compiler.next()
    hanging = asked(guides, "hangs", "a")
    await compiler.next()
    behind = [asked(guides, "behind", tenant) for tenant in ("a", "b", "c")]
    for task in (hanging, *behind):
        with pytest.raises(FormsBusy):
            await asyncio.wait_for(task, WAIT_S)
    assert await asked(guides, "kept", "a") is kept
    assert len(compiler.began) == 2
    compiler.release(10)
    assert await asked(guides, "behind", "b")


async def test_a_form_that_is_refused_gives_the_turn_back() -> None:
    guides = tiny_guides()
    with pytest.raises(FormRefused):
        await guides.compiled(RegexForm("(?=a)"), tenant="t")
    async with asyncio.timeout(WAIT_S):
        assert await guides.compiled(ChoiceForm(("a",)), tenant="t")
