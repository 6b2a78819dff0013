"""Second verdicts: they agree about this very evidence, or nothing is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from attest.accepted.quorum import QuorumReference
from attest.appraise import AttestedRuntime, appraise
from attest.checks import CheckList, Outcome
from attest.evidence.bundle import VerdictToken
from attest.evidence.tokens import MOCK_MAA_ISSUER
from attest.mock.maa import POLICY_HASH, MockMaa
from attest.mock.nras import MockDevice, MockNras
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.statement import gpu_nonce, report_data
from attest.verify import quorum as quorum_module
from attest.verify.azure import VerifiedAzureSnp
from attest.verify.bundle import VerifiedEvidence, verify_bundle
from attest.verify.quorum import TokenKeys, require_quorum
from attest.verify.snp import VerifiedSnp
from attest.verify.tdx import VerifiedTdx
from tests.simulators.mock_runtime import FAR, NONCE, NOW

NRAS, MAA = MockNras.create(), MockMaa.create()
KEYS = TokenKeys(nras=NRAS.keys, maa=MAA.keys)
BOTH = QuorumReference(
    services=frozenset({"nras", "maa"}),
    maa_issuer=MOCK_MAA_ISSUER,
    maa_policy_hashes=frozenset({POLICY_HASH}),
)


@dataclass(frozen=True)
class Case:
    """A runtime whose evidence two services have judged too.

    Args:
        world: the runtime.
        nras: claims of the first device that the one service changes.
        maa: claims of the CPU that the other changes.
        asked: the quorum.
        left_out: tokens that are not in the bundle.
        nonce: of the GPU service's token, if another.
        data: what the CPU service was shown, if another.
    """

    world: MockWorld
    nras: dict[str, Any]
    maa: dict[str, Any]
    asked: QuorumReference = BOTH
    left_out: tuple[str, ...] = ()
    nonce: bytes | None = None
    data: bytes | None = None

    def verified(self) -> VerifiedEvidence:
        """Genuine evidence with the tokens beside it."""
        honest = self.world.bundle(NONCE)
        # Reports are signed anew each time: what the services judge is this very bundle.
        seen = verify_bundle(honest.serialise(), nonce=NONCE, roots=self.world.trust(), now=NOW)
        tokens = (VerdictToken("maa", self._maa(seen)), VerdictToken("nras", self._nras(seen)))
        kept = tuple(token for token in tokens if token.kind not in self.left_out)
        bundle = replace(honest, tokens=kept).serialise()
        mock = replace(
            self.world.machine.roots(), nras_jwks_sha256=NRAS.jwks_sha256, maa_jwks_sha256=MAA.jwks_sha256
        )
        return verify_bundle(bundle, nonce=NONCE, roots=replace(self.world.trust(), mock=mock), now=NOW)

    def appraise(self, keys: TokenKeys = KEYS) -> AttestedRuntime:
        """The verdict."""
        verified = self.verified()
        reference = replace(self.world.reference(not_after=FAR), quorum=self.asked, mock=verified.roots.mock)
        return appraise(verified, reference, now=NOW, keys=keys)

    def _nras(self, seen: VerifiedEvidence) -> bytes:
        devices, said = seen.devices, []
        for place, device in enumerate(devices):
            kind = device.kind
            facts = {"ueid": device.ueid}
            if kind == "gpu":
                facts["x-nvidia-gpu-driver-version"] = device.driver_version or ""
                facts["x-nvidia-gpu-vbios-version"] = device.vbios_version
            else:
                facts["x-nvidia-switch-bios-version"] = device.vbios_version
            number = place if kind == "gpu" else place - sum(each.kind == "gpu" for each in devices)
            said.append(MockDevice(f"{kind.upper()}-{number}", facts | (self.nras if place == 0 else {})))
        nonce = self.nonce or gpu_nonce(NONCE, self.world.keyset.digest)
        return NRAS.answer(nonce, tuple(said), now=NOW)

    def _maa(self, seen: VerifiedEvidence) -> bytes:
        detail = seen.cpu.detail
        if isinstance(detail, VerifiedAzureSnp):
            facts = _snp_facts(detail.snp, detail.snp.report.report_data) | self.maa
            nonce = self.data or seen.cpu.carried
            return MAA.token(nonce, now=NOW, kind="azurevm", changed_tee=facts)
        data = self.data or seen.cpu.carried
        if isinstance(detail, VerifiedTdx):
            report = detail.quote.report
            facts = {f"tdx_rtmr{place}": value.hex() for place, value in enumerate(report.rtmrs)}
            facts |= {"tdx_mrtd": report.mrtd.hex(), "tdx_report_data": data.hex()}
            return MAA.token(b"data", now=NOW, kind="tdxvm", tee="tdxvm", changed_tee=facts | self.maa)
        return MAA.token(b"data", now=NOW, kind="sevsnpvm", changed_tee=_snp_facts(detail, data) | self.maa)


def _snp_facts(detail: VerifiedSnp, data: bytes) -> dict[str, Any]:
    report, tcb = detail.report, detail.reported_tcb
    facts = {
        "launchmeasurement": report.measurement.hex(),
        "reportdata": data.hex(),
        "hostdata": report.host_data.hex(),
        "idkeydigest": report.id_key_digest.hex(),
        "vmpl": report.vmpl,
        "guestsvn": report.guest_svn,
        "bootloader-svn": tcb.boot_loader,
        "tee-svn": tcb.tee,
        "snpfw-svn": tcb.snp,
        "microcode-svn": tcb.microcode,
    }
    return {f"x-ms-sevsnpvm-{name}": value for name, value in facts.items()}


def _code(case: Case, keys: TokenKeys = KEYS) -> str:
    with pytest.raises(Refused) as refusal:
        case.appraise(keys)
    assert refusal.value.checks[-1].outcome is Outcome.REFUSED
    return refusal.value.code


@pytest.mark.parametrize("name", ["one_gpu_world", "board_world"])
def test_services_that_agree(name: str, request: pytest.FixtureRequest) -> None:
    """Both say the same of the same evidence; their verdicts' end bounds ours."""
    runtime = Case(request.getfixturevalue(name), {}, {}).appraise()
    parts = {row.part[-1] for row in runtime.checks if row.part[:2] == ("appraisal", "second verdicts")}
    assert {"NRAS", "MAA"} <= parts
    assert runtime.valid_until <= NOW + timedelta(hours=1)
    (end,) = [row.expires for row in runtime.checks if row.name == "second-verdict in date"]
    assert end == NOW + timedelta(hours=1), "NVIDIA's token lives one hour, Azure's eight"
    names = [row.name for row in runtime.checks if row.part[-1] == "NRAS"]
    assert names[:2] == ["the service's token is here", "the service's keys is here"]
    assert names[-2:] == ["agrees on being a mock", "agrees on devices"]
    names = [row.name for row in runtime.checks if row.part[-1] == "MAA" and row.name.startswith("agrees")]
    assert names[:2] == ["agrees on being a mock", "agrees on report data"]


def test_a_quorum_that_nobody_asked_for(one_gpu_world: MockWorld) -> None:
    """Tokens beside the evidence are noted, and decide nothing."""
    verified = Case(one_gpu_world, {}, {}).verified()
    reference = replace(one_gpu_world.reference(not_after=FAR), mock=verified.roots.mock)
    runtime = appraise(verified, reference, now=NOW)
    (row,) = [row for row in runtime.checks if row.name == "second verdicts"]
    assert (row.outcome, row.got) == (Outcome.NOTED, "maa, nras")


DISAGREEMENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("one_gpu_world", {"ueid": "1"}, {}),
    ("one_gpu_world", {"x-nvidia-gpu-driver-version": "550.90.08"}, {}),
    ("one_gpu_world", {"x-nvidia-gpu-vbios-version": "96.00.9F.00.02"}, {}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-launchmeasurement": "00" * 48}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-reportdata": "00" * 64}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-hostdata": "01" * 32}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-idkeydigest": "01" * 48}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-vmpl": 1}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-guestsvn": 9}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-bootloader-svn": 9}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-tee-svn": 9}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-snpfw-svn": 9}),
    ("one_gpu_world", {}, {"x-ms-sevsnpvm-microcode-svn": 9}),
    ("board_world", {}, {"tdx_mrtd": "00" * 48}),
    ("board_world", {}, {"tdx_rtmr2": "01" * 48}),
    ("board_world", {}, {"tdx_report_data": "00" * 64}),
    ("board_world", {}, {"tdx_mrconfigid": "01" * 48}),
]


@pytest.mark.parametrize(("name", "nras", "maa"), DISAGREEMENTS)
def test_services_that_disagree(
    name: str, nras: dict[str, Any], maa: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """One fact is enough, and the rows say what we found and what they say."""
    case = Case(request.getfixturevalue(name), nras, maa)
    with pytest.raises(Refused) as refusal:
        case.appraise()
    assert refusal.value.code == "quorum-disagreement"
    assert refusal.value.expected.startswith("ours: ")
    assert refusal.value.got.startswith("theirs: ")
    parts = {row.part[0] for row in refusal.value.checks}
    assert {"CPU", "devices", "appraisal"} <= parts, "both transcripts"


def test_a_service_that_says_no(one_gpu_world: MockWorld) -> None:
    """Its own refusal is ours."""
    assert _code(Case(one_gpu_world, {"measres": "fail"}, {})) == "nras-device-claim"
    assert _code(Case(one_gpu_world, {}, {"x-ms-sevsnpvm-is-debuggable": True})) == "maa-debug"


def test_a_token_about_another_question(one_gpu_world: MockWorld) -> None:
    """Yesterday's verdict, or one about another statement."""
    assert _code(Case(one_gpu_world, {}, {}, nonce=bytes(32))) == "nras-nonce"
    assert _code(Case(one_gpu_world, {}, {}, data=bytes(64))) == "quorum-disagreement"


@pytest.mark.parametrize("service", ["nras", "maa"])
def test_what_is_missing(one_gpu_world: MockWorld, service: str) -> None:
    """A token that did not come, or keys that were not fetched, are no agreement."""
    assert _code(Case(one_gpu_world, {}, {}, left_out=(service,))) == "quorum-token-missing"
    assert _code(Case(one_gpu_world, {}, {}), replace(KEYS, **{service: None})) == "quorum-keys-missing"
    assert _code(Case(one_gpu_world, {}, {}), TokenKeys()) == "quorum-keys-missing"


def test_keys_of_another_service(one_gpu_world: MockWorld) -> None:
    """Only the set that the trust file names counts: the bundle's host may run a service of its own."""
    keys = replace(KEYS, nras=MockNras.create().keys)
    assert _code(Case(one_gpu_world, {}, {}), keys).startswith(("nras-", "jwks-"))


def test_only_the_named_services_are_asked(td_world: MockWorld) -> None:
    """A guest without GPUs, with Azure's verdict alone."""
    maa_only = QuorumReference(
        services=frozenset({"maa"}), maa_issuer=MOCK_MAA_ISSUER, maa_policy_hashes=frozenset({POLICY_HASH})
    )
    world = td_world
    honest = world.bundle(NONCE)
    data = report_data(honest.statement)
    detail = verify_bundle(honest.serialise(), nonce=NONCE, roots=world.trust(), now=NOW).cpu.detail
    assert isinstance(detail, VerifiedTdx)
    facts = {f"tdx_rtmr{place}": value.hex() for place, value in enumerate(detail.quote.report.rtmrs)}
    facts |= {"tdx_mrtd": detail.quote.report.mrtd.hex(), "tdx_report_data": data.hex()}
    token = MAA.token(b"data", now=NOW, kind="tdxvm", tee="tdxvm", changed_tee=facts)
    bundle = replace(honest, tokens=(VerdictToken("maa", token),)).serialise()
    mock = replace(world.machine.roots(), maa_jwks_sha256=MAA.jwks_sha256)
    verified = verify_bundle(bundle, nonce=NONCE, roots=replace(world.trust(), mock=mock), now=NOW)
    reference = replace(world.reference(not_after=FAR), quorum=maa_only, mock=mock)
    assert appraise(verified, reference, now=NOW, keys=TokenKeys(maa=MAA.keys)).tee == "tdx"


def test_a_service_of_hardware_beside_a_mock(
    one_gpu_world: MockWorld, mock_world: MockWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: what a mock says is never what a genuine service speaks of, however alike the facts are."""
    azure = "https://sharedweu.weu.attest.azure.net"
    honest, roots = mock_world.bundle(NONCE), replace(mock_world.trust(), azure=True)
    seen = verify_bundle(honest.serialise(), nonce=NONCE, roots=roots, now=NOW).cpu
    assert isinstance(seen.detail, VerifiedSnp)
    facts = _snp_facts(seen.detail, seen.carried)
    token = MAA.token(b"data", now=NOW, kind="sevsnpvm", changed={"iss": azure}, changed_tee=facts)
    bundle = replace(honest, tokens=(VerdictToken("maa", token),)).serialise()
    verified = verify_bundle(bundle, nonce=NONCE, roots=roots, now=NOW)
    asked = replace(MAA_ALONE, maa_issuer=azure)
    with pytest.raises(Refused) as refusal:
        require_quorum(verified, asked, KEYS, now=NOW, checks=CheckList())
    assert (refusal.value.code, refusal.value.expected) == ("quorum-disagreement", "ours: True")

    def as_nvidia(*args: Any, **kwargs: Any) -> Any:
        return replace(verify_nras(*args, **kwargs), vendor="nvidia")

    verify_nras = quorum_module.verify_nras
    monkeypatch.setattr(quorum_module, "verify_nras", as_nvidia)
    assert _code(Case(one_gpu_world, {}, {})) == "quorum-disagreement"


def test_a_verdict_on_devices_where_there_are_none(mock_world: MockWorld) -> None:
    """A token about somebody's GPUs says nothing of a runtime without any."""
    nras_alone = QuorumReference(services=frozenset({"nras"}))
    verified = Case(mock_world, {}, {}, left_out=("maa",)).verified()
    with pytest.raises(Refused) as refusal:
        require_quorum(verified, nras_alone, KEYS, now=NOW, checks=CheckList())
    assert (refusal.value.code, refusal.value.expected) == (
        "quorum-disagreement",
        "devices that answer a nonce",
    )


MAA_ALONE = QuorumReference(
    services=frozenset({"maa"}), maa_issuer=BOTH.maa_issuer, maa_policy_hashes=BOTH.maa_policy_hashes
)


def test_a_second_verdict_on_an_azure_vm(azure_world: MockWorld) -> None:
    """Made by the vTPM's nonce: the hardware report is one of the boot, and says nothing about now."""
    runtime = Case(azure_world, {}, {}, left_out=("nras",), asked=MAA_ALONE).appraise()
    assert runtime.tee == "azure-snp"


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("maa-nonce", {"data": b"another question"}),
        ("quorum-disagreement", {"maa": {"x-ms-sevsnpvm-launchmeasurement": "00" * 48}}),
    ],
)
def test_a_second_verdict_on_another_azure_vm(
    azure_world: MockWorld, code: str, changes: dict[str, Any]
) -> None:
    """An older token of the same VM, or one about another paravisor."""
    case = Case(azure_world, {}, {}, left_out=("nras",), asked=MAA_ALONE)
    assert _code(replace(case, **changes)) == code
