"""What can be looked up to judge evidence, and exactly how each service is asked for it.

An ``Item`` is a pure description: which service, which request, how its answer becomes the bytes that are
kept, and for how long they count as fresh. Nothing here touches the network (``attest.collateral.fetch``
does), and nothing that comes back is trusted: verifiers judge it like any other evidence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from attest import strict_json
from attest.collateral import answers
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
        pccs_path: of the request, where a PCCS stands in for the service.
        keep: from the answer's headers (names in lower case) and body to the bytes that are kept.
    """

    key: str
    service: Service
    path: str
    max_bytes: int
    fresh_for: timedelta
    body: bytes | None = None
    content_type: str | None = None
    pccs_path: str | None = None
    keep: answers.Keep = field(default=answers.as_is, compare=False)


def vcek(product: Product, chip_id: bytes, tcb: TcbVersion) -> Item:
    """The certificate of one chip at one firmware version (AMD 57230, "VCEK certificate request")."""
    hwid = chip_id[:_TURIN_HWID_BYTES] if product == "Turin" else chip_id
    levels = {"fmcSPL": tcb.fmc} if product == "Turin" else {}
    levels |= {"blSPL": tcb.boot_loader, "teeSPL": tcb.tee, "snpSPL": tcb.snp, "ucodeSPL": tcb.microcode}
    query = "&".join(f"{name}={level:02d}" for name, level in levels.items())
    path = f"/vcek/v1/{product}/{hwid.hex()}?{query}"
    keep = answers.chip_certificate(product, hwid, tcb)
    return Item(f"amd{path}", "amd-kds", path, MAX_CERTIFICATE_BYTES, 30 * _DAY, keep=keep)


def amd_crl(product: Product, kind: LeafKind) -> Item:
    """AMD's revocation list of one product line and kind of leaf."""
    path = f"/{kind}/v1/{product}/crl"
    return Item(f"amd{path}", "amd-kds", path, MAX_CRL_BYTES, _DAY, keep=answers.revocation_list)


def tcb_info(fmspc: bytes) -> Item:
    """Intel's TCB info of one family of platforms, with its issuer chain (PCS API v4)."""
    family = fmspc.hex().upper()
    path = f"/tdx/certification/v4/tcb?fmspc={family}"
    keep = answers.intels_document("tcb-info-issuer-chain", "tcbInfo", about=f'"fmspc":"{family}"')
    return Item(f"intel{path}", "intel-pcs", path, MAX_DOCUMENT_BYTES, _DAY, keep=keep)


def qe_identity() -> Item:
    """Intel's identity of the TD quoting enclave, with its issuer chain."""
    path = "/tdx/certification/v4/qe/identity"
    keep = answers.intels_document("sgx-enclave-identity-issuer-chain", "enclaveIdentity")
    return Item(f"intel{path}", "intel-pcs", path, MAX_DOCUMENT_BYTES, _DAY, keep=keep)


def pck_crl(authority: Literal["platform", "processor"]) -> Item:
    """Intel's revocation list of one PCK authority, with its issuer chain."""
    path = f"/sgx/certification/v4/pckcrl?ca={authority}&encoding=der"
    keep = answers.intels_list("sgx-pck-crl-issuer-chain")
    return Item(f"intel{path}", "intel-pcs", path, MAX_LIST_BYTES, _DAY, keep=keep)


def intel_root_crl() -> Item:
    """Intel's revocation list of its root."""
    path = "/IntelSGXRootCA.der"
    return Item(
        f"intel{path}",
        "intel-certificates",
        path,
        2 * MAX_LIST_BYTES,
        _DAY,
        pccs_path="/sgx/certification/v4/rootcacrl",
        keep=answers.revocation_list_or_hex,
    )


def rim(name: str) -> Item:
    """NVIDIA's golden values of one driver or VBIOS.

    Raises:
        Malformed: ``collateral-name`` for a name that is none.
    """
    if _RIM_NAME.fullmatch(name) is None:
        raise Malformed("collateral-name", "not the name of golden values")
    path = f"/v1/rim/{name}"
    return Item(f"nvidia{path}", "nvidia-rim", path, 2 * MAX_RIM_BYTES, _DAY, keep=answers.golden_values)


def ocsp_answer(certificate: x509.Certificate, issuer: x509.Certificate) -> Item:
    """NVIDIA's word on whether a certificate was revoked (RFC 6960), asked by SHA-384 as it wants.

    Raises:
        Malformed: ``collateral-name`` for a certificate that cannot be asked about.
    """
    try:
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA384())
        request = builder.build().public_bytes(Encoding.DER)
    except ValueError as error:
        raise Malformed("collateral-name", "a certificate that cannot be asked about") from error
    return Item(
        f"nvidia/ocsp/{hashlib.sha256(request).hexdigest()}",
        "nvidia-ocsp",
        "/",
        MAX_OCSP_BYTES,
        _HOUR,
        body=request,
        content_type="application/ocsp-request",
        keep=answers.word_on(certificate.serial_number),
    )


def nras_keys() -> Item:
    """The key set of NVIDIA's attestation service."""
    path = "/.well-known/jwks.json"
    return Item(f"nras{path}", "nras", path, MAX_JWKS_BYTES, _HOUR, keep=answers.key_set)


def maa_keys(issuer: str) -> Item:
    """The key set of an instance of Azure Attestation, from the instance's own address.

    Raises:
        Malformed: ``collateral-name`` for an address that is none.
    """
    host = _MAA_HOST.fullmatch(issuer)
    if host is None:
        raise Malformed("collateral-name", "not the address of an attestation service")
    return Item(
        f"maa/{host[1]}/certs", "maa", f"//{host[1]}/certs", MAX_JWKS_BYTES, _HOUR, keep=answers.key_set
    )


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
