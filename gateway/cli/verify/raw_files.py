"""Raw evidence on disk: certificates in PEM or DER, and the JSON that NVIDIA's tools keep GPU evidence in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from attest import strict_json
from attest.evidence.gpu import ARCHITECTURES, Architecture, GpuCollateral, GpuEvidence
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.pem import read_certificates
from attest.evidence.rim import Rim, parse_xml
from attest.evidence.spdm import SpdmReport
from attest.refusal import Malformed, Unsupported
from attest.statement import MAX_DEVICES

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_CLAUSE: Final = "NVIDIA attestation SDK, serialised evidence"


def read(path: Path | None) -> bytes:
    """A file's bytes.

    Raises:
        Malformed: ``evidence-too-large``.
        OSError: it cannot be read.
    """
    if path is None:
        raise Malformed("evidence-missing", "no file was named")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Malformed("evidence-too-large", f"at most {MAX_FILE_BYTES} bytes")
    return data


def certificates(path: Path | None) -> tuple[bytes, ...]:
    """Certificates of a file, PEM or DER, as DER; none if no file was named.

    Raises:
        Malformed: ``pem-*``, ``evidence-too-large``.
    """
    if path is None:
        return ()
    data = read(path)
    return read_certificates(data) if b"-----BEGIN" in data else (data,)


def gpu_devices(
    files: Sequence[bytes],
    chain: Path | None,
    arch: str | None,
    rims: Sequence[bytes],
    ocsp: tuple[bytes, ...],
) -> list[tuple[GpuEvidence, GpuCollateral]]:
    """Devices with the golden values that are about their versions.

    Args:
        files: lists of ``{"arch", "certificate", "evidence", "nonce"}``, as NVIDIA's tools write one for a
            machine's GPUs and one for its switches; or, with a chain, one SPDM request and response.
        chain: of a single report, PEM.
        arch: of a single report; default ``HOPPER``.
        rims: golden values for any of them.
        ocsp: answers for any of them.

    Raises:
        Malformed: ``gpu-evidence-*``, ``spdm-*``, ``rim-*``.
        Unsupported: ``gpu-arch``.
    """
    if chain is not None:
        if len(files) != 1:
            raise Malformed("gpu-evidence-form", "one chain, and not one report", clause=_CLAUSE)
        devices = [GpuEvidence(_arch(arch or "HOPPER"), files[0], read(chain))]
    else:
        items = [item for data in files for item in _list(data)]
        if len(items) > MAX_DEVICES:
            raise Malformed("gpu-evidence-form", f"more than {MAX_DEVICES} devices", clause=_CLAUSE)
        devices = [_device(item) for item in items]
    by_version = {Rim.read(parse_xml(rim)).version.upper(): rim for rim in rims}
    return [(device, _collateral(device, by_version, ocsp)) for device in devices]


def _list(data: bytes) -> list[Any]:
    items = strict_json.loads(data, name="gpu-evidence", max_bytes=MAX_FILE_BYTES)
    if not isinstance(items, list) or not items:
        raise Malformed("gpu-evidence-form", "not a list of devices", clause=_CLAUSE)
    return items


def _device(item: Any) -> GpuEvidence:
    if not isinstance(item, dict) or not {"arch", "certificate", "evidence"} <= item.keys():
        raise Malformed("gpu-evidence-form", "a device lacks arch, certificate or evidence", clause=_CLAUSE)
    return GpuEvidence(_arch(item["arch"]), _decode(item["evidence"]), _decode(item["certificate"]))


def _arch(name: Any) -> Architecture:
    if name not in ARCHITECTURES:
        raise Unsupported("gpu-arch", "NVIDIA", expected=", ".join(ARCHITECTURES), got="another architecture")
    return cast("Architecture", name)


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Malformed("gpu-evidence-form", "a member is not base64", clause=_CLAUSE) from error


def _collateral(device: GpuEvidence, rims: dict[str, bytes], ocsp: tuple[bytes, ...]) -> GpuCollateral:
    facts = GpuFacts.read(SpdmReport.parse(device.report).opaque, device.arch)
    driver = None if facts.driver_version is None else rims.get(facts.driver_version.upper())
    return GpuCollateral(driver, rims.get(facts.vbios_version.upper()), ocsp)
