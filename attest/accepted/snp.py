"""What SEV-SNP evidence must say: the table ``[snp]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, cast

from attest import strict_toml
from attest.accepted.forms import CLAUSE, MEASUREMENT, TEXT, one_of, optional, require_some
from attest.evidence.snp_flags import PlatformBit, PolicyBit
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Malformed

SigningKey = Literal["vcek", "vlek"]

_MAX_SVN: Final = 0xFFFFFFFF
_MAX_VMPL: Final = 3
_HOST_DATA: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PRODUCT, _SIGNING_KEY, _POLICY_BIT, _PLATFORM_BIT = map(
    one_of, (Product, SigningKey, PolicyBit, PlatformBit)
)


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
        host_data: accepted HOST_DATA, 64 hex digits each (some clouds' container policy); empty asks nothing.
        id_key_digests: accepted ID_KEY_DIGESTs, 96 hex digits each; empty asks nothing.
        policy_set: names of guest policy bits that must be 1.
        policy_clear: names of guest policy bits that must be 0.
        platform_set: names of PLATFORM_INFO bits that must be 1.
        platform_clear: names of PLATFORM_INFO bits that must be 0.
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
    host_data: frozenset[str] = frozenset()
    id_key_digests: frozenset[str] = frozenset()
    policy_set: frozenset[PolicyBit] = frozenset()
    policy_clear: frozenset[PolicyBit] = frozenset()
    platform_set: frozenset[PlatformBit] = frozenset()
    platform_clear: frozenset[PlatformBit] = frozenset()
    require_revocation_list: bool = True
    min_guest_svn: int = 0
    min_tcb: Mapping[Product, TcbVersion] = field(hash=False)

    def __post_init__(self) -> None:
        require_some(self, "products", "signing_keys", "vmpls", "measurements")
        if set(self.min_tcb) != self.products:
            raise _wrong("snp.min_tcb does not name exactly snp.products")
        if bool(self.csp_ids) != ("vlek" in self.signing_keys):
            raise _wrong("snp.csp_ids belongs to vlek, and only there")
        if self.policy_set & self.policy_clear or self.platform_set & self.platform_clear:
            raise _wrong("a bit of snp is to be both set and clear")

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
            csp_ids=table.optional_texts("csp_ids", TEXT),
            vmpls=table.integers("vmpls", low=0, high=_MAX_VMPL),
            measurements=table.texts("measurements", MEASUREMENT),
            host_data=table.optional_texts("host_data", _HOST_DATA),
            id_key_digests=table.optional_texts("id_key_digests", MEASUREMENT),
            policy_set=cast("frozenset[PolicyBit]", table.optional_texts("policy_set", _POLICY_BIT)),
            policy_clear=cast("frozenset[PolicyBit]", table.optional_texts("policy_clear", _POLICY_BIT)),
            platform_set=cast("frozenset[PlatformBit]", table.optional_texts("platform_set", _PLATFORM_BIT)),
            platform_clear=cast(
                "frozenset[PlatformBit]", table.optional_texts("platform_clear", _PLATFORM_BIT)
            ),
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
            **optional("csp_ids", self.csp_ids),
            "vmpls": sorted(self.vmpls),
            "measurements": sorted(self.measurements),
            **optional("host_data", self.host_data),
            **optional("id_key_digests", self.id_key_digests),
            **optional("policy_set", frozenset(self.policy_set)),
            **optional("policy_clear", frozenset(self.policy_clear)),
            **optional("platform_set", frozenset(self.platform_set)),
            **optional("platform_clear", frozenset(self.platform_clear)),
            "require_revocation_list": self.require_revocation_list,
            "min_guest_svn": self.min_guest_svn,
            "min_tcb": {
                product: {name: getattr(self.min_tcb[product], name) for name in _tcb_components(product)}
                for product in sorted(self.products)
            },
        }


def _tcb_components(product: Product) -> tuple[str, ...]:
    """The components that a product has, in the order of AMD's table; only Turin has FMC."""
    common = ("boot_loader", "tee", "snp", "microcode")
    return ("fmc", *common) if product == "Turin" else common


def _read_tcb(table: strict_toml.Table, product: Product) -> TcbVersion:
    """Every component by name: a floor that is left out would be a floor of zero."""
    tcb = TcbVersion(**{name: table.integer(name, low=0, high=255) for name in _tcb_components(product)})
    table.end()
    return tcb


def _wrong(what: str) -> Malformed:
    return Malformed("reference-value", what, clause=CLAUSE)
