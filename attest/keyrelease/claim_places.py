"""Where a value of the reference tables stands in an attestation token.

Only claims whose meaning is beyond doubt: ``rapl-disabled`` and ``ciphertext-hiding-dram-enabled``, for
instance, may speak of the guest's policy or of the platform, so no rule is written about them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from attest.evidence.maa_claims import TeeKind
from attest.keyrelease.release_policy import Alternatives, Number, Value

Accepted = frozenset[str] | frozenset[int] | bool
"""A value of a reference table."""

_DIGEST: Final = re.compile(r"[0-9a-f]{96}", re.ASCII)
_HOST_DATA: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_VMPLS: Final = range(4)
_SNP: Final = "x-ms-sevsnpvm-"
_PERFMON: Final = "tdx_td_attributes_perfmon"


@dataclass(frozen=True, slots=True)
class _Place:
    """A list of a reference table and the claim that carries it; ``form`` is None for numbers."""

    key: str
    claim: str
    form: re.Pattern[str] | None = _DIGEST


_LISTS: Final[dict[TeeKind, tuple[_Place, ...]]] = {
    "sevsnpvm": (
        _Place("vmpls", f"{_SNP}vmpl", None),
        _Place("host_data", f"{_SNP}hostdata", _HOST_DATA),
        _Place("id_key_digests", f"{_SNP}idkeydigest"),
    ),
    "tdxvm": (
        *(_Place(f"rtmr{index}", f"tdx_rtmr{index}") for index in range(4)),
        _Place("mrseams", "tdx_mrseam"),
        _Place("mrconfigids", "tdx_mrconfigid"),
        _Place("mrowners", "tdx_mrowner"),
        _Place("mrownerconfigs", "tdx_mrownerconfig"),
    ),
}
_BITS: Final = {
    "smt_allowed": f"{_SNP}smt-allowed",
    "single_socket_required": f"{_SNP}singlesocket",
    "cxl_allowed": f"{_SNP}cxl-allowed",
    "aes_256_xts_required": f"{_SNP}mem-aes256-xts-required",
    "page_swap_disabled": f"{_SNP}page-swap-disabled",
}


def claims_of(tee: TeeKind, values: Mapping[str, Any]) -> tuple[dict[str, Alternatives], frozenset[str]]:
    """The claims that say what a reference table says, and the keys that these say in full.

    Args:
        tee: the table: ``sevsnpvm`` is ``[snp]``, ``tdxvm`` is ``[tdx]``.
        values: as ``SnpReference.values`` or ``TdxReference.values`` gives them.
    """
    claims: dict[str, Alternatives] = {}
    said: set[str] = set()
    for place in _LISTS[tee]:
        if place.key in values:
            said.add(place.key)
            claims[place.claim] = frozenset(
                Number(value) if isinstance(value, int) else value for value in values[place.key]
            )
    if tee == "tdxvm":
        said.add("allow_perfmon")
        if not values["allow_perfmon"]:
            claims[_PERFMON] = frozenset({False})
        return claims, frozenset(said)
    for key, wanted in (("policy_set", True), ("policy_clear", False)):
        bits = frozenset(values.get(key, ()))
        claims |= {_BITS[bit]: frozenset({wanted}) for bit in bits & _BITS.keys()}
        said |= {key} if bits <= _BITS.keys() else set()
    return claims, frozenset(said)


def values_of(tee: TeeKind, claims: Mapping[str, Alternatives]) -> tuple[dict[str, Accepted], frozenset[str]]:
    """What claims say in the words of the reference table, and the claims that were so understood.

    A claim with a value of another form is not understood, and neither is one that accepts both states of
    a bit: it would say nothing.
    """
    values: dict[str, Accepted] = {}
    read: set[str] = set()
    for place in _LISTS[tee]:
        found = _list(place, claims.get(place.claim, frozenset()))
        if found:
            values[place.key] = found
            read.add(place.claim)
    if tee == "tdxvm":
        strict = claims.get(_PERFMON) == frozenset({False})
        values["allow_perfmon"] = not strict
        return values, frozenset(read | ({_PERFMON} if strict else set()))
    for key, wanted in (("policy_set", True), ("policy_clear", False)):
        bits = frozenset(bit for bit, claim in _BITS.items() if claims.get(claim) == frozenset({wanted}))
        if bits:
            values[key] = bits
            read |= {_BITS[bit] for bit in bits}
    return values, frozenset(read)


def _list(place: _Place, accepted: frozenset[Value]) -> frozenset[str] | frozenset[int] | None:
    if place.form is None:
        levels = frozenset(value.value for value in accepted if isinstance(value, Number))
        return levels if len(levels) == len(accepted) and all(level in _VMPLS for level in levels) else None
    texts = frozenset(value for value in accepted if isinstance(value, str) and place.form.fullmatch(value))
    return texts if len(texts) == len(accepted) else None
