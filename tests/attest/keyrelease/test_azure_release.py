"""Secure key release end to end: the stock Azure libraries against local services, with faults."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from azure.core.credentials import TokenCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ManagedIdentityCredential
from cryptography.hazmat.primitives.asymmetric import rsa

from attest.accepted.snp import SnpReference
from attest.accepted.tdx import TdxReference
from attest.attesters.base import CpuAttester
from attest.evidence.cpu import CpuEvidence, CpuKind, SnpCollateral, SnpEvidence
from attest.evidence.snp import SnpReport
from attest.evidence.tdx_evidence import TdxEvidence
from attest.evidence.tokens import MOCK_MAA_ISSUER
from attest.keyrelease import azure, azure_attestation
from attest.keyrelease.azure import Wanted, obtain_key, release_to
from attest.keyrelease.azure_attestation import ATTEMPTS, MAX_PAUSE_S, attestation_request
from attest.keyrelease.enclave_key import EnclaveKey
from attest.keyrelease.instance_metadata import InstanceMetadata
from attest.keyrelease.key_vault import RETRIES, Vault, key_client
from attest.keyrelease.reference_rules import export_rules
from attest.keyrelease.release_policy import export_policy, rule_for_guest
from attest.keyrelease.released_key import ReleasedKey
from attest.mock.attester import MockAttester
from attest.mock.maa import POLICY_HASH, MockMaa
from attest.mock.machine import MockMachine, MockSnpCpu
from attest.mock.snp_report import DEBUG_POLICY_BIT, MockLaunch
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_quote import MockTdLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.reference import Vendor
from attest.refusal import Malformed, Refused
from tests.attest.test_trust_and_reference import REFERENCE
from tests.simulators.azure_services import MAA_HOST, VAULT_HOST, AzureServices, Fault

KEY = bytes(range(32))
LAUNCH = MockLaunch()


def policy(*measurements: bytes) -> bytes:
    """A release policy for these guests."""
    rule = rule_for_guest(
        MOCK_MAA_ISSUER,
        "sevsnpvm",
        "sevsnpvm",
        policy_hashes=frozenset({POLICY_HASH}),
        measurements=frozenset(measurements),
    )
    return export_policy((rule,))


@dataclass
class BareAttester:
    """One whose host hands no certificates on."""

    inner: MockAttester
    kind: CpuKind = "snp"

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """The report alone."""
        evidence = self.inner.cpu_evidence(report_data)
        assert isinstance(evidence, SnpEvidence)
        return SnpEvidence(evidence.report, SnpCollateral(None))


@dataclass
class TdAttester:
    """A trust domain."""

    vendor: MockTdxVendor
    launch: MockTdLaunch = field(default_factory=MockTdLaunch)
    kind: CpuKind = "tdx"

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """A quote."""
        return TdxEvidence(self.vendor.quote(report_data, self.launch))


@dataclass
class Enclave:
    """One that wants its key."""

    services: AzureServices
    vendor: MockVendor
    port: int
    authority: Path
    metadata: str
    launch: MockLaunch = LAUNCH
    slept: list[float] = field(default_factory=list)

    def obtain(
        self,
        *,
        timeout_s: float = 5.0,
        bare: bool = False,
        tee: CpuAttester | None = None,
        metadata: InstanceMetadata | None = None,
        **changes: Any,
    ) -> ReleasedKey:
        """As an image would at its start."""
        wanted = Wanted(
            vault_url=f"https://{VAULT_HOST}:{self.port}",
            name="master",
            version="1",
            issuer=f"https://{MAA_HOST}:{self.port}",
        )
        context = ssl.create_default_context(cafile=str(self.authority))
        credential = ManagedIdentityCredential()

        def vault_of(url: str, identity: TokenCredential) -> Vault:
            transport = RequestsTransport(connection_verify=str(self.authority), read_timeout=timeout_s)
            transport.sleep = self.slept.append  # no test waits
            return key_client(url, identity, transport=transport)

        attester = MockAttester(MockMachine(MockSnpCpu(self.vendor, self.launch)))
        asked = tee or (BareAttester(attester) if bare else attester)
        with httpx2.Client(verify=context, timeout=timeout_s) as client, credential:
            return obtain_key(
                replace(wanted, **changes),
                asked,
                credential,
                metadata=metadata,
                client=client,
                vault_of=vault_of,
            )

    def code(self, **changes: Any) -> str:
        """How it is refused."""
        with pytest.raises(Refused) as refusal:
            self.obtain(**changes)
        return refusal.value.code


@pytest.fixture(scope="module")
def machines(mock_keys: MockKeys) -> MockVendor:
    """The vendor of the machines that are attested; its chain takes a second to sign."""
    return MockVendor(mock_keys, issued_at=datetime.now(UTC) - timedelta(days=1))


@pytest.fixture
def enclave(machines: MockVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Enclave]:
    """An enclave beside Azure's services; names under ``.test`` lead to this machine."""
    vendor = machines
    services = AzureServices(vendor, KEY, policy(LAUNCH.measurement), tmp_path)
    resolve = socket.getaddrinfo

    def local(host: Any, *arguments: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith(".test") else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with services.running() as (port, imds):
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{imds}")
        yield Enclave(services, vendor, port, services.authority, f"http://127.0.0.1:{imds}")


def test_an_attested_enclave_gets_its_key(enclave: Enclave) -> None:
    """Identity, attestation, release, unwrapping: through the stock libraries."""
    released = enclave.obtain()
    assert released.material == KEY
    assert released.key_id == f"https://{VAULT_HOST}/keys/master/1"
    assert KEY.hex() not in repr(released)
    hosts = [asked.split("/")[0] for asked in enclave.services.asked]
    assert hosts[0] == MAA_HOST
    assert hosts.count(VAULT_HOST) >= 2, "a challenge, and the release"


def test_another_guest_gets_nothing(enclave: Enclave) -> None:
    """The policy names one measurement; the vault says no to every other."""
    enclave.launch = replace(LAUNCH, measurement=bytes(48))
    assert enclave.code() == "key-release-denied"


def reference_policy(snp: SnpReference | None, tdx: TdxReference | None) -> bytes:
    """The release policy of reference values for one TEE."""
    vendor: Vendor = "amd" if snp else "intel"
    others = dict.fromkeys(("mock", "azure", "gpu", "quorum"))
    values = replace(REFERENCE, vendors=frozenset({vendor}), snp=snp, tdx=tdx, **others)
    return export_policy(export_rules(values, MOCK_MAA_ISSUER, frozenset({POLICY_HASH})).rules)


@pytest.mark.parametrize(
    ("change", "released"),
    [
        ({}, True),
        ({"vmpls": frozenset({3})}, False),
        ({"measurements": frozenset({"11" * 48})}, False),
        ({"host_data": frozenset({"11" * 32})}, False),
        ({"id_key_digests": frozenset({"11" * 48})}, False),
        ({"policy_set": frozenset({"aes_256_xts_required"})}, False),
        ({"policy_clear": frozenset({"aes_256_xts_required", "cxl_allowed"})}, True),
    ],
)
def test_exported_policies_at_the_vault(enclave: Enclave, change: dict[str, Any], released: bool) -> None:
    """The vault releases to what reference values accept, and each value that it is told counts."""
    assert REFERENCE.snp is not None
    report = SnpReport.parse(enclave.vendor.report(bytes(64), LAUNCH))
    fits: dict[str, Any] = {
        "measurements": frozenset({report.measurement.hex()}),
        "vmpls": frozenset({report.vmpl, 2}),
        "host_data": frozenset({report.host_data.hex()}),
        "id_key_digests": frozenset({report.id_key_digest.hex()}),
        "policy_set": frozenset[str](),
        "policy_clear": frozenset[str](),
    }
    enclave.services.policy = reference_policy(replace(REFERENCE.snp, **(fits | change)), None)
    if released:
        assert enclave.obtain().material == KEY
    else:
        assert enclave.code() == "key-release-denied"


@pytest.mark.parametrize(
    ("change", "released"),
    [
        ({}, True),
        ({"mrtds": frozenset({"11" * 48})}, False),
        ({"rtmrs": (frozenset[str](), frozenset[str](), frozenset[str](), frozenset({"11" * 48}))}, False),
        ({"mrseams": frozenset({"11" * 48})}, False),
        ({"mrconfigids": frozenset({"11" * 48})}, False),
        ({"mrowners": frozenset({"11" * 48})}, False),
        ({"mrownerconfigs": frozenset({"11" * 48})}, False),
    ],
)
def test_a_trust_domain_gets_its_key(enclave: Enclave, change: dict[str, Any], released: bool) -> None:
    """By its quote, under the policy of reference values for it; unless it uses performance counters."""
    td = TdAttester(MockTdxVendor.create())
    fits: dict[str, Any] = {"mrtds": frozenset({td.launch.mrtd.hex()}), "min_tcb_evaluation_data_number": 1}
    enclave.services.policy = reference_policy(None, TdxReference(**(fits | change)))
    if released:
        assert enclave.obtain(tee=td).material == KEY
        td.launch = replace(td.launch, attributes=td.launch.attributes | 1 << 63)
    assert enclave.code(tee=td) == "key-release-denied"


def test_a_debug_guest_gets_nothing(enclave: Enclave) -> None:
    """Its host could read the key out of it."""
    enclave.launch = replace(LAUNCH, policy=LAUNCH.policy | DEBUG_POLICY_BIT)
    assert enclave.code() == "key-release-denied"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=400), "key-release-attestation"),
        (Fault(status=401), "key-release-attestation"),
        (Fault(status=302, headers={"location": "https://evil.test/"}), "key-release-attestation"),
        (Fault(status=200, body=b"{}"), "key-release-members"),
        (Fault(status=200, body=b'{"token":7}'), "key-release-members"),
        (Fault(status=200, body=b'{"token":""}'), "key-release-members"),
        (Fault(status=200, body=b"<html>"), "key-release-not-json"),
        (Fault(status=200, body=b" " * (3 << 20)), "key-release-attestation"),
        (Fault(status=200, delay_s=1.5), "key-release-unreachable"),
        (Fault(status=200, headers={"content-length": "99"}), "key-release-unreachable"),
    ],
)
def test_an_attestation_service_that_does_not_attest(enclave: Enclave, fault: Fault, code: str) -> None:
    """Whatever it answers but a token is a refusal, and the vault is not asked."""
    enclave.services.faults["maa"] = [fault]
    assert enclave.code(timeout_s=0.7) == code
    assert not [asked for asked in enclave.services.asked if asked.startswith(VAULT_HOST)]


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ([Fault(status=403)], "key-release-denied"),
        ([Fault(status=404)], "key-release-unreachable"),
        ([Fault(status=200, body=b"{}")], "key-release-members"),
        ([Fault(status=200, body=b'{"value":"a.b"}')], "key-release-parts"),
        ([Fault(status=200, body=b'{"value":"a.e30.c"}')], "key-release-members"),
        ([Fault(status=503)] * 9, "key-release-busy"),
        ([Fault(status=429, headers={"retry-after": "999999"})] * 9, "key-release-busy"),
        ([Fault(status=200, headers={"content-length": "99"})] * 9, "key-release-unreachable"),
        ([Fault(status=200, body=b"<html>")], "key-release-unreachable"),
        ([Fault(status=200, delay_s=1.5)] * 9, "key-release-unreachable"),
    ],
)
def test_a_vault_that_does_not_release(enclave: Enclave, faults: list[Fault], code: str) -> None:
    """Its no, its silence and its nonsense each have a code."""
    enclave.services.faults["vault"] = faults
    assert enclave.code(timeout_s=0.7) == code
    assert len(enclave.slept) <= RETRIES
    assert all(seconds <= MAX_PAUSE_S for seconds in enclave.slept), "the vault asked for days"


def test_a_vault_that_sends_us_elsewhere(enclave: Enclave) -> None:
    """The token goes to the vault that was named and nowhere else."""
    elsewhere = f"https://{VAULT_HOST}:{enclave.port}/elsewhere"
    enclave.services.faults["vault"] = [Fault(status=307, headers={"location": elsewhere})]
    assert enclave.code() == "key-release-unreachable"
    assert not [asked for asked in enclave.services.asked if "elsewhere" in asked]


def test_a_busy_vault_is_asked_again(enclave: Enclave) -> None:
    """The library is patient, as the vault's header asks."""
    enclave.services.faults["vault"] = [Fault(status=429, headers={"retry-after": "2"}), Fault(status=503)]
    assert enclave.obtain().material == KEY
    assert enclave.slept[0] == 2


def test_a_busy_attestation_service_is_asked_again(enclave: Enclave, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few times, and never for longer than we are willing to wait."""
    slept: list[float] = []
    ask = azure_attestation.attested_token
    monkeypatch.setattr(azure, "attested_token", partial(ask, pause=slept.append))
    busy = [Fault(status=429, headers={"retry-after": value}) for value in ("9" * 5000, "3", "soon")]
    enclave.services.faults["maa"] = busy[:2]
    assert enclave.obtain().material == KEY
    assert slept == [MAX_PAUSE_S, 3]
    enclave.services.faults["maa"] = [busy[2], Fault(status=503), Fault(status=500)]
    assert enclave.code() == "key-release-busy"
    assert len(slept) == 2 + ATTEMPTS - 1


def test_a_key_wrapped_for_somebody_else(enclave: Enclave) -> None:
    """It cannot be opened here."""
    enclave.services.wrap_for = rsa.generate_private_key(65537, 3072).public_key()
    assert enclave.code() == "key-release-unwrap"


@pytest.mark.parametrize(
    ("answered", "code"),
    [({"nonce": "00"}, "key-release-nonce"), ({"enc": "CKM_RSA_AES_KEY_WRAP"}, "key-release-algorithm")],
)
def test_a_release_of_another_time(enclave: Enclave, answered: dict[str, str], code: str) -> None:
    """A replayed answer carries another nonce, or another algorithm than was asked for."""
    enclave.services.answered = answered
    assert enclave.code() == code


def test_a_release_that_was_recorded(enclave: Enclave) -> None:
    """The vault's earlier answer to this very guest is not an answer to this request."""
    enclave.obtain()
    enclave.services.replayed = enclave.services.last
    assert enclave.code() == "key-release-nonce"


def test_a_token_that_ended(enclave: Enclave) -> None:
    """The vault does not take it."""
    enclave.services.token_age = timedelta(hours=9)
    assert enclave.code() == "key-release-denied"


def test_a_token_that_another_service_signed(enclave: Enclave) -> None:
    """Its claims and issuer are right, and its key is not the service's."""
    enclave.services.signs = MockMaa.create()
    assert enclave.code() == "key-release-denied"


def test_a_token_of_another_enclave(enclave: Enclave) -> None:
    """Whoever stole it gets a key that it cannot open."""
    owner, thief = EnclaveKey(), EnclaveKey()
    token = enclave.services.maa.token(
        owner.runtime_data,
        now=datetime.now(UTC),
        kind="sevsnpvm",
        changed={"x-ms-runtime": json.loads(owner.runtime_data)},
        changed_tee={"x-ms-sevsnpvm-launchmeasurement": LAUNCH.measurement.hex()},
    ).decode()
    wanted = Wanted(vault_url=f"https://{VAULT_HOST}:{enclave.port}", name="k", issuer="https://a.test")

    def release(key: EnclaveKey) -> ReleasedKey:
        with ManagedIdentityCredential() as credential:
            return release_to(
                wanted,
                token,
                credential,
                modulus_size=key.modulus_size,
                decrypt=key.decrypt,
                vault_of=partial(
                    key_client, transport=RequestsTransport(connection_verify=str(enclave.authority))
                ),
            )

    assert release(owner).material == KEY
    with pytest.raises(Refused, match="key-release-unwrap"):
        release(thief)


def test_the_chip_s_certificates_from_the_host(enclave: Enclave) -> None:
    """Where the guest has none, the metadata service does."""
    with httpx2.Client() as client:
        metadata = InstanceMetadata(client, enclave.metadata)
        held = enclave.vendor.collateral()
        assert metadata.chip_certificates() == (held.leaf, held.intermediate, held.ark)
        assert enclave.obtain(bare=True, metadata=metadata).material == KEY
    assert enclave.code(bare=True) == "key-release-leaf"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=404), "key-release-metadata"),
        (Fault(status=302, headers={"location": "/acc/tdquote"}), "key-release-metadata"),
        (Fault(status=200, body=b" " * (1 << 19)), "key-release-metadata"),
        (Fault(status=200, headers={"content-length": "99"}), "key-release-metadata"),
        (Fault(status=200, delay_s=1.5), "key-release-metadata"),
        (Fault(status=200), "key-release-members"),
        (Fault(status=200, body=b"[]"), "key-release-members"),
        (Fault(status=200, body=b"<html>"), "key-release-not-json"),
    ],
)
@pytest.mark.parametrize("question", ["certificates", "quote"])
def test_a_metadata_service_that_does_not_answer(
    enclave: Enclave, fault: Fault, code: str, question: str
) -> None:
    """Its answers are bounded, and each way of failing has its code."""
    enclave.services.faults["imds"] = [fault]
    with httpx2.Client(timeout=0.7) as client:
        metadata = InstanceMetadata(client, enclave.metadata)
        ask = (
            metadata.chip_certificates
            if question == "certificates"
            else partial(metadata.td_quote, bytes(1024))
        )
        with pytest.raises(Refused) as refusal:
            ask()
    assert refusal.value.code == code


def test_too_few_certificates(enclave: Enclave) -> None:
    """The chain must reach the root."""
    leaf = ssl.DER_cert_to_PEM_cert(enclave.vendor.collateral().leaf or b"")
    body = json.dumps({"vcekCert": leaf, "certificateChain": leaf}).encode()
    enclave.services.faults["imds"] = [Fault(status=200, body=body)]
    with httpx2.Client() as client, pytest.raises(Malformed, match="key-release-members"):
        InstanceMetadata(client, enclave.metadata).chip_certificates()


def test_a_quote_of_our_report(enclave: Enclave) -> None:
    """Of another report it is none."""
    enclave.services.quote = MockTdxVendor.create().quote(b"d" * 64) + bytes(8)
    report = bytes(0x80) + b"d" * 64 + bytes(1024 - 0x80 - 64)
    with httpx2.Client() as client:
        metadata = InstanceMetadata(client, enclave.metadata)
        assert metadata.td_quote(report) == enclave.services.quote[:-8]
        with pytest.raises(Refused, match="key-release-metadata"):
            metadata.td_quote(bytes(1024))
        with pytest.raises(ValueError, match="1024"):
            metadata.td_quote(b"")


def test_a_machine_without_identity(enclave: Enclave) -> None:
    """Then the vault is never convinced."""
    enclave.services.faults["imds"] = [Fault(status=400, body=b'{"error":"invalid_request"}')] * 9
    assert enclave.code() == "key-release-identity"


@pytest.mark.parametrize("change", [{"vault_url": "http://a.test"}, {"issuer": "http://a.test"}])
def test_addresses_that_anybody_could_answer_at(enclave: Enclave, change: dict[str, str]) -> None:
    """Only by TLS."""
    assert enclave.code(**change) == "key-release-address"


def test_what_the_service_is_shown() -> None:
    """A quote as it is; a report with its chain, and without one nothing."""
    kind, body = attestation_request(TdxEvidence(b"quote"), b"data", ())
    assert (kind, body["quote"]) == ("TdxVm", "cXVvdGU")
    assert body["runtimeData"] == {"data": "ZGF0YQ", "dataType": "JSON"}
    with pytest.raises(Refused, match="key-release-leaf"):
        attestation_request(SnpEvidence(b"report", SnpCollateral(None)), b"data", ())


def test_a_key_pair_of_its_own() -> None:
    """Another one each time; only its public half is ever shown."""
    first, second = EnclaveKey(), EnclaveKey()
    assert first.runtime_data != second.runtime_data
    assert b'"d"' not in first.runtime_data
    assert repr(first) == "EnclaveKey(3072 bits)"
    with pytest.raises(Refused, match="key-release-unwrap"):
        first.decrypt(bytes(384), "RSA_AES_KEY_WRAP_384")
    with pytest.raises(Refused, match="key-release-algorithm"):
        first.decrypt(bytes(384), "CKM_RSA_AES_KEY_WRAP")
    with pytest.raises(Malformed, match="key-release-address"):
        Wanted(vault_url="ftp://a", name="k", issuer="https://b")
