"""Where the runtime keeps its files."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """``$SEALGATE_HOME``, by default ``~/.local/share/sealgate``. It need not exist yet."""
    configured = os.environ.get("SEALGATE_HOME")
    return Path(configured) if configured else Path.home() / ".local" / "share" / "sealgate"
