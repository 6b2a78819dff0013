"""Which raw evidence was named on the command line, and whether its parts are there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from gateway.cli.verify.inputs import usage

_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "azure": ("tpm_quote", "tpm_signature", "tpm_pcrs", "pcrs"),
    "snp": (),
    "tdx": ("collateral",),
    "nvidia": ("rims",),
    "nras": ("jwks",),
    "maa": ("jwks", "issuer", "policy_hashes"),
}
_NAMES: Final = {
    "leaf": "vcek",
    "intermediate": "ask",
    "rims": "rim",
    "policy_hashes": "policy-hash",
    "pcrs": "pcr",
    "chain": "gpu-chain",
    "arch": "gpu-arch",
    "tee": "maa-kind",
}


@dataclass(frozen=True, kw_only=True)
class RawFiles:
    """What was named on the command line; exactly one of the first six, or a quote beside an Azure report.

    Args:
        snp: SEV-SNP report.
        tdx: TDX quote.
        nvidia: evidence of GPUs and switches: JSON of NVIDIA's tools, or one binary report.
        nras: answer of NVIDIA's attestation service.
        maa: token of Azure Attestation.
        azure: report of Azure's paravisor (HCL).
        leaf: VCEK or VLEK, PEM or DER.
        intermediate: ASK or ASVK, alone or with the ARK behind it; None is AMD's pinned one.
        crl: AMD's revocation list, DER.
        table: the host's certificate table; what is named beside it goes before what is in it.
        collateral: of a quote, JSON as dcap-qvl writes it.
        event_log: of a TD, as ACPI CCEL holds it.
        azure_paravisor: take the quote of an Azure TD under its paravisor.
        tpm_quote: TPMS_ATTEST of the vTPM.
        tpm_signature: its raw RSASSA signature.
        tpm_pcrs: SHA-256 values of PCR 0 to 23, one after the other.
        pcrs: accepted values, ``INDEX=HEX``.
        chain: of one binary GPU report, PEM.
        arch: of one binary GPU report.
        rims: golden values.
        ocsp: OCSP answers, DER.
        jwks: key set of the token's service.
        issuer: address of the instance of Azure Attestation.
        policy_hashes: accepted policies of that instance.
        tee: hardware under an Azure token: ``sevsnpvm`` or ``tdxvm``, behind ``azurevm-`` for Azure's guests.
        nonce: hex that device, vTPM or service must have answered; None proves no freshness.
    """

    snp: Path | None = None
    tdx: Path | None = None
    nvidia: tuple[Path, ...] = ()
    nras: Path | None = None
    maa: Path | None = None
    azure: Path | None = None
    leaf: Path | None = None
    intermediate: Path | None = None
    crl: Path | None = None
    table: Path | None = None
    collateral: Path | None = None
    event_log: Path | None = None
    azure_paravisor: bool = False
    tpm_quote: Path | None = None
    tpm_signature: Path | None = None
    tpm_pcrs: Path | None = None
    pcrs: tuple[str, ...] = ()
    chain: Path | None = None
    arch: str | None = None
    rims: tuple[Path, ...] = ()
    ocsp: tuple[Path, ...] = ()
    jwks: Path | None = None
    issuer: str | None = None
    policy_hashes: tuple[str, ...] = ()
    tee: str = "sevsnpvm"
    nonce: str | None = None

    @property
    def kind(self) -> str | None:
        """The one kind of evidence that was named; None if none was.

        Raises:
            Failure: usage, if two were, or a part without its whole, or a whole without its parts.
        """
        named = [kind for kind in _NEEDS if getattr(self, kind) not in (None, ())]
        if named == ["azure", "tdx"]:  # the hardware's word on an Azure TD is a quote of its own
            named = ["azure"]
        if len(named) > 1:
            raise usage("one kind of evidence at a time", f"not --{' and --'.join(named)} together")
        given = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        if not named:
            if given - {"nonce"}:
                raise usage(f"{_option(min(given))} belongs to raw evidence", "name it: --snp, --tdx ...")
            return None
        if named == ["snp"] and not given & {"leaf", "table"}:
            raise usage("--snp needs --vcek, --vlek or --cert-table", "see 'sealgate verify --help'")
        for name in _NEEDS[named[0]]:
            if name not in given:
                raise usage(f"--{named[0]} needs {_option(name)}", "see 'sealgate verify --help'")
        return named[0]


def _option(name: str) -> str:
    return "--" + _NAMES.get(name, name.replace("_", "-"))
