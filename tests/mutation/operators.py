"""Small wrong changes to a module's syntax tree: what a programmer, or an attacker with a patch, would try.

Every change is made in place, compiled, and taken back. What only people read is left alone: docstrings,
annotations, ``repr``, and the words of refusals and of the rows of checks (``expected``, ``got``, clauses,
roles, reasons). The codes of refusals are changed, for programs read them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

PLAIN_TEXT_KEYWORDS: Final = frozenset(
    {"expected", "got", "clause", "what", "role", "reason", "field", "field_name", "offset", "repr"}
)
_REFUSALS: Final = frozenset({"Refused", "Unsupported", "Malformed"})
_TEXT_CALLS: Final = frozenset({"ValueError", "TypeError", "RuntimeError", "_role"})
_ROWS: Final = {"passed": 0, "noted": 0, "step": 0, "under": 0, "require": 2, "zeros": 1}
_UNMUTATED_FUNCTIONS: Final = frozenset({"__repr__", "__str__", "shown"})
_TEXT_NAMES: Final = re.compile(r"__all__|clause|expected|got|_*CLAUSE|_*[A-Z0-9_]*_CLAUSE")
_CODE: Final = re.compile(r"[a-z0-9]*(-[a-z0-9]+)+-?")

_COMPARE: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BINARY: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Pow: ast.Mult,
}
_CALLS: Final = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "startswith": "endswith",
    "endswith": "startswith",
    "removeprefix": "removesuffix",
    "fullmatch": "match",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node hangs: a field of its parent, or an item of it."""

    parent: ast.AST
    field: str
    index: int | None

    def put(self, node: Any) -> None:
        """Hang ``node`` there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    Args:
        line: of the changed node.
        statement_line: of the statement that holds it, which is what tests are seen to execute.
        end_line: last line of the changed node.
        function: qualified name, empty at the module's level.
        kind: ``code`` in a function's body, ``default`` in its defaults or a class's fields, ``module`` in an
            assignment of the module.
        label: what was changed into what.
        original: what hangs there.
        changed: what is to hang there.
        place: where.
        at_import: whether an assignment of the module uses the function: any test of the module may see it.
    """

    line: int
    statement_line: int
    end_line: int
    function: str
    kind: str
    label: str
    original: Any
    changed: Any
    place: Place
    at_import: bool


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """Every change to a module, in the order of its text."""
    refusing = _REFUSALS | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and isinstance(node.returns, ast.Name)
        and node.returns.id in _REFUSALS
    }
    assignments = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    at_import = {name for node in assignments if node.value is not None for name in names_in(node.value)}
    yield from _Walk(refusing, at_import).module(tree)


def names_in(node: ast.AST) -> set[str]:
    """Every name that stands in a piece of code."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def targets_of(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    """What an assignment gives a value to."""
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


class _Walk:
    """One walk over a module; remembers in which function and statement it is."""

    def __init__(self, refusing: frozenset[str] | set[str], at_import: set[str]) -> None:
        self._refusing = refusing
        self._at_import = at_import
        self._names: list[str] = []
        self._kind = "module"
        self._statement: ast.stmt | None = None

    def module(self, tree: ast.Module) -> Iterator[Mutant]:
        for index, node in enumerate(tree.body):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign) and not _is_type(
                node
            ):
                yield from self._node(node, Place(tree, "body", index), text=False)

    def _node(self, node: ast.AST, place: Place, *, text: bool) -> Iterator[Mutant]:
        if isinstance(node, ast.FunctionDef):
            yield from self._function(node)
            return
        if isinstance(node, ast.ClassDef):
            yield from self._class(node)
            return
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
            if isinstance(node, ast.Assign | ast.AnnAssign):
                text = text or self._is_text_name(node)
        for label, changed in _changes(node, text=text):
            yield self._mutant(node, place, label, changed)
        yield from self._children(node, text=text)
        self._statement = outer

    def _mutant(self, node: ast.AST, place: Place, label: str, changed: Any) -> Mutant:
        statement = self._statement
        line = getattr(node, "lineno", statement.lineno if statement else 1)
        return Mutant(
            line=line,
            statement_line=statement.lineno if statement else line,
            end_line=getattr(node, "end_lineno", None) or line,
            function=".".join(self._names),
            kind=self._kind,
            label=label,
            original=node,
            changed=changed,
            place=place,
            at_import=bool(self._names) and self._names[0] in self._at_import,
        )

    def _function(self, node: ast.FunctionDef) -> Iterator[Mutant]:
        if node.name in _UNMUTATED_FUNCTIONS:
            return
        outer = self._kind
        self._names.append(node.name)
        self._kind = "default" if outer != "code" else "code"
        for field in ("defaults", "kw_defaults"):
            for index, default in enumerate(getattr(node.args, field)):
                if default is not None:
                    self._statement = node
                    yield from self._node(default, Place(node.args, field, index), text=False)
        self._kind = "code"
        body = node.body[1:] if _is_docstring(node.body[0]) else node.body
        for index, statement in enumerate(body, len(node.body) - len(body)):
            yield from self._node(statement, Place(node, "body", index), text=False)
        self._names.pop()
        self._kind = outer

    def _class(self, node: ast.ClassDef) -> Iterator[Mutant]:
        if any(isinstance(base, ast.Name) and base.id.endswith(("Enum", "Flag")) for base in node.bases):
            return
        outer = self._kind
        self._names.append(node.name)
        self._kind = "default"
        for index, statement in enumerate(node.body):
            if isinstance(statement, ast.FunctionDef | ast.AnnAssign):
                yield from self._node(statement, Place(node, "body", index), text=False)
        self._names.pop()
        self._kind = outer

    def _children(self, node: ast.AST, *, text: bool) -> Iterator[Mutant]:
        if isinstance(node, ast.JoinedStr) and not text:
            text = not any(isinstance(v, ast.Constant) and _CODE.fullmatch(v.value) for v in node.values)
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "type_comment", "format_spec"}:
                continue
            if isinstance(value, ast.AST):
                yield from self._node(value, Place(node, field, None), text=text)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, ast.AST) and not (isinstance(item, ast.Expr) and _is_docstring(item)):
                        inner = text or self._is_text(node, field, index, item)
                        yield from self._node(item, Place(node, field, index), text=inner)

    def _is_text(self, node: ast.AST, field: str, index: int, item: ast.AST) -> bool:
        """Whether an argument is for people."""
        if isinstance(item, ast.keyword):
            return item.arg in PLAIN_TEXT_KEYWORDS
        if not isinstance(node, ast.Call) or field != "args":
            return False
        name = _called(node)
        if name in _TEXT_CALLS:
            return True
        if name in self._refusing:
            is_code = isinstance(item, ast.Constant) and _CODE.fullmatch(str(item.value)) is not None
            return not is_code if name not in _REFUSALS else index > 0
        return isinstance(node.func, ast.Attribute) and name in _ROWS and index >= _ROWS[name]

    @staticmethod
    def _is_text_name(node: ast.Assign | ast.AnnAssign) -> bool:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(target, ast.Name) and _TEXT_NAMES.fullmatch(target.id) for target in targets)


def _is_type(node: ast.stmt) -> bool:
    """Whether a statement only names a type: ``Kind = Literal["a", "b"]``."""
    value = getattr(node, "value", None)
    return (
        isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id == "Literal"
    )


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _changes(node: ast.AST, *, text: bool) -> Iterator[tuple[str, Any]]:
    """What may hang in a node's place."""
    if text:
        return
    change = _BY_TYPE.get(type(node))
    if change is not None:
        for label, changed in change(node):
            yield label, ast.fix_missing_locations(ast.copy_location(changed, node))


def _compare(node: Any) -> Iterator[tuple[str, ast.AST]]:
    for index, operator in enumerate(node.ops):
        other = _COMPARE[type(operator)]
        ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
        yield (
            f"{type(operator).__name__} -> {other.__name__}",
            ast.Compare(node.left, ops, node.comparators),
        )


def _bool_op(node: Any) -> Iterator[tuple[str, ast.AST]]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield f"{type(node.op).__name__} -> {type(other).__name__}", ast.BoolOp(other, node.values)
    for index, value in enumerate(node.values):
        rest = [*node.values[:index], *node.values[index + 1 :]]
        label = f"without {ast.unparse(value)[:60]!r}"
        yield label, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _unary(node: Any) -> Iterator[tuple[str, ast.AST]]:
    yield f"without {type(node.op).__name__}", node.operand


def _binary(node: Any) -> Iterator[tuple[str, ast.AST]]:
    other = _BINARY.get(type(node.op))
    if other is not None:
        label = f"{type(node.op).__name__} -> {other.__name__}"
        yield label, ast.BinOp(node.left, other(), node.right)


def _augmented(node: Any) -> Iterator[tuple[str, ast.AST]]:
    other = _BINARY.get(type(node.op))
    if other is not None:
        label = f"{type(node.op).__name__}= -> {other.__name__}="
        yield label, ast.AugAssign(node.target, other(), node.value)


def _constant(node: Any) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    match value:
        case bool():
            changed: Any = not value
        case int():
            changed = value + 1
        case str():
            # In the middle, for a test may look for the text anywhere in what is shown.
            changed = f"{value[: len(value) // 2]}XX{value[len(value) // 2 :]}"
        case bytes():
            changed = b"XX" + value
        case _:
            return
    yield f"{value!r} -> {changed!r}"[:90], ast.Constant(changed)


def _call(node: Any) -> Iterator[tuple[str, ast.AST]]:
    name = _called(node)
    if name in _CALLS:
        other = _CALLS[name]
        function: ast.expr = (
            ast.Name(other, ast.Load())
            if isinstance(node.func, ast.Name)
            else ast.Attribute(node.func.value, other, ast.Load())
        )
        label = f"{name} -> {other}"
        yield label, ast.Call(ast.copy_location(function, node), node.args, node.keywords)


def _negated_test(node: Any) -> Iterator[tuple[str, ast.AST]]:
    negated = ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.IfExp):
        yield "condition negated", ast.IfExp(negated, node.body, node.orelse)
    else:
        yield "condition negated", ast.If(negated, node.body, node.orelse)


def _raise(_: Any) -> Iterator[tuple[str, ast.AST]]:
    yield "raise -> pass", ast.Pass()


def _expression(node: Any) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.value, ast.Call):
        yield f"without call of {ast.unparse(node.value.func)}", ast.Pass()


def _return(node: Any) -> Iterator[tuple[str, ast.AST]]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "return None", ast.Return(ast.Constant(None))


def _assign(node: Any) -> Iterator[tuple[str, ast.AST]]:
    if not isinstance(node.value, ast.Constant):
        yield "= None", ast.Assign(node.targets, ast.Constant(None))


def _slice(node: Any) -> Iterator[tuple[str, ast.AST]]:
    if node.lower is not None:
        yield "slice without start", ast.Slice(None, node.upper, node.step)
    if node.upper is not None:
        yield "slice without end", ast.Slice(node.lower, None, node.step)


def _comprehension(node: Any) -> Iterator[tuple[str, ast.AST]]:
    for index, condition in enumerate(node.ifs):
        rest = [*node.ifs[:index], *node.ifs[index + 1 :]]
        label = f"without 'if {ast.unparse(condition)[:60]}'"
        yield label, ast.comprehension(node.target, node.iter, rest, node.is_async)


def _jump(node: Any) -> Iterator[tuple[str, ast.AST]]:
    other = ast.Continue if isinstance(node, ast.Break) else ast.Break
    yield f"{type(node).__name__} -> {other.__name__}", other()


def _guard(node: Any) -> Iterator[tuple[str, ast.AST]]:
    if node.guard is not None:
        yield (
            "case guard negated",
            ast.match_case(node.pattern, ast.UnaryOp(ast.Not(), node.guard), node.body),
        )


_BY_TYPE: Final[dict[type[ast.AST], Callable[[Any], Iterator[tuple[str, ast.AST]]]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _bool_op,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.If: _negated_test,
    ast.IfExp: _negated_test,
    ast.Raise: _raise,
    ast.Expr: _expression,
    ast.Return: _return,
    ast.Assign: _assign,
    ast.Slice: _slice,
    ast.comprehension: _comprehension,
    ast.Break: _jump,
    ast.Continue: _jump,
    ast.match_case: _guard,
}
