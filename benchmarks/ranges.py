"""What counting costs: runs that count what left the chip's range against runs that do not, interleaved.

    python benchmarks/ranges.py [NETWORK.safetensors ...]

Without names: the layers of a VGGSNN at a quarter of its channels, for 10 steps of 48 x 48 event frames, with neurons that
do not leak and a first layer of large weights, so that no certificate covers a population. Both sides must give the same
readout. Times are the processor's, on one thread, so that a busy machine disturbs them little; Lava's are those of a step.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx_runtime import vgg_like

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Node
from tet_deploy.ranges import KINDS, possible
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import PLAN, with_checksum
from tet_deploy.runtimes.loihi.session import LavaRuntime
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime

NOTHING = dict.fromkeys(KINDS, ())
Run = Callable[[np.ndarray], Recording]


def reference(graph: Graph, folder: Path, counting: bool) -> Run:
    """The reference runtime, with or without counting."""
    runtime = ReferenceRuntime(graph)
    if not counting:
        runtime._possible = NOTHING
    return lambda frames: runtime.run(frames, probes="none")


def onnx(graph: Graph, folder: Path, counting: bool, threads: int = 1) -> Run:
    """ONNX Runtime on a file with or without the outputs that count."""
    path = to_onnx(graph, folder / f"{counting}.onnx", ranges=counting)
    runtime = OnnxRuntime(path, threads=threads)
    if not counting:
        runtime._messages = {}
    return lambda frames: runtime.run(frames, probes="none")


def lava(graph: Graph, folder: Path, counting: bool) -> Run:
    """Lava on a bundle whose plan does or does not say what is to be counted."""
    bundle = to_lava(graph, folder / f"{counting}.lava")
    if not counting:
        plan = json.loads((bundle / PLAN).read_text())
        del plan["ranges"]
        (bundle / PLAN).write_text(json.dumps(with_checksum(plan)))
    runtime = LavaRuntime(bundle)

    def run(frames: np.ndarray) -> Recording:
        arrays = runtime.execute(frames, "none")
        steps.append(float(np.median(np.diff(arrays["clock"]))))
        return Recording(readout=arrays["readout"], runtime="lava")

    steps: list[float] = []
    run.steps = steps  # type: ignore[attr-defined]  # seconds of a step, without Lava's start
    return run


def uncertified(rng: np.random.Generator) -> Graph:
    """A network of which every population may saturate, and the first may wrap."""
    seen = rng.poisson(0.3, (10, 1, 2, 48, 48)).astype(np.float32)
    graph = td.quantize(vgg_like(rng, seen, 0.25), seen[:2])
    changes: dict[str, Node | None] = {lif.name: dataclasses.replace(lif, decay=1.0) for lif in graph.of_kind(LIF)}
    first = graph.of_kind(Conv)[0]
    changes[first.name] = dataclasses.replace(first, weight=np.where(first.weight < 0, np.int8(-127), np.int8(127)))
    return graph.replace(changes)


def measure(name: str, runs: dict[bool, Run], frames: np.ndarray, rounds: int) -> None:
    """Time both sides in turns, the first of each round by turns too, and print the ratio."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for repetition in range(rounds + 1):
        readouts = {}
        for side in (True, False) if repetition % 2 else (False, True):
            start = time.process_time()
            readouts[side] = runs[side](frames).readout
            taken = time.process_time() - start
            steps = getattr(runs[side], "steps", None)
            if repetition:  # the first round warms up
                seconds[side].append(steps[-1] if steps else taken)
        if not np.array_equal(readouts[True], readouts[False]):
            raise SystemExit("the two sides differ")
    ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{name:10} {1e3 * statistics.median(seconds[False]):9.2f} ms, counting {middle:6.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, help="quantized networks to measure instead")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--lava", action="store_true", help="Lava too, where it is installed")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    networks = {path.name: td.load(path) for path in options.networks}
    if not networks:
        networks = {"VGGSNN / 4, not certified": uncertified(rng)}
    for name, graph in networks.items():
        shape = (int(graph.metadata.get("steps", 10)), options.samples, *graph.input.shape)
        frames = rng.poisson(0.3, shape).astype(np.float32)
        print(name, {kind: len(names) for kind, names in possible(graph).items()}, shape)
        makers = {"reference": reference, "onnx": onnx} | ({"lava": lava} if options.lava else {})
        for runtime, make in makers.items():
            with tempfile.TemporaryDirectory() as folder:
                runs = {side: make(graph, Path(folder), side) for side in (True, False)}
                measure(runtime, runs, frames, options.rounds if runtime != "lava" else max(3, options.rounds // 4))


if __name__ == "__main__":
    main()
