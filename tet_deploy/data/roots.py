"""Where data sets lie."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(root: str | os.PathLike[str] | None) -> Path:
    """The folder asked for; else that of the environment's TET_DEPLOY_DATA; else `data` in the working folder."""
    return Path(root or os.environ.get("TET_DEPLOY_DATA") or "data").expanduser()
