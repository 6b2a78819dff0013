"""Put a mutant into the module that is already imported, in a process that was forked to be thrown away.

Importing and collecting again for each mutant would take a second; exchanging the code of functions takes
none, and whoever has imported a function sees its mutant.
"""

from __future__ import annotations

import ast
import functools
import gc
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.mutation.operators import Mutant, names_in, targets_of


@dataclass(frozen=True, slots=True)
class Mutated:
    """One mutant, ready to be put into its module.

    Args:
        module: as imported.
        tree: of the module's source, whose place the mutant takes.
        mutant: the change.
        caches: to be forgotten, lest an answer of the original be given.
    """

    module: types.ModuleType
    tree: ast.Module
    mutant: Mutant
    caches: tuple[Any, ...]

    def nothing(self) -> Mutated:
        """The same exchange without a change: what a test says of it is not about the mutant."""
        return replace(self, mutant=replace(self.mutant, changed=self.mutant.original))

    def put(self) -> None:
        """Change the module as the mutant says.

        Raises:
            Exception: whatever the changed module raises when it is executed: it could never be imported.
        """
        self.mutant.place.put(self.mutant.changed)
        if self.mutant.kind == "module":
            _rebind(self.module, self.tree, self.mutant)
        else:
            _exchange(self.module, self.tree, self.mutant)
            _rebind(self.module, self.tree, self.mutant)
        for cache in self.caches:
            cache.cache_clear()


def caches_of(prefix: str) -> tuple[Any, ...]:
    """Every cache of a function in modules of that name."""
    return tuple(
        thing
        for thing in gc.get_objects()
        if isinstance(thing, functools._lru_cache_wrapper) and thing.__module__.startswith(prefix)
    )


def _exchange(module: types.ModuleType, tree: ast.Module, mutant: Mutant) -> None:
    scratch = types.ModuleType(module.__name__)
    scratch.__dict__.update(
        {
            name: getattr(module, name)
            for name in ("__file__", "__package__", "__spec__", "__path__")
            if hasattr(module, name)
        }
    )
    sys.modules[module.__name__] = scratch  # dataclasses look their module up
    try:
        exec(compile(tree, module.__file__ or "", "exec"), scratch.__dict__)  # noqa: S102 - our own source
    finally:
        sys.modules[module.__name__] = module
    changed = dict(_functions(vars(scratch), module.__name__))
    for name, function in _functions(vars(module), module.__name__):
        other = changed.get(name)
        if other is None:
            continue
        if function.__code__.co_freevars == other.__code__.co_freevars:
            function.__code__ = other.__code__
        if mutant.kind == "default":
            function.__defaults__, function.__kwdefaults__ = other.__defaults__, other.__kwdefaults__
    if mutant.kind == "default":
        _exchange_constants(module, scratch)


def _exchange_constants(module: types.ModuleType, scratch: types.ModuleType) -> None:
    """Text and numbers that hang at the classes themselves."""
    for name, kind in vars(module).items():
        if not isinstance(kind, type) or kind.__module__ != module.__name__:
            continue
        for attribute, value in list(vars(kind).items()):
            other = vars(getattr(scratch, name)).get(attribute)
            if isinstance(value, str | int | bytes) and not attribute.startswith("__") and other != value:
                setattr(kind, attribute, other)


def _functions(members: dict[str, Any], module: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, member in list(members.items()):
        if isinstance(member, type) and member.__module__ == module:
            yield from _functions(dict(vars(member)), module, f"{prefix}{name}.")
            continue
        for part, function in _plain(member):
            if isinstance(function, types.FunctionType) and function.__module__ == module:
                yield f"{prefix}{name}{part}", function


def _plain(member: Any) -> Iterator[tuple[str, Any]]:
    """The functions in a member, out of their wrappers."""
    match member:
        case property():
            yield "", member.fget
        case classmethod() | staticmethod():
            yield "", member.__func__
        case functools.cached_property():
            yield "", member.func
        case _:
            while hasattr(member, "__wrapped__"):
                member = member.__wrapped__
            yield "", member


def _rebind(module: types.ModuleType, tree: ast.Module, mutant: Mutant) -> None:
    """Evaluate the changed assignment and those that use its names; hand the values to importers.

    Of a changed function, those assignments that call it.
    """
    stale = {mutant.function.partition(".")[0]} - {""}
    for statement in tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        if not (
            statement.lineno <= mutant.line <= (statement.end_lineno or 0) or names_in(statement) & stale
        ):
            continue
        value = eval(  # noqa: S307 - our own source
            compile(ast.Expression(statement.value), module.__file__ or "", "eval"), module.__dict__
        )
        for target in targets_of(statement):
            stale |= names_in(target)
            if isinstance(target, ast.Name):
                _hand_out(module, target.id, value)
            elif isinstance(target, ast.Tuple):
                for part, of_part in zip(target.elts, value, strict=True):
                    _hand_out(module, ast.unparse(part), of_part)


def _hand_out(module: types.ModuleType, name: str, value: Any) -> None:
    """Give ``name`` its value here and where the product has imported it; tests keep what they know."""
    before = getattr(module, name)
    for other in list(sys.modules.values()):
        if other is module or (
            getattr(other, "__name__", "").startswith("attest") and getattr(other, name, None) is before
        ):
            setattr(other, name, value)
