"""How much faster the bundle's own process models are than Lava's: `python benchmarks/lava_speed.py`.

SNN-5 of the TET code, 16C3-64C5-AP2-128C5-AP2-256C5-AP2-512C3-AP2-FC, its pools folded, with random int8 weights, on event
frames of 16 x 16. Both run real Lava from the same bundle, in turns, and must give the same readout.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.runtimes.loihi.session import LavaRuntime

_LAYERS = ((16, 3, 1), (64, 5, 1), (128, 5, 2), (256, 5, 2), (512, 3, 2))  # channels, kernel, pool before it
_WARM_UP = 2  # the first steps also build and allocate
_FEW_STEPS, _MANY_STEPS = 3, 60


def main() -> None:
    """Time both in turns and print the medians."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", type=int, default=16, help="height and width of the frames")
    options.add_argument("--rounds", type=int, default=2, help="turns of each")
    options.add_argument("--own-only", action="store_true", help="leave Lava's own models out")
    chosen = options.parse_args()
    rng = np.random.default_rng(0)
    graph = snn5(rng, chosen.size)
    frames = rng.poisson(0.1, (_MANY_STEPS, 1, 2, chosen.size, chosen.size)).astype(np.float32)
    own: list[float] = []
    stock: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = to_lava(graph, Path(folder) / "snn5.lava")
        for _ in range(chosen.rounds):
            times, readout = _steps(LavaRuntime(bundle), frames)
            own += times
            if not chosen.own_only:
                times, expected = _steps(LavaRuntime(bundle, stock=True), frames[:_FEW_STEPS])
                stock += times
                assert np.array_equal(readout[:_FEW_STEPS], expected)
    print(f"SNN-5 at {chosen.size} x {chosen.size}, milliseconds per step, median")
    print(f"own models    {np.median(own):10.1f}  ({len(own)} steps)")
    if stock:
        print(f"Lava's models {np.median(stock):10.1f}  ({len(stock)} steps)")
        print(f"ratio         {np.median(stock) / np.median(own):10.0f}")


def snn5(rng: np.random.Generator, size: int) -> Graph:
    """The network with random weights and thresholds at which about a tenth of the neurons spike."""
    nodes: list[Node] = [Input(name="input", shape=(2, size, size), encoding="events", quantization=Quantization(scale=1.0))]
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
    return chain(nodes)


def _steps(runtime: LavaRuntime, frames: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Milliseconds of each step once all layers are busy, and the readout."""
    arrays = runtime.execute(frames, "none")
    return list(1000 * np.diff(arrays["clock"])[_WARM_UP:]), arrays["readout"]


if __name__ == "__main__":
    main()
