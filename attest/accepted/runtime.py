"""What the statement must say: the table ``[runtime]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self, cast

from attest import strict_toml
from attest.accepted.forms import CLAUSE, DIGEST, TEXT, one_of, optional, require_some
from attest.refusal import Malformed
from attest.statement import Role

_ROLE: Final = one_of(Role)


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
        self_checks: accepted checks of the engine; empty asks for none.
        embedding_model_digests: accepted embedding models; a runtime may have none of them, and no other.

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
    self_checks: frozenset[str] = frozenset()
    embedding_model_digests: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        require_some(self, "roles", "regions", "images")
        require_some(self, "policy_digests", "base_model_digests", "tokenizer_digests")
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
            regions=table.texts("regions", TEXT),
            images=table.texts("images", TEXT),
            policy_digests=table.texts("policy_digests", DIGEST),
            base_model_digests=table.texts("base_model_digests", DIGEST),
            tokenizer_digests=table.texts("tokenizer_digests", DIGEST),
            contract_digests=table.optional_texts("contract_digests", DIGEST),
            self_checks=table.optional_texts("self_checks", DIGEST),
            embedding_model_digests=table.optional_texts("embedding_model_digests", DIGEST),
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
            **optional("contract_digests", self.contract_digests),
            **optional("self_checks", self.self_checks),
            **optional("embedding_model_digests", self.embedding_model_digests),
        }
