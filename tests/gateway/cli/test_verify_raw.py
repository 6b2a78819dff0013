"""``sealgate verify`` on raw files: genuine evidence of each kind at its time, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attest.reference import ReferenceValues
from gateway.cli.commands import app
from gateway.cli.failure import Failure
from tests.simulators.genuine_tokens import MAA_KEYS

Arguments = list[str]


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run ``sealgate verify`` in this process."""
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> Ran:
        result = CliRunner().invoke(app, ["verify", *arguments])
        if isinstance(result.exception, Failure):
            return Ran(result.exception.exit_code, result.stdout)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout)

    return run


def turin(vectors: Path) -> Arguments:
    """A genuine Turin report."""
    folder = vectors / "sev-snp" / "turin-v5-aci"
    files = ["--snp", str(folder / "report.bin"), "--vcek", str(folder / "vcek.pem")]
    return [*files, "--at", "2026-06-01T00:00:00Z"]


def quote(vectors: Path, name: str = "v4-uptodate", at: str = "2025-06-21T00:00:00Z") -> Arguments:
    """A genuine quote with its collateral."""
    folder = vectors / "tdx" / name
    files = ["--tdx", str(folder / "quote.bin"), "--collateral", str(folder / "collateral.json")]
    return [*files, "--at", at]


def hopper(vectors: Path) -> Arguments:
    """A genuine GPU with both RIMs."""
    folder = vectors / "nvidia" / "hopper-550.90.07-complete"
    files = ["--nvidia", str(folder / "report.bin"), "--gpu-chain", str(folder / "cert_chain.pem")]
    rims = ["--rim", str(folder / "driver_rim.xml"), "--rim", str(folder / "vbios_rim.xml")]
    return [*files, *rims, "--at", "2025-06-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("evidence", "fact", "value"),
    [
        (turin, "product", "Turin"),
        (quote, "platform status", "UpToDate"),
        (hopper, "device 0", "nvidia GH100, driver 550.90.07, VBIOS 96.00.9F.00.01, mode unsaid"),
    ],
)
def test_genuine_evidence_of_each_kind(
    verify: Callable[..., Ran],
    shared: Path,
    evidence: Callable[[Path], Arguments],
    fact: str,
    value: str,
) -> None:
    """Genuine, and said to be no more than that."""
    arguments = evidence(shared / "vectors")
    ran = verify(*arguments, "--json")
    assert ran.code == 0
    assert ran.document["ok"] is True
    assert ran.document["appraised"] is False
    assert ran.document["facts"][fact] == value
    assert {row["outcome"] for row in ran.document["checks"]} <= {"passed", "noted"}
    text = verify(*arguments)
    assert "genuine" in text.out
    assert "not appraised" in text.out
    assert max(map(len, text.out.splitlines())) <= 100


def _maa(vectors: Path, at: str) -> Arguments:
    token = vectors / "maa" / "azurevm-snp-2022.jwt"
    named = ["--maa", str(token), "--jwks", str(vectors / MAA_KEYS), "--maa-kind", "azurevm-sevsnpvm"]
    issuer = ["--issuer", "https://sharedwus.wus.attest.azure.net", "--policy-hash", "A" * 43]
    return [*named, *issuer, "--at", at]


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (lambda v: [*turin(v)[:-1], "2025-06-01T00:00:00Z"], "certificate-not-yet-valid", 10),
        (lambda v: quote(v, "v5-td15-service-td", "2025-09-25T00:00:00Z"), None, 10),
        (lambda v: [*hopper(v)[:-4], "--at", "2025-06-01T00:00:00Z"], "gpu-rim-missing", 10),
        (lambda v: [*hopper(v), "--nonce", "00" * 32], "gpu-nonce", 10),
        (lambda v: [*hopper(v), "--gpu-arch", "LS10"], None, 30),
        (lambda v: ["--snp", __file__, "--vcek", turin(v)[3]], "snp-report-length", 30),
        (lambda v: _maa(v, "2022-06-01T00:00:00Z"), None, 10),
        (lambda v: ["--nras", str(v / "maa/azurevm-snp-2022.jwt"), "--jwks", str(v / MAA_KEYS)], None, 30),
    ],
)
def test_what_is_refused(
    verify: Callable[..., Ran],
    shared: Path,
    arguments: Callable[[Path], Arguments],
    code: str | None,
    exit_code: int,
) -> None:
    """With the documented exit code, the failing row last, and the refusal in the document."""
    ran = verify(*arguments(shared / "vectors"), "--json")
    assert ran.code == exit_code
    assert ran.document["ok"] is False
    assert ran.document["checks"][-1]["outcome"] == "refused"
    if code is not None:
        assert ran.document["refusal"]["code"] == code


def test_reference_values_appraise_raw_evidence(
    verify: Callable[..., Ran], shared: Path, tmp_path: Path
) -> None:
    """``--policy`` holds a quote against its table, and says of another kind that it accepts none."""
    from tests.attest.test_trust_and_reference import REFERENCE  # noqa: PLC0415 - a whole reference file

    policy = tmp_path / "reference.toml"
    policy.write_text(REFERENCE.toml())
    ran = verify(*quote(shared / "vectors"), "--policy", str(policy), "--json")
    assert (ran.code, ran.document["refusal"]["code"]) == (10, "tdx-mrtd-not-accepted")
    assert ran.document["checks"][-1]["part"] == ["appraisal"]
    narrow = ReferenceValues.parse(REFERENCE.toml().encode())
    policy.write_text(_without_gpu(narrow).toml())
    ran = verify(*hopper(shared / "vectors"), "--policy", str(policy), "--json")
    assert (ran.code, ran.document["refusal"]["code"]) == (10, "tee-not-accepted")


def _without_gpu(reference: ReferenceValues) -> ReferenceValues:
    from dataclasses import replace  # noqa: PLC0415 - for this one change

    return replace(reference, gpu=None, quorum=None)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--snp", "a", "--tdx", "b"],
        ["--snp", "a"],
        ["--tdx", "a"],
        ["--nvidia", "a"],
        ["--nras", "a"],
        ["--maa", "a", "--jwks", "b"],
        ["--vcek", "a"],
        ["bundle.json", "--snp", "a", "--vcek", "b"],
        ["--snp", "a", "--vcek", "b", "--save", "c"],
    ],
)
def test_options_that_do_not_fit(verify: Callable[..., Ran], arguments: Arguments) -> None:
    """Usage, exit code 2: nothing was judged."""
    assert verify(*arguments).code == 2
