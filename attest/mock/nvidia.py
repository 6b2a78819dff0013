"""A software vendor of GPUs and switches. It proves nothing about hardware.

Reports, chains, golden values and revocation answers have NVIDIA's exact formats and go through the
production verifier. What differs is the two roots, which are made here, on this machine, and must be named
in the trust file *and* in the reference values before anything under them is accepted (promise P8).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from attest.evidence.gpu import Architecture, GpuCollateral, GpuEvidence
from attest.mock import nvidia_report
from attest.mock.nvidia_certificates import Authority, authority, derived_key, leaf, ocsp_answer, signer
from attest.mock.nvidia_report import MockGpu, golden
from attest.mock.rim_document import rim_document, sign_rim

_SEED_FILE: Final = "gpu-vendor.json"
_SEED_BYTES: Final = 48
_PRODUCTS: Final[dict[Architecture, str]] = {"HOPPER": "GH100", "BLACKWELL": "GB100", "LS10": "LS10"}


class MockGpuVendor:
    """One hierarchy over devices, one over golden values, and any number of devices.

    Every key is derived from one seed and every certificate is signed deterministically, so seed and date are
    the whole vendor.

    Args:
        seed: 48 secret bytes.
        issued_at: when the hierarchies were made (aware); everything is dated a day back.
    """

    def __init__(self, seed: bytes, *, issued_at: datetime) -> None:
        self._seed = seed
        self.issued_at = issued_at
        self.device_root = self._authority("Sealgate MOCK Device Identity CA", None)
        self.identity = self._authority("Sealgate MOCK GPU Identity", self.device_root)
        self.provisioner = self._authority("Sealgate MOCK Provisioner ICA 1", self.identity)
        self.rim_root = self._authority("Sealgate MOCK CoRIM signing Root CA", None)
        self.rim_ca = self._authority("Sealgate MOCK Reference Value CA", self.rim_root)
        self.rim_intermediate = self._authority("Sealgate MOCK Reference Value L3", self.rim_ca)
        name = "Sealgate MOCK RIM L4 Signer"
        self.rim_signer = signer(name, derived_key(seed, name), self.rim_intermediate, issued_at=issued_at)

    def __repr__(self) -> str:
        return f"MockGpuVendor(device root {self.device_root_sha256[:16]})"

    @classmethod
    def create(cls, *, now: datetime | None = None) -> MockGpuVendor:
        """A vendor with new keys, in memory only."""
        moment = (now or datetime.now(UTC)).replace(microsecond=0)
        return cls(secrets.token_bytes(_SEED_BYTES), issued_at=moment)

    @classmethod
    def load(cls, folder: Path) -> MockGpuVendor:
        """The vendor that ``save`` wrote.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: the file is not what it should be.
        """
        stored = json.loads((folder / _SEED_FILE).read_bytes())
        match stored:
            case {"seed": str(seed), "issued_at": int(issued_at)}:
                return cls(bytes.fromhex(seed), issued_at=datetime.fromtimestamp(issued_at, UTC))
        raise ValueError(f"{folder / _SEED_FILE} does not hold a mock vendor of GPUs")

    @classmethod
    def load_or_create(cls, folder: Path) -> MockGpuVendor:
        """The vendor in ``folder``; made and saved there if there is none."""
        if (folder / _SEED_FILE).exists():
            return cls.load(folder)
        vendor = cls.create()
        vendor.save(folder)
        return vendor

    def save(self, folder: Path) -> None:
        """Write the seed, for the owner only."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = json.dumps({"seed": self._seed.hex(), "issued_at": int(self.issued_at.timestamp())})
        descriptor = os.open(folder / _SEED_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)

    @cached_property
    def device_root_sha256(self) -> str:
        """Digest of the device root, lower-case hex: what a trust file pins."""
        return hashlib.sha256(self.device_root.der).hexdigest()

    @cached_property
    def rim_root_sha256(self) -> str:
        """Digest of the root of golden values, lower-case hex: what a trust file pins."""
        return hashlib.sha256(self.rim_root.der).hexdigest()

    def device(self, gpu: MockGpu) -> tuple[Authority, Authority]:
        """A device's key, and the chip's above it, each with its certificate."""
        chip = self._authority(f"{_PRODUCTS[gpu.arch]} A01 GSP BROM {gpu.index}", self.provisioner)
        key = derived_key(self._seed, f"device {gpu.arch} {gpu.index}")
        return leaf(gpu.arch, key, chip, fwid=gpu.fwid, issued_at=self.issued_at), chip

    def evidence(self, nonce: bytes, index: int = 0, gpu: MockGpu | None = None) -> GpuEvidence:
        """A device's answer to a nonce.

        Args:
            nonce: 32 bytes.
            index: which device, where ``gpu`` is left out.
            gpu: what the device says of itself; default a Hopper with golden firmware.
        """
        gpu = gpu or MockGpu(index=index)
        device, chip = self.device(gpu)
        report = nvidia_report.signed_report(
            nonce, nvidia_report.measurements(gpu), nvidia_report.opaque_data(gpu), device.key
        )
        return GpuEvidence(gpu.arch, report, self.pem(device, chip))

    def pem(self, *below: Authority) -> bytes:
        """A chain: the certificates given, leaf first, and the vendor's own authorities over devices."""
        chain = (*below, self.provisioner, self.identity, self.device_root)
        return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in chain)

    def collateral(self, gpu: MockGpu | None = None, *, now: datetime | None = None) -> GpuCollateral:
        """Golden values of a device's driver and VBIOS, and good answers on every certificate.

        Args:
            gpu: the device; default a Hopper.
            now: when the answers are given; default is the clock.
        """
        gpu = gpu or MockGpu()
        answers = tuple(self.answers(gpu, now=now or datetime.now(UTC)).values())
        if gpu.is_switch:
            return GpuCollateral(
                None, self.rim(gpu, nvidia_report.SWITCH_INDICES, gpu.vbios_version), answers
            )
        return GpuCollateral(
            self.rim(gpu, nvidia_report.DRIVER_INDICES, gpu.driver_version),
            self.rim(gpu, nvidia_report.VBIOS_INDICES, gpu.vbios_version),
            answers,
        )

    def rim(
        self,
        gpu: MockGpu,
        indices: Sequence[int],
        version: str,
        *,
        values: Mapping[int, Sequence[bytes]] | None = None,
        product: str = "",
    ) -> bytes:
        """Signed golden values.

        Args:
            gpu: for which device.
            indices: the active ones.
            version: of driver or VBIOS.
            values: alternatives of single indices; default is one golden value each.
            product: default is the device's chip.
        """
        active: dict[int, Sequence[bytes]] = {index: (golden(gpu.arch, index),) for index in indices}
        document = rim_document(
            version, product or gpu.chip or _PRODUCTS[gpu.arch], active | dict(values or {})
        )
        return sign_rim(document, self.rim_certificates, self.rim_signer.key)

    @property
    def rim_certificates(self) -> tuple[bytes, ...]:
        """The chain in a manifest, signer first."""
        return tuple(
            each.der for each in (self.rim_signer, self.rim_intermediate, self.rim_ca, self.rim_root)
        )

    def answers(self, gpu: MockGpu, *, now: datetime) -> dict[str, bytes]:
        """Good revocation answers on every certificate that can be revoked, by the certificate's subject."""
        _, chip = self.device(gpu)
        pairs = (
            (chip, self.provisioner),
            (self.provisioner, self.identity),
            (self.identity, self.device_root),
            (self.rim_signer, self.rim_intermediate),
            (self.rim_intermediate, self.rim_ca),
            (self.rim_ca, self.rim_root),
        )
        return {
            about.certificate.subject.rfc4514_string(): ocsp_answer(about.certificate, issuer, issued_at=now)
            for about, issuer in pairs
        }

    def _authority(self, name: str, issuer: Authority | None) -> Authority:
        return authority(name, derived_key(self._seed, name), issuer, issued_at=self.issued_at)
