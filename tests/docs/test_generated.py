"""Generators write what they should, and notice what somebody else wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import generated


def test_a_document_is_written_then_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "document.md"
    assert generated.write_or_check(document, lambda: "text\n", ["--check"]) == 1, "it is not there"
    assert not document.exists()
    assert generated.write_or_check(document, lambda: "text\n", []) == 0
    assert document.read_text() == "text\n"
    assert generated.write_or_check(document, lambda: "text\n", ["--check"]) == 0
    capsys.readouterr()
    assert generated.write_or_check(document, lambda: "other\n", ["--check"]) == 1
    assert document.read_text() == "text\n"
    assert f"{document} is out of date" in capsys.readouterr().err


def test_a_mistyped_option_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        generated.write_or_check(tmp_path / "document.md", lambda: "text\n", ["--chekc"])
    assert list(tmp_path.iterdir()) == []


def test_without_the_evidence_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "VECTORS", tmp_path)
    assert generated.from_evidence(tmp_path / "document.md", lambda _: "text\n") == 0
    assert list(tmp_path.iterdir()) == []
