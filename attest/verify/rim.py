"""Are these golden values NVIDIA's? (TCG RIM information model; W3C XMLDSig in one form)

``verify_rim`` proves chain and signature and reads the values from the bytes that were digested. The proof
is kept per process, since it is a pure function of the bytes: eight GPUs on one driver verify its RIM once.
Dates and revocation are judged at every use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.rim import Rim, parse_xml
from attest.verify.nvidia_chain import NvidiaChain, verify_chain
from attest.verify.xml_signature import EnvelopedSignature


@dataclass(frozen=True, slots=True)
class VerifiedRim:
    """Golden values with a proved signer. Made by ``verify_rim`` only.

    Args:
        rim: the values.
        chain: who signed them; its dates are the caller's to judge.
    """

    rim: Rim
    chain: NvidiaChain


# Successes only are kept. Bounded: a fleet runs few drivers, and a manifest may have 128 kB.
@lru_cache(maxsize=32)
def verify_rim(document: bytes, roots: NvidiaRoots) -> VerifiedRim:
    """Require that a root named in ``roots`` stands behind a manifest.

    Raises:
        Malformed: ``rim-*``, ``certificate-malformed``.
        Unsupported: ``rim-signature-algorithm``, ``rim-size``.
        Refused: ``rim-root-not-trusted``, ``rim-digest``, ``rim-signature``, ``certificate-*``.
    """
    signature = EnvelopedSignature.read(parse_xml(document))
    chain = verify_chain(signature.certificates, roots, "rim")
    return VerifiedRim(Rim.read(signature.verified_tree(chain.signer)), chain)
