"""Every relative link in the documentation leads to a file, and every anchor to a heading of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests" / "vectors").glob("*.md")]
)

_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2[^\n]*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?:(?!\1).)+?\1")
_LINK = re.compile(r"!?\[[^\[\]]*(?:!?\[[^\[\]]*\]\([^()]*\)[^\[\]]*)?\]\(([^()\s]+)(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_NAMED = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
_INLINE = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")


def links(text: str) -> list[str]:
    """The targets of a page's links, those in code left out."""
    return _LINK.findall(_CODE.sub("x", _FENCE.sub("", text)))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub makes of a page's headings, and those that it names itself."""
    text = _FENCE.sub("", page.read_text())
    found: dict[str, int] = {}
    result = set(_NAMED.findall(text))
    for heading in _HEADING.findall(text):
        shown = _INLINE.sub(r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return frozenset(result)


def broken(page: Path) -> list[str]:
    """The page's links that lead nowhere."""
    result = []
    for target in links(page.read_text()):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        found = file.is_relative_to(ROOT) and file.exists()
        if not found or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            result.append(target)
    return result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_what_leads_nowhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    other = tmp_path / "other.md"
    other.write_text(
        '# A `b`: [c](d.md), e_f & g\n\n## Twice\n\n## Twice\n\n<a id="own"></a>\n```\n# no heading\n```\n'
    )
    page = tmp_path / "page.md"
    good = [
        "other.md",
        "other.md#a-b-c-e_f--g",
        "other.md#twice-1",
        "other.md#own",
        "https://x.example/#y",
        "#here",
    ]
    bad = ["absent.md", "other.md#no-heading", "other.md#twice-2", "#there", "../outside.md"]
    lines = [f'[text]({target}), [![image]({target})]({target} "title")' for target in (*good, *bad)]
    page.write_text("\n".join(["# Here", *lines, "`[code](absent.md)`", "```", "[code](absent.md)", "```"]))
    assert sorted(set(broken(page))) == sorted(bad)
