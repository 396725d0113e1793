"""Write a Lava bundle: a folder that runs wherever lava-nc 0.10 does, without tet_deploy and without torch.

It holds arrays.npz (weights and biases in Lava's layout), plan.json (what to build of them, and what they were made from),
run.py (the command, with network.py and supervision.py), loihi_models/ (the Lava processes and their models) and README.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy._version import __version__
from tet_deploy.errors import ArtifactError
from tet_deploy.exporters.lava_plan import LavaPlan, lava_plan
from tet_deploy.ir.graph import Graph

FORMAT = "tet_deploy lava bundle"
VERSION = 1
LAVA_VERSION = "0.10.0"

_README = """# A spiking network for Lava

{layers} synapse layers, input {input_shape} ({encoding}), {classes} readout values a step. Needs CPython 3.10 with
`pip install lava-nc==0.10.0 numpy==1.26.4`, and nothing else:

    python run.py frames.npy recording.npz

`frames.npy` holds numbers [T, B, {frame_layout}]: T steps of B samples. `recording.npz` then holds `readout`
[T, B, {classes}] (sum it over T, the largest is the decision), and `spikes/<name>` and `potentials/<name>` for each
population. All samples stream through the network in one run. `--probes none` records the readout only; `--stock` uses
Lava's own process models, which give the same integers much slower; `--help` says the rest.

A bundle is a program: run only bundles whose origin you trust. It was written by tet_deploy {version} from the network with
SHA-256 {digest}. Its integers equal those of Lava's fixed-point simulator; no claim is made about silicon.
"""


def to_lava(graph: Graph, path: Path) -> Path:
    """Write a quantized, deployable network as a Lava bundle.

    Parameters
    ----------
    graph
        The network, from `td.quantize`.
    path
        Folder to write. An older bundle there is replaced; anything else is left alone.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    GraphError
        The network is not quantized, or something in it does not fit a Loihi core; the message names the node.
    ArtifactError
        Something else stands at `path`, or it cannot be written.

    Examples
    --------
    >>> to_lava(int8, Path("out/net.lava"))  # doctest: +SKIP
    """
    plan, path = lava_plan(graph), Path(path)
    if path.exists() and not _is_bundle(path):
        raise ArtifactError(f"{path}: exists and is no Lava bundle. Remove it or choose another folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            _fill(partial / "bundle", plan)
            if path.exists():
                path.rename(partial / "replaced")
            (partial / "bundle").rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}. Choose another folder.") from error
    return path


def _is_bundle(path: Path) -> bool:
    """Whether a bundle, of any version, or an empty folder stands there."""
    if path.is_dir() and not any(path.iterdir()):
        return True
    try:
        plan = json.loads((path / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(plan, dict) and plan.get("format") == FORMAT


def _fill(folder: Path, plan: LavaPlan) -> None:
    # Files of the package, not an import of the runtime: they are written to run inside a bundle only.
    with resources.as_file(resources.files("tet_deploy.runtimes.loihi").joinpath("bundle")) as code:
        shutil.copytree(code, folder, ignore=shutil.ignore_patterns("__pycache__"))
    np.savez(folder / "arrays.npz", **plan.arrays)  # type: ignore[arg-type]  # the stub takes the names for options
    content = {
        "format": FORMAT,
        "version": VERSION,
        "digest": plan.graph.digest(),
        "arrays_sha256": hashlib.sha256((folder / "arrays.npz").read_bytes()).hexdigest(),
        "versions": {"tet_deploy": __version__, "lava-nc": LAVA_VERSION, "numpy": np.__version__},
        "metadata": dict(plan.graph.metadata),
        "input": plan.input,
        "layers": plan.layers,
        "readout": plan.readout,
    }
    (folder / "plan.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(content), encoding="utf-8")


def _readme(content: dict[str, Any]) -> str:
    shape = content["input"]["shape"]
    return _README.format(
        layers=len(content["layers"]),
        input_shape=" x ".join(map(str, shape)),
        encoding=content["input"]["encoding"],
        classes=content["readout"]["shape"][0],
        frame_layout=", ".join(map(str, shape)),
        version=__version__,
        digest=content["digest"],
    )
