"""When a report was made, by which version, of a checkout by which commit, and of which network."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from tet_deploy._version import __version__
from tet_deploy.errors import cut
from tet_deploy.ir.graph import Graph

HEAD = ("made", "version", "network", "command")  # stand in the head of a report


def origin(command: str = "") -> dict[str, str]:
    """The date, the version and what was typed, for the head of a report."""
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {"made": made, "version": _version(), **({"command": command} if command else {})}


def provenance(graph: Graph, command: str = "") -> dict[str, str]:
    """The same and the network's digest; then what its metadata says to people, under names that are not among these."""
    known = origin(command) | {"network": graph.digest()}
    said = {cut(name): cut(value) for name, value in graph.metadata.items() if not value.startswith("{")}
    return known | {name: value for name, value in said.items() if name not in HEAD}


def _version() -> str:
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / ".git").exists() and (checkout / "pyproject.toml").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            commit = _git(checkout, "rev-parse", "--short", "HEAD")
            changed = ", with changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else ""
            return f"{__version__} at {commit}{changed}"
    return __version__


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=5).stdout.strip()
