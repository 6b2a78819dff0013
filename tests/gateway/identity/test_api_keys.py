"""API keys: hashed at rest, one answer for every wrong key, revocation at once."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidApiKey
from gateway.identity.api_keys import ApiKeyStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "keys.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[ApiKeyStore]:
    store = ApiKeyStore(path)
    yield store
    store.close()


def test_a_created_key_authenticates_its_caller(store: ApiKeyStore) -> None:
    new = store.create("reporting", groups=("finance", "audit", "audit"), now=NOW)
    caller = store.authenticate(f"Bearer {new.secret}")
    assert (caller.key_id, caller.name, caller.groups) == (new.info.id, "reporting", ("audit", "finance"))


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer  {}"])
def test_the_scheme_is_read_as_rfc_9110_asks(store: ApiKeyStore, form: str) -> None:
    new = store.create("app", now=NOW)
    assert store.authenticate(form.format(new.secret)).key_id == new.info.id


def test_every_wrong_key_gets_the_same_answer(store: ApiKeyStore) -> None:
    good = store.create("app", now=NOW).secret
    wrong = [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {good}",
        good,
        f"Bearer {good}x",
        f"Bearer {good[:-1]}",
        "Bearer sg-" + "A" * 43,
        f"Bearer {good} {good}",
        "Bearer sg-' OR '1'='1",
        "Bearer sg-" + "é" * 43,
    ]
    answers = set()
    for header in wrong:
        with pytest.raises(InvalidApiKey) as caught:
            store.authenticate(header)
        answers.add(str(caught.value.body()))
    assert len(answers) == 1


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_no_header_raises_anything_else(header: str) -> None:
    """Whatever arrives as Authorization, the answer is a refusal and never a crash."""
    store = ApiKeyStore.__new__(ApiKeyStore)  # the form is judged before the database is asked
    with pytest.raises(InvalidApiKey):
        store.authenticate(header)


def test_a_revoked_key_ends_at_once_even_from_another_process(store: ApiKeyStore, path: Path) -> None:
    new = store.create("app", now=NOW)
    other = ApiKeyStore(path)
    assert other.revoke(new.info.id, now=NOW).revoked_at == NOW
    other.close()
    with pytest.raises(InvalidApiKey):
        store.authenticate(f"Bearer {new.secret}")


def test_revoking_again_keeps_the_first_moment(store: ApiKeyStore) -> None:
    new = store.create("app", now=NOW)
    store.revoke(new.info.id, now=NOW)
    assert store.revoke(new.info.id, now=NOW.replace(year=2027)).revoked_at == NOW


def test_revoking_an_unknown_key_is_an_error(store: ApiKeyStore) -> None:
    with pytest.raises(KeyError):
        store.revoke("key_0000", now=NOW)


def test_the_file_holds_no_key_and_only_its_owner_reads_it(store: ApiKeyStore, path: Path) -> None:
    secret = store.create("app", now=NOW).secret
    held = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret.encode() not in held
    assert secret[3:].encode() not in held
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_new_key_does_not_show_itself(store: ApiKeyStore) -> None:
    new = store.create("app", now=NOW)
    assert new.secret not in repr(new)
    assert new.info.prefix == new.secret[:7]
    assert new.secret not in repr(store.all())


@pytest.mark.parametrize("name", ["", " x", "a" * 65, "a\n", "naïve", "<b>"])
def test_names_are_plain(store: ApiKeyStore, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        store.create(name, now=NOW)


def test_groups_are_plain(store: ApiKeyStore) -> None:
    with pytest.raises(ValueError, match="group"):
        store.create("app", groups=('finance", "admin',), now=NOW)
