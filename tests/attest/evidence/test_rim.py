"""Golden values before anybody vouches for them: the form of a manifest, and its bounds."""

from __future__ import annotations

import base64

import pytest

from attest.evidence.gpu import MAX_RIM_BYTES
from attest.evidence.rim import Rim, parse_xml, rim_certificates
from attest.mock.rim_document import rim_document
from attest.refusal import Malformed

PLAIN = rim_document("1", "GH100", {7: (bytes(48),)})
OPENING = PLAIN.index(">") + 1


def test_the_highest_numbers() -> None:
    """Sixty-three is an index, and sixty-four digests may be alternatives; one more is not."""
    several = tuple(bytes([number]) * 48 for number in range(64))
    document = rim_document("1", "GH100", {63: several})
    assert Rim.read(parse_xml(document.encode())).active[63].alternatives == several
    more = rim_document("1", "GH100", {63: (*several, bytes(48))})
    with pytest.raises(Malformed, match="rim-resource"):
        Rim.read(parse_xml(more.encode()))


def test_names_are_cut() -> None:
    """To sixty-four characters."""
    named = PLAIN.replace('name="Measurement_7"', f'name="{"n" * 65}"')
    assert Rim.read(parse_xml(named.encode())).active[7].name == "n" * 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('index="7"', 'index="00007"'),
        ('index="7"', 'index=""'),
        ('index="7"', 'index="\u0667"'),
        ('index="7" ', ""),
        (f'ns2:Hash0="{"00" * 48}" name="Measurement_7"', f'ns2:Hash0="{"00" * 48}0" name="Measurement_7"'),
        (f'ns2:Hash0="{"00" * 48}" name="Measurement_7"', 'ns2:Hash0="" name="Measurement_7"'),
        (f'ns2:Hash0="{"00" * 48}" name="Measurement_7"', f'ns2:Hash0="{"X0" * 48}" name="Measurement_7"'),
        (f'alternatives="1" ns2:Hash0="{"00" * 48}" name="Measurement_7"', 'alternatives="0"'),
    ],
)
def test_numbers_and_digests_of_another_form(old: str, new: str) -> None:
    """Up to four decimal digits; ninety-six hexadecimal ones."""
    assert old in PLAIN
    with pytest.raises(Malformed, match="rim-resource"):
        Rim.read(parse_xml(PLAIN.replace(old, new, 1).encode()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<ns0:Resource type="Measurement" index="7"', '<ns0:Link type="Measurement" index="7"'),
        ('type="Measurement" index="7"', 'type="Directory" index="7"'),
        ('name="Measurement_7" size="48"/>', 'name="Measurement_7" size="48"><ns0:Link/></ns0:Resource>'),
    ],
)
def test_what_is_no_measurement(old: str, new: str) -> None:
    """A payload holds measurements, which hold nothing."""
    assert old in PLAIN
    with pytest.raises(Malformed, match="rim-resource"):
        Rim.read(parse_xml(PLAIN.replace(old, new, 1).encode()))


def test_another_encoding() -> None:
    """UTF-8, whatever a byte order mark says."""
    with pytest.raises(Malformed, match="rim-xml"):
        parse_xml(PLAIN.encode("utf-16"))


def test_digests_in_either_case() -> None:
    """Hexadecimal digits have none."""
    document = rim_document("1", "GH100", {7: (b"\xab" * 48,)}).replace("ab" * 48, "aB" * 48)
    assert Rim.read(parse_xml(document.encode())).active[7].alternatives == (b"\xab" * 48,)


def test_the_largest_document() -> None:
    """Its bound belongs to what is read."""
    padded = PLAIN.replace(">", ">" + " " * (MAX_RIM_BYTES - len(PLAIN)), 1).encode()
    assert len(padded) == MAX_RIM_BYTES
    parse_xml(padded)
    with pytest.raises(Malformed, match="rim-too-large"):
        parse_xml(padded.replace(b"> ", b">  ", 1))


def test_depth_is_bounded() -> None:
    """Well-formed or not, what is nested too deep is not read."""
    for depth, fits in ((200, True), (300, False)):
        nested = b"<a>" * depth + b"</a>" * depth
        if fits:
            parse_xml(nested)
            continue
        with pytest.raises(Malformed, match="rim-xml"):
            parse_xml(nested)


@pytest.mark.parametrize("declaration", ["<?xml version='1.0'?>", '<?xml version="1.0" encoding="utf-8"?>\n'])
def test_declarations(declaration: str) -> None:
    """One at the start, in either spelling; not in the middle, and none of another version."""
    parse_xml((declaration + PLAIN).encode())
    for document in (
        "\n" + declaration + PLAIN,
        PLAIN[:OPENING] + declaration + PLAIN[OPENING:],
        declaration.replace("1.0", "1.1") + PLAIN,
        declaration + declaration + PLAIN,
    ):
        with pytest.raises(Malformed, match="rim-markup"):
            parse_xml(document.encode())


def test_certificates_beside_the_signature() -> None:
    """As they came, wherever lines break; what is no base64 is no manifest."""
    dsig = "http://www.w3.org/2000/09/xmldsig#"
    first, second = b"first certificate", b"second certificate"

    def with_certificates(*texts: str) -> bytes:
        inner = "".join(f"<d:X509Certificate>{text}</d:X509Certificate>" for text in texts)
        return f'<a xmlns:d="{dsig}"><d:X509Data>{inner}</d:X509Data></a>'.encode()

    encoded = base64.b64encode(first).decode(), base64.b64encode(second).decode()
    broken = f"\n {encoded[0][:5]}\n\t{encoded[0][5:]} \n"
    assert rim_certificates(with_certificates(broken, encoded[1], "")) == (first, second, b"")
    assert rim_certificates(b"<a/>") == ()
    with pytest.raises(Malformed, match="rim-structure"):
        rim_certificates(with_certificates("AAAAA"))
    with pytest.raises(Malformed, match="rim-xml"):
        rim_certificates(b"<a>")


@pytest.mark.parametrize("name", ["colloquialVersion", "product"])
def test_a_manifest_about_nothing(name: str) -> None:
    """Version and product are there, and nothing follows them."""
    assert PLAIN.count(f' {name}="') == 1
    for document in (
        PLAIN.replace(f" {name}=", " other=", 1),
        PLAIN.replace(f' {name}="', f' {name}="1;', 1),
    ):
        with pytest.raises(Malformed, match="rim-meta"):
            Rim.read(parse_xml(document.encode()))
