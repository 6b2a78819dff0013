"""What ends a process whose engine or embedder computes something else than the model says."""

from __future__ import annotations

from typing import Final

CODE: Final = "engine-self-check-failed"


class SelfCheckFailed(Exception):
    """The engine, or the embedder beside it, must not serve.

    Args:
        what: which part of the check.
        error: the deviation found; may be NaN.
        allowed: the largest that passes.
        code: whose check it is.
    """

    def __init__(self, what: str, error: float, allowed: float, *, code: str = CODE) -> None:
        self.what = what
        super().__init__(f"{code}: {what} is off by {error:.2g}, {allowed:.2g} is allowed")
