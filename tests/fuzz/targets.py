"""Every parser of untrusted bytes as a function that may only refuse.

A target returns, or raises ``Refused`` (and so ``Unsupported`` or ``Malformed``). Anything else is a crash.
What only an authentic sender could have written is signed here first: random bytes never pass a signature, so
a parser behind one would otherwise go untried.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from os import devnull
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest import strict_json, strict_toml
from attest.channel.bhttp_decoder import RequestDecoder, ResponseDecoder
from attest.channel.key_config import parse_key_configs
from attest.collateral.archive import import_archive
from attest.collateral.cache import Cache, Document
from attest.collateral.entry import Entry
from attest.collateral.snp import LeafKind
from attest.collateral.tdx import signed_text
from attest.collateral.tdx_documents import parse_qe_identity, parse_tcb_info
from attest.digest import sha256_digest
from attest.evidence.bundle import Bundle
from attest.evidence.certificate_table import CertificateTable
from attest.evidence.event_log import EventLog
from attest.evidence.gpu import ARCHITECTURES
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.gpu_leaf import GpuLeaf
from attest.evidence.hcl import HclReport
from attest.evidence.maa_claims import TeeKind, read_tee, require_safe_boot
from attest.evidence.nras_claims import Version, read_device
from attest.evidence.pck import PckPlatform
from attest.evidence.pem import read_certificates
from attest.evidence.reader import Reader
from attest.evidence.rim import Rim, parse_xml, read_payload, rim_certificates
from attest.evidence.snp import SnpReport
from attest.evidence.snp_leaf import SnpLeaf
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.evidence.spdm import SpdmReport
from attest.evidence.tdx import TdxQuote
from attest.evidence.tdx_evidence import TdxCollateral
from attest.evidence.tdx_signature import QuoteSignature
from attest.evidence.tokens import CompactToken, DetachedEat
from attest.evidence.tpm import QuoteFacts
from attest.keyset import Keyset
from attest.protocol.receipt import PAYLOAD_TYPE, open_receipt
from attest.protocol.tenant_token import TYPE, RequestSigner, verify_request_token
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.statement import Statement
from attest.trust import TrustRoots
from attest.verify.crl import require_not_revoked, verify_crl
from attest.verify.jwk_set import signing_key
from attest.verify.jws import require_times
from attest.verify.ocsp import OcspAnswer
from attest.verify.p256 import verify_p256
from attest.verify.p384 import verify_p384
from attest.verify.rsa_pss import verify_pss
from attest.verify.x509 import common_name, load_certificate, require_current, verify_issued
from attest.verify.xml_signature import EnvelopedSignature
from tests.fuzz import seeds
from tests.simulators.mock_runtime import NOW

MAX_BYTES: Final = 16 * 1024
PRODUCTS: Final[tuple[Product, ...]] = ("Milan", "Genoa", "Turin")
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PUBLIC: Final = _KEY.public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    Args:
        name: of the target; also of its folder under ``regressions``.
        run: feeds it.
        seeds: inputs that it accepts, or nearly.
        max_bytes: longest input that is tried.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Iterator[bytes]]
    max_bytes: int = MAX_BYTES

    def accepts(self, data: bytes) -> bool:
        """Feed ``data``; whether it was not refused. Lets any other exception out."""
        try:
            self.run(data)
        except Refused:
            return False
        return True


def _snp_report(data: bytes) -> object:
    report = SnpReport.parse(data)
    return repr(report), report.has_migration_agent


def _each(steps: Iterable[Callable[[], object]]) -> None:
    """Every step, though one of them refuses: a refusal must not keep the next from being tried."""
    refusals = []
    for step in steps:
        try:
            step()
        except Refused as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]


def _snp_leaf(data: bytes) -> None:
    certificate = load_certificate(data, role="fuzz")
    kinds: tuple[LeafKind, ...] = ("vcek", "vlek")
    _each(
        partial(SnpLeaf.parse, certificate, kind=kind, product=product)
        for kind in kinds
        for product in PRODUCTS
    )


def _tcb(data: bytes) -> None:
    _each(partial(_tcb_of, data, product) for product in PRODUCTS)


def _tcb_of(data: bytes, product: Product) -> None:
    if TcbVersion.parse(data, product).serialise(product) != data:
        raise AssertionError("a TCB version that does not come back")


def _pck(data: bytes) -> object:
    return PckPlatform.parse(load_certificate(data, role="fuzz"))


def _event_log(data: bytes) -> object:
    return EventLog.parse(data).replay()


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    def run(data: bytes) -> object:
        return parse(data.decode("latin-1"))

    return run


def _gpu_facts(data: bytes) -> None:
    reader = Reader(data, "fuzz")
    opaque: dict[int, bytes] = {}
    while reader.remaining:
        number, size = reader.uint_le(2), reader.uint_le(2)
        opaque[number] = reader.take(size)
    _each(partial(GpuFacts.read, opaque, arch) for arch in ARCHITECTURES)


def _gpu_leaf(data: bytes) -> None:
    certificate = load_certificate(data, role="fuzz")
    GpuLeaf.parse(certificate, common_name(certificate.subject, role="fuzz")).is_of("HOPPER")


def _rim(data: bytes) -> None:
    root = parse_xml(data)
    EnvelopedSignature.read(root)
    Rim.read(root)


def _rim_payload(data: bytes) -> object:
    return _each([lambda: read_payload(parse_xml(data)), lambda: rim_certificates(data)])


def _ocsp(data: bytes) -> object:
    return OcspAnswer.parse(data)


@cache
def _authority() -> x509.Certificate:
    return load_certificate(next(seeds.pck_certificates()), role="fuzz")


def _accept_any_signature(*_: object, **__: object) -> None:
    """Stands in for the vendor's signature, so that what lies behind it is reached."""


def _crl(data: bytes) -> None:
    try:
        issuer = x509.load_der_x509_crl(data).issuer
    except Exception:  # noqa: BLE001 - only the verifier's own answer counts, and it follows
        issuer = _authority().subject
    crl = verify_crl(data, _Named(issuer), NOW, scheme=_accept_any_signature)  # type: ignore[arg-type]  # its name is read only
    require_not_revoked(_authority(), crl, role="fuzz")


@dataclass(frozen=True, slots=True)
class _Named:
    """A certificate of which only the name is asked."""

    subject: x509.Name


def _x509(data: bytes) -> None:
    certificate = load_certificate(data, role="fuzz")
    common_name(certificate.subject, role="fuzz")
    require_current(certificate, NOW, role="fuzz")
    _each(
        partial(verify_issued, certificate, data, certificate, role="fuzz", scheme=scheme)
        for scheme in (_accept_any_signature, verify_p256, verify_p384, verify_pss)
    )


def _jws(data: bytes) -> object:
    token = CompactToken.parse(data.decode("latin-1"), name="maa")
    return token.signed, token.claims(name="maa")


def _claims(data: bytes) -> dict[str, object]:
    claims = strict_json.loads(data, name="fuzz", max_bytes=MAX_BYTES)
    return claims if isinstance(claims, dict) else {}


def _nras_device(data: bytes) -> None:
    claims = _claims(data)
    versions: tuple[Version, ...] = ("2.0", "3.0")
    _each(
        partial(read_device, name, claims, version, now=NOW)
        for name in ("GPU-0", "SWITCH-0")
        for version in versions
    )


def _maa_claims(data: bytes) -> None:
    claims = _claims(data)
    nested = claims.get("x-ms-isolation-tee")
    parts = [part for part in (claims, nested) if isinstance(part, dict)]
    kinds: tuple[TeeKind, ...] = ("sevsnpvm", "tdxvm")
    _each(
        [
            *(partial(read_tee, part, kind) for part in parts for kind in kinds),
            partial(require_times, claims, NOW, name="maa", lifetime=timedelta(days=365)),
            partial(require_safe_boot, claims),
        ]
    )


def _jwks(data: bytes) -> None:
    signing_key.cache_clear()
    try:
        key_id = json.loads(data)["keys"][0]["kid"]
    except Exception:  # noqa: BLE001 - only the verifier's own answer counts, and it follows
        key_id = "unknown"
    signing_key(data, key_id if isinstance(key_id, str) else "unknown")


def _hcl(data: bytes) -> object:
    report = HclReport.parse(data)
    return report.report_data, report.runtime_claims()


class _NoCache(Cache):
    """A cache that keeps nothing."""

    def __init__(self) -> None:
        super().__init__(Path(devnull))

    def entry(self, key: str) -> None:
        """Nothing is known."""

    def entries(self) -> Iterator[Entry]:
        """Nothing is there."""
        return iter(())

    def write_all(self, documents: Sequence[Document]) -> tuple[Entry, ...]:  # noqa: ARG002 - kept by name
        """Nothing is kept."""
        return ()


def _archive(data: bytes) -> object:
    return import_archive(data, _NoCache(), now=NOW)


def _bundle(data: bytes) -> None:
    bundle = Bundle.parse(data)
    Statement.parse(bundle.statement)
    Keyset.parse(bundle.keyset)


def _statement(data: bytes) -> None:
    if Statement.parse(data).canonical() != data:
        raise AssertionError("a statement with two spellings")


def _keyset(data: bytes) -> None:
    keyset = Keyset.parse(data)
    if keyset.canonical() != data:
        raise AssertionError("a keyset with two spellings")
    keyset.state(NOW)


def _json(data: bytes) -> None:
    value = strict_json.loads(data, name="fuzz", max_bytes=MAX_BYTES)
    with suppress(ValueError):  # its word for what has no canonical form, such as integers beyond 2**53
        canonical = strict_json.canonical(value)
        if strict_json.loads(canonical, name="fuzz", max_bytes=2 * MAX_BYTES) != value:
            raise AssertionError("a canonical form of something else")


def _base64(data: bytes) -> None:
    text = data.decode("latin-1")
    for decode, encode in (
        (strict_json.b64decode, strict_json.b64encode),
        (strict_json.b64url_decode, strict_json.b64url_encode),
    ):
        if encode(decode(text, name="fuzz", max_bytes=MAX_BYTES)) != text:
            raise AssertionError("bytes with two spellings")


def _base64_seeds() -> Iterator[bytes]:
    yield from (base64.b64encode(bytes(range(size))) for size in (0, 1, 2, 3, 31, 64))
    yield from (base64.urlsafe_b64encode(bytes(range(size))).rstrip(b"=") for size in (1, 2, 64))


def _toml(data: bytes) -> None:
    table = strict_toml.Table.parse(data, name="fuzz", max_bytes=MAX_BYTES)
    for key in ("a", "e"):
        try:
            table.table(key)
        except Refused:
            continue
    table.end()


def _bhttp(decoder: Callable[[], RequestDecoder | ResponseDecoder]) -> Callable[[bytes], object]:
    def run(data: bytes) -> object:
        step = 1 + data[0] % 7 if data else 1
        reader = decoder()
        for position in range(1, len(data), step):
            reader.feed(data[position : position + step])
        return reader.finish()

    return run


def _bhttp_seeds() -> Iterator[bytes]:
    return (b"\x06" + each for each in seeds.bhttp_messages())


def _receipt(data: bytes) -> object:
    payload = base64.b64encode(data).decode()
    signed = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(data)} ".encode() + data
    envelope = {
        "payload": payload,
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {
                "keyid": RequestSigner(_KEY).thumbprint,
                "sig": base64.b64encode(_KEY.sign(signed)).decode(),
            }
        ],
    }
    text = strict_json.b64url_encode(strict_json.canonical(envelope))
    return open_receipt(text, receipt_key=_PUBLIC)


def _receipt_envelope(data: bytes) -> object:
    text = strict_json.b64url_encode(data)
    return open_receipt(text, receipt_key=_PUBLIC)


def _tenant_token(data: bytes) -> object:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": strict_json.b64url_encode(_PUBLIC)}
    header = strict_json.canonical({"alg": "EdDSA", "typ": TYPE, "jwk": jwk})
    signed = f"{strict_json.b64url_encode(header)}.{strict_json.b64url_encode(data)}"
    return _verified_token(f"{signed}.{strict_json.b64url_encode(_KEY.sign(signed.encode()))}")


def _tenant_token_text(data: bytes) -> object:
    return _verified_token(data.decode("latin-1"))


def _verified_token(token: str) -> object:
    return verify_request_token(
        token,
        audience=sha256_digest(b"keyset"),
        body_sha256="ab" * 32,
        method="POST",
        path="/v1/chat/completions",
        now=NOW,
    )


TARGETS: Final = {
    target.name: target
    for target in (
        Target("snp-report", _snp_report, seeds.reports, 2048),
        Target("snp-certificate-table", CertificateTable.parse, seeds.tables),
        Target("snp-leaf", _snp_leaf, seeds.snp_certificates, 4096),
        Target("snp-tcb", _tcb, seeds.tcb_versions, 64),
        Target("tdx-quote", TdxQuote.parse, seeds.quotes),
        Target("tdx-signature", QuoteSignature.parse, seeds.quote_signatures),
        Target("tdx-pck", _pck, seeds.pck_certificates, 4096),
        Target("tdx-collateral", TdxCollateral.from_json, seeds.tdx_collateral, 64 * 1024),
        Target("tdx-pcs-answer", lambda data: signed_text(data, "tcbInfo"), seeds.pcs_answers),
        Target("tdx-tcb-info", _text(parse_tcb_info), seeds.tcb_infos),
        Target("tdx-qe-identity", _text(parse_qe_identity), seeds.qe_identities),
        Target("event-log", _event_log, seeds.event_logs),
        Target("spdm", SpdmReport.parse, seeds.spdm),
        Target("gpu-facts", _gpu_facts, seeds.opaque_fields),
        Target("gpu-leaf", _gpu_leaf, seeds.gpu_leaves, 4096),
        Target("rim", _rim, seeds.rims, 64 * 1024),
        Target("rim-payload", _rim_payload, seeds.rims, 64 * 1024),
        Target("pem", read_certificates, seeds.gpu_chains, 64 * 1024),
        Target("ocsp", _ocsp, seeds.ocsp_answers, 4096),
        Target("crl", _crl, seeds.revocation_lists, 8192),
        Target("x509", _x509, seeds.snp_certificates, 4096),
        Target("nras-eat", DetachedEat.parse, seeds.eats, 64 * 1024),
        Target("nras-device", _nras_device, seeds.device_claims),
        Target("jws", _jws, seeds.maa_tokens),
        Target("jwk-set", _jwks, seeds.jwk_sets, 32 * 1024),
        Target("maa-claims", _maa_claims, seeds.maa_claims),
        Target("hcl", _hcl, seeds.hcl_reports, 8192),
        Target("tpm-quote", QuoteFacts.parse, seeds.tpm_quotes, 1024),
        Target("bundle", _bundle, seeds.bundles, 64 * 1024),
        Target("collateral-archive", _archive, seeds.archives),
        Target("statement", _statement, seeds.statements),
        Target("keyset", _keyset, seeds.keysets),
        Target("trust", TrustRoots.parse, seeds.trust_files, 4096),
        Target("reference", ReferenceValues.parse, seeds.reference_files, 8192),
        Target("strict-json", _json, seeds.json_texts),
        Target("strict-base64", _base64, _base64_seeds, 1024),
        Target("strict-toml", _toml, seeds.toml_texts, 4096),
        Target("ohttp-key-config", parse_key_configs, seeds.key_configs, 8192),
        Target("bhttp-request", _bhttp(RequestDecoder), _bhttp_seeds, 4096),
        Target("bhttp-response", _bhttp(ResponseDecoder), _bhttp_seeds, 4096),
        Target("receipt", _receipt, seeds.receipts, 4096),
        Target("receipt-envelope", _receipt_envelope, seeds.receipt_envelopes, 4096),
        Target("tenant-token", _tenant_token, seeds.token_claims, 4096),
        Target("tenant-token-text", _tenant_token_text, seeds.tenant_tokens, 4096),
    )
}
