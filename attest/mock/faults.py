"""Named lies. Each differs from the honest world in one thing, and names the code that must refuse it.

Bundle faults lie in the evidence and are made here, from a ``MockWorld`` (``attest.mock.lies``). Channel
faults lie afterwards, inside a channel that was honestly attested, which only a runtime can do: they are
registered here by name and acted out by the development server. Either kind is met by tests, by
``sealgate demo`` and by ``sealgate runtime --dev --fault NAME``.
"""

from __future__ import annotations

from typing import Final

from attest.mock.lies import about_azure, about_devices, about_snp, about_tdx, about_the_statement
from attest.mock.lies.catalogue import Fault, Lie
from attest.mock.world import MockWorld

_CATALOGUES: Final = (
    about_the_statement.lie,
    about_snp.lie,
    about_tdx.lie,
    about_azure.lie,
    about_devices.lie,
)

# What a channel fault does, once the channel stands
_CHANNEL_FAULTS: Final = (
    Fault(
        "replayed-answer",
        "an earlier answer is sent again, sealed as it was then",
        "P7",
        "hpke-open-failed",
        level="channel",
    ),
    Fault(
        "truncated-stream",
        "the answer stops before its last chunk",
        "P7",
        "ohttp-truncated",
        level="channel",
    ),
)

FAULTS: Final[dict[str, Fault]] = {
    **{name: fault for catalogue in _CATALOGUES for name, fault in catalogue.faults.items()},
    **{fault.name: fault for fault in _CHANNEL_FAULTS},
}
"""Every fault by name."""

_LIES: Final[dict[str, Lie]] = {name: lie for each in _CATALOGUES for name, lie in each.lies.items()}


def apply_bundle_fault(name: str, world: MockWorld, nonce: str) -> bytes:
    """The lying answer to ``nonce``.

    Args:
        name: a fault of level ``bundle`` that fits the world's machine.
        world: the honest world.
        nonce: the client's, 64 hex digits.

    Raises:
        KeyError: no bundle fault has this name.
        TypeError: the world's machine cannot tell this lie.
    """
    lie = _LIES[name]
    if not FAULTS[name].fits(world):
        raise TypeError(f"{name} needs another machine: {FAULTS[name].needs}")
    return lie(world, nonce)


__all__ = ["FAULTS", "Fault", "apply_bundle_fault"]
