"""Which second verdicts must agree with ours: the table ``[quorum]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast

from attest import strict_toml
from attest.accepted.forms import CLAUSE, one_of, optional, require_some
from attest.refusal import Malformed

Service = Literal["nras", "maa"]

_SERVICE: Final = one_of(Service)
_ISSUER: Final = re.compile(r"https://[a-z0-9.-]{1,200}(:[0-9]{1,5})?", re.ASCII)
_POLICY_HASH: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumReference:
    """Which independently written verdicts must agree with ours.

    Args:
        services: ``nras`` (NVIDIA's, on the GPUs), ``maa`` (Microsoft's, on the CPU), or both.
        maa_issuer: exact address of the instance of Azure Attestation; given exactly with ``maa``.
        maa_policy_hashes: accepted ``x-ms-policy-hash`` values; given exactly with ``maa``.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    services: frozenset[Service]
    maa_issuer: str | None = None
    maa_policy_hashes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        require_some(self, "services")
        wanted = "maa" in self.services
        if (self.maa_issuer is not None) != wanted or bool(self.maa_policy_hashes) != wanted:
            raise Malformed("reference-value", "quorum.maa_* belong to maa, and only there", clause=CLAUSE)

    @classmethod
    def read(cls, table: strict_toml.Table) -> Self:
        """Read the table ``[quorum]``.

        Raises:
            Malformed: ``reference-*``.
        """
        reference = cls(
            services=cast("frozenset[Service]", table.texts("services", _SERVICE)),
            maa_issuer=table.text("maa_issuer", _ISSUER) if "maa_issuer" in table else None,
            maa_policy_hashes=table.optional_texts("maa_policy_hashes", _POLICY_HASH),
        )
        table.end()
        return reference

    def values(self) -> dict[str, Any]:
        """The table's values; what is absent in the file is absent here."""
        return {
            "services": sorted(self.services),
            **({} if self.maa_issuer is None else {"maa_issuer": self.maa_issuer}),
            **optional("maa_policy_hashes", self.maa_policy_hashes),
        }
