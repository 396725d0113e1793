"""How fast a bundle runs on Lava: `python benchmarks/lava_speed.py`, or `--network all`.

SNN-5 of the TET code, 16C3-64C5-AP2-128C5-AP2-256C5-AP2-512C3-AP2-FC, its pools folded, with random int8 weights, on event
frames of 16 x 16; VGGSNN at 48 x 48 and ResNet-19 at 32 x 32 in full width, SEW-ResNet34 at 64 x 64 in a quarter of it,
with fresh weights whose batch norms have seen the frames, so that they fire as if trained. Milliseconds of one step once all
layers are busy, medians over turns:

    stock    Lava's own process models, where a step of them ends in reasonable time
    before   the bundle that another checkout exports of the same network and runs: --before PATH
    now      the bundle's own models
    floor    the CPU time of its convolutions alone, over the processors that it may use
    kept     the share of `now` in which the busiest process computes nothing: Lava keeps the processes in step

All of them must give the same readout.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.artifact import save
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.runtimes.loihi.bundle.loihi_engine.convolution import Convolution
from tet_deploy.runtimes.loihi.bundle.loihi_engine.pipeline import Pipeline
from tet_deploy.runtimes.loihi.bundle.loihi_engine.records import Records
from tet_deploy.runtimes.loihi.bundle.loihi_engine.regions import cut, processors
from tet_deploy.runtimes.loihi.bundle.loihi_engine.simulation import all_nodes
from tet_deploy.runtimes.loihi.session import LavaRuntime

_LAYERS = ((16, 3, 1), (64, 5, 1), (128, 5, 2), (256, 5, 2), (512, 3, 2))  # channels, kernel, pool before it
_DEEP = {"vgg_snn": (48, 1.0), "resnet19": (32, 1.0), "sew_resnet34": (64, 0.25)}  # size of the frames, width
_DEPTH = {"snn5": 6, "vgg_snn": 9, "resnet19": 20, "sew_resnet34": 60}  # steps until the last layer is busy too, or more
_FEW_STEPS = 3
_RUN_BEFORE = """
import pickle, sys
import numpy as np
from pathlib import Path
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.artifact import load
from tet_deploy.runtimes.loihi.session import LavaRuntime
network, frames, folder = sys.argv[1:]
arrays = LavaRuntime(to_lava(load(network), Path(folder))).execute(np.load(frames), "none")
sys.stdout.buffer.write(pickle.dumps((arrays["clock"], arrays["readout"])))
"""


def main() -> None:
    """Time all in turns and print the medians."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--network", default="snn5", choices=["snn5", *_DEEP, "all"])
    options.add_argument("--size", type=int, default=16, help="height and width of SNN-5's frames")
    options.add_argument("--rounds", type=int, default=2, help="turns of each")
    options.add_argument("--steps", type=int, default=60, help="steps of a turn in which all layers are busy")
    options.add_argument("--own-only", action="store_true", help="leave Lava's own models out")
    options.add_argument("--before", type=Path, help="another checkout of this project, with its environments")
    chosen = options.parse_args()
    print(f"{processors()} processors; milliseconds of a step, medians")
    print(f"{'network':14}{'stock':>9}{'before':>9}{'now':>9}{'floor':>9}{'now/floor':>11}{'kept':>7}")
    for name in ["snn5", *_DEEP] if chosen.network == "all" else [chosen.network]:
        stock, now = _measured(name, chosen)
    if stock is not None:
        print(f"ratio {stock / now:.0f}")


def _measured(name: str, chosen: argparse.Namespace) -> tuple[float | None, float]:
    """Print a network's row; its stock and present times."""
    rng = np.random.default_rng(0)
    graph, frames = (
        snn5(rng, chosen.size, chosen.steps + _DEPTH[name])
        if name == "snn5"
        else deep(rng, name, chosen.steps + _DEPTH[name])
    )
    times: dict[str, list[float]] = {"stock": [], "before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder:
        bundle = to_lava(graph, Path(folder) / "now.lava")
        np.save(Path(folder) / "frames.npy", frames)
        if chosen.before:
            save(graph, Path(folder) / "network.safetensors")
        for _ in range(chosen.rounds):
            turn, readout = _steps(lambda: LavaRuntime(bundle).execute(frames, "none"))
            times["now"] += turn
            if chosen.before:
                turn, expected = _steps(lambda: _run_before(chosen.before, Path(folder)))
                times["before"] += turn
                assert np.array_equal(readout, expected)
            if name == "snn5" and not chosen.own_only:
                turn, expected = _steps(
                    lambda: LavaRuntime(bundle, stock=True).execute(frames[:_FEW_STEPS], "none"), short=True
                )
                times["stock"] += turn
                assert np.array_equal(readout[:_FEW_STEPS], expected)
        convolutions, busiest = _work(graph, Path(folder) / "frames.npy")
    now = float(np.median(times["now"]))
    floor = convolutions / processors()
    cells = [f"{np.median(values):9.2f}" if values else f"{'-':>9}" for values in times.values()]
    print(f"{name:14}{''.join(cells)}{floor:9.2f}{now / floor:11.2f}{1 - busiest / now:7.0%}", flush=True)
    return (float(np.median(times["stock"])) if times["stock"] else None), now


def _steps(run: Callable[[], dict[str, np.ndarray]], short: bool = False) -> tuple[list[float], np.ndarray]:
    """Milliseconds of each step while all layers are busy, or of all but the first of a short run, and the readout."""
    arrays = run()
    steps = len(arrays["readout"])
    milliseconds = 1000 * np.diff(arrays["clock"])
    busy = milliseconds[len(arrays["clock"]) - steps : steps - 1]
    return list(milliseconds[2:] if short else busy), arrays["readout"]


def _run_before(checkout: Path, folder: Path) -> dict[str, np.ndarray]:
    """What the other checkout's bundle of the same network records."""
    command = [sys.executable, "-c", _RUN_BEFORE, *(str(folder / name) for name in ("network.safetensors", "frames.npy"))]
    done = subprocess.run(
        [*command, str(folder / "before.lava")],
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        cwd=checkout,
        stdout=subprocess.PIPE,
        check=True,
    )
    clock, readout = pickle.loads(done.stdout)
    return {"clock": clock, "readout": readout}


def _work(graph: Graph, frames: Path) -> tuple[float, float]:
    """Median milliseconds of CPU that a step's convolutions take, and that its busiest region takes in all."""
    plan = lava_plan(graph)
    content = {"input": plan.input, "nodes": plan.nodes, "readout": plan.readout}
    steps = np.load(frames, mmap_mode="r").shape[0]
    records = Records(frames.parent, content, (steps, 1), {}, {})
    regions = cut(all_nodes(content), plan.arrays, None)
    pipelines = [Pipeline(region.nodes, plan.arrays, str(frames), records) for region in regions]
    convolving, busy = [], []
    original, spent = Convolution.__call__, 0.0

    def timed(self: Convolution, data: np.ndarray) -> np.ndarray:
        nonlocal spent
        start = time.thread_time()
        sums = original(self, data)
        spent += time.thread_time() - start
        return sums

    Convolution.__call__ = timed  # type: ignore[method-assign]  # for this measurement
    try:
        for step in range(1, steps + 1):
            spent, seconds, wires = 0.0, np.zeros(len(pipelines)), {}
            for halves in (0, 1):
                for index, pipeline in enumerate(pipelines):
                    start = time.thread_time()
                    if halves == 0:
                        wires |= pipeline.fire(step)
                    else:
                        pipeline.take(step, wires)
                    seconds[index] += time.thread_time() - start
            convolving.append(spent)
            busy.append(seconds.max())
    finally:
        Convolution.__call__ = original  # type: ignore[method-assign]
    depth = records.steps - steps
    return 1000 * float(np.median(convolving[depth:])), 1000 * float(np.median(busy[depth:]))


def snn5(rng: np.random.Generator, size: int, steps: int) -> tuple[Graph, np.ndarray]:
    """The network with random weights and thresholds at which about a tenth of the neurons spike, and frames."""
    nodes: list[Node] = [Input(name="input", shape=(2, size, size), encoding="events", quantization=Quantization(scale=1.0))]
    frames = rng.poisson(0.1, (steps, 1, 2, size, size)).astype(np.float32)
    channels = 2
    for index, (out_channels, kernel, pool) in enumerate(_LAYERS):
        weight = rng.integers(-60, 64, (out_channels, channels, kernel, kernel)).astype(np.int8)
        nodes.append(
            Conv(
                name=f"conv{index}",
                weight=weight.repeat(pool, axis=2).repeat(pool, axis=3),
                stride=(pool, pool),
                padding=(kernel // 2 * pool,) * 2,
                quantization=Quantization(scale=1.0),
            )
        )
        threshold = int(20 * pool * kernel * np.sqrt(channels))
        nodes.append(LIF(name=f"lif{index}", threshold=threshold, quantization=Quantization(scale=1.0, bits=17)))
        channels, size = out_channels, size // pool
    size //= 2  # the last pool is folded into the Linear
    weight = rng.integers(-60, 64, (10, channels, size, size)).astype(np.int8).repeat(2, axis=2).repeat(2, axis=3)
    nodes += [
        Flatten(name="flatten"),
        Linear(name="fc", weight=weight.reshape(10, -1), quantization=Quantization(scale=1.0)),
        Readout(name="readout", quantization=Quantization(scale=1.0)),
    ]
    return chain(nodes), frames


def deep(rng: np.random.Generator, name: str, steps: int) -> tuple[Graph, np.ndarray]:
    """One of the project's networks in integers, and frames that are smooth over 8 pixels."""
    import torch

    import tet_deploy as td
    from tet_deploy.models import build

    size, width = _DEEP[name]
    events = name == "vgg_snn"
    coarse = (steps, 1, 2 if events else 3, size // 8, size // 8)
    values = rng.gamma(0.5, 0.6, coarse) if events else np.clip(rng.normal(size=coarse), -2, 2)
    values = np.kron(values, np.ones((8, 8)))
    frames = (np.minimum(rng.poisson(values), 7) if events else np.rint(values * 64) / 64).astype(np.float32)
    model = build(name, seed=0, shape=frames.shape[2:], classes=10, width=width)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # averages over all that it sees
    with torch.no_grad():
        model.train()(torch.from_numpy(frames[:8]))
    encoding = "events" if events else "analog"
    graph = td.lower(td.trace(model.eval(), input_shape=frames.shape[2:], encoding=encoding), frames[:8])
    return td.quantize(graph, frames[:8]), frames


if __name__ == "__main__":
    main()
