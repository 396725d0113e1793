"""Write a Lava bundle: a folder that runs wherever lava-nc 0.10 does, without tet_deploy and without torch.

It holds arrays.npz (weights and biases in Lava's layout), plan.json (what to build of them, what they were made from, and
checksums of it all), run.py (the command, with network.py and supervision.py), loihi_engine/ (its arithmetic, in numpy),
loihi_models/ (the Lava processes and their models), loihi_checks/ (what is checked before anything is built) and README.md.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy._version import __version__
from tet_deploy.errors import ArgumentError, shown
from tet_deploy.exporters.bundle_folder import write_bundle
from tet_deploy.exporters.lava_host import host_part
from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.ir.graph import Graph
from tet_deploy.ranges import possible
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import ARRAYS, FORMAT, README, VECTORS, VERSION
from tet_deploy.runtimes.loihi.bundle.loihi_checks.network import LONGEST_PERIOD

LAVA_VERSION = "0.10.0"

_README = """# A spiking network for Lava

{synapses} synapse layers, input {input_shape} ({encoding}), {classes} readout values a step. Needs CPython 3.10 with
`pip install lava-nc==0.10.0 numpy==1.26.4`, and nothing else:

    python run.py frames.npy recording.npz
{check}
`frames.npy` holds numbers [T, B, {frame_layout}]: T steps of B samples. `recording.npz` then holds `readout`
[T, B, {classes}] (sum it over T, the largest is the decision), and `spikes/<name>` and `potentials/<name>` for each
population. All samples stream through the network in one run{silence}.{encoder} `--probes none` records the readout
only; `--stock` uses Lava's own process models, which give the same integers much slower; `--engine numpy` gives them
without Lava, in any CPython from 3.10 on with numpy alone; `--help` says the rest. Where messages
are clipped, sums wrap or potentials are held at the chip's limit, a line says so, and `ranges/<kind>/<name>` [T, B] hold
how many.

plan.json lists the bundle's files with their SHA-256 and has a checksum over itself: a bundle that was changed does not run.
Exporting again replaces these files, unless you changed them, and leaves whatever else you put here.

A bundle is a program: run only bundles whose origin you trust. It was written by tet_deploy {version} from the network with
SHA-256 {digest}. Its integers equal those of Lava's fixed-point simulator; no claim is made about silicon.
"""


_CHECK = """    python run.py --check

The second runs the inputs in vectors.npz and compares every spike, membrane potential and readout with what must come out:
the first value that differs is named, and the exit code is 1. With `--engine numpy` or `--stock` it checks these.
`--check recording.npz` compares what something else recorded of the same `frames`, a chip perhaps: an .npz of
`numpy.savez` with as many of `readout`, `spikes/<name>` and `potentials/<name>` as it can record, laid out as below.
"""


def to_lava(
    graph: Graph,
    path: Path,
    period: int | None = None,
    encoder: str | None = None,
    vectors: bytes | None = None,
) -> Path:
    """Write a quantized, deployable network as a Lava bundle.

    Parameters
    ----------
    graph
        The network, from `td.quantize`.
    path
        Folder to write. An older bundle there is replaced file by file; whatever else lies in it stays as it is.
    period
        Steps between resets, a power of two, as hardware wants it: each sample gets silent steps up to it, of which nothing
        is recorded. None: as many as a sample has frames.
    encoder
        "host": `run.py` computes the first layer in integers and sends its spikes, for a chip whose messages are one bit.
    vectors
        Content of its vectors.npz, see `tet_deploy.vectors`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ArgumentError
        A period that is no power of two, too long, or shorter than the vectors' samples; an encoder that there is not.
    GraphError
        The network is not quantized, or something in it does not fit a Loihi core; the message names the node.
    ArtifactError
        Something else stands at `path`, a file of the older bundle was changed since, or it cannot be written.

    Examples
    --------
    >>> to_lava(int8, "net.lava").name
    'net.lava'
    """
    _check_period(period, 1 if vectors is None else len(np.load(io.BytesIO(vectors))["frames"]))
    plan, path = lava_plan(graph), Path(path)
    on_host = host_part(plan.graph, encoder)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "digest": graph.digest(),
        "versions": {"tet_deploy": __version__, "lava-nc": LAVA_VERSION, "numpy": np.__version__},
        "metadata": dict(graph.metadata),
        "input": plan.input,
        **({} if period is None else {"period": int(period)}),
        **({"host": list(on_host)} if on_host else {}),
        "nodes": plan.nodes,
        "readout": plan.readout,
        "ranges": {kind: list(names) for kind, names in possible(graph).items()},
    }
    golden = {} if vectors is None else {VECTORS: vectors}
    files = {**_code(), ARRAYS: _npz(plan.arrays), **golden, README: _readme(content, bool(golden)).encode()}
    write_bundle(path, content, files)
    return path


def _check_period(period: int | None, steps: int) -> None:
    if period is None:
        return
    whole = isinstance(period, int | np.integer) and not isinstance(period, bool)
    if not whole or not 1 <= period <= LONGEST_PERIOD or period & (period - 1):
        raise ArgumentError(
            f"period: must be a power of two up to {LONGEST_PERIOD:,}, as a chip resets its neurons; got {shown(period)}."
        )
    if steps > period:
        raise ArgumentError(f"period: must be as long as the vectors' samples, of {steps} steps; got {period}.")


def _code() -> dict[str, bytes]:
    """Every file of the program, as it lies in this package."""
    with resources.as_file(resources.files("tet_deploy.runtimes.loihi").joinpath("bundle")) as code:
        return {path.relative_to(code).as_posix(): path.read_bytes() for path in sorted(code.rglob("*.py"))}


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes the names for options
    return stream.getvalue()


def _readme(content: dict[str, Any], checks: bool) -> str:
    shape = content["input"]["shape"]
    return _README.format(
        check=_CHECK if checks else "",
        synapses=sum(node["kind"] in ("conv", "dense") for node in content["nodes"]),
        input_shape=" x ".join(map(str, shape)),
        encoding=content["input"]["encoding"],
        classes=content["readout"]["shape"][0],
        frame_layout=", ".join(map(str, shape)),
        encoder=f" The host computes {', '.join(content['host'])} and sends its spikes." if "host" in content else "",
        silence=f", each with silent steps up to {content['period']}" if "period" in content else "",
        version=__version__,
        digest=content["digest"],
    )
