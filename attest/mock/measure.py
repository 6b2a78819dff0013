"""What the mock measures at launch: the sources that the enclave would run.

Hardware measures memory pages; the mock measures files. Either way a changed line changes the number, and
a verifier that knows the sources can compute it.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

MEASURED_PACKAGES: Final = ("attest", "policies", "runtime")
_SUFFIXES: Final = frozenset({".py", ".pem", ".cedar", ".cedarschema", ".json", ".toml"})


def measure_sources() -> bytes:
    """SHA-384 over the installed ``attest``, ``policies`` and ``runtime`` sources, 48 bytes.

    Raises:
        ModuleNotFoundError: one of the packages is not installed.
    """
    return measure_folders({package: _folder(package) for package in MEASURED_PACKAGES})


def measure_folders(folders: dict[str, Path]) -> bytes:
    """SHA-384 over the measured files of each folder, in the order of name and path.

    Each file enters as length-prefixed path and length-prefixed content, so that no two trees collide.
    """
    digest = hashlib.sha384(b"sealgate-mock-measurement-v1")
    for package, folder in sorted(folders.items()):
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                for part in (f"{package}/{path.relative_to(folder).as_posix()}".encode(), path.read_bytes()):
                    digest.update(len(part).to_bytes(8, "big"))
                    digest.update(part)
    return digest.digest()


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))
