"""The options of ``sealgate verify``. What it runs is imported when it runs: ``--help`` stays quick."""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def _raw(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Raw evidence", show_default=False)


def verify(
    target: Annotated[
        str | None, typer.Argument(help="Runtime's URL, or a saved evidence bundle.", show_default=False)
    ] = None,
    *,
    trust: Annotated[Path | None, typer.Option("--trust", help="Trust file: whose signatures count.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", "--policy", help="Reference values: what must have been signed."),
    ] = None,
    nonce: Annotated[
        str | None, typer.Option(help="Nonce that a saved bundle or raw evidence must answer (hex).")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Judge as of this moment (RFC 3339).", show_default="now")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the fetched bundle in this file.")] = None,
    ear: Annotated[
        Path | None, typer.Option(help="Write the result as a signed token (EAR) to this file.")
    ] = None,
    ear_key: Annotated[
        Path | None,
        typer.Option(help="Ed25519 key (PEM) that signs the token.", show_default="the gateway's own"),
    ] = None,
    full: Annotated[
        bool, typer.Option("--explain", help="Show each check's rule and all of what was compared.")
    ] = False,
    snp: Annotated[Path | None, _raw("SEV-SNP report; with --vcek, --vlek or --cert-table.", "--snp")] = None,
    leaf: Annotated[Path | None, _raw("The chip's certificate, PEM or DER.", "--vcek", "--vlek")] = None,
    intermediate: Annotated[
        Path | None,
        _raw("ASK or ASVK, and ARK; default is AMD's.", "--ask", "--asvk", "--chain"),
    ] = None,
    crl: Annotated[Path | None, _raw("AMD's revocation list, DER.", "--crl")] = None,
    cert_table: Annotated[Path | None, _raw("The host's certificate table.", "--cert-table")] = None,
    tdx: Annotated[Path | None, _raw("TDX quote; with --collateral.", "--tdx")] = None,
    collateral: Annotated[Path | None, _raw("The quote's collateral, JSON.", "--collateral")] = None,
    event_log: Annotated[Path | None, _raw("Event log (CCEL) of the TD.", "--event-log")] = None,
    azure_paravisor: Annotated[bool, _raw("The quote is an Azure TD's.", "--azure-paravisor")] = False,
    nvidia: Annotated[
        list[Path] | None, _raw("Evidence of GPUs or switches, JSON or one report; with --rim.", "--nvidia")
    ] = None,
    chain: Annotated[Path | None, _raw("PEM chain of a single GPU report.", "--gpu-chain")] = None,
    arch: Annotated[str | None, _raw("HOPPER, BLACKWELL or LS10.", "--gpu-arch")] = None,
    rim: Annotated[list[Path] | None, _raw("Golden values, as often as needed.", "--rim")] = None,
    ocsp: Annotated[list[Path] | None, _raw("OCSP answer, as often as needed.", "--ocsp")] = None,
    azure: Annotated[
        Path | None, _raw("Report of Azure's paravisor (HCL); with --tpm-* and --pcr.", "--azure")
    ] = None,
    tpm_quote: Annotated[Path | None, _raw("The vTPM's quote: TPMS_ATTEST.", "--tpm-quote")] = None,
    tpm_signature: Annotated[Path | None, _raw("Its RSASSA signature, raw.", "--tpm-signature")] = None,
    tpm_pcrs: Annotated[
        Path | None, _raw("PCR 0 to 23, SHA-256, as 'tpm2_pcrread -o' writes them.", "--tpm-pcrs")
    ] = None,
    pcr: Annotated[list[str] | None, _raw("Accepted value, INDEX=HEX, as often as needed.", "--pcr")] = None,
    nras: Annotated[Path | None, _raw("Answer of NVIDIA's service; with --jwks.", "--nras")] = None,
    maa: Annotated[Path | None, _raw("Azure Attestation token; with --jwks.", "--maa")] = None,
    jwks: Annotated[Path | None, _raw("Key set of the token's service.", "--jwks")] = None,
    issuer: Annotated[str | None, _raw("Address of the Azure instance.", "--issuer")] = None,
    policy_hash: Annotated[
        list[str] | None, _raw("Accepted policy of the instance.", "--policy-hash")
    ] = None,
    maa_kind: Annotated[
        Literal["sevsnpvm", "tdxvm", "azurevm-sevsnpvm", "azurevm-tdxvm"],
        _raw("Kind of Azure token.", "--maa-kind"),
    ] = "sevsnpvm",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Verify evidence: each check, what was expected, what came, how long it stays valid."""
    from gateway.cli.output import Output
    from gateway.cli.verify.inputs import usage
    from gateway.cli.verify.raw_options import RawFiles

    raw = RawFiles(
        snp=snp,
        leaf=leaf,
        intermediate=intermediate,
        crl=crl,
        table=cert_table,
        tdx=tdx,
        collateral=collateral,
        event_log=event_log,
        azure_paravisor=azure_paravisor,
        nvidia=tuple(nvidia or ()),
        chain=chain,
        arch=arch,
        rims=tuple(rim or ()),
        ocsp=tuple(ocsp or ()),
        azure=azure,
        tpm_quote=tpm_quote,
        tpm_signature=tpm_signature,
        tpm_pcrs=tpm_pcrs,
        pcrs=tuple(pcr or ()),
        nras=nras,
        maa=maa,
        jwks=jwks,
        issuer=issuer,
        policy_hashes=tuple(policy_hash or ()),
        tee=maa_kind,
        nonce=nonce,
    )
    output = Output(as_json=as_json)
    if raw.kind is None and target is not None:
        from gateway.cli.verify.bundle import Target
        from gateway.cli.verify.bundle import verify as judge_target

        wanted = Target(target, nonce=nonce, at=at, save=save, ear=ear, ear_key=ear_key)
        judge_target(wanted, output, trust=trust, reference=reference, full=full)
    elif any(value is not None for value in (target, save, ear, ear_key)):
        raise usage("a target or raw evidence, not both", "leave one of them out")
    else:
        from gateway.cli.verify.raw import verify_raw

        verify_raw(raw, output, at=at, trust=trust, policy=reference, full=full)
