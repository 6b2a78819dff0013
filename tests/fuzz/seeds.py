"""What fuzzing starts from: the genuine evidence beside the checkout, and what the mock vendors make.

Everything of the mock vendors is made once per process. Where the shared vectors are absent, theirs do alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest import strict_json
from attest.channel.bhttp_encoder import encode_request
from attest.channel.bhttp_message import RequestHead
from attest.channel.ohttp import KeyPair, serialise_key_configs
from attest.collateral.archive import export_cache
from attest.collateral.cache import Cache
from attest.digest import sha256_digest
from attest.evidence.certificate_table import ARK, ASK, VCEK
from attest.evidence.maa_claims import AttestationKind
from attest.evidence.pem import read_certificates
from attest.evidence.spdm import SpdmReport
from attest.evidence.tdx_signature import QE_REPORT_SIZE, QuoteSignature
from attest.evidence.tokens import DetachedEat
from attest.mock.azure import MockAzureCvm
from attest.mock.maa import MockMaa
from attest.mock.machine import MockAzureCpu, MockBoard, MockMachine, MockTdxCpu
from attest.mock.nras import MockDevice, MockNras
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.snp_report import MockLaunch
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_event_log import event_log
from attest.mock.tdx_quote import MockTdLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.mock.world import MockWorld
from attest.protocol.receipt import Receipt, sign_receipt
from attest.protocol.tenant_token import RequestSigner, sign_request_token
from attest.refusal import Refused
from tests.simulators.mock_runtime import FAR, NONCE, NOW, honest_world
from tests.simulators.tsm import certificate_table

VECTORS: Final = Path(__file__).resolve().parents[3] / "shared" / "vectors"
ISSUED: Final = NOW - timedelta(days=30)
MAX_SEED_BYTES: Final = 128 * 1024


def files(*patterns: str) -> Iterator[bytes]:
    """The shared vectors whose paths match; nothing where they are absent."""
    for pattern in patterns:
        for path in sorted(VECTORS.glob(pattern)):
            if path.is_file() and path.stat().st_size <= MAX_SEED_BYTES:
                yield path.read_bytes()


@cache
def snp_vendor() -> MockVendor:
    """One mock vendor of SEV-SNP."""
    return MockVendor(MockKeys.generate(), issued_at=ISSUED)


@cache
def tdx_vendor() -> MockTdxVendor:
    """One mock vendor of TDX."""
    return MockTdxVendor.create(now=NOW)


@cache
def gpu_vendor() -> MockGpuVendor:
    """One mock vendor of GPUs."""
    return MockGpuVendor.create(now=NOW)


@cache
def board_world() -> MockWorld:
    """An honest runtime in a TDX guest with one GPU."""
    machine = MockMachine(MockTdxCpu(tdx_vendor(), MockTdLaunch()), MockBoard(gpu_vendor(), devices_of(1)))
    return honest_world(snp_vendor_keys(), machine)


@cache
def snp_vendor_keys() -> MockKeys:
    """Keys of the SEV-SNP world; made once, for RSA-4096 takes a second."""
    return MockKeys.generate()


@cache
def snp_world() -> MockWorld:
    """An honest runtime on a SEV-SNP machine without devices."""
    return honest_world(snp_vendor_keys())


def reports() -> Iterator[bytes]:
    """SEV-SNP reports."""
    yield snp_vendor().report(bytes(64), MockLaunch())
    yield from files("sev-snp/*/report.bin")


def snp_certificates() -> Iterator[bytes]:
    """Certificates of AMD's form, DER."""
    collateral = snp_vendor().collateral(now=NOW)
    yield from (each for each in (collateral.leaf, collateral.intermediate, collateral.ark) if each)
    yield from files("sev-snp/*/*.der")


def tables() -> Iterator[bytes]:
    """Certificate tables as hosts fill them."""
    collateral = snp_vendor().collateral(now=NOW)
    yield certificate_table(
        {VCEK: collateral.leaf, ASK: collateral.intermediate or b"", ARK: collateral.ark or b""}
    )
    yield certificate_table({VCEK: b"vcek", ASK: b"ask"})


def tcb_versions() -> Iterator[bytes]:
    """TCB_VERSION values."""
    yield from (bytes(8), bytes.fromhex("04000000000018db"), bytes.fromhex("0101010400000000"))


def quotes() -> Iterator[bytes]:
    """TDX quotes."""
    yield tdx_vendor().quote(bytes(64))
    yield from files("tdx/*/quote.bin", "tdx/*/*.dat")


def quote_signatures() -> Iterator[bytes]:
    """The signature data of TDX quotes: what follows header, body and length."""
    for quote in quotes():
        for head in (48 + 584, 48 + 6 + 648):
            size = int.from_bytes(quote[head : head + 4], "little")
            if head + 4 + size <= len(quote) and size > QE_REPORT_SIZE:
                yield quote[head + 4 : head + 4 + size]


def pck_certificates() -> Iterator[bytes]:
    """PCK certificates, DER."""
    for data in quote_signatures():
        with suppress(Refused):
            yield QuoteSignature.parse(data).pck_chain[0]


def tdx_collateral() -> Iterator[bytes]:
    """Collateral of TDX as peers exchange it."""
    yield tdx_vendor().collateral(now=NOW).as_json()
    yield from files("tdx/*/collateral.json")


def tcb_infos() -> Iterator[bytes]:
    """Signed TCB info texts."""
    for data in tdx_collateral():
        yield json.loads(data)["tcb_info"].encode()


def qe_identities() -> Iterator[bytes]:
    """Signed QE identity texts."""
    for data in tdx_collateral():
        yield json.loads(data)["qe_identity"].encode()


def pcs_answers() -> Iterator[bytes]:
    """Intel's answers: text and signature."""
    for text in tcb_infos():
        yield b'{"tcbInfo":' + text + b',"signature":"' + b"ab" * 64 + b'"}'
    yield from files("joint/*/pcs_tcb_info.json")


def event_logs() -> Iterator[bytes]:
    """TCG event logs."""
    yield event_log([(0, b"firmware"), (2, b"kernel"), (3, b"container")], area=1024)


def spdm() -> Iterator[bytes]:
    """SPDM requests and responses of GPUs."""
    yield gpu_vendor().evidence(bytes(32)).report
    yield from files("nvidia/*/report.bin")


def opaque_fields() -> Iterator[bytes]:
    """Opaque fields of GPU reports as tag, length and value, the form that the target reads."""
    for data in spdm():
        try:
            fields = SpdmReport.parse(data).opaque
        except Refused:
            continue
        yield b"".join(
            number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
            for number, value in fields.items()
        )


def gpu_chains() -> Iterator[bytes]:
    """Certificate chains, PEM."""
    yield gpu_vendor().evidence(bytes(32)).certificate_chain
    yield from files("nvidia/*/cert_chain.pem", "sev-snp/*/*.pem")


def gpu_leaves() -> Iterator[bytes]:
    """Certificates of devices, DER."""
    for chain in (gpu_vendor().evidence(bytes(32)).certificate_chain, *files("nvidia/*/cert_chain.pem")):
        yield from read_certificates(chain)[:2]


def rims() -> Iterator[bytes]:
    """Golden values, XML."""
    collateral = gpu_vendor().collateral(now=NOW)
    yield collateral.vbios_rim
    yield from (each for each in (collateral.driver_rim,) if each)
    yield from list(files("nvidia/*/*.swidtag", "nvidia/*/*.xml", "nvidia/*/*rim*"))[:12]


def ocsp_answers() -> Iterator[bytes]:
    """OCSP responses."""
    yield from gpu_vendor().collateral(now=NOW).ocsp
    yield from list(files("nvidia/*/*ocsp*", "nvidia/*/*/*ocsp*"))[:12]


def revocation_lists() -> Iterator[bytes]:
    """Certificate revocation lists."""
    yield from (each for each in (snp_vendor().collateral(now=NOW).crl,) if each)
    yield tdx_vendor().collateral(now=NOW).pck_crl
    yield from files("joint/*/*.der", "tdx/raw-pcs/*crl*")


@cache
def nras_service() -> MockNras:
    """A mock token service for GPUs."""
    return MockNras.create()


def eats() -> Iterator[bytes]:
    """Detached EAT bundles."""
    yield nras_service().answer(bytes(32), (MockDevice("GPU-0"), MockDevice("SWITCH-0")), now=NOW)
    yield from files("nvidia/nras/*.json", "joint/*/nras_response.json")


def device_claims() -> Iterator[bytes]:
    """Claims of devices, JSON."""
    for data in eats():
        try:
            eat = DetachedEat.parse(data)
        except Refused:
            continue
        yield from (token.payload for token in eat.devices.values())


@cache
def maa_service() -> MockMaa:
    """A mock Azure Attestation."""
    return MockMaa.create()


def maa_tokens() -> Iterator[bytes]:
    """Compact tokens."""
    kinds: tuple[AttestationKind, ...] = ("azurevm", "sevsnpvm")
    yield from (maa_service().token(b"1234", now=NOW, kind=kind) for kind in kinds)
    yield from files("maa/*.jwt")


def maa_claims() -> Iterator[bytes]:
    """Claims of Azure's tokens, JSON."""
    for token in maa_tokens():
        payload = token.split(b".")[1]
        yield base64.urlsafe_b64decode(payload + b"==")
    yield from files("maa/*.json")


def jwk_sets() -> Iterator[bytes]:
    """Key sets."""
    yield nras_service().keys.jwks
    yield maa_service().keys.jwks
    yield from files("maa/*.jwks.json", "joint/*/*jwks.json", "nvidia/nras/*.jwks.json")


@cache
def azure_vm() -> MockAzureCvm:
    """A mock Azure VM."""
    return MockAzureCvm(snp_vendor())


@cache
def azure_world() -> MockWorld:
    """A runtime in that VM."""
    return replace(snp_world(), machine=MockMachine(MockAzureCpu(azure_vm())))


def hcl_reports() -> Iterator[bytes]:
    """HCL reports."""
    yield azure_vm().hcl_report()
    yield azure_vm().hcl_report(kind="tdx")
    yield from files("azure-hcl/*/hcl-report.bin")


def tpm_quotes() -> Iterator[bytes]:
    """TPMS_ATTEST messages."""
    yield azure_vm().quote(b"nonce").message
    yield from files("azure-hcl/*/tpm-quote.msg")


def bundles() -> Iterator[bytes]:
    """Whole bundles."""
    yield snp_world().answer(NONCE)
    yield azure_world().answer(NONCE)
    yield board_world().answer(NONCE)


def archives() -> Iterator[bytes]:
    """Archives of collateral."""
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        cache.write("a", b"one", NOW)
        cache.write("b", b"two", NOW)
        yield export_cache(cache)


def statements() -> Iterator[bytes]:
    """Statements."""
    yield board_world().bundle(NONCE).statement
    yield replace(snp_world().statement, nonce=NONCE).canonical()


def keysets() -> Iterator[bytes]:
    """Keysets."""
    yield snp_world().keyset.canonical()


def trust_files() -> Iterator[bytes]:
    """Trust files."""
    yield board_world().trust().toml().encode()
    yield snp_world().trust().toml().encode()


def reference_files() -> Iterator[bytes]:
    """Reference values."""
    yield board_world().reference(not_after=FAR).toml().encode()
    yield azure_world().reference(not_after=FAR).toml().encode()
    yield snp_world().reference(not_after=FAR).toml().encode()


def json_texts() -> Iterator[bytes]:
    """JSON of any kind."""
    yield b'{"a":[1,true,null,"\\u00e9"],"b":{"c":-7}}'
    yield from statements()


def toml_texts() -> Iterator[bytes]:
    """TOML of any kind."""
    yield b'a = 1\nb = ["x"]\nc = true\nd = 2026-06-01T12:00:00Z\n[e]\nf = "g"\n'
    yield from reference_files()


def key_configs() -> Iterator[bytes]:
    """OHTTP key configurations, length-prefixed."""
    yield serialise_key_configs([KeyPair.generate(1).config, KeyPair.generate(2).config])


def bhttp_messages() -> Iterator[bytes]:
    """Binary HTTP messages of either direction."""
    head = RequestHead("POST", "https", "sealgate.local", "/v1/x", ((b"content-type", b"application/json"),))
    yield encode_request(head, b'{"a":1}')
    yield bytes.fromhex("0140c800")  # a response without anything
    yield bytes.fromhex("0340c800000000")


_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def _signed_receipt() -> bytes:
    receipt = Receipt(
        receipt_id="rcpt-1",
        statement_digest=sha256_digest(b"statement"),
        keyset_digest=sha256_digest(b"keyset"),
        tenant=RequestSigner(_KEY).thumbprint,
        sequence=7,
        request_sha256="ab" * 32,
        response_sha256="cd" * 32,
        model="smollm2",
        base_model_digest=sha256_digest(b"model"),
        adapter_digest=None,
        label_id=sha256_digest(b"label"),
        prompt_tokens=20,
        completion_tokens=12,
        finish_reason="stop",
        status=200,
        backend="simple",
        issued_at=NOW,
    )
    return strict_json.b64url_decode(sign_receipt(_KEY, receipt), name="receipt", max_bytes=8192)


def receipt_envelopes() -> Iterator[bytes]:
    """DSSE envelopes of receipts."""
    yield _signed_receipt()


def receipts() -> Iterator[bytes]:
    """What receipts sign."""
    yield base64.b64decode(json.loads(_signed_receipt())["payload"])


def tenant_tokens() -> Iterator[bytes]:
    """Request tokens."""
    yield sign_request_token(
        RequestSigner(_KEY),
        audience=sha256_digest(b"keyset"),
        sequence=1,
        label_id=sha256_digest(b"label"),
        statement_digest=sha256_digest(b"statement"),
        body_sha256="ab" * 32,
        method="POST",
        path="/v1/chat/completions",
        now=NOW,
    ).encode()


def token_claims() -> Iterator[bytes]:
    """The claims of request tokens."""
    for token in tenant_tokens():
        yield base64.urlsafe_b64decode(token.split(b".")[1] + b"==")
