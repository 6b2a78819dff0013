"""What the browser verifier's file holds: no address to go to, and the product's codes, rows and pins."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from html.parser import HTMLParser
from typing import get_args

import pytest

from attest.collateral.snp import AMD_ARK_SHA256, AMD_INTERMEDIATE_SHA256, amd_ark, amd_intermediate
from attest.evidence.snp_tcb import Product
from tests.simulators.verifier_page import PAGE

ROOT = PAGE.parents[2]
TEXT = PAGE.read_text(encoding="utf-8")
HOW_TO = ROOT / "docs" / "how-to" / "verify-in-a-browser.md"
MAX_PAGE_BYTES = 100_000
PAGE_ONLY_CODES = {
    "statement-digest-mismatch",
    "cpu-not-judged-here",
    "devices-not-judged-here",
    "page-error",
}
PAGE_ONLY_ROWS = {"statement is the one that was named"}


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.bodies: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(TEXT)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  the parser's signature
        """Leave the element."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Note what stands in a script or style."""
        if self._inside in self.bodies:
            self.bodies[self._inside].append(data)


@pytest.fixture(scope="module")
def elements() -> Elements:
    """The parsed page."""
    return Elements()


def script() -> str:
    """The one script."""
    (body,) = Elements().bodies["script"]
    return body


def csp_hash(body: str) -> str:
    """As a Content-Security-Policy names an inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"


def test_policy_names_exactly_this_script_and_this_style(elements: Elements) -> None:
    """After an edit, write the hash that this test expects into the page's Content-Security-Policy."""
    policies = [
        attributes["content"] or ""
        for tag, attributes in elements.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    (code,), (style,) = elements.bodies["script"], elements.bodies["style"]
    assert dict(part.split(" ", 1) for part in policies[0].split("; ")) == {
        "default-src": "'none'",
        "script-src": csp_hash(code),
        "style-src": csp_hash(style),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    names = [tag for tag, _ in elements.elements]
    policy_at = next(
        index for index, (tag, attributes) in enumerate(elements.elements) if "http-equiv" in attributes
    )
    assert policy_at < names.index("style") < names.index("script")


def test_nothing_in_the_page_names_an_address(elements: Elements) -> None:
    """No element and no statement loads, sends or links anything."""
    for tag, attributes in elements.elements:
        assert not {"src", "srcset", "href", "action", "formaction", "style", "ping"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert not re.findall(r"[a-z]+://|@import|\burl\(", TEXT)
    for call in (
        "fetch",
        "XMLHttpRequest",
        "WebSocket",
        "sendBeacon",
        "innerHTML",
        "eval(",
        "import(",
        "localStorage",
    ):
        assert call not in TEXT, call
    assert len(TEXT.encode()) < MAX_PAGE_BYTES


def test_every_field_has_a_label(elements: Elements) -> None:
    """Each input stands inside its label, and the page names its language."""
    within = re.findall(r"<label[^>]*>(?:(?!</label>).)*?<input[^>]*id=\"([^\"]+)\"", TEXT, re.DOTALL)
    assert within == [attributes["id"] for tag, attributes in elements.elements if tag == "input"]
    assert ("html", {"lang": "en"}) in elements.elements


def test_pinned_certificates_are_the_products() -> None:
    """Bytes and digests are those under attest/collateral/roots."""
    pinned = {
        name: (sha256, base64.b64decode(der, validate=True))
        for name, sha256, der in re.findall(
            r'"(\w+ (?:ARK|ASK|ASVK))": \{ sha256: "([0-9a-f]{64})",\n +der: "([^"]+)" \}', script()
        )
    }
    expected = {}
    for product in get_args(Product):
        expected[f"{product} ARK"] = (AMD_ARK_SHA256[product], amd_ark(product))
        expected[f"{product} ASK"] = (
            AMD_INTERMEDIATE_SHA256[product, "vcek"],
            amd_intermediate(product, "vcek"),
        )
        expected[f"{product} ASVK"] = (
            AMD_INTERMEDIATE_SHA256[product, "vlek"],
            amd_intermediate(product, "vlek"),
        )
    assert pinned == expected


def codes_in_the_script() -> set[str]:
    """Every code that the script can refuse with, those built from a document's name included."""
    code = script()
    literal = re.findall(r'(?:refused|unsupported|malformed)\(\s*"([a-z0-9-]+)"', code)
    ordered = re.findall(r'requireOrder\([^;]*?"([a-z]+-[a-z]+)"', code)
    required = re.findall(r'checks\.require\([^;]*?"([a-z0-9]+(?:-[a-z0-9]+)+)"', code)
    chosen = re.findall(r'\? "([a-z-]+-[a-z-]+)" : "([a-z-]+-[a-z-]+)"', code)
    built = re.findall(r"malformed\(`\$\{name\}-([a-z0-9-]+)`", code)
    devices = re.findall(r'\["(device-[a-z-]+)"', code)
    named = {f"{name}-{end}" for name in ("bundle", "statement", "keyset") for end in built}
    pairs = {each for pair in chosen for each in pair}
    return {*literal, *ordered, *required, *devices, *named, *pairs, "nonce-form", "statement-field"}


def documented(code: str) -> bool:
    """Whether the product has the code, by itself or as one of a family such as ``*-too-large``."""
    sections = tomllib.loads((ROOT / "docs" / "reference" / "refusal_codes.toml").read_text()).values()
    names = {name for section in sections for name in section}
    return code in names or any(code.endswith(name[1:]) for name in names if name.startswith("*-"))


def test_every_code_is_the_products_or_explained_in_the_guide() -> None:
    """A refusal is looked up under one name, wherever it was shown."""
    codes = codes_in_the_script()
    assert len(codes) > 70
    assert {code for code in codes - PAGE_ONLY_CODES if not documented(code)} == set()
    assert PAGE_ONLY_CODES - {"page-error"} <= codes
    guide = HOW_TO.read_text(encoding="utf-8")
    assert [code for code in sorted(PAGE_ONLY_CODES) if f"`{code}`" not in guide] == []


def test_every_row_is_one_of_the_products() -> None:
    """`sealgate verify` shows the same check under the same name."""
    names = set(re.findall(r'checks\.(?:passed|noted|step)\("([^"]+)"', script()))
    names |= set(
        re.findall(
            r'checks\.require\([^;]*?"[a-z0-9]+(?:-[a-z0-9]+)+"(?: : "[a-z-]+")?,\s*"([^"]+)"', script()
        )
    )
    names |= set(re.findall(r'"device-[a-z-]+", \[[^"]*, "([^"]+)"\]', script()))
    sources = "\n".join(path.read_text() for path in (ROOT / "attest").rglob("*.py"))
    assert len(names) >= 20
    assert {name for name in names if f'"{name}"' not in sources} == PAGE_ONLY_ROWS


def test_the_guide_says_what_is_not_checked() -> None:
    """Page and guide list the same gaps."""
    gaps = re.findall(r'^  \["([^"]+)", (?:"|STATEMENT)', script(), re.MULTILINE)
    guide = HOW_TO.read_text(encoding="utf-8")
    assert len(gaps) >= 7
    assert [gap for gap in gaps if gap not in guide] == []
