"""Search recorded bytes for a prompt, in every form in which it could have left by accident.

A fragment is enough: the search looks for any ``FRAGMENT`` consecutive bytes of the prompt, so that a prompt
which was split, truncated or wrapped is found too. Forms: raw, UTF-16, JSON and percent escapes, hexadecimal,
base64 and base32 (every alignment), and anything of these inside a deflate, zlib, gzip, bzip2 or xz stream
that starts anywhere in the recording. The recording is read as it came and with HTTP chunk framing
taken out.

What this cannot find is a prompt under encryption; that is the point. That the search itself works is
shown by ``plant``: every form, planted in the same recording, must be found.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

FRAGMENT = 12
"""Bytes of the prompt that count as a leak. 12 random bytes match by chance once in 2^96."""
MIN_PROMPT = 2 * FRAGMENT
"""Shorter prompts do not have a fragment in every form at every alignment."""
MAX_RECORDING = 4 * 1024 * 1024
MAX_UNPACKED = 1024 * 1024
_XZ_MEMORY = 256 * 1024 * 1024
_CHUNK_FRAMING = re.compile(rb"\r\n[0-9a-fA-F]{1,8}(?:;[^\r\n]*)?\r\n")


@dataclass(frozen=True, repr=False)
class Trace:
    """A fragment that was found.

    Args:
        form: how it was written.
        offset: where in the recording, or in what was unpacked from it, in bytes.
    """

    form: str
    offset: int

    def __repr__(self) -> str:
        return f"Trace({self.form} at {self.offset})"


def find_prompt(recording: bytes, prompt: str) -> list[Trace]:
    """Every form in which a fragment of ``prompt`` occurs in ``recording``, one trace per form.

    Raises:
        ValueError: if the prompt is too short or the recording too long to be searched: neither may pass
            as "not found".
    """
    if len(prompt.encode()) < MIN_PROMPT:
        raise ValueError(f"a prompt of at least {MIN_PROMPT} bytes can be searched for")
    if len(recording) > MAX_RECORDING:
        raise ValueError(f"at most {MAX_RECORDING} bytes can be searched, here are {len(recording)}")
    needles = _needles(prompt)
    traces: dict[str, Trace] = {}
    for packing, view in _views(recording):
        for form, fragments in needles.items():
            offset = _first(view, fragments)
            if offset is not None:
                name = f"{form} in {packing}" if packing else form
                traces.setdefault(name, Trace(name, offset))
    return list(traces.values())


def plant(recording: bytes, prompt: str) -> Iterator[tuple[str, bytes]]:
    """The positive control: (form, ``recording`` with the prompt planted in that form in its middle)."""
    raw = prompt.encode()
    middle = len(recording) // 2
    for form, encode in PLANTED.items():
        yield form, recording[:middle] + encode(raw) + recording[middle:]


def _chunked(raw: bytes) -> bytes:
    pieces = [raw[start : start + 7] for start in range(0, len(raw), 7)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def _deflate(raw: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(raw) + packer.flush()


PLANTED: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda raw: raw,
    "second half only": lambda raw: raw[len(raw) // 2 :],
    "HTTP chunks": _chunked,
    "JSON escapes": lambda raw: _json_escapes(raw.decode()),
    "JSON in JSON": lambda raw: json.dumps(json.dumps(raw.decode())).encode(),
    "percent escapes": lambda raw: urllib.parse.quote(raw).encode(),
    "UTF-16": lambda raw: raw.decode().encode("utf-16-le"),
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: raw.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64, shifted by 1": lambda raw: base64.b64encode(b"x" + raw),
    "base64, shifted by 2": lambda raw: base64.b64encode(b"xy" + raw),
    "base64url": base64.urlsafe_b64encode,
    "base32": lambda raw: base64.b32encode(b"xyz" + raw),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "deflate": _deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "base64 in gzip": lambda raw: gzip.compress(base64.b64encode(raw)),
}
"""The forms of the positive control; each is one that ``find_prompt`` must find."""


def _needles(prompt: str) -> dict[str, frozenset[bytes]]:
    """For each form, the fragments that betray it, all of one length."""
    raw = prompt.encode()
    escaped = json.dumps(prompt)[1:-1].encode()
    forms = {
        "raw": [raw],
        "JSON": [escaped],
        "JSON in JSON": [json.dumps(escaped.decode())[1:-1].encode()],
        "JSON escapes": [_json_escapes(prompt)],
        "percent escapes": [urllib.parse.quote(prompt, safe="").encode()],
        "form escapes": [urllib.parse.quote_plus(prompt).encode()],
        "UTF-16": [prompt.encode("utf-16-le"), prompt.encode("utf-16-be")],
        "hex": [raw.hex().encode(), raw.hex().upper().encode()],
        "base64": _aligned(raw, 3, base64.b64encode),
        "base64url": _aligned(raw, 3, base64.urlsafe_b64encode),
        "base32": _aligned(raw, 5, base64.b32encode),
    }
    # As many characters as FRAGMENT bytes become in each encoding, so that no form is searched loosely.
    growth = {"JSON escapes": 6, "UTF-16": 2, "hex": 2, "base64": 4 / 3, "base64url": 4 / 3, "base32": 8 / 5}
    return {
        form: frozenset().union(*(_windows(text, int(FRAGMENT * growth.get(form, 1))) for text in texts))
        for form, texts in forms.items()
    }


def _json_escapes(prompt: str) -> bytes:
    units = prompt.encode("utf-16-be").hex(" ", 2).split(" ")
    return "".join(f"\\u{unit}" for unit in units).encode()


def _aligned(raw: bytes, block: int, encode: Callable[[bytes], bytes]) -> list[bytes]:
    """The encodings of ``raw`` from each place in a block, without the ends that depend on neighbours."""
    texts = []
    for start in range(block):
        part = raw[start:]
        texts.append(encode(part[: len(part) // block * block]))
    return texts


def _windows(text: bytes, size: int) -> frozenset[bytes]:
    return frozenset(text[start : start + size] for start in range(len(text) - size + 1))


def _first(view: bytes, fragments: frozenset[bytes]) -> int | None:
    """Where the first fragment begins. One pass over the view, whatever the number of fragments."""
    size = len(next(iter(fragments), b""))
    if not size:
        return None
    for offset in range(len(view) - size + 1):
        if view[offset : offset + size] in fragments:
            return offset
    return None


def _views(recording: bytes) -> Iterator[tuple[str, bytes]]:
    """The recording, the recording without chunk framing, and all that unpacks from either."""
    plain = [recording]
    unframed = _CHUNK_FRAMING.sub(b"", recording)
    if unframed != recording:
        plain.append(unframed)
    for view in plain:
        yield "", view
        yield from _unpacked(memoryview(view))


def _unpacked(view: memoryview) -> Iterator[tuple[str, bytes]]:
    signatures: tuple[tuple[str, bytes, Callable[[], _Unpacker]], ...] = (
        ("gzip", b"\x1f\x8b\x08", lambda: zlib.decompressobj(31)),
        ("bzip2", b"BZh", bz2.BZ2Decompressor),
        ("xz", b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
    )
    for name, magic, unpacker in signatures:
        for match in re.finditer(re.escape(magic), view):
            yield name, _unpack(unpacker(), view[match.start() :])
    # Raw deflate has no signature, so every offset is tried; zlib is raw deflate two bytes further on.
    for start in range(len(view)):
        unpacked = _unpack(zlib.decompressobj(-15), view[start:])
        if len(unpacked) >= FRAGMENT:
            yield "deflate", unpacked


class _Unpacker(Protocol):
    """What zlib, bz2 and lzma have in common."""

    def decompress(self, data: memoryview, max_length: int, /) -> bytes:
        """As in the standard library."""


def _unpack(unpacker: _Unpacker, data: memoryview) -> bytes:
    """What comes out before the stream ends or turns out to be none."""
    out = bytearray()
    try:
        for start in range(0, len(data), 64):
            out += unpacker.decompress(data[start : start + 64], MAX_UNPACKED)
            if len(out) >= MAX_UNPACKED:
                break
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError):
        pass  # random bytes are not a stream: what came before the error still counts
    return bytes(out)
