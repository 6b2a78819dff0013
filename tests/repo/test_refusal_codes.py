"""Every refusal code is documented, every documented code exists, and the document is up to date."""

from __future__ import annotations

import tomllib
from pathlib import Path

from docs.reference import generate_refusal_codes as generator

ROOT = Path(__file__).resolve().parents[2]


def test_codes_and_document_agree() -> None:
    """Add a line to docs/reference/refusal_codes.toml and run `make docs`."""
    meanings, found = tomllib.loads(generator.MEANINGS.read_text()), generator.scan()
    assert generator.problems(meanings, found) == []
    assert generator.DOCUMENT.read_text() == generator.render(meanings, found)


def test_the_scan_sees_every_way_to_name_a_code(tmp_path: Path) -> None:
    """Literals, built codes, either side of a choice, and codes handed to what refuses with them."""
    package = tmp_path / "attest"
    package.mkdir()
    (package / "example.py").write_text(
        "def check(value, code, *, clause=''):\n"
        "    raise Malformed(code)\n"
        "def other(name):\n"
        "    raise Refused('literal-code')\n"
        "    raise errors.Unsupported(code='named-code')\n"
        "    raise Refused(f'{name}-built', 'clause')\n"
        "    raise Refused('either-code' if name else 'or-code')\n"
        "    check(1, 'positional-code')\n"
        "    check(1, code='keyword-code')\n"
        "    unrelated('not-a-code')\n"
    )
    found = generator.scan(tmp_path)
    assert found.literal == {
        "literal-code": {10},
        "named-code": {20},
        "either-code": {10},
        "or-code": {10},
        "positional-code": {30},
        "keyword-code": {30},
    }
    assert found.exits("thing-built") == {10}
    assert found.exits("*-code") == {10, 20, 30}
    meanings = {"s": {"literal-code": "x", "gone-code": "y"}}
    problems = generator.problems(meanings, found)
    assert "gone-code: documented, not used" in problems
    assert "named-code: used, not documented" in problems
    assert any(line.endswith("no documented code is one of these") for line in problems)
    assert len(problems) == 7
    assert "| `literal-code` | 10 | x |" in generator.render(meanings, found)


def test_examples_of_the_operators_files_are_valid() -> None:
    """The examples in the documents are read by the readers that they document."""
    from attest.reference import ReferenceValues  # noqa: PLC0415 - so that the tests above need no package
    from attest.trust import TrustRoots  # noqa: PLC0415

    for name, parse in (("trust-file", TrustRoots.parse), ("reference-values", ReferenceValues.parse)):
        text = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
        example = text.split("```toml\n")[1].split("```")[0]
        for short, full in (("64 hex digits", "ab" * 32), ("96 hex digits", "ab" * 48), ("...", "ab" * 32)):
            example = example.replace(short, full)
        parse(example.encode())
