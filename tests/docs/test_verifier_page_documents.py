"""Two readers of one document: the page's and the product's take and refuse the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from attest import strict_json
from attest.evidence.bundle import VerdictToken
from attest.mock.machine import MockBoard
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.world import MockWorld
from attest.verify.bundle import verify_bundle
from tests.simulators.mock_runtime import NONCE, NOW
from tests.simulators.two_verifiers import (
    HOLDS,
    NOT_JUDGED,
    BothVerifiers,
    page_verdict,
    product_verdict,
)
from tests.simulators.verifier_page import VerifierPage, expectation

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**60,
    "",
    "A",
    "AA==",
    "AB==",
    "\u00e9",
    "\ud800",
    [],
    {},
    [None],
    {"a": 1},
)


def encode(value: Any) -> bytes:
    """As RFC 8785 would, where there is such a form, and else as near as can be."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Half of a surrogate pair has no UTF-8 form, only an escape.
    return text.replace("\ud800", "\\ud800").encode("utf-8")


def variants(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every way to change one place: another value, a member more, a member less; with the place."""
    for odd in ODD_VALUES:
        if odd != value or type(odd) is not type(value):
            yield path, odd
    if isinstance(value, dict):
        yield path, value | {"zz": 1}
        for key in value:
            yield (*path, key), {other: each for other, each in value.items() if other != key}
            for inner, changed in variants(value[key], (*path, key)):
                yield inner, value | {key: changed}
    if isinstance(value, list):
        if value:
            yield path, [*value, value[0]]
        for index, item in enumerate(value):
            for inner, changed in variants(item, (*path, index)):
                yield inner, [*value[:index], changed, *value[index + 1 :]]


def test_every_place_of_a_bundle_changed(both: BothVerifiers) -> None:
    """One value replaced, dropped or added, at every place: the same outcome and code."""
    document = json.loads(both.world.answer(NONCE))
    changed = list(variants(document))
    verdicts = both.judge([encode(value) for _, value in changed])
    for (path, _), (product, page) in zip(changed, verdicts, strict=True):
        if path[:3] == ("collateral", "snp", "crl"):
            assert page in (product, HOLDS), path  # the page does not open revocation lists
        elif path[:2] == ("collateral", "tdx"):
            assert product[0] == page[0] == "malformed", path  # nor TDX documents
        else:
            assert product == page, path
    assert len(verdicts) > 250
    assert len({code for (_, code), _ in verdicts}) >= 8


def test_every_place_of_a_bundle_with_devices_changed(
    browser_page: VerifierPage, snp_world: MockWorld
) -> None:
    """Of devices, golden values and tokens the page reads the form, as the product does, and no more."""
    board = MockBoard(MockGpuVendor.create(now=NOW), devices_of(1))
    world = replace(snp_world, machine=replace(snp_world.machine, board=board))
    bundle = replace(world.bundle(NONCE), tokens=(VerdictToken("nras", b"token"),))
    document = json.loads(bundle.serialise())
    parts = ("devices", "tokens", "collateral")
    changed = [(path, value) for path, value in variants(document) if path[:1] and path[0] in parts]
    changed = [
        (path, value)
        for path, value in changed
        if path[:2] not in {("collateral", "snp"), ("collateral", "tdx")}
    ]
    changed = changed[::2]  # each is judged by the product in full, GPU and golden values
    verdicts = BothVerifiers(browser_page, world).judge([encode(value) for _, value in changed])
    for (path, _), (product, page) in zip(changed, verdicts, strict=True):
        is_about_genuineness = product == HOLDS or (product[1] or "").startswith(("gpu-", "ocsp-", "rim-"))
        assert page == (NOT_JUDGED if is_about_genuineness else product), path
    codes = Counter(code for (_, code), _ in verdicts)
    assert {
        "device-index",
        "device-kind",
        "device-architecture",
        "token-kind",
        "bundle-tokens",
    } <= codes.keys()
    assert len(verdicts) > 150


@pytest.mark.parametrize("part", ["statement", "keyset"])
def test_every_place_of_an_inner_document_changed(part: str, both: BothVerifiers) -> None:
    """Statement and keyset likewise; that no report binds them is found later."""
    bundle = both.world.bundle(NONCE)
    documents = [encode(value) for _, value in variants(json.loads(getattr(bundle, part)))]
    verdicts = both.judge([replace(bundle, **{part: document}).serialise() for document in documents])
    assert [product for product, page in verdicts if product != page] == []
    assert len({code for (_, code), _ in verdicts}) >= 6
    assert len(verdicts) > 100


def test_statements_with_devices(both: BothVerifiers) -> None:
    """The device list in the statement has one order and one form."""
    bundle = both.world.bundle(NONCE)
    device = {"kind": "nvidia-gpu", "index": 9, "evidence_sha256": "sha256:" + "0" * 64}
    statement = json.loads(bundle.statement)
    lists: list[Any] = [changed for _, changed in variants([device])]
    lists += [[device, device | {"index": 10}], [device | {"index": 10}, device], [device] * 2, [device] * 65]
    documents = [strict_json.canonical(statement | {"devices": each}) for each in lists if is_plain(each)]
    verdicts = both.judge([replace(bundle, statement=document).serialise() for document in documents])
    assert [product for product, page in verdicts if product != page] == []
    assert {"statement-devices", "statement-field", "statement-members"} <= {
        code for (_, code), _ in verdicts
    }


def is_plain(value: Any) -> bool:
    """Whether the value has a canonical form."""
    try:
        strict_json.canonical(value)
    except (ValueError, UnicodeError):
        return False
    return True


def syntax_cases(good: bytes) -> dict[str, bytes]:
    """Documents that loose readers take, or read in two ways."""
    text = good.decode()
    first = text.index('"')
    cases = {
        "empty": "",
        "space": " ",
        "null": "null",
        "list": "[]",
        "text": '"x"',
        "open": "{",
        "comma": "[1,]",
        "two": text + "{}",
        "space before": " " + text,
        "newline after": text + "\n",
        "comment": text + "//",
        "mark": "\ufeff" + text,
        "single quotes": text.replace('"', "'"),
        "trailing comma": text[:-1] + ",}",
        "duplicate": text[:-1] + ',"tokens":[]}',
        "duplicate by escape": text[:-1] + ',"token\\u0073":[]}',
        "duplicate deeper": text.replace('"nvidia":null', '"nvidia":null,"nvidia":null'),
        "escaped": text[: first + 1] + "\\u00" + f"{ord(text[first + 1]):02x}" + text[first + 2 :],
        "prototype": text[:-1] + ',"__proto__":{}}',
        "constructor": text[:-1] + ',"constructor":1}',
        "control character": text.replace("sealgate-bundle-v1", "sealgate\tbundle"),
        "bad escape": text.replace("sealgate-bundle-v1", "\\x"),
        "open text": text[:-1] + ',"a',
        "open escape": '{"a\\',
        "surrogate": '{"\\ud800":1}',
        "unknown word": "[nul]",
        "True": "[True]",
        "NaN": '{"a":NaN}',
        "Infinity": "[Infinity]",
        "-Infinity": "[-Infinity]",
        "minus": "[-]",
        "fraction": '{"a":1.0}',
        "exponent": '{"a":1e2}',
        "leading zero": "[01]",
        "plus": "[+1]",
        "dot": "[.5]",
        "ending dot": "[1.]",
        "hexadecimal": "[0x1]",
        "minus zero": text[:-1].replace('"tokens":[]', '"tokens":-0') + "}",
        "deep": "[" * 5000 + "]" * 5000,
        "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
        "nested": "[" * 50 + "]" * 50,
        "other order": json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")),
        "spaces": json.dumps(json.loads(text), sort_keys=True),
        "other format": text.replace("-v1", "-v2"),
        "form feed": "\f" + text,
        "no-break space": "\u00a0" + text,
        "separator": text + "\u2028",
    }
    data = {case: value.encode("utf-8") for case, value in cases.items()}
    data |= {"not UTF-8": good + b"\xff", "overlong": b'{"\xc0\xaf":1}', "UTF-16": text.encode("utf-16")}
    data |= {"coded surrogate": b'{"\xed\xa0\x80":1}', "large": b" " * (4 * 1024 * 1024 + 1)}
    return data


def test_malformed_json(both: BothVerifiers) -> None:
    """Two readers that differ on a document are an attack on whoever signs it."""
    cases = syntax_cases(both.world.answer(NONCE))
    verdicts = dict(zip(cases, both.judge(list(cases.values())), strict=True))
    assert {case: pair for case, pair in verdicts.items() if pair[0] != pair[1]} == {}
    assert all(page[0] in {"malformed", "unsupported"} for _, page in verdicts.values())
    codes = {page[1] for _, page in verdicts.values()}
    assert {"bundle-duplicate-member", "bundle-bad-number", "bundle-too-deep", "bundle-too-large"} <= codes


def test_inner_documents_of_odd_syntax(both: BothVerifiers) -> None:
    """The same for the documents that a bundle carries as bytes."""
    bundle = both.world.bundle(NONCE)
    for part in ("statement", "keyset"):
        texts = [getattr(bundle, part).decode()]
        texts += [
            texts[0] + "\n",
            "{" + texts[0][1:-1] + ',"a":1,"a":2}',
            "[1.5]",
            "[" * 3000 + "]" * 3000,
            "{",
            " " * 140_000,
        ]
        bundles = [replace(bundle, **{part: text.encode()}).serialise() for text in texts]
        verdicts = both.judge(bundles)
        assert [pair for pair in verdicts if pair[0] != pair[1]] == []
        assert verdicts[0][1] == HOLDS
        assert {f"{part}-{end}" for end in ("duplicate-member", "bad-number", "too-deep", "too-large")} <= {
            page[1] for _, page in verdicts
        }


@pytest.mark.parametrize("nonce", ["", "0" * 63, "A" * 64, "0" * 64 + "\n"])
def test_a_nonce_of_another_form(nonce: str, both: BothVerifiers) -> None:
    """No nonce of ours looks so: asked by mistake, it must not be answered with a verdict."""
    bundle, roots = both.world.answer(NONCE), both.world.trust()
    product = product_verdict(lambda: verify_bundle(bundle, nonce=nonce, roots=roots, now=NOW))
    (result,) = both.page.verify_bundles([bundle], **expectation(NOW, nonce=nonce))
    assert page_verdict(result) == product == ("malformed", "nonce-form")
