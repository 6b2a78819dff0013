"""The genuine tokens under shared/vectors: what each file is and what must come of it.

Outcome and times are those of shared/vectors/SOURCES.md. Where no key set is stored, the token is held
against another one of the same service, and its claims are read without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

JOINT = "joint/tdx-h100-2026-06-29"
NRAS = "nvidia/nras"
JOINT_KEYS = f"{JOINT}/nras_jwks.json"
FALSE_KEYS = f"{NRAS}/v3-overall-false-8gpu.jwks.json"
MAA_KEYS = "maa/sharedwus-2022.jwks.json"


@dataclass(frozen=True)
class TokenCase:
    """One (file, key set, moment, nonce).

    Args:
        file: under vectors/.
        keys: key set under vectors/.
        now: time of verification.
        nonce: what it must answer: hex for NVIDIA's, text for Azure's.
        code: the refusal, empty for a case that verifies.
    """

    file: str
    keys: str
    now: datetime
    nonce: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}@{self.now:%Y-%m-%dT%H:%M:%S}-{self.code or 'verifies'}"


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]  # parts of a time


JOINT_NONCE = "080c405ce6789e1761445180029523df3ae49576043f7f0868413a38e5e9a84e"
FALSE_NONCE = "cda7576dbb7d1ea2852e4a70502723f8d1678fb1ecdb69d6b3224620ac368379"
HOPPER_NONCE = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
_ANSWER = f"{JOINT}/nras_response.json"
_FALSE = f"{NRAS}/v3-overall-false-8gpu.json"

NRAS_CASES: tuple[TokenCase, ...] = (
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 29, 2, 8, 5), JOINT_NONCE),
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 29, 3, 8, 2), JOINT_NONCE),
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 29, 3, 8, 3), JOINT_NONCE, "nras-expired"),
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 29, 2, 7, 2), JOINT_NONCE, "nras-not-yet-valid"),
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 30, 17), JOINT_NONCE, "certificate-expired"),
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 27), JOINT_NONCE, "certificate-not-yet-valid"),
    TokenCase(_ANSWER, JOINT_KEYS, _at(2026, 6, 29, 2, 8, 5), FALSE_NONCE, "nras-nonce"),
    TokenCase(_ANSWER, FALSE_KEYS, _at(2026, 6, 29, 2, 8, 5), JOINT_NONCE, "jwks-key-unknown"),
    TokenCase(_FALSE, FALSE_KEYS, _at(2026, 5, 20, 2, 20), FALSE_NONCE, "nras-result"),
    TokenCase(_FALSE, FALSE_KEYS, _at(2026, 5, 20, 2, 20), JOINT_NONCE, "nras-nonce"),
    TokenCase(_FALSE, FALSE_KEYS, _at(2026, 5, 20, 3, 19), FALSE_NONCE, "nras-expired"),
    TokenCase(
        f"{NRAS}/v4-claims3.0-token.json",
        JOINT_KEYS,
        _at(2025, 6, 11, 0, 31),
        HOPPER_NONCE,
        "jwks-key-unknown",
    ),
    TokenCase(
        f"{NRAS}/v4-claims3.0-2gpu.json", JOINT_KEYS, _at(2025, 12, 15, 21, 40), "00" * 32, "jwks-key-unknown"
    ),
    TokenCase(
        f"{NRAS}/switch-detached-eat.json",
        JOINT_KEYS,
        _at(2025, 6, 29, 0, 0),
        HOPPER_NONCE,
        "jwks-key-unknown",
    ),
    TokenCase(f"{NRAS}/local-claims3.0-h100.json", JOINT_KEYS, _at(2026, 7, 16), "11" * 32, "nras-bundle"),
    TokenCase(f"{NRAS}/v4-claims3.0-decoded.json", JOINT_KEYS, _at(2025, 6, 11), HOPPER_NONCE, "nras-bundle"),
    TokenCase(f"{NRAS}/nras_gpu_x5c_chain.json", JOINT_KEYS, _at(2026, 6, 9), HOPPER_NONCE, "nras-bundle"),
)

MAA_ISSUER = "https://sharedwus.wus.attest.azure.net"
MAA_POLICY_HASH = "wm9mHlvTU82e8UqoOy1Yj1FBRSNkfe99-69IYDq9eWs"
_MAA_2022 = "maa/azurevm-snp-2022.jwt"
MAA_CASES: tuple[TokenCase, ...] = (
    TokenCase(_MAA_2022, MAA_KEYS, _at(2022, 9, 7, 21, 4, 47), "1234"),
    TokenCase(_MAA_2022, MAA_KEYS, _at(2022, 9, 8, 5, 4, 46), "1234"),
    TokenCase(_MAA_2022, MAA_KEYS, _at(2022, 9, 8, 5, 4, 47), "1234", "maa-expired"),
    TokenCase(_MAA_2022, MAA_KEYS, _at(2026, 6, 1), "1234", "maa-expired"),
    TokenCase(_MAA_2022, MAA_KEYS, _at(2022, 9, 7, 21, 3, 46), "1234", "maa-not-yet-valid"),
    TokenCase(_MAA_2022, MAA_KEYS, _at(2022, 9, 7, 22), "12345", "maa-nonce"),
    TokenCase("maa/sevsnpvm-toplevel-2025.jwt", MAA_KEYS, _at(2025, 4, 8, 5), "", "jwks-key-unknown"),
    TokenCase(
        "maa/azurevm-snp-protocol3-2025.jwt",
        MAA_KEYS,
        _at(2025, 12, 15, 20),
        "midnight-srs",
        "jwks-key-unknown",
    ),
    TokenCase("maa/sample-claims-2022.json", MAA_KEYS, _at(2022, 5, 19, 21), "", "maa-parts"),
)

# Answers in which every device's claims pass, most of them without a stored key set: moment and version.
NRAS_CLAIMS: tuple[tuple[str, datetime, str], ...] = (
    (f"{NRAS}/v4-claims3.0-token.json", _at(2025, 6, 11, 0, 31), "3.0"),
    (f"{NRAS}/v4-claims3.0-2gpu.json", _at(2025, 12, 15, 21, 40), "3.0"),
    (f"{NRAS}/switch-detached-eat.json", _at(2025, 6, 29), "3.0"),
    (_ANSWER, _at(2026, 6, 29, 2, 8, 5), "2.0"),
)
