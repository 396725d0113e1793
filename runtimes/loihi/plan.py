"""What the host has to know of a Lava bundle, read from its plan.json and checked before Lava is started."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tet_deploy.errors import ArtifactError

FORMAT = "tet_deploy lava bundle"
VERSION = 1
_LARGEST_PLAN = 2**26  # bytes


@dataclass(frozen=True)
class BundlePlan:
    """Shapes and names of a bundle.

    Attributes
    ----------
    input_shape, encoding
        What the frames must be; see `ir.nodes.Input`.
    populations
        Shape of each LIF population, in order.
    classes
        Values in the readout of one step.
    digest
        SHA-256 of the network that was exported.
    """

    input_shape: tuple[int, ...]
    encoding: str
    populations: Mapping[str, tuple[int, ...]]
    classes: int
    digest: str


def read_plan(bundle: Path) -> BundlePlan:
    """Read and check a bundle.

    Raises
    ------
    ArtifactError
        No bundle, one of another version, or one whose files were damaged.
    """
    content = _content(bundle)
    try:
        plan = BundlePlan(
            input_shape=_shape(content["input"]["shape"]),
            encoding=_text(content["input"]["encoding"]),
            populations=_populations(content["layers"]),
            classes=_shape(content["readout"]["shape"])[0],
            digest=_text(content["digest"]),
        )
        arrays_digest = _text(content["arrays_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{bundle / 'plan.json'}: is damaged: {_said(error)}. Export the network again.") from error
    _check_files(bundle, arrays_digest)
    return plan


def _content(bundle: Path) -> dict[str, Any]:
    path = bundle / "plan.json"
    try:
        if path.stat().st_size > _LARGEST_PLAN:
            raise ArtifactError(f"{path}: is larger than {_LARGEST_PLAN} bytes, which no plan is. Export the network again.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{bundle}: is no Lava bundle: {path.name}: {error.strerror}. Export one: to='lava'.") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: is no JSON: {_said(error)}. Export the network again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{path}: does not say format {FORMAT!r}. Name a folder that was exported with to='lava'.")
    if content.get("version") != VERSION:
        raise ArtifactError(f"{path}: is of version {content.get('version')!r}; needs {VERSION}. Export the network again.")
    return content


def _check_files(bundle: Path, arrays_digest: str) -> None:
    for name in ("run.py", "network.py", "supervision.py", "loihi_models", "arrays.npz"):
        if not (bundle / name).exists():
            raise ArtifactError(f"{bundle}: lacks {name}. Export the network again.")
    sha = hashlib.sha256()
    with (bundle / "arrays.npz").open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            sha.update(block)
    if sha.hexdigest() != arrays_digest:
        raise ArtifactError(f"{bundle / 'arrays.npz'}: is not the file that was exported. Export the network again.")


def _populations(layers: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    *hidden, last = [layer["population"] for layer in layers]
    if last is not None:
        raise ValueError("the last layer must lead to the readout")
    return {_text(population["name"]): _shape(population["shape"]) for population in hidden}


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) not in (1, 3) or not all(type(size) is int and size > 0 for size in value):
        raise ValueError(f"a shape must be [N] or [C, H, W]; got {value!r:.60}")
    return tuple(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string; got {value!r:.60}")
    return value


def _said(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
