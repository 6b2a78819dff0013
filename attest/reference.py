"""What we accept: the reference values, as the operator wrote them down.

There is no default that accepts. Every list names what is allowed, an empty list is an error rather than a
wildcard, and the file has an end (``not_after``) so that forgotten values stop being used. Some rules have
no switch at all: a debug guest and a migration agent are always refused (``attest.appraise``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from attest import digest, strict_json, strict_toml
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Malformed
from attest.statement import Role
from attest.trust import SHA256_HEX

FORMAT = "sealgate-reference-v1"
MAX_REFERENCE_BYTES = 1024 * 1024
MAX_EVIDENCE_AGE = timedelta(days=1)
"""Upper bound of the configurable age: a verdict older than a day says little about the machine now."""

CLAUSE = "docs/reference/reference-values.md"

Vendor = Literal["amd", "mock"]
SigningKey = Literal["vcek", "vlek"]

_MAX_SVN = 0xFFFFFFFF
_MAX_GPUS = 64
_MAX_VMPL = 3
_FORMAT = re.compile(re.escape(FORMAT), re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,127}", re.ASCII)
_MEASUREMENT = re.compile(r"[0-9a-f]{96}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,255}", re.ASCII)


def _one_of(literal: Any) -> re.Pattern[str]:
    return re.compile("|".join(get_args(literal)), re.ASCII)


_VENDOR, _PRODUCT, _SIGNING_KEY, _ROLE = (_one_of(kind) for kind in (Vendor, Product, SigningKey, Role))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReference:
    """What SEV-SNP evidence must say.

    Args:
        products: accepted product lines.
        signing_keys: ``vcek`` (this chip's key), ``vlek`` (a cloud provider's key), or both.
        csp_ids: cloud providers whose VLEK (a key for all of a provider's chips) is accepted, as the leaf
            names them, e.g. ``CN=cc-us-east-2.amazonaws.com``; empty exactly if ``vlek`` is not accepted.
        vmpls: accepted privilege levels, 0 to 3.
        measurements: accepted launch digests, 96 hex digits each.
        require_revocation_list: refuse evidence that came without a current revocation list.
        min_guest_svn: least security version of the guest image.
        min_tcb: least firmware versions, component by component, of every accepted product.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    products: frozenset[Product]
    signing_keys: frozenset[SigningKey]
    csp_ids: frozenset[str] = frozenset()
    vmpls: frozenset[int]
    measurements: frozenset[str]
    require_revocation_list: bool = True
    min_guest_svn: int = 0
    min_tcb: Mapping[Product, TcbVersion] = field(hash=False)

    def __post_init__(self) -> None:
        _require_some(self, "products", "signing_keys", "vmpls", "measurements")
        if set(self.min_tcb) != self.products:
            raise Malformed(
                "reference-value", "snp.min_tcb does not name exactly snp.products", clause=CLAUSE
            )
        if bool(self.csp_ids) != ("vlek" in self.signing_keys):
            raise Malformed("reference-value", "snp.csp_ids belongs to vlek, and only there", clause=CLAUSE)

    @classmethod
    def read(cls, table: strict_toml.Table) -> Self:
        """Read the table ``[snp]``.

        Raises:
            Malformed: ``reference-*``.
        """
        products = cast("frozenset[Product]", table.texts("products", _PRODUCT))
        floors = table.table("min_tcb")
        reference = cls(
            products=products,
            signing_keys=cast("frozenset[SigningKey]", table.texts("signing_keys", _SIGNING_KEY)),
            csp_ids=table.texts("csp_ids", _TEXT) if "csp_ids" in table else frozenset(),
            vmpls=table.integers("vmpls", low=0, high=_MAX_VMPL),
            measurements=table.texts("measurements", _MEASUREMENT),
            require_revocation_list=table.boolean("require_revocation_list"),
            min_guest_svn=table.integer("min_guest_svn", low=0, high=_MAX_SVN),
            min_tcb={product: _read_tcb(floors.table(product), product) for product in products},
        )
        floors.end()
        table.end()
        return reference

    def values(self) -> dict[str, Any]:
        """The table's values; what is absent in the file is absent here."""
        return {
            "products": sorted(self.products),
            "signing_keys": sorted(self.signing_keys),
            **_optional("csp_ids", self.csp_ids),
            "vmpls": sorted(self.vmpls),
            "measurements": sorted(self.measurements),
            "require_revocation_list": self.require_revocation_list,
            "min_guest_svn": self.min_guest_svn,
            "min_tcb": {
                product: {name: getattr(self.min_tcb[product], name) for name in _tcb_components(product)}
                for product in sorted(self.products)
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeReference:
    """What the statement must say.

    Args:
        roles: ``serve``, ``tune``.
        regions: accepted regions.
        images: accepted runtime images.
        policy_digests: accepted policy bundles.
        base_model_digests: accepted model weights.
        tokenizer_digests: accepted tokenizers.
        contract_digests: accepted contracts; empty exactly if ``tune`` is not accepted.
        gpus: exact number of GPUs.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    roles: frozenset[Role]
    regions: frozenset[str]
    images: frozenset[str]
    policy_digests: frozenset[str]
    base_model_digests: frozenset[str]
    tokenizer_digests: frozenset[str]
    contract_digests: frozenset[str] = frozenset()
    gpus: int = 0

    def __post_init__(self) -> None:
        _require_some(self, "roles", "regions", "images")
        _require_some(self, "policy_digests", "base_model_digests", "tokenizer_digests")
        if bool(self.contract_digests) != ("tune" in self.roles):
            raise Malformed("reference-value", "runtime.contract_digests belongs to tune", clause=CLAUSE)

    @classmethod
    def read(cls, table: strict_toml.Table) -> Self:
        """Read the table ``[runtime]``.

        Raises:
            Malformed: ``reference-*``.
        """
        reference = cls(
            roles=cast("frozenset[Role]", table.texts("roles", _ROLE)),
            regions=table.texts("regions", _TEXT),
            images=table.texts("images", _TEXT),
            policy_digests=table.texts("policy_digests", _DIGEST),
            base_model_digests=table.texts("base_model_digests", _DIGEST),
            tokenizer_digests=table.texts("tokenizer_digests", _DIGEST),
            contract_digests=(
                table.texts("contract_digests", _DIGEST) if "contract_digests" in table else frozenset()
            ),
            gpus=table.integer("gpus", low=0, high=_MAX_GPUS),
        )
        table.end()
        return reference

    def values(self) -> dict[str, Any]:
        """The table's values; what is absent in the file is absent here."""
        return {
            "roles": sorted(self.roles),
            "regions": sorted(self.regions),
            "images": sorted(self.images),
            "policy_digests": sorted(self.policy_digests),
            "base_model_digests": sorted(self.base_model_digests),
            "tokenizer_digests": sorted(self.tokenizer_digests),
            **_optional("contract_digests", self.contract_digests),
            "gpus": self.gpus,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """One appraisal policy.

    Args:
        name: for people.
        not_after: when these values end, aware.
        max_evidence_age: how long after verification a verdict may be used; whole seconds, at most
            ``MAX_EVIDENCE_AGE``.
        vendors: who may have signed the CPU evidence.
        mock_ark_sha256: the mock vendor's root, exactly if ``mock`` is among the vendors (P8).
        snp: SEV-SNP values.
        runtime: statement values.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    name: str
    not_after: datetime
    max_evidence_age: timedelta
    vendors: frozenset[Vendor]
    mock_ark_sha256: str | None = None
    snp: SnpReference
    runtime: RuntimeReference

    def __post_init__(self) -> None:
        _require_some(self, "vendors")
        if (self.mock_ark_sha256 is not None) != ("mock" in self.vendors):
            raise Malformed("reference-value", "vendors and mock.ark_sha256 disagree", clause=CLAUSE)
        if self.not_after.tzinfo is None:
            raise Malformed("reference-value", "not_after has no offset", clause=CLAUSE)
        if not timedelta(seconds=1) <= self.max_evidence_age <= MAX_EVIDENCE_AGE:
            raise Malformed("reference-value", "max_evidence_age", clause=CLAUSE)

    @property
    def digest(self) -> str:
        """``sha256:`` of the values in canonical JSON: the appraisal policy's name. Comments do not count."""
        values = self.values()
        values["not_after"] = values["not_after"].isoformat()
        return digest.sha256_digest(strict_json.canonical(values))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a reference file.

        Raises:
            Malformed: ``reference-*``.
        """
        top = strict_toml.Table.parse(data, name="reference", max_bytes=MAX_REFERENCE_BYTES)
        top.text("format", _FORMAT)
        mock = top.table("mock") if "mock" in top else None
        age = top.integer("max_evidence_age_seconds", low=1, high=int(MAX_EVIDENCE_AGE.total_seconds()))
        reference = cls(
            name=top.text("name", _NAME),
            not_after=top.moment("not_after"),
            max_evidence_age=timedelta(seconds=age),
            vendors=cast("frozenset[Vendor]", top.texts("vendors", _VENDOR)),
            mock_ark_sha256=None if mock is None else mock.text("ark_sha256", SHA256_HEX),
            snp=SnpReference.read(top.table("snp")),
            runtime=RuntimeReference.read(top.table("runtime")),
        )
        if mock is not None:
            mock.end()
        top.end()
        return reference

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a reference file from disk; ``OSError`` passes through.

        Raises:
            Malformed: ``reference-*``.
        """
        return cls.parse(path.read_bytes())

    def values(self) -> dict[str, Any]:
        """The file's values; what is absent in the file is absent here."""
        return {
            "format": FORMAT,
            "name": self.name,
            "not_after": self.not_after.astimezone(UTC),
            "max_evidence_age_seconds": int(self.max_evidence_age.total_seconds()),
            "vendors": sorted(self.vendors),
            **({} if self.mock_ark_sha256 is None else {"mock": {"ark_sha256": self.mock_ark_sha256}}),
            "snp": self.snp.values(),
            "runtime": self.runtime.values(),
        }

    def toml(self) -> str:
        """The reference file that says this."""
        return strict_toml.dump(self.values())


def _tcb_components(product: Product) -> tuple[str, ...]:
    """The components that a product has, in the order of AMD's table; only Turin has FMC."""
    common = ("boot_loader", "tee", "snp", "microcode")
    return ("fmc", *common) if product == "Turin" else common


def _read_tcb(table: strict_toml.Table, product: Product) -> TcbVersion:
    """Every component by name: a floor that is left out would be a floor of zero."""
    tcb = TcbVersion(**{name: table.integer(name, low=0, high=255) for name in _tcb_components(product)})
    table.end()
    return tcb


def _optional(key: str, values: frozenset[str]) -> dict[str, list[str]]:
    return {key: sorted(values)} if values else {}


def _require_some(reference: object, *names: str) -> None:
    """An empty list would accept nothing today and be "fixed" into a wildcard tomorrow."""
    for name in names:
        if not getattr(reference, name):
            raise Malformed("reference-empty", name, clause=CLAUSE)
