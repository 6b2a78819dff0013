"""Compiles forms, keeps what was compiled, and hands out a guide per answer.

What is kept is kept per tenant: whether a form was compiled before shows in the time of the first token, and
no tenant may learn that of another's. A guide begins as a copy of what is kept and shares no memory with it,
so that the states which one answer explores do not speed up another's either.

Compiling is work that its sender has not been admitted for yet, so there is one thread for it, apart from all
others: a flood of forms, asked for and given up again, takes one core at most and leaves nothing running
behind. Tenants take turns, one form each; whoever waits too long hears so. A compiler that never came back
would cost that thread and everybody's new forms, and no other answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakValueDictionary

import tokenizers
from llguidance import LLMatcher, LLTokenizer

from runtime.guide.form import Form, FormRefused, FormsBusy
from runtime.guide.grammar import grammar_of
from runtime.guide.guide import GrammarGuide
from runtime.guide.limits import GuideLimits


def vocabulary(backend: tokenizers.Tokenizer, eos_ids: frozenset[int]) -> LLTokenizer:
    """The library's view of a model's tokens: their bytes, which of them are special, which end an answer.

    Special tokens match no text, so that no form can contain one; tokens that were added and are not special
    are the text they show.
    """
    return LLTokenizer(backend.to_str(), eos_token=sorted(eos_ids))


@dataclass(frozen=True, repr=False)
class CompiledForm:
    """A form that guides can be made of."""

    matcher: LLMatcher

    def guide(self) -> GrammarGuide:
        """A guide for one answer."""
        return GrammarGuide(self.matcher.deep_copy())


class Guides:
    """Makes guides for one model.

    Args:
        tokens: of the model, see ``vocabulary``.
        limits: what a form may cost.
    """

    def __init__(self, tokens: LLTokenizer, limits: GuideLimits | None = None) -> None:
        self._tokens = tokens
        self._limits = limits or GuideLimits()
        self._kept: dict[str, OrderedDict[str, CompiledForm]] = {}
        self._turn = asyncio.Lock()
        self._own_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="guides")

    def __repr__(self) -> str:
        return f"Guides({sum(map(len, self._kept.values()))} kept)"

    async def compiled(self, form: Form, *, tenant: str) -> CompiledForm:
        """The form, compiled now or before for this tenant.

        Raises:
            FormRefused: it cannot be enforced, or costs too much.
            FormsBusy: it was not compiled in time.
        """
        grammar = await asyncio.to_thread(grammar_of, form, most=self._limits.grammar_bytes)
        if (kept := self._found(tenant, grammar)) is not None:
            return kept
        own = self._own_turns.setdefault(tenant, asyncio.Lock())
        try:
            # A lock is first come, first served; of each tenant there is one at the common one.
            async with asyncio.timeout(self._limits.patience_s), own, self._turn:
                if (kept := self._found(tenant, grammar)) is not None:
                    return kept
                loop = asyncio.get_running_loop()
                compiled = await loop.run_in_executor(self._compiler, self._compile, grammar)
        except TimeoutError:
            raise FormsBusy from None
        self._keep(tenant, grammar, compiled)
        return compiled

    def _found(self, tenant: str, grammar: str) -> CompiledForm | None:
        own = self._kept.get(tenant)
        if own is None or grammar not in own:
            return None
        own.move_to_end(grammar)
        return own[grammar]

    def _compile(self, grammar: str) -> CompiledForm:
        matcher = LLMatcher(
            self._tokens,
            LLMatcher.grammar_from_lark(grammar),
            log_level=0,
            limits=self._limits.of_parser(),
        )
        matcher.compute_bitmask()  # most of what makes a form too costly shows at its first token
        if matcher.is_error():
            raise FormRefused(_explained(matcher.get_error()))
        return CompiledForm(matcher)

    def _keep(self, tenant: str, grammar: str, compiled: CompiledForm) -> None:
        own = self._kept.setdefault(tenant, OrderedDict())
        own[grammar] = compiled
        if len(own) > self._limits.kept_per_tenant:
            own.popitem(last=False)
        while sum(map(len, self._kept.values())) > self._limits.kept:
            most = max(self._kept, key=lambda each: len(self._kept[each]))
            self._kept[most].popitem(last=False)
            if not self._kept[most]:
                del self._kept[most]


_REASONS = (
    ("nsatisfiable", "Nothing satisfies the schema."),
    ("NoExtension", "Nothing satisfies the form."),
    ("oneOf", "The branches of a oneOf overlap, and that is not enforced: use anyOf."),
    ("nable to determine", "The form is too complex."),
    ("disjoint", "Expressions of patternProperties overlap, and that is not enforced."),
    ("regex", "A regular expression is malformed, or looks around or back, which is not enforced."),
    ("ref", "A $ref does not lead to a schema in the same document."),
    *(
        (word, "The form is too complex.")
        for word in ("too", "max is", "limit", "fuel", "TooComplex", "recursion")
    ),
)


def _explained(error: str) -> str:
    """Our words for the library's, which may quote the form."""
    return next((reason for word, reason in _REASONS if word in error), "The form cannot be enforced.")
