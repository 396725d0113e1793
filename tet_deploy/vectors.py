"""Golden vectors beside what is exported: inputs, and every spike, membrane potential and readout that belongs to them.

Whoever receives a file can show that it gives these very numbers on their machine; `loihi_checks.vectors` has the format.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tet_deploy.arguments import whole
from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames
from tet_deploy.dynamics import largest_message
from tet_deploy.errors import DataError, GraphError, cut
from tet_deploy.files import Kind, head
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.normalization import raw
from tet_deploy.passes.snap_to_grid import snap_frames, snapped
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import VECTORS
from tet_deploy.runtimes.loihi.bundle.loihi_checks.vectors import FORMAT, LARGEST_FILE
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.wording import number_of

VECTORS_FILE = Kind("vectors of tet_deploy", lambda path: head(path)[30:].startswith(b"about.npy"))  # first in the .zip
SEED = 0
_MOST = 2**16  # samples
_USUAL_STEPS = 4  # where the network does not say
_RATES = (0.4, 1.0, 2.0, 4.0, 0.1, 8.0)  # of event counts
_PARTS = (0.5, 1.0, 0.25, 2.0, 0.125)  # of the largest value that messages hold


def vectors_path(exported: Path) -> Path:
    """Where the vectors of an exported file, or folder, lie."""
    return exported / VECTORS if exported.is_dir() else exported.with_name(f"{exported.name}.vectors.npz")


def golden_vectors(graph: Graph, count: int, frames: Frames | Source | None = None, inputs: str = "given frames") -> bytes:
    """Inputs and what the reference makes of them, as they are written.

    Parameters
    ----------
    graph
        A network; of a float one the frames are put on its grid, so that no order of summation changes a bit.
    count
        Number of samples.
    frames
        [T, B, *shape], or a source of them, of which the first are taken. Without any they are random, such that they fit
        the input's encoding and as many populations as possible fire.
    inputs
        In words, what `frames` are.

    Raises
    ------
    ArgumentError, DataError
        No such number of samples, or frames that do not fit the network or its grid.
    GraphError
        A float network whose sums depend on their order.
    """
    count = whole("vectors", count, greatest=_MOST)
    shown, words = _random(graph, count) if frames is None else _given(graph, count, frames, inputs)
    recording = ReferenceRuntime(graph).run(shown)
    about = {"format": FORMAT, "digest": graph.digest(), "inputs": cut(words)}
    arrays = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), "frames": shown, "readout": recording.readout}
    for name in recording.spikes:
        arrays |= {f"spikes/{name}": recording.spikes[name], f"potentials/{name}": recording.potentials[name]}
    if sum(array.nbytes for array in arrays.values()) > LARGEST_FILE // 2:
        raise DataError(f"vectors: {number_of('sample', count)} fill more than {LARGEST_FILE // 2:,} bytes. Take fewer.")
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes the names for options
    return stream.getvalue()


def _given(graph: Graph, count: int, frames: Frames | Source, inputs: str) -> tuple[np.ndarray, str]:
    batches = FrameBatches.of(graph, frames)
    if len(batches) < count:
        raise DataError(
            f"vectors: {count:,} were asked for, and there are frames of {number_of('sample', len(batches))}. Ask for fewer."
        )
    first = batches.part(0, count)
    on_grid = snapped(graph, first)
    return on_grid.frames(), inputs if on_grid is first else f"{inputs}, rounded to the network's grid"


def _random(graph: Graph, count: int) -> tuple[np.ndarray, str]:
    """The candidate at which most populations fire, and what is said of it."""
    best: tuple[int, np.ndarray, str] | None = None
    for frames, words in _candidates(graph, count):
        try:
            shown = frames if graph.is_quantized else snap_frames(graph, frames)
        except DataError as error:
            problem = error
            continue
        spikes = ReferenceRuntime(graph).run(shown, probes="spikes").spikes
        firing = sum(bool(array.any()) for array in spikes.values())
        if best is None or firing > best[0]:
            best = firing, shown, f"random, {words}, seed {SEED}; {firing} of {len(spikes)} populations fire"
        if firing == len(spikes):
            break
    if best is None:
        raise GraphError(
            f"vectors: the float sums of this network depend on their order; {problem} Or give frames of its data: "
            "frames=, --frames."
        )
    return best[1:]


def _candidates(graph: Graph, count: int) -> Iterator[tuple[np.ndarray, str]]:
    """Frames [T, B, *shape] that suit the input, weaker and stronger ones."""
    node = graph.input
    steps = graph.metadata.get("steps", "")
    shape = (int(steps) if re.fullmatch("[1-9][0-9]{0,2}", steps) else _USUAL_STEPS, count, *node.shape)
    if node.encoding == "events":
        for rate in _RATES:
            counts = np.random.default_rng(SEED).poisson(rate, shape)
            yield counts.astype(np.float32), f"event counts of mean {rate:g}"
        return
    units = node.quantization
    largest = 4.0 if units is None else largest_message(units) / units.one_scale
    for part in _PARTS:
        values = np.random.default_rng(SEED).uniform(-part * largest, part * largest, shape)
        where = "" if node.mean is None else ", once normalized"
        yield raw(node, values).astype(np.float32), f"uniform within {part * largest:.6g} of 0{where}"
