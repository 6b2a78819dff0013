"""The bundle's digest and signature, and what is no bundle."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policies import bundle as bundle_module
from policies.bundle import (
    DEFAULT_FOLDER,
    MAX_FILES,
    SIGNATURE_FILE,
    PolicyBundle,
    default_digest,
    load_bundle,
    sign,
    verify_signature,
)
from policies.engine import PolicySet
from policies.refusal import BundleRefused, MalformedPolicies


def _folder(tmp_path: Path, *, reverse: bool = False) -> Path:
    for path in sorted(DEFAULT_FOLDER.glob("*.cedar"), reverse=reverse):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_digest_is_a_function_of_names_and_bytes(tmp_path: Path) -> None:
    """Not of the order of creation, the place, the times or other files."""
    folder = _folder(tmp_path, reverse=True)
    (folder / "README.md").write_text("not a policy")
    (folder / "notes.cedar.bak").write_text("not a policy")
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    assert load_bundle(folder).digest == default_digest()


def test_the_digest_is_stable_across_versions_of_this_code() -> None:
    """The bytes that are hashed are a format: statements in the field name digests made by it."""
    bundle = PolicyBundle(schema=b"s", policies=(("a.cedar", b"x"), ("b.cedar", b"y")))
    assert bundle.digest == "sha256:708be029bbeda78fe4199a9978a6430a4ddc9bd0c1ebcb9ea1a76332467ce11e"


@pytest.mark.parametrize("change", ["byte", "name", "added", "removed", "schema"])
def test_any_change_changes_the_digest(change: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    victim = folder / "labels.cedar"
    if change == "byte":
        victim.write_bytes(victim.read_bytes() + b"\n")
    elif change == "name":
        victim.rename(folder / "label.cedar")
    elif change == "added":
        (folder / "more.cedar").write_bytes(b"")
    elif change == "removed":
        victim.unlink()
    bundle = load_bundle(folder)
    if change == "schema":
        bundle = PolicyBundle(bundle.schema + b"\n", bundle.policies)
    assert bundle.digest != default_digest()


def test_moving_text_between_files_is_a_change() -> None:
    one = PolicyBundle(b"s", (("a", b"x"), ("b", b"")))
    other = PolicyBundle(b"s", (("a", b""), ("b", b"x")))
    assert one.digest != other.digest


def test_a_folder_without_policies_refuses(tmp_path: Path) -> None:
    """An empty set would deny everything, which is safe, and is never what was meant."""
    with pytest.raises(MalformedPolicies) as caught:
        load_bundle(tmp_path)
    assert caught.value.code == "policies-empty"


def test_a_folder_that_is_none_refuses(tmp_path: Path) -> None:
    (tmp_path / "x.cedar").mkdir()
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(MalformedPolicies) as caught:
            load_bundle(folder)
        assert caught.value.code == "policies-unreadable"


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path)
    monkeypatch.setattr(bundle_module, "MAX_FILE_BYTES", 10)
    with pytest.raises(MalformedPolicies) as caught:
        load_bundle(folder)
    assert caught.value.code == "policies-too-large"


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.cedar").touch()
    with pytest.raises(MalformedPolicies) as caught:
        load_bundle(tmp_path)
    assert caught.value.code == "policies-too-large"


def test_a_signed_folder_is_loaded_by_its_signer_only(tmp_path: Path) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    folder = _folder(tmp_path)
    with pytest.raises(BundleRefused) as caught:
        PolicySet.load(folder, signer=key.public_key())
    assert caught.value.code == "policies-unsigned"
    signature = sign(load_bundle(folder), key)
    (folder / SIGNATURE_FILE).write_bytes(base64.b64encode(signature) + b"\n")
    assert PolicySet.load(folder, signer=key.public_key()).digest == default_digest()
    with pytest.raises(BundleRefused) as caught:
        PolicySet.load(folder, signer=other.public_key())
    assert caught.value.code == "policies-signature"


def test_a_changed_folder_does_not_carry_its_old_signature(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    folder = _folder(tmp_path)
    signature = sign(load_bundle(folder), key)
    (folder / "labels.cedar").unlink()
    with pytest.raises(BundleRefused) as caught:
        verify_signature(load_bundle(folder), signature, key.public_key())
    assert caught.value.code == "policies-signature"


@pytest.mark.parametrize("text", [b"", b"not base64!", b"AAAA"])
def test_what_is_no_signature_refuses(text: bytes, tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / SIGNATURE_FILE).write_bytes(text)
    with pytest.raises(BundleRefused) as caught:
        load_bundle(folder, signer=Ed25519PrivateKey.generate().public_key())
    assert caught.value.code == "policies-signature"
