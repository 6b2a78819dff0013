"""A pytest session that runs its tests once, and then those that matter once more for each mutant."""

from __future__ import annotations

import ast
import gc
import importlib
import os
import resource
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation import baseline, report
from tests.mutation.importers import importers
from tests.mutation.live import Mutated, caches_of
from tests.mutation.operators import Mutant, mutants

ROOT: Final = Path(__file__).resolve().parents[2]
MAX_TEST_SECONDS: Final = 0.5
"""Slower tests notice nothing that faster ones of the same lines do not, and cost the most."""
MAX_MUTANT_SECONDS: Final = 3.0
"""Traced seconds of the tests for one mutant."""
MORE_FOR_SURVIVORS: Final = 4
"""Times both, where only survivors are tried again: the one test that matters may be among the rest."""
MAX_EXAMPLES: Final = 30
"""Of a property; what needs more to be noticed is noticed by luck."""
_IDLE_SECONDS: Final = 240
"""Without an answer, of a child that waits and so spends no time of the processor."""
_CPU_SECONDS: Final = int(20 * MAX_MUTANT_SECONDS * MORE_FOR_SURVIVORS)
_MEMORY_BYTES: Final = 6 << 30
KILLED, SURVIVED, TIMED_OUT, UNLOADABLE = "killed", "survived", "timed out", "cannot be imported"
_CRASHES: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_BY_EXIT: Final = {
    0: SURVIVED,
    1: KILLED,
    3: UNLOADABLE,
    -signal.SIGPROF: TIMED_OUT,
    -signal.SIGXCPU: TIMED_OUT,
    **{-crash: KILLED for crash in _CRASHES},
}


class MutationSession:
    """The plugin.

    Args:
        modules: files to mutate.
        again: of a module that is measured as it is now, only survivors without a reason.
        traced: files whose executed lines are noted, and kept for the next run.
    """

    def __init__(self, modules: list[Path], traced: list[Path], *, again: bool = False) -> None:
        self._modules = modules
        self._again = again
        self._longer = 1
        self._files = {str(path) for path in traced}
        self._sources = {path: path.read_text() for path in modules}  # as imported, whatever is edited later
        self._kills: Counter[int] = Counter()
        self._sound: dict[tuple[int, str, str, bool], bool] = {}
        self._executed: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._touched: dict[str, list[int]] = defaultdict(list)
        self._seconds: list[float] = []
        self._ways: list[dict[str, tuple[int, ...]]] = []
        self._fixtures: set[str] = set()
        self._items: list[pytest.Item] = []
        self._caches: tuple[Any, ...] = ()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's own loop."""
        self._items = session.items
        for item in self._items:
            _do_not_shrink(item)
        self._baseline(session)
        gc.collect()
        self._caches = caches_of("attest.")  # what is frozen is found no more
        gc.freeze()  # so that children share what they only read
        for path in self._modules:
            self._module(path, session)
        session._setupstate.teardown_exact(None)
        return True

    def _baseline(self, session: pytest.Session) -> None:
        known = baseline.Known(ROOT, {str(path) for path in self._modules})
        for place, item in enumerate(self._items):
            if not place % 100:
                report.say(f"{place} of {len(self._items)} tests seen")
            seen = known.get(item)
            if seen is None or self._brings_a_fixture(item):
                started = time.process_time()
                lines = self._traced(session, item, self._items[(place + 1) % len(self._items)])
                seen = baseline.Seen(time.process_time() - started, lines or {})
                if lines is not None:
                    known.put(item, seen)
            self._seconds.append(seen.seconds)
            self._ways.append({file: tuple(lines) for file, lines in seen.lines.items()})
            for file, lines in seen.lines.items():
                self._touched[file].append(place)
                for line in lines:
                    self._executed[file, line].append(place)
        known.save()

    def _brings_a_fixture(self, item: pytest.Item) -> bool:
        """Whether what lasts for the session is made by this test first: it is to be made before any fork."""
        fresh = set(getattr(item, "fixturenames", ())) - self._fixtures
        self._fixtures |= fresh
        return bool(fresh)

    def _traced(
        self, session: pytest.Session, item: pytest.Item, following: pytest.Item
    ) -> dict[str, list[int]] | None:
        seen: set[tuple[str, int]] = set()
        session._setupstate.teardown_exact(item)
        sys.settrace(self._tracer(seen))
        try:
            # Never the last one to be torn down after: what lasts for the session is to last.
            failed = [each for each in runtestprotocol(item, log=False, nextitem=following) if each.failed]
        finally:
            sys.settrace(None)
        if failed:
            report.say(f"left out, for it fails without any mutant: {item.nodeid}")
            return None
        lines: dict[str, list[int]] = defaultdict(list)
        for file, line in sorted(seen):
            lines[file].append(line)
        return dict(lines)

    def _tracer(self, seen: set[tuple[str, int]]) -> Any:
        files = self._files

        def local(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                seen.add((frame.f_code.co_filename, frame.f_lineno))
            return local

        def call(frame: FrameType, _event: str, _: Any) -> Any:
            if frame.f_code.co_filename not in files:
                return None
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            return local

        return call

    def _module(self, path: Path, session: pytest.Session) -> None:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name)
        source = self._sources[path]
        tree = ast.parse(source)
        lines = source.splitlines()
        outcomes: list[dict[str, Any]] = []
        started = time.monotonic()
        relative = path.relative_to(ROOT).as_posix()
        again = self._again and report.is_measured(relative)
        self._longer = MORE_FOR_SURVIVORS if again else 1
        wanted = report.untested(relative) if again else None
        for mutant in mutants(tree):
            if wanted is not None and (mutant.line, mutant.function, mutant.label) not in wanted:
                continue
            tests = self._tests(str(path), mutant)
            outcome = self._judge(Mutated(module, tree, mutant, self._caches), tests, session)
            outcomes.append(
                {
                    "line": mutant.line,
                    "function": mutant.function,
                    "label": mutant.label,
                    "text": lines[mutant.line - 1].strip(),
                    "outcome": outcome,
                    "tests": len(tests),
                }
            )
        seconds = time.monotonic() - started
        (report.keep_again if again else report.keep)(relative, source, outcomes, seconds)

    def _judge(self, mutated: Mutated, tests: list[int], session: pytest.Session) -> str:
        """What became of the mutant. A test kills only what it fails for twice, and passes without.

        Args:
            mutated: the mutant.
            tests: places of the tests to run; those that fail without it are taken out.
            session: pytest's.
        """
        while tests:
            outcome, place = _in_child(mutated, [self._items[each] for each in tests], session)
            if place is None:
                return outcome
            if self._is_sound(mutated, tests[place], session):
                self._kills[tests[place]] += 1
                return KILLED
            report.say(f"does not count, for it fails without a mutant: {self._items[tests[place]].nodeid}")
            del tests[place]
        return SURVIVED

    def _is_sound(self, mutated: Mutated, killer: int, session: pytest.Session) -> bool:
        """Whether a test passes after the same kind of exchange without a change."""
        kind = (killer, mutated.module.__name__, mutated.mutant.kind, mutated.mutant.at_import)
        if kind not in self._sound:
            self._sound[kind] = _in_child(mutated.nothing(), [self._items[killer]], session)[0] == SURVIVED
        return self._sound[kind]

    def _tests(self, file: str, mutant: Mutant) -> list[int]:
        """Places of the tests to run."""
        files = [file]
        if mutant.kind == "code" and not mutant.at_import:
            wanted = set(self._executed.get((file, mutant.statement_line), ()))
            for line in range(mutant.line, mutant.end_line + 1):
                wanted |= set(self._executed.get((file, line), ()))
        else:
            files += importers(file, mutant, self._files)
            wanted = {place for each in files for place in self._touched[each]}
        order = self._diverse(files, wanted)
        fast = [place for place in order if self._seconds[place] <= MAX_TEST_SECONDS * self._longer]
        chosen, total = [], 0.0
        for place in fast or order:
            total += self._seconds[place]
            if total > MAX_MUTANT_SECONDS * self._longer and chosen:
                break
            chosen.append(place)
        return chosen

    def _diverse(self, files: list[str], wanted: set[int]) -> list[int]:
        """In turn a test of each way through the files, quick ones first; those of one way are much alike."""
        ways: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for place in wanted:
            ways[tuple(self._ways[place].get(file, ()) for file in files)].append(place)
        for places in ways.values():
            places.sort(key=lambda place: (-min(self._kills[place], 3), self._seconds[place]))
        turns = sorted(ways.values(), key=lambda places: (-self._kills[places[0]], self._seconds[places[0]]))
        return [place for turn in zip_longest(*turns) for place in turn if place is not None]


def _in_child(mutated: Mutated, tests: list[pytest.Item], session: pytest.Session) -> tuple[str, int | None]:
    """What became of the mutant, and which test noticed it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_mutant(mutated, tests, session, writer)
    os.close(writer)
    ended_by_us = _wait(child, reader)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcome = TIMED_OUT if ended_by_us else _BY_EXIT.get(code)
    if outcome is None:
        raise RuntimeError(f"a mutant ended with {code}: somebody else ended it")
    return outcome, int(told) if told and outcome == KILLED else None


def _wait(child: int, reader: int) -> bool:
    """Until the child ends; whether it had to be ended.

    The seconds counted are those in which this process ran too: where all are paused, none passes.
    """
    for _ in range(_IDLE_SECONDS):
        if select.select([reader], [], [], 1.0)[0]:
            return False
    os.kill(child, signal.SIGKILL)
    return True


def _be_the_mutant(mutated: Mutated, tests: list[pytest.Item], session: pytest.Session, told: int) -> None:
    """Never returns. Time is the processor's, for the machine may be busy."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, 10 * MAX_MUTANT_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))  # should a test take the timer
    gc.disable()
    try:
        mutated.put()
    except BaseException:  # noqa: BLE001 - whatever it is, no test could have run
        os._exit(3)
    for place, test in enumerate(tests):
        following = tests[(place + 1) % len(tests)]
        if _fails(test, following, session) and _fails(test, following, session):
            os.write(told, str(place).encode())
            os._exit(1)
    os._exit(0)


def _fails(test: pytest.Item, following: pytest.Item, session: pytest.Session) -> bool:
    try:
        session._setupstate.teardown_exact(test)
        return any(each.failed for each in runtestprotocol(test, log=False, nextitem=following))
    except BaseException:  # noqa: BLE001 - a fixture that can no longer be made is a failure too
        return True


def _do_not_shrink(item: pytest.Item) -> None:
    """A property that fails has failed; the smallest counterexample interests nobody here."""
    from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415 - its pytest plugin is to import it first

    function = getattr(item, "obj", None)
    used = getattr(function, "_hypothesis_internal_use_settings", None)
    if used is not None:
        quick = settings(
            used,
            phases=(Phase.explicit, Phase.generate),
            database=None,
            derandomize=True,
            max_examples=min(used.max_examples, MAX_EXAMPLES),
            deadline=None,  # this and the checks go by the clock on the wall
            suppress_health_check=tuple(HealthCheck),
        )
        function._hypothesis_internal_use_settings = quick  # type: ignore[union-attr]  # it has one
