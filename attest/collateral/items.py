"""What can be looked up to judge evidence, and exactly how each service is asked for it.

An ``Item`` is a pure description: which service, which request, how its answer becomes the bytes that are
kept, and for how long they count as fresh. Nothing here touches the network (``attest.collateral.fetch``
does), and nothing that comes back is trusted: verifiers judge it like any other evidence.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from attest import strict_json
from attest.collateral.snp import LeafKind
from attest.evidence.bundle_collateral import MAX_CERTIFICATE_BYTES, MAX_CRL_BYTES
from attest.evidence.gpu import MAX_OCSP_BYTES, MAX_RIM_BYTES
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.evidence.tdx_evidence import MAX_DOCUMENT_BYTES, MAX_LIST_BYTES
from attest.refusal import Malformed

Service = Literal["amd-kds", "intel-pcs", "intel-certificates", "nvidia-rim", "nvidia-ocsp", "nras", "maa"]
Headers = Mapping[str, str]

MAX_JWKS_BYTES: Final = 1024 * 1024
_TURIN_HWID_BYTES: Final = 8
_RIM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,159}", re.ASCII)
_MAA_HOST: Final = re.compile(r"https://([a-z0-9.-]{1,200})", re.ASCII)
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)


def _as_is(_headers: Headers, body: bytes) -> bytes:
    return body


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be looked up.

    Args:
        key: its name in the cache; says all that the request says.
        service: who is asked.
        path: of the request, with its query.
        max_bytes: bound of the answer's body.
        fresh_for: how long an answer is used before the service is asked again.
        body: of a POST; None is a GET.
        content_type: of the body.
        keep: from the answer's headers (names in lower case) and body to the bytes that are kept.
    """

    key: str
    service: Service
    path: str
    max_bytes: int
    fresh_for: timedelta
    body: bytes | None = None
    content_type: str | None = None
    keep: Callable[[Headers, bytes], bytes] = field(default=_as_is, compare=False)


def vcek(product: Product, chip_id: bytes, tcb: TcbVersion) -> Item:
    """The certificate of one chip at one firmware version (AMD 57230, "VCEK certificate request")."""
    hwid = chip_id[:_TURIN_HWID_BYTES] if product == "Turin" else chip_id
    levels = {"fmcSPL": tcb.fmc} if product == "Turin" else {}
    levels |= {"blSPL": tcb.boot_loader, "teeSPL": tcb.tee, "snpSPL": tcb.snp, "ucodeSPL": tcb.microcode}
    query = "&".join(f"{name}={level:02d}" for name, level in levels.items())
    path = f"/vcek/v1/{product}/{hwid.hex()}?{query}"
    return Item(f"amd{path}", "amd-kds", path, MAX_CERTIFICATE_BYTES, 30 * _DAY)


def amd_crl(product: Product, kind: LeafKind) -> Item:
    """AMD's revocation list of one product line and kind of leaf."""
    path = f"/{kind}/v1/{product}/crl"
    return Item(f"amd{path}", "amd-kds", path, MAX_CRL_BYTES, _DAY)


def tcb_info(fmspc: bytes) -> Item:
    """Intel's TCB info of one family of platforms, with its issuer chain (PCS API v4)."""
    path = f"/tdx/certification/v4/tcb?fmspc={fmspc.hex().upper()}"
    keep = _with_chain("tcb-info-issuer-chain")
    return Item(f"intel{path}", "intel-pcs", path, MAX_DOCUMENT_BYTES, _DAY, keep=keep)


def qe_identity() -> Item:
    """Intel's identity of the TD quoting enclave, with its issuer chain."""
    path = "/tdx/certification/v4/qe/identity"
    keep = _with_chain("sgx-enclave-identity-issuer-chain")
    return Item(f"intel{path}", "intel-pcs", path, MAX_DOCUMENT_BYTES, _DAY, keep=keep)


def pck_crl(authority: Literal["platform", "processor"]) -> Item:
    """Intel's revocation list of one PCK authority, with its issuer chain."""
    path = f"/sgx/certification/v4/pckcrl?ca={authority}&encoding=der"
    keep = _with_chain("sgx-pck-crl-issuer-chain")
    return Item(f"intel{path}", "intel-pcs", path, MAX_LIST_BYTES, _DAY, keep=keep)


def intel_root_crl() -> Item:
    """Intel's revocation list of its root."""
    path = "/IntelSGXRootCA.der"
    return Item(f"intel{path}", "intel-certificates", path, MAX_LIST_BYTES, _DAY)


def rim(name: str) -> Item:
    """NVIDIA's golden values of one driver or VBIOS.

    Raises:
        Malformed: ``collateral-name`` for a name that is none.
    """
    if _RIM_NAME.fullmatch(name) is None:
        raise Malformed("collateral-name", "not the name of golden values")
    path = f"/v1/rim/{name}"
    return Item(f"nvidia{path}", "nvidia-rim", path, 2 * MAX_RIM_BYTES, _DAY, keep=_rim_document)


def ocsp_answer(certificate: x509.Certificate, issuer: x509.Certificate) -> Item:
    """NVIDIA's word on whether a certificate was revoked (RFC 6960), asked by SHA-384 as it wants."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA384())
    request = builder.build().public_bytes(Encoding.DER)
    key = f"nvidia/ocsp/{hashlib.sha256(request).hexdigest()}"
    kind = "application/ocsp-request"
    return Item(key, "nvidia-ocsp", "/", MAX_OCSP_BYTES, _HOUR, body=request, content_type=kind)


def nras_keys() -> Item:
    """The key set of NVIDIA's attestation service."""
    path = "/.well-known/jwks.json"
    return Item(f"nras{path}", "nras", path, MAX_JWKS_BYTES, _HOUR)


def maa_keys(issuer: str) -> Item:
    """The key set of an instance of Azure Attestation, from the instance's own address.

    Raises:
        Malformed: ``collateral-name`` for an address that is none.
    """
    host = _MAA_HOST.fullmatch(issuer)
    if host is None:
        raise Malformed("collateral-name", "not the address of an attestation service")
    return Item(f"maa/{host[1]}/certs", "maa", f"//{host[1]}/certs", MAX_JWKS_BYTES, _HOUR)


def parted(kept: bytes) -> tuple[bytes, str]:
    """Body and issuer chain of what Intel's service answered.

    Raises:
        Malformed: ``collateral-*`` for a cache entry of another form.
    """
    value = strict_json.loads(kept, name="collateral", max_bytes=4 * MAX_DOCUMENT_BYTES)
    members = strict_json.members_exactly(value, frozenset({"body", "issuer_chain"}), name="collateral")
    body = strict_json.b64decode(members["body"], name="collateral", max_bytes=MAX_DOCUMENT_BYTES)
    if not isinstance(members["issuer_chain"], str):
        raise Malformed("collateral-members", "issuer_chain is no text")
    return body, members["issuer_chain"]


def _with_chain(header: str) -> Callable[[Headers, bytes], bytes]:
    def keep(headers: Headers, body: bytes) -> bytes:
        chain = headers.get(header)
        if chain is None or len(chain) > MAX_DOCUMENT_BYTES:
            raise Malformed("collateral-answer", f"no {header} came along", clause="Intel PCS API v4")
        return strict_json.canonical({"body": strict_json.b64encode(body), "issuer_chain": unquote(chain)})

    return keep


def _rim_document(_headers: Headers, body: bytes) -> bytes:
    """The document in the service's JSON answer, which says the digest of it too."""
    value = strict_json.loads(body, name="collateral", max_bytes=2 * MAX_RIM_BYTES)
    if not isinstance(value, dict):
        raise Malformed("collateral-answer", "not an object", clause="NVIDIA RIM service")
    try:
        document = base64.b64decode(value.get("rim", ""), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Malformed("collateral-answer", "rim is not base64", clause="NVIDIA RIM service") from error
    said = value.get("sha256")
    if not document or (said is not None and said != hashlib.sha256(document).hexdigest()):
        raise Malformed("collateral-answer", "rim is not the one of its sha256", clause="NVIDIA RIM service")
    return document
