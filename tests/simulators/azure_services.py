"""Azure as an enclave sees it, on loopback: IMDS, Azure Attestation and Key Vault, each by its REST protocol.

The attestation service verifies the SEV-SNP evidence that it is shown under the mock vendor's root and
answers with a signed token. The vault challenges for a bearer token, as the client library expects, holds the
attestation token against the key's release policy, and wraps the key to the RSA key that the token names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attest import strict_json
from attest.checks import CheckList
from attest.collateral.snp import SnpCollateral, SnpRoots
from attest.evidence.hcl import TDREPORT_SIZE
from attest.evidence.maa_claims import TeeKind
from attest.evidence.pem import read_certificates
from attest.evidence.tdx import TdxQuote
from attest.keyrelease.release_policy import Number, ReleaseRule, Value, parse_policy
from attest.mock.maa import MockMaa
from attest.mock.vendor import MockVendor
from attest.verify.snp import VerifiedSnp, verify_snp

VAULT_HOST: Final = "unit.vault.test"
MAA_HOST: Final = "unit.attest.test"
DOMAIN: Final = "vault.test"
BEARER: Final = "an-identity-token"
_POLL_S: Final = 0.02


@dataclass
class Fault:
    """What one service does instead of its answer.

    Args:
        status: of the answer.
        body: of it.
        headers: of it; a ``content-length`` that is too large makes a truncated answer.
        delay_s: before it.
    """

    status: int = 500
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class AzureServices:
    """One attestation service and one vault with one key.

    Args:
        vendor: of the machines that the service attests.
        key: that the vault releases.
        policy: under which; canonical JSON.
        folder: for the certificates of TLS.
    """

    def __init__(self, vendor: MockVendor, key: bytes, policy: bytes, folder: Path) -> None:
        self.maa = MockMaa.create()
        self.key, self.policy = key, policy
        self.faults: dict[str, list[Fault]] = {"maa": [], "vault": [], "imds": []}
        self.changed: dict[str, Any] = {}
        self.wrap_for: rsa.RSAPublicKey | None = None
        self.signs = self.maa
        self.token_age = timedelta(0)
        self.replayed: bytes | None = None
        self.last: bytes = b""
        self.quote = b""
        self.answered: dict[str, str] = {}
        self.asked: list[str] = []
        self.port = 0
        self._vendor = vendor
        self._certificate, self.authority = _tls(folder)

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The answer to one request."""
        host, path = (handler.headers["host"] or "").split(":")[0], handler.path
        self.asked.append(f"{host}{path}")
        service = {VAULT_HOST: "vault", MAA_HOST: "maa"}.get(host, "imds")
        if self.faults[service] and (service != "vault" or "authorization" in handler.headers):
            fault = self.faults[service].pop(0)
            time.sleep(fault.delay_s)
            return fault.status, fault.headers, fault.body
        if service == "vault":
            return self._release(handler, body)
        if "/identity/" in path:
            return self._identity(handler)
        if handler.headers["accept-encoding"] != "identity":
            return 406, {}, b"an answer that unfolds has no bound"
        if service == "maa":
            return self._attest(path, json.loads(body))
        return self._metadata(handler, body)

    def _attest(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        data = _decoded(body["runtimeData"]["data"])
        tee: TeeKind
        if path.startswith("/attest/SevSnpVm?api-version="):
            tee, facts, signed = "sevsnpvm", *self._snp_facts(json.loads(_decoded(body["report"])))
        elif path.startswith("/attest/TdxVm?api-version="):
            tee, facts, signed = "tdxvm", *_tdx_facts(_decoded(body["quote"]))
        else:
            return 404, {}, b"{}"
        if signed != hashlib.sha256(data).digest().ljust(64, b"\x00"):
            return 400, {}, b'{"error":{"code":"InvalidParameter"}}'
        token = self.signs.token(
            data,
            now=datetime.now(UTC) - self.token_age,
            kind=tee,
            tee=tee,
            changed={"x-ms-runtime": json.loads(data)},
            changed_tee=facts | self.changed,
        )
        return 200, {}, json.dumps({"token": token.decode()}).encode()

    def _snp_facts(self, shown: dict[str, str]) -> tuple[dict[str, Any], bytes]:
        report = self._verified(_decoded(shown["SnpReport"]), _decoded(shown["VcekCertChain"])).report
        policy = report.policy
        facts = {
            "launchmeasurement": report.measurement.hex(),
            "hostdata": report.host_data.hex(),
            "idkeydigest": report.id_key_digest.hex(),
            "vmpl": report.vmpl,
            "is-debuggable": policy.debug_allowed,
            "migration-allowed": policy.migration_agent_allowed,
            "smt-allowed": policy.smt_allowed,
            "singlesocket": policy.single_socket_required,
            "cxl-allowed": policy.cxl_allowed,
            "mem-aes256-xts-required": policy.aes_256_xts_required,
            "page-swap-disabled": policy.page_swap_disabled,
        }
        return {f"x-ms-sevsnpvm-{name}": value for name, value in facts.items()}, report.report_data

    def _verified(self, report: bytes, chain: bytes) -> VerifiedSnp:
        leaf, intermediate, ark = read_certificates(chain)
        roots = SnpRoots(amd=False, mock_ark_sha256=self._vendor.ark_sha256)
        collateral = SnpCollateral(leaf, intermediate, ark)
        return verify_snp(report, collateral, roots, now=datetime.now(UTC), checks=CheckList())

    def _release(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if handler.headers.get("authorization") != f"Bearer {BEARER}":
            challenge = (
                f'Bearer authorization="https://login.test/tenant", resource="https://{DOMAIN}:{self.port}"'
            )
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        asked = json.loads(body)
        claims = self._believed(asked["target"])
        if claims is None or not any(_satisfies(claims, rule) for rule in parse_policy(self.policy)):
            return 403, {}, b'{"error":{"code":"Forbidden","message":"AKV.SKR.1001"}}'
        if self.replayed is not None:
            return 200, {}, self.replayed
        (named,) = (key for key in claims["x-ms-runtime"]["keys"] if "encrypt" in key["key_ops"])
        numbers = (int.from_bytes(_decoded(named[part])) for part in ("e", "n"))
        public = self.wrap_for or rsa.RSAPublicNumbers(*numbers).public_key()
        answer = {"nonce": asked["nonce"], "enc": asked["enc"]} | self.answered
        self.last = json.dumps({"value": self._wrapped(public, answer, handler.path)}).encode()
        return 200, {}, self.last

    def _believed(self, token: str) -> dict[str, Any] | None:
        """The claims, if the attestation service signed them and they hold now."""
        (entry,) = json.loads(self.maa.keys.jwks)["keys"]
        certificate = x509.load_der_x509_certificate(base64.b64decode(entry["x5c"][0]))
        try:
            claims: dict[str, Any] = jwt.decode(token, certificate.public_key(), algorithms=["RS256"])  # type: ignore[arg-type]  # RSA, made by the mock
        except jwt.PyJWTError:
            return None
        return claims

    def _wrapped(self, public: rsa.RSAPublicKey, request: dict[str, str], path: str) -> str:
        aes = os.urandom(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        ciphertext = public.encrypt(aes, oaep) + aes_key_wrap_with_padding(aes, self.key)
        hsm = {
            "schema_version": "1.0",
            "header": {"kid": "TpmEphemeralEncryptionKey", "alg": "dir", "enc": request["enc"]},
            "ciphertext": strict_json.b64url_encode(ciphertext),
        }
        kid = f"https://{VAULT_HOST}{path.split('/release', maxsplit=1)[0]}"
        key = {"kid": kid, "kty": "oct-HSM", "key_hsm": strict_json.b64url_encode(json.dumps(hsm).encode())}
        payload = {"request": request, "response": {"key": {"key": key}}}
        parts = ({"alg": "RS256"}, payload)
        head, claims = (strict_json.b64url_encode(json.dumps(part).encode()) for part in parts)
        return f"{head}.{claims}.c2lnbmF0dXJl"

    def _metadata(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if handler.headers["metadata"] != "true":
            return 400, {}, b'{"error":"no Metadata header"}'
        if handler.path == "/metadata/THIM/amd/certification":
            held = self._vendor.collateral()
            leaf, intermediate, ark = (
                x509.load_der_x509_certificate(der or b"").public_bytes(Encoding.PEM).decode()
                for der in (held.leaf, held.intermediate, held.ark)
            )
            facts = {"vcekCert": leaf, "tcbm": "00", "certificateChain": intermediate + ark}
            return 200, {}, json.dumps(facts).encode()
        if handler.path == "/acc/tdquote" and len(_decoded(json.loads(body)["report"])) == TDREPORT_SIZE:
            return 200, {}, json.dumps({"quote": strict_json.b64url_encode(self.quote)}).encode()
        return 404, {}, b"{}"

    def _identity(self, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if (
            not handler.path.startswith("/metadata/identity/oauth2/token")
            or handler.headers["metadata"] != "true"
        ):
            return 400, {}, b'{"error":"invalid_request"}'
        facts = {"access_token": BEARER, "expires_in": "3600", "resource": "r", "token_type": "Bearer"}
        facts["expires_on"] = str(int(time.time()) + 3600)
        return 200, {"content-type": "application/json"}, json.dumps(facts).encode()

    @contextmanager
    def running(self) -> Iterator[tuple[int, int]]:
        """Listen; the ports of TLS (attestation, vault) and of plain HTTP (IMDS)."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - the library's name; self is the services
                _send(handler, *self.respond(handler, b""))

            def do_POST(handler) -> None:  # noqa: N805
                length = int(handler.headers.get("content-length") or 0)
                _send(handler, *self.respond(handler, handler.rfile.read(length)))

            def log_message(handler, *_: object) -> None:  # noqa: N805
                return

        secure, plain = (ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threads = [
            threading.Thread(target=each.serve_forever, args=(_POLL_S,), daemon=True)
            for each in (secure, plain)
        ]
        for thread in threads:
            thread.start()
        self.port = secure.server_address[1]
        try:
            yield self.port, plain.server_address[1]
        finally:
            for server in (secure, plain):
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()


def _satisfies(claims: dict[str, Any], rule: ReleaseRule) -> bool:
    """As Key Vault judges: the issuer, and every claim by its path."""
    if claims["iss"] != rule.authority:
        return False
    for path, accepted in rule.claims.items():
        value: Any = claims.get(path)
        if value is None:
            value = claims
            for name in path.split("."):
                value = value.get(name) if isinstance(value, dict) else None
        if not any(_equals(value, one) for one in accepted):
            return False
    return True


def _equals(value: Any, accepted: Value) -> bool:
    """As JSON compares: a number is no truth value, and neither is a text."""
    wanted = accepted.value if isinstance(accepted, Number) else accepted
    return type(value) is type(wanted) and bool(value == wanted)


def _tdx_facts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """What the service says of a quote. Whether it is genuine is not looked at here."""
    report = TdxQuote.parse(data).report
    names = ("mrtd", "mrseam", "mrconfigid", "mrowner", "mrownerconfig")
    facts: dict[str, Any] = {f"tdx_{name}": getattr(report, name).hex() for name in names}
    facts |= {f"tdx_rtmr{index}": value.hex() for index, value in enumerate(report.rtmrs)}
    facts |= {"tdx_td_attributes_perfmon": bool(report.attributes.raw >> 63)}
    return facts, report.report_data


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response(status)
    usual = {"content-type": "application/json", "content-length": str(len(body))}
    for name, value in (usual | headers).items():
        handler.send_header(name, value)
    with suppress(OSError):  # whoever asked may have hung up
        handler.end_headers()
        handler.wfile.write(body)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _tls(folder: Path) -> tuple[Path, Path]:
    """A certificate with its key for both hosts, and the authority that signed it; PEM files."""
    now = datetime.now(UTC)

    def certificate(
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        by: ec.EllipticCurvePrivateKey,
        *extensions: Any,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=6))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(by, hashes.SHA256())

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    root = certificate(
        "test authority",
        root_key,
        root_name,
        root_key,
        x509.BasicConstraints(True, None),
        usage,
        x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()),
    )
    names = x509.SubjectAlternativeName([x509.DNSName(VAULT_HOST), x509.DNSName(MAA_HOST)])
    leaf = certificate(
        VAULT_HOST,
        key,
        root_name,
        root_key,
        names,
        x509.BasicConstraints(False, None),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
    )
    authority, chain = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + private)
    return chain, authority
