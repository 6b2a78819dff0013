"""``--nras`` and ``--maa``: what attestation services signed."""

from __future__ import annotations

from attest.collateral.tokens import JwkSetCollateral, MaaRoots, NrasRoots
from attest.evidence.maa_claims import MaaSnp
from attest.verify.maa import MaaPolicy, verify_maa
from attest.verify.nras import verify_nras
from gateway.cli.verify.inputs import nonce_bytes
from gateway.cli.verify.raw_files import read
from gateway.cli.verify.raw_task import Found, Task


def judge_nras(task: Task) -> Found:
    """Judge an answer of NVIDIA's service; raises as ``verify_nras`` does."""
    with task.checks.under("NRAS token"):
        verified = verify_nras(
            read(task.files.nras),
            JwkSetCollateral(read(task.files.jwks)),
            NrasRoots(task.roots.nvidia, task.mock.nras_jwks_sha256),
            nonce=nonce_bytes(task.files.nonce),
            now=task.now,
            checks=task.checks,
        )
    facts = {
        "vendor": verified.vendor,
        "nonce": verified.nonce.hex(),
        **{
            device.name: f"{device.hardware_model}, driver {device.driver_version or 'none'}, "
            f"VBIOS {device.vbios_version}"
            for device in verified.devices
        },
    }
    return Found(frozenset({verified.vendor}), facts)


def judge_maa(task: Task) -> Found:
    """Judge a token of Azure Attestation; raises as ``verify_maa`` and ``MaaPolicy`` do."""
    files = task.files
    with task.checks.under("MAA token"):
        policy = MaaPolicy(
            issuer=files.issuer or "",
            kind="azurevm" if files.tee.startswith("azurevm") else files.tee,  # type: ignore[arg-type]  # checked there
            tee="tdxvm" if files.tee.endswith("tdxvm") else "sevsnpvm",
            policy_hashes=frozenset(files.policy_hashes),
        )
        verified = verify_maa(
            read(files.maa),
            JwkSetCollateral(read(files.jwks)),
            policy,
            MaaRoots(task.roots.azure, task.mock.maa_jwks_sha256),
            nonce=nonce_bytes(files.nonce),
            now=task.now,
            checks=task.checks,
        )
    tee = verified.tee
    measured = tee.measurement if isinstance(tee, MaaSnp) else tee.mrtd
    facts = {
        "vendor": verified.vendor,
        "issuer": verified.issuer,
        "kind": verified.kind,
        "measurement": measured.hex(),
        "report data": tee.report_data.hex(),
    }
    return Found(frozenset({verified.vendor}), facts)
