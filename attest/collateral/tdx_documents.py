"""TCB info and QE identity (Intel PCS API v4): what Intel says is up to date, and since when.

These parse the text whose signature is judged by ``attest.verify.tdx_collateral``. What is read is read
strictly; members that this version does not know are left alone, for Intel adds some from time to time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from attest import strict_json
from attest.evidence.pck import COMPONENTS
from attest.refusal import Malformed, Unsupported

CLAUSE: Final = "Intel PCS API v4"
_MAX_BYTES: Final = 96 * 1024
_MAX_ENTRIES: Final = 128
_MAX_TEXT: Final = 64
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_HEX: Final = re.compile(r"([0-9a-fA-F]{2})*", re.ASCII)


class TcbStatus(StrEnum):
    """How Intel judges a combination of versions, from the best to the worst."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


# What a document may say: the advice to launch a TD anew is never written there but concluded from a quote,
# and enclaves know no configuration.
_ENCLAVE_STATUSES: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
_PLATFORM_STATUSES: Final = frozenset(
    status for status in TcbStatus if not status.startswith(TcbStatus.TD_RELAUNCH_ADVISED)
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A status, and the advisories that explain it."""

    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    """Versions of a platform from which on ``judgement`` holds.

    Args:
        sgx: sixteen components, compared with the PCK certificate's.
        pcesvn: compared with the PCK certificate's.
        tdx: sixteen components, compared with TEE_TCB_SVN.
        judgement: of such a platform.
    """

    sgx: tuple[int, ...]
    pcesvn: int
    tdx: tuple[int, ...]
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class EnclaveLevel:
    """The security version of an enclave or module from which on ``judgement`` holds."""

    isvsvn: int
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """Which TDX module is Intel's.

    Args:
        mrsigner: 48 bytes.
        attributes: 8 bytes, expected under ``attributes_mask``.
        attributes_mask: 8 bytes.
        levels: highest first; empty for the platform's base entry, which has none.
    """

    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[EnclaveLevel, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when a document is to be used (aware UTC)."""

    issued: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """What Intel says of one family of platforms.

    Args:
        window: when.
        fmspc: 6 bytes, the family.
        pceid: 2 bytes.
        evaluation_number: grows with each evaluation that Intel publishes.
        module: the TDX module, major version 0.
        modules: later ones by identifier, e.g. ``"TDX_01"``.
        levels: highest first.
    """

    window: Window
    fmspc: bytes
    pceid: bytes
    evaluation_number: int
    module: ModuleIdentity
    modules: dict[str, ModuleIdentity]
    levels: tuple[PlatformLevel, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """Which quoting enclave is Intel's.

    Args:
        window: when.
        evaluation_number: as in TCB info.
        miscselect: 4 bytes, expected under ``miscselect_mask``.
        miscselect_mask: 4 bytes.
        attributes: 16 bytes, expected under ``attributes_mask``.
        attributes_mask: 16 bytes.
        mrsigner: 32 bytes.
        isvprodid: the product.
        levels: highest first.
    """

    window: Window
    evaluation_number: int
    miscselect: bytes
    miscselect_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[EnclaveLevel, ...]


# The parse is a pure function of the text, and the same few texts come with every quote.
@lru_cache(maxsize=16)
def parse_tcb_info(text: str) -> TcbInfo:
    """Read the value of ``tcbInfo``.

    Raises:
        Unsupported: ``tdx-tcb-info-kind``, ``tdx-tcb-status``.
        Malformed: ``tdx-tcb-info-*``.
    """
    document = _Document(text, "tdx-tcb-info")
    top = document.top
    document.require_kind(top, "TDX", 3)
    if document.number(top, "tcbType", 0xFFFF) != 0:
        raise Unsupported("tdx-tcb-info-kind", CLAUSE, expected="tcbType 0", got="another comparison")
    levels = [_platform_level(document, level) for level in document.objects(top, "tcbLevels")]
    # Intel's library sorts before it searches for the first match: the order in the text decides nothing.
    levels.sort(key=lambda level: (level.sgx, level.pcesvn, level.tdx), reverse=True)
    modules = {}
    for entry in document.objects(top, "tdxModuleIdentities", default=[]):
        identifier = document.text(entry, "id").upper()
        if identifier in modules:
            raise document.malformed("two modules of one identifier")
        modules[identifier] = _module(document, entry, document.objects(entry, "tcbLevels"))
    return TcbInfo(
        window=document.window(),
        fmspc=document.binary(top, "fmspc", 6),
        pceid=document.binary(top, "pceId", 2),
        evaluation_number=document.number(top, "tcbEvaluationDataNumber", 0xFFFFFFFF),
        module=_module(document, document.object(top, "tdxModule"), []),
        modules=modules,
        levels=tuple(levels),
    )


@lru_cache(maxsize=16)
def parse_qe_identity(text: str) -> QeIdentity:
    """Read the value of ``enclaveIdentity``.

    Raises:
        Unsupported: ``tdx-qe-identity-kind``, ``tdx-tcb-status``.
        Malformed: ``tdx-qe-identity-*``.
    """
    document = _Document(text, "tdx-qe-identity")
    top = document.top
    document.require_kind(top, "TD_QE", 2)
    return QeIdentity(
        window=document.window(),
        evaluation_number=document.number(top, "tcbEvaluationDataNumber", 0xFFFFFFFF),
        miscselect=document.binary(top, "miscselect", 4),
        miscselect_mask=document.binary(top, "miscselectMask", 4),
        attributes=document.binary(top, "attributes", 16),
        attributes_mask=document.binary(top, "attributesMask", 16),
        mrsigner=document.binary(top, "mrsigner", 32),
        isvprodid=document.number(top, "isvprodid", 0xFFFF),
        levels=_enclave_levels(document, document.objects(top, "tcbLevels")),
    )


class _Document:
    """Typed access to a JSON document; every failure is ``{name}-form``."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        value = strict_json.loads(text.encode(), name=name, max_bytes=_MAX_BYTES)
        if not isinstance(value, dict):
            raise self.malformed("not an object")
        self.top: dict[str, Any] = value

    def malformed(self, reason: str) -> Malformed:
        return Malformed(f"{self._name}-form", reason, clause=CLAUSE)

    def require_kind(self, value: dict[str, Any], identifier: str, version: int) -> None:
        got = self.text(value, "id"), self.number(value, "version", 0xFFFF)
        if got != (identifier, version):
            raise Unsupported(
                f"{self._name}-kind",
                CLAUSE,
                expected=f"{identifier} version {version}",
                got=f"{got[0]} version {got[1]}",
            )

    def window(self) -> Window:
        return Window(self._time("issueDate"), self._time("nextUpdate"))

    def object(self, value: dict[str, Any], name: str) -> dict[str, Any]:
        member = value.get(name)
        if not isinstance(member, dict):
            raise self.malformed(f"{name} is not an object")
        return member

    def objects(self, value: dict[str, Any], name: str, default: Any = None) -> list[dict[str, Any]]:
        members = value.get(name, default)
        if not isinstance(members, list) or len(members) > _MAX_ENTRIES:
            raise self.malformed(f"{name} is not a list, or too long")
        if not all(isinstance(member, dict) for member in members):
            raise self.malformed(f"{name} is not a list of objects")
        return members

    def text(self, value: dict[str, Any], name: str) -> str:
        return self._text(value.get(name), name)

    def texts(self, value: dict[str, Any], name: str) -> tuple[str, ...]:
        members = value.get(name, [])
        if not isinstance(members, list) or len(members) > _MAX_ENTRIES:
            raise self.malformed(f"{name} is not a list, or too long")
        return tuple(self._text(member, name) for member in members)

    def number(self, value: dict[str, Any], name: str, most: int) -> int:
        member = value.get(name)
        if type(member) is not int or not 0 <= member <= most:
            raise self.malformed(f"{name} is not a number from 0 to {most}")
        return member

    def binary(self, value: dict[str, Any], name: str, size: int) -> bytes:
        text = value.get(name)
        if not isinstance(text, str) or len(text) != 2 * size or not _HEX.fullmatch(text):
            raise self.malformed(f"{name} is not {size} bytes in hex")
        return bytes.fromhex(text)

    def _time(self, name: str) -> datetime:
        text = self.text(self.top, name)
        try:
            if _TIME.fullmatch(text):
                return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            pass
        raise self.malformed(f"{name} is not a time")

    def _text(self, member: Any, name: str) -> str:
        if not isinstance(member, str) or len(member) > _MAX_TEXT or not member.isprintable():
            raise self.malformed(f"{name} is not short printable text")
        return member


def _platform_level(document: _Document, level: dict[str, Any]) -> PlatformLevel:
    tcb = document.object(level, "tcb")
    return PlatformLevel(
        sgx=_components(document, tcb, "sgxtcbcomponents"),
        pcesvn=document.number(tcb, "pcesvn", 0xFFFF),
        tdx=_components(document, tcb, "tdxtcbcomponents"),
        judgement=_judgement(document, level, _PLATFORM_STATUSES),
    )


def _components(document: _Document, tcb: dict[str, Any], name: str) -> tuple[int, ...]:
    components = document.objects(tcb, name)
    if len(components) != COMPONENTS:
        raise document.malformed(f"{name} are not {COMPONENTS}")
    return tuple(document.number(component, "svn", 0xFF) for component in components)


def _module(document: _Document, entry: dict[str, Any], levels: list[dict[str, Any]]) -> ModuleIdentity:
    return ModuleIdentity(
        mrsigner=document.binary(entry, "mrsigner", 48),
        attributes=document.binary(entry, "attributes", 8),
        attributes_mask=document.binary(entry, "attributesMask", 8),
        levels=_enclave_levels(document, levels),
    )


def _enclave_levels(document: _Document, levels: list[dict[str, Any]]) -> tuple[EnclaveLevel, ...]:
    parsed = [
        EnclaveLevel(
            document.number(document.object(level, "tcb"), "isvsvn", 0xFFFF),
            _judgement(document, level, _ENCLAVE_STATUSES),
        )
        for level in levels
    ]
    return tuple(sorted(parsed, key=lambda level: level.isvsvn, reverse=True))


def _judgement(document: _Document, level: dict[str, Any], known: frozenset[TcbStatus]) -> Judgement:
    status = document.text(level, "tcbStatus")
    if status not in known:
        raise Unsupported("tdx-tcb-status", CLAUSE, expected=", ".join(sorted(known)), got=status)
    return Judgement(TcbStatus(status), document.texts(level, "advisoryIDs"))
