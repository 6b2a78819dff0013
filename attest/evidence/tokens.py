"""Signed tokens as attestation services write them: compact JWS (RFC 7515) and NVIDIA's detached EAT.

Read strictly and trusted with nothing: one spelling of base64url, no member twice, and no header member that
would change what is signed (``b64``, ``crit``) or where keys come from (``jwk``, ``x5c``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from attest import strict_json
from attest.refusal import Malformed

MAX_TOKEN_BYTES: Final = 32 * 1024
"""An Azure token with every claim is about 7 kB."""
MAX_EAT_BYTES: Final = 256 * 1024
"""Eight GPUs and four switches are about 30 kB."""
MAX_DEVICES: Final = 32
MAX_NAME: Final = 200

_HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ", "jku"})
_DEVICE: Final = re.compile(r"(?:GPU|SWITCH)-(?:0|[1-9][0-9]?)", re.ASCII)


MOCK_NRAS_ISSUER: Final = "https://nras.mock.invalid"
MOCK_MAA_ISSUER: Final = "https://maa.mock.invalid"
"""The mock services' names; RFC 2606 keeps them from ever being anybody's."""


@dataclass(frozen=True, slots=True, repr=False)
class JwkSetCollateral:
    """A key set as its issuer published it (RFC 7517).

    Args:
        jwks: the JSON document's bytes.
        not_after: until when it may be used (aware): the issuer withdraws a key by leaving it out of the next
            set. ``None`` for a set that the operator configured for good.
    """

    jwks: bytes
    not_after: datetime | None = None

    def __repr__(self) -> str:
        return f"JwkSetCollateral({len(self.jwks)} bytes)"


@dataclass(frozen=True, slots=True)
class CompactToken:
    """One compact JWS, decoded and not verified.

    Args:
        text: the token as it came, ASCII: what is signed and what digests are taken of.
        algorithm: ``alg`` of the header; words only.
        key_id: ``kid`` of the header.
        payload: the claims' bytes, to be read after the signature only.
        signature: as RFC 7518 writes it.
    """

    text: str = field(repr=False)
    algorithm: str
    key_id: str
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def signed(self) -> bytes:
        """What the signature covers: header and payload as they came."""
        return self.text.rpartition(".")[0].encode("ascii")

    @classmethod
    def parse(cls, text: str, *, name: str) -> CompactToken:
        """Split and decode.

        Args:
            text: the token.
            name: prefix of the refusal codes.

        Raises:
            Malformed: ``{name}-too-large``, ``{name}-parts``, ``{name}-base64``, ``{name}-not-json``,
                ``{name}-header``.
        """
        if len(text) > MAX_TOKEN_BYTES:
            raise Malformed(f"{name}-too-large", f"{len(text)} characters")
        parts = text.split(".")
        if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
            raise Malformed(f"{name}-parts", f"{len(parts)} parts", clause="RFC 7515 section 7.1")
        header, payload, signature = (
            strict_json.b64url_decode(part, name=name, max_bytes=MAX_TOKEN_BYTES) for part in parts
        )
        members = strict_json.loads(header, name=name, max_bytes=MAX_TOKEN_BYTES)
        if not isinstance(members, dict) or not members.keys() <= _HEADER_MEMBERS:
            raise Malformed(
                f"{name}-header", "a member that is not alg, kid, typ or jku", clause="RFC 7515 4.1"
            )
        if not all(isinstance(value, str) and len(value) <= MAX_NAME for value in members.values()):
            raise Malformed(f"{name}-header", "a member that is not a short text", clause="RFC 7515 4.1")
        if not {"alg", "kid"} <= members.keys():
            raise Malformed(f"{name}-header", "alg or kid is missing", clause="RFC 7515 4.1")
        return cls(text, members["alg"], members["kid"], payload, signature)

    def claims(self, *, name: str) -> dict[str, Any]:
        """The claims. Call only after the signature held.

        Raises:
            Malformed: ``{name}-claims`` if they are no object, or as ``strict_json.loads``.
        """
        claims = strict_json.loads(self.payload, name=name, max_bytes=MAX_TOKEN_BYTES)
        if not isinstance(claims, dict):
            raise Malformed(f"{name}-claims", "not an object", clause="RFC 7519 section 4")
        return claims


@dataclass(frozen=True, slots=True)
class DetachedEat:
    """NVIDIA's answer: one token over all devices, and one token for each.

    Args:
        overall: the token that names the others by digest.
        devices: ``GPU-0``, ``SWITCH-0`` and so on to their tokens, in the order in which they came.
    """

    overall: CompactToken
    devices: dict[str, CompactToken]

    @classmethod
    def parse(cls, data: bytes) -> DetachedEat:
        """Read ``[["JWT", overall], {"GPU-0": token, ...}]``.

        Raises:
            Malformed: ``nras-too-large``, ``nras-not-json``, ``nras-bundle``, ``nras-device-name``, and what
                ``CompactToken.parse`` raises.
        """
        value = strict_json.loads(data, name="nras", max_bytes=MAX_EAT_BYTES)
        match value:
            case [["JWT", str() as overall], dict() as devices]:
                pass
            case _:
                raise Malformed(
                    "nras-bundle", 'not [["JWT", token], {device: token}]', clause="RFC 9711 section 5"
                )
        if not 1 <= len(devices) <= MAX_DEVICES:
            raise Malformed("nras-bundle", f"{len(devices)} devices", clause="RFC 9711 section 5")
        if not all(_DEVICE.fullmatch(name) for name in devices):
            raise Malformed("nras-device-name", "a device that is not GPU-n or SWITCH-n")
        if not all(isinstance(token, str) for token in devices.values()):
            raise Malformed("nras-bundle", "a device's token is not a text", clause="RFC 9711 section 5")
        return cls(
            CompactToken.parse(overall, name="nras"),
            {name: CompactToken.parse(token, name="nras") for name, token in devices.items()},
        )
