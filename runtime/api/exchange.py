"""What the sealed side and the inner API tell each other about one request.

It travels in the ASGI scope: who asks goes in, what was counted comes out. The inner API answers nobody
without it, so mounting that app somewhere else by mistake opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCOPE_KEY: Final = "sealgate.exchange"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request inside; no content.

    Args:
        tenant: thumbprint of the key that asks.
        label_id: of the data in the request.
        receipt_id: announced in the answer's head.
        model: name of the model that answers, once one does.
        base_model_digest: of that model's weights; None for those that generate text.
        backend: what runs it; None for the engine that generates text.
        adapter_digest: of the adapter that it answers with; errors are answered without one.
        prompt_tokens: counted in.
        completion_tokens: counted out, over all choices.
        finish_reason: ``length`` if any choice ended so, else ``stop``; None until one ended.
    """

    tenant: str
    label_id: str
    receipt_id: str
    model: str | None = None
    base_model_digest: str | None = None
    backend: str | None = None
    adapter_digest: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None

    def runs(self, model: str, base_model_digest: str, backend: str) -> None:
        """Another model than the one that generates text answers."""
        self.model, self.base_model_digest, self.backend = model, base_model_digest, backend

    def finished(self, reason: str) -> None:
        """One choice ended."""
        if self.finish_reason != "length":
            self.finish_reason = reason
