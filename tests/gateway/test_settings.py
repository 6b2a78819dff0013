"""Settings: which source wins, what is refused, and that the document has them all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import PREFIX, Settings, SettingsError, explain, home, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test sets."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    monkeypatch.setenv(f"{PREFIX}HOME", str(tmp_path))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config file, not yet there."""
    return tmp_path / "config.toml"


def _problems(flags: dict[str, Any] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags)
    return "\n".join(caught.value.problems)


def test_the_defaults_let_no_mock_in_and_listen_on_this_machine_only(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.allow_mock is False
    assert settings.host == "127.0.0.1"
    assert settings.padding == "bucket"
    assert settings.audit_file == tmp_path / "audit" / "log.jsonl"
    assert settings.keys_file == tmp_path / "gateway" / "keys.sqlite"
    assert settings.policy_dir is None


def test_a_later_source_wins(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("[gateway]\nport = 1\nhost = 'a'\nmax_body_bytes = 2048\n")
    monkeypatch.setenv("SEALGATE_PORT", "2")
    monkeypatch.setenv("SEALGATE_HOST", "b")
    settings = load_settings({"port": 3})
    assert (settings.port, settings.host, settings.max_body_bytes) == (3, "b", 2048)


def test_explain_names_the_source_of_each_value(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("[gateway]\nport = 1\nhost = 'a'\nmax_body_bytes = 2048\n")
    monkeypatch.setenv("SEALGATE_PORT", "2")
    monkeypatch.setenv("SEALGATE_HOST", "b")
    rows = {row.name: row for row in explain({"port": 3})}
    assert (rows["port"].value, rows["port"].source) == ("3", "flag")
    assert (rows["host"].value, rows["host"].source) == ("b", "environment SEALGATE_HOST")
    assert (rows["max_body_bytes"].value, rows["max_body_bytes"].source) == ("2048", f"file {config}")
    assert (rows["padding"].value, rows["padding"].source) == ("bucket", "default")
    assert (rows["policy_dir"].value, rows["allow_mock"].value) == ("unset", "false")
    assert rows.keys() == Settings.model_fields.keys()
    assert all(row.description for row in rows.values())


def test_everything_moves_with_home(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.toml").write_text("[gateway]\nport = 9\n")
    settings = load_settings({"home": other})
    assert (settings.port, settings.trust_file) == (9, other / "trust.toml")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALGATE_PORT", "")
    assert load_settings().port == 8080


def test_home_is_the_variable_or_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert home() == tmp_path
    monkeypatch.delenv("SEALGATE_HOME")
    monkeypatch.setenv("HOME", "/nobody")
    assert home() == load_settings().home == Path("/nobody/.local/share/sealgate")


def test_paths_do_not_depend_on_where_a_later_command_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"trust_file": "t.toml"})
    assert settings.trust_file == tmp_path / "t.toml"
    monkeypatch.setenv("HOME", "/nobody")
    assert load_settings({"trust_file": "~/t.toml"}).trust_file == Path("/nobody/t.toml")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"port": 65536}, "port (flag)"),
        ({"port": "http"}, "port (flag)"),
        ({"padding": "some"}, "padding (flag)"),
        ({"max_body_bytes": 9 * 1024 * 1024}, "max_body_bytes (flag)"),
        ({"idle_timeout_s": 0}, "idle_timeout_s (flag)"),
        ({"idle_timeout_s": float("inf")}, "idle_timeout_s (flag)"),
        ({"runtime_url": "runtime:8443"}, "not an http:// or https:// address"),
        ({"runtime_url": "ftp://runtime"}, "not an http:// or https:// address"),
        ({"runtime_url": "http://h/?a=b"}, "no query"),
        ({"host": ""}, "host (flag)"),
        ({"allow_mokc": True}, "allow_mokc (flag): unknown setting"),
    ],
)
def test_a_wrong_value_is_named_with_its_source(flags: dict[str, Any], problem: str) -> None:
    problems = _problems(flags)
    assert problem in problems
    assert problems.count("\n") == 0


def test_all_problems_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALGATE_PORT", "x")
    problems = _problems({"padding": "x", "unknown": 1})
    assert [line.partition(":")[0] for line in problems.splitlines()] == [
        "port (environment SEALGATE_PORT)",
        "padding (flag)",
        "unknown (flag)",
    ]


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    problems = _problems({"runtime_url": "https://user:hunter2@runtime:8443"})
    assert "must not hold" in problems
    assert "hunter2" not in problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gateway]\nprot = 1\n", "prot (file {config}): unknown setting"),
        ("port = 1\n", "settings go under [gateway]"),
        ("[gatewya]\nport = 1\n", "unknown ['gatewya']"),
        ("gateway = 1\n", "not a table"),
        ("[gateway]\nhome = '/x'\n", "home cannot be set"),
        ("[gateway\n", "not TOML"),
        ("[gateway]\nport = 1\nport = 2\n", "not TOML"),
        ("[gateway]\nport = [1]\n", "port (file {config})"),
        ("#" * (1024 * 1024 + 1), "longer than"),
    ],
)
def test_a_wrong_file_is_refused(text: str, problem: str, config: Path) -> None:
    config.write_text(text)
    assert problem.format(config=config) in _problems()


def test_a_file_that_cannot_be_read_is_not_taken_for_none(config: Path) -> None:
    config.mkdir()
    assert str(config) in _problems()


def test_the_runtimes_table_is_left_alone(config: Path) -> None:
    config.write_text("[runtime]\nwhatever = 1\n")
    assert load_settings().port == 8080


def test_settings_do_not_change_under_way() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.allow_mock = True  # type: ignore[misc]  # the attack


def test_the_document_has_every_setting() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "docs.reference.generate_settings", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    document = (ROOT / "docs/reference/settings.md").read_text()
    assert all(f"`{name}`" in document for name in Settings.model_fields)
