"""Secure key release end to end: the stock Azure libraries against local services, with faults."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from azure.core.credentials import TokenCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ManagedIdentityCredential
from azure.keyvault.keys import KeyClient
from cryptography.hazmat.primitives.asymmetric import rsa

from attest.evidence.cpu import SnpCollateral, SnpEvidence
from attest.evidence.tdx_evidence import TdxEvidence
from attest.evidence.tokens import MOCK_MAA_ISSUER
from attest.keyrelease.azure import EnclaveKey, Wanted, attestation_request, obtain_key
from attest.keyrelease.release_policy import export_policy, rule_for_guest
from attest.keyrelease.released_key import ReleasedKey
from attest.mock.attester import MockAttester
from attest.mock.maa import POLICY_HASH
from attest.mock.machine import MockMachine, MockSnpCpu
from attest.mock.snp_report import DEBUG_POLICY_BIT, MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.refusal import Malformed, Refused
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
class Enclave:
    """One that wants its key."""

    services: AzureServices
    vendor: MockVendor
    port: int
    authority: Path
    launch: MockLaunch = LAUNCH

    def obtain(self, *, timeout_s: float = 5.0, **changes: Any) -> ReleasedKey:
        """As an image would at its start."""
        wanted = Wanted(
            vault_url=f"https://{VAULT_HOST}:{self.port}",
            name="master",
            version="1",
            issuer=f"https://{MAA_HOST}:{self.port}",
        )
        context = ssl.create_default_context(cafile=str(self.authority))
        credential = ManagedIdentityCredential()

        def vault_of(url: str, identity: TokenCredential) -> KeyClient:
            transport = RequestsTransport(connection_verify=str(self.authority), read_timeout=timeout_s)
            return KeyClient(url, identity, transport=transport, retry_total=2, retry_backoff_factor=0.01)

        attester = MockAttester(MockMachine(MockSnpCpu(self.vendor, self.launch)))
        with httpx2.Client(verify=context, timeout=timeout_s) as client, credential:
            return obtain_key(
                replace(wanted, **changes), attester, credential, client=client, vault_of=vault_of
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
        yield Enclave(services, vendor, port, services.authority)


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
        (Fault(status=500), "key-release-attestation"),
        (Fault(status=200, body=b"{}"), "key-release-members"),
        (Fault(status=200, body=b'{"token":7}'), "key-release-members"),
        (Fault(status=200, body=b'{"token":""}'), "key-release-members"),
        (Fault(status=200, body=b"<html>"), "key-release-not-json"),
        (Fault(status=200, body=b" " * (3 << 20)), "key-release-attestation"),
        (Fault(status=200, delay_s=1.5), "key-release-unreachable"),
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
        ([Fault(status=503)] * 9, "key-release-unreachable"),
    ],
)
def test_a_vault_that_does_not_release(enclave: Enclave, faults: list[Fault], code: str) -> None:
    """Its no, its silence and its nonsense each have a code."""
    enclave.services.faults["vault"] = faults
    assert enclave.code() == code


def test_a_busy_vault_is_asked_again(enclave: Enclave) -> None:
    """The library is patient, as the vault's header asks."""
    enclave.services.faults["vault"] = [Fault(status=429, headers={"retry-after": "0"}), Fault(status=503)]
    assert enclave.obtain().material == KEY


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
    with pytest.raises(Malformed, match="key-release-address"):
        Wanted(vault_url="ftp://a", name="k", issuer="https://b")
