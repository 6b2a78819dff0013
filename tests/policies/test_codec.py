"""Labels as JSON: the documented bytes, and every way of not being one."""

from __future__ import annotations

import hashlib

import pytest

from policies.codec import MAX_ATOMS, MAX_LABEL_BYTES, MAX_SOURCES, encode, label_id, merkle_reference, parse
from policies.labels import PUBLIC, Integrity, Label, Sensitivity
from policies.refusal import MalformedLabel

GUID = "722a5300-0000-4000-8000-000000000001"
FULL = Label(
    owners=(("org:acme", frozenset({"grp:7f3", "enclave:sha256:" + "9" * 64})), ("org:b", frozenset())),
    integrity=Integrity.VENDOR,
    endorsers=frozenset({"svc:dlp"}),
    purposes=frozenset({"support"}),
    regions=frozenset({"eu"}),
    retention_seconds=2592000,
    flags=frozenset({"no-train"}),
    sensitivity=Sensitivity(5, GUID),
    sources=frozenset({"sp:site/doc#sha256-1"}),
    unresolved=frozenset({"call-1"}),
)
FULL_TEXT = (
    '{"c":{"org:acme":["enclave:sha256:' + "9" * 64 + '","grp:7f3"],"org:b":[]},"f":["no-train"],'
    '"i":{"by":["svc:dlp"],"lvl":"vendor"},"p":["support"],"r":["eu"],"s":{"mip":"' + GUID + '","prio":5},'
    '"src":["sp:site/doc#sha256-1"],"t":2592000,"u":["call-1"],"v":1}'
)


def test_the_documented_form() -> None:
    assert encode(FULL).decode() == FULL_TEXT
    assert parse(FULL_TEXT.encode()) == FULL
    assert label_id(FULL) == "sha256:" + hashlib.sha256(FULL_TEXT.encode()).hexdigest()


def test_public_is_the_empty_label() -> None:
    assert encode(PUBLIC) == b'{"v":1}'
    spelt_out = b'{"v":1,"c":{},"i":{"lvl":"system"},"f":[],"src":[],"u":[]}'
    assert parse(spelt_out) == PUBLIC


def test_nothing_allowed_is_not_nothing_said() -> None:
    assert encode(Label(purposes=frozenset())) == b'{"p":[],"v":1}'
    assert encode(Label(endorsers=frozenset())) == b'{"i":{"by":[]},"v":1}'


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("label-not-json", ""),
        ("label-not-json", "{"),
        ("label-not-json", '{"v":1}x'),
        ("label-not-json", '{"v":1.0}'),
        ("label-not-json", '{"v":1e0}'),
        ("label-not-json", '{"v":NaN}'),
        ("label-not-json", '{"v":1,"t":' + "9" * 5000 + "}"),
        ("label-not-json", "[" * 100_000),
        ("label-type", "[]"),
        ("label-type", "null"),
        ("label-version", "{}"),
        ("label-version", '{"v":2}'),
        ("label-version", '{"v":"1"}'),
        ("label-version", '{"v":true}'),
        ("label-members", '{"v":1,"x":1}'),
        ("label-members", '{"v":1,"i":{"level":"user"}}'),
        ("label-duplicate", '{"v":1,"v":1}'),
        ("label-duplicate", '{"v":1,"c":{"org:a":[],"org:a":["svc:b"]}}'),
        ("label-duplicate", '{"v":1,"p":["support","support"]}'),
        ("label-type", '{"v":1,"c":[]}'),
        ("label-type", '{"v":1,"c":{"org:a":"svc:b"}}'),
        ("label-type", '{"v":1,"p":"support"}'),
        ("label-type", '{"v":1,"p":[1]}'),
        ("label-type", '{"v":1,"p":null}'),
        ("label-type", '{"v":1,"f":{}}'),
        ("label-type", '{"v":1,"t":"5"}'),
        ("label-type", '{"v":1,"t":true}'),
        ("label-type", '{"v":1,"i":"vendor"}'),
        ("label-integrity", '{"v":1,"i":{"lvl":"VENDOR"}}'),
        ("label-integrity", '{"v":1,"i":{"lvl":"\\u017fystem"}}'),
        ("label-integrity", '{"v":1,"i":{"lvl":3}}'),
        ("label-sensitivity", '{"v":1,"s":{"prio":5}}'),
        ("label-sensitivity", '{"v":1,"s":{"prio":5,"mip":7}}'),
        ("label-owner", '{"v":1,"c":{"\\ud800":[]}}'),
        ("label-retention", '{"v":1,"t":-1}'),
    ],
)
def test_what_is_no_label_refuses(code: str, text: str) -> None:
    with pytest.raises(MalformedLabel) as caught:
        parse(text.encode("utf-8"))
    assert caught.value.code == code
    assert caught.value.exit_code == 30


def test_bytes_that_are_no_utf8_refuse() -> None:
    with pytest.raises(MalformedLabel) as caught:
        parse(b'{"v":1,"p":["\xff"]}')
    assert caught.value.code == "label-not-json"


def test_sizes_are_bounded() -> None:
    sources = ",".join(f'"s{number}"' for number in range(MAX_SOURCES + 1))
    readers = ",".join(f'"svc:{number}"' for number in range(MAX_ATOMS))
    for text in (
        " " * (MAX_LABEL_BYTES + 1),
        f'{{"v":1,"src":[{sources}]}}',
        f'{{"v":1,"c":{{"org:a":[{readers}]}}}}',
    ):
        with pytest.raises(MalformedLabel) as caught:
            parse(text.encode())
        assert caught.value.code == "label-too-large"


def test_many_sources_become_one_reference() -> None:
    sources = frozenset(f"doc-{number}" for number in range(MAX_SOURCES + 1))
    label = Label(sources=sources)
    read_back = parse(encode(label))
    assert read_back.sources == {merkle_reference(sources)}
    assert label_id(read_back) == label_id(label)
    assert encode(Label(sources=frozenset(sorted(sources)[1:]))) != encode(label)


def test_the_merkle_reference_is_rfc_6962() -> None:
    """Worked by hand for three leaves: root = H(1, H(1, a, b), c)."""

    def leaf(text: str) -> bytes:
        return hashlib.sha256(b"\x00" + text.encode()).digest()

    pair = hashlib.sha256(b"\x01" + leaf("a") + leaf("b")).digest()
    root = hashlib.sha256(b"\x01" + pair + leaf("c")).hexdigest()
    assert merkle_reference({"c", "a", "b"}) == f"merkle:3:{root}"
    assert merkle_reference({"a"}) == f"merkle:1:{leaf('a').hex()}"
    assert merkle_reference(()) == f"merkle:0:{hashlib.sha256(b'').hexdigest()}"
