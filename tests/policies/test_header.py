"""The Data-Label header: the documented form, and every way of not being one."""

from __future__ import annotations

import base64

import pytest

from policies.codec import label_id
from policies.header import format_header, parse_header
from policies.labels import PUBLIC, Integrity, Label, Sensitivity
from policies.refusal import MalformedLabel

GUID = "722a5300-0000-4000-8000-000000000001"
LABEL = Label(
    owners=(("org:acme", frozenset({"grp:7f3"})), ("org:b", frozenset())),
    integrity=Integrity.VENDOR,
    endorsers=frozenset({"svc:dlp"}),
    purposes=frozenset({"support"}),
    regions=frozenset({"eu"}),
    retention_seconds=2592000,
    flags=frozenset({"no-train"}),
    sensitivity=Sensitivity(5, GUID),
    sources=frozenset({"sp:site/doc"}),
)
TEXT = (
    'v=1, c=("org:acme";o "grp:7f3" "org:b";o), i=vendor, by=("svc:dlp"), p=(support), r=(eu), '
    f'f=(no-train), src=("sp:site/doc"), t=2592000, s=5;mip="{GUID}"'
)


def _id_of(label: Label) -> str:
    return f", id=:{base64.b64encode(bytes.fromhex(label_id(label)[7:])).decode()}:"


def test_the_documented_form() -> None:
    assert format_header(LABEL) == TEXT + _id_of(LABEL)
    assert parse_header(TEXT) == LABEL
    assert parse_header("v=1") == PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        'v=1,c=(  "org:acme";o   "grp:7f3" )',
        'v=1 ,\t c=("org:acme"; o "grp:7f3")',
        'c=("org:acme";o=?1 "grp:7f3"), v=1 ',
        "v=1, c=(org:acme;o grp:7f3)",
    ],
)
def test_the_same_label_written_otherwise(text: str) -> None:
    assert parse_header(text) == Label(owners=(("org:acme", frozenset({"grp:7f3"})),))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("label-header-syntax", ""),
        ("label-header-syntax", "v=1,"),
        ("label-header-syntax", "v=1 p=(a)"),
        ("label-header-syntax", "V=1"),
        ("label-header-syntax", "v="),
        ("label-header-syntax", "v=1.0"),
        ("label-header-syntax", "v=1, t=1234567890123456"),
        ("label-header-syntax", "v=1, p=(support"),
        ("label-header-syntax", 'v=1, p=("a""b")'),
        ("label-header-syntax", 'v=1, p=("a'),
        ("label-header-syntax", 'v=1, p=("\u00e9")'),
        ("label-header-syntax", 'v=1, p=("\\n")'),
        ("label-header-syntax", "v=1, t=@1659578233"),
        ("label-header-syntax", "v=1, id=:A:"),
        ("label-header-syntax", "v=1, id=:AAAA"),
        ("label-header-syntax", "v=1, t=\u0661"),
        ("label-header-duplicate", "v=1, v=1"),
        ("label-header-duplicate", f's=5;mip="{GUID}";mip="{GUID}", v=1'),
        ("label-header-too-large", "v=1" + " " * (16 * 1024)),
        ("label-members", "v=1, x=1"),
        ("label-type", "p=(support)"),
        ("label-type", "v=1;a"),
        ("label-type", "v"),
        ("label-type", "v=(1)"),
        ("label-type", 'v="1"'),
        ("label-type", "v=1, t=(5)"),
        ("label-type", "v=1, t=?1"),
        ("label-type", "v=1, p=support"),
        ("label-type", "v=1, p=(support;x)"),
        ("label-type", "v=1, p=(5)"),
        ("label-type", "v=1, c"),
        ("label-type", 'v=1, c=("org:a";o "svc:b";x)'),
        ("label-version", "v=2"),
        ("label-owner", 'v=1, c=("org:a")'),
        ("label-owner", 'v=1, c=("org:a";o=?0)'),
        ("label-duplicate", 'v=1, c=("org:a";o "org:a";o)'),
        ("label-duplicate", "v=1, f=(no-log no-log)"),
        ("label-integrity", "v=1, i=godlike"),
        ("label-flag", "v=1, f=(no-fun)"),
        ("label-sensitivity", "v=1, s=5"),
        ("label-sensitivity", f'v=1, s=5;mip="{GUID}";x'),
        ("label-type", "v=1, s=5;mip=7"),
        ("label-type", f'v=1, s="5";mip="{GUID}"'),
        ("label-id-mismatch", TEXT + _id_of(PUBLIC)),
        ("label-id-mismatch", "v=1, id=::"),
    ],
)
def test_what_is_no_label_refuses(code: str, text: str) -> None:
    with pytest.raises(MalformedLabel) as caught:
        parse_header(text)
    assert caught.value.code == code


def test_a_label_too_large_for_a_header_is_not_cut() -> None:
    label = Label(unresolved=frozenset(f"call-{number:05}" for number in range(2000)))
    with pytest.raises(MalformedLabel) as caught:
        format_header(label)
    assert caught.value.code == "label-header-too-large"
