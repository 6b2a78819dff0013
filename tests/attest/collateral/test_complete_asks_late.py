"""Nobody is asked about forged devices or golden values: one bundle could cause hundreds of questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attest.collateral.cache import Cache
from attest.collateral.complete import complete
from attest.collateral.fetch import Fetcher, FetchSettings
from attest.collateral.source import Online
from attest.evidence.bundle import Bundle
from attest.evidence.cpu import SnpCollateral, SnpEvidence
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.refusal import Refused
from tests.simulators.collateral_services import Answer, CollateralServices, empty_list, rim_answer
from tests.simulators.genuine_nvidia import COMPLETE, REPORTS, SUMMER_2025
from tests.simulators.genuine_snp import POSITIVE

RIMS = {
    "NV_GPU_DRIVER_GH100_550.90.07": "driver_rim.xml",
    "NV_GPU_VBIOS_1010_0200_882_96009F0001": "vbios_rim.xml",
}

AMD = "/vcek/v1/Milan/crl"
REVOKED = empty_list()


@pytest.mark.parametrize("forged", ["report", "golden values", "nothing"])
def test_questions_come_after_signatures(
    forged: str, nvidia_vectors: Path, sev_snp: Path, tmp_path: Path
) -> None:
    """A report with a bit changed asks for nothing, and a forged manifest for nobody's revocation."""
    report, leaf = POSITIVE[0].read(sev_snp)
    evidence = REPORTS[0].read(nvidia_vectors)
    rims = {name: (nvidia_vectors / COMPLETE / file).read_bytes() for name, file in RIMS.items()}
    if forged == "report":
        evidence = replace(evidence, report=evidence.report[:-1] + bytes([evidence.report[-1] ^ 1]))
    if forged == "golden values":
        rims = {name: rim.replace(b"NVIDIA", b"NVIDIB", 1) for name, rim in rims.items()}
    cpu = SnpEvidence(report, SnpCollateral(leaf, crl=REVOKED))
    nvidia = NvidiaCollateral(rims)
    bundle = Bundle(b"{}", b"{}", cpu, (DeviceEvidence.of(0, evidence),), nvidia)
    manifests = {f"/v1/rim/{name}": rim_answer(name, rim) for name, rim in rims.items()}
    services = CollateralServices({AMD: Answer(REVOKED)} | manifests)
    with services.running() as addresses:
        source = Online(Cache(tmp_path), Fetcher(FetchSettings(addresses=addresses)))
        if forged == "nothing":
            with pytest.raises(Refused, match="collateral"):
                complete(bundle, source, SUMMER_2025)
        else:
            assert complete(bundle, source, SUMMER_2025) == bundle
    about_revocation = set(services.asked) - {AMD} - manifests.keys()
    assert bool(about_revocation) is (forged == "nothing")
    assert manifests.keys().isdisjoint(services.asked) is (forged == "report")


@pytest.mark.parametrize("part", ["report", "leaf"])
def test_a_forged_chip_causes_no_question(part: str, sev_snp: Path, tmp_path: Path) -> None:
    """A report or a certificate with a bit changed is left for the verifier to refuse."""
    report, leaf = POSITIVE[0].read(sev_snp)
    if part == "report":
        report = report[:0x50] + bytes([report[0x50] ^ 1]) + report[0x51:]
    else:
        leaf = leaf[:-1] + bytes([leaf[-1] ^ 1])
    bundle = Bundle(b"{}", b"{}", SnpEvidence(report, SnpCollateral(leaf)))
    services = CollateralServices({AMD: Answer(REVOKED)})
    with services.running() as addresses:
        source = Online(Cache(tmp_path), Fetcher(FetchSettings(addresses=addresses)))
        assert complete(bundle, source, SUMMER_2025) == bundle
    assert services.asked == []
