"""The promises' page names tests that exist, at least one for each promise."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "security" / "promises.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.split("\n## ", 1)[1])


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    """A promise is worth the test that attacks it."""
    source = (ROOT / path).read_text()
    assert not name or re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)


def test_every_promise_names_a_test() -> None:
    """P1 to P8, none without."""
    sections = re.split(r"^## (P\d) ", PAGE, flags=re.MULTILINE)[1:]
    promises = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(promises) == [f"P{number}" for number in range(1, 9)]
    assert all("`tests/" in text for text in promises.values())
