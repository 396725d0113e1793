"""How fast one sample runs: float ONNX, integer ONNX and torch (eager, layer-wise), interleaved in one process.

    python benchmarks/onnx_runtime.py --width 0.25

The network has the layers of a VGGSNN with stride 2 in place of pooling, and random weights normalised layer by layer as
folded batch norm leaves them. Ratios are worth more than milliseconds: a busy machine slows all three alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rounds import seconds_by_round
from torch.nn import functional

from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Readout
from tet_deploy.passes.quantize import quantize
from tet_deploy.runtimes.onnx_session import OnnxRuntime

LAYERS = ((64, 1), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 2), (512, 1))  # channels, stride


def vgg_like(rng: np.random.Generator, frames: np.ndarray, width: float) -> Graph:
    """A float network for frames [T, B, 2, H, W] whose presynaptic inputs have mean 0.3 and deviation 1."""
    nodes: list[Node] = [Input(name="input", shape=frames.shape[2:], encoding="events")]
    x = torch.from_numpy(frames)
    for index, (channels, stride) in enumerate(LAYERS):
        weight = rng.normal(size=(max(1, int(channels * width)), x.shape[2], 3, 3)).astype(np.float32)
        conv = Conv(name=f"conv{index}", weight=weight, stride=(stride, stride), padding=(1, 1))
        current = layer_wise(conv, x)
        mean, deviation = float(current.mean()), float(current.std())
        bias = np.full(len(weight), 0.3 - mean / deviation, dtype=np.float32)
        nodes += [Conv(**vars(conv) | {"weight": weight / deviation, "bias": bias}), LIF(name=f"lif{index}")]
        x = layer_wise(nodes[-1], layer_wise(nodes[-2], x))
    size = int(np.prod(x.shape[2:]))
    weight = (rng.normal(size=(10, size)) / np.sqrt(size)).astype(np.float32)
    return chain([*nodes, Flatten(name="flatten"), Linear(name="fc", weight=weight), Readout(name="readout")])


def layer_wise(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Output [T, B, ...] of one node in torch, all steps at once where it has no state."""
    if isinstance(node, Conv):
        bias = None if node.bias is None else torch.tensor(node.bias)
        y = functional.conv2d(x.flatten(0, 1), torch.tensor(node.weight), bias, node.stride, node.padding)
        return y.unflatten(0, x.shape[:2])
    if isinstance(node, LIF):
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            u = v * node.decay + current
            spikes.append((u > node.threshold).float())
            v = u - u * spikes[-1]
        return torch.stack(spikes)
    if isinstance(node, Linear):
        return functional.linear(x, torch.tensor(node.weight))
    return x.flatten(2) if isinstance(node, Flatten) else x


def run_torch(graph: Graph, frames: np.ndarray) -> np.ndarray:
    """Readout [T, B, K]."""
    x = torch.from_numpy(frames)
    for node in graph:
        x = layer_wise(node, x)
    return x.numpy()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.25, help="share of the VGGSNN's channels")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1, help="samples in one call")
    parser.add_argument("--micro-batch", type=int, default=None, help="samples that ONNX Runtime gets at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    frames = rng.poisson(0.3, (options.steps, options.samples, 2, options.size, options.size)).astype(np.float32)
    graph = vgg_like(rng, frames[:, :1], options.width)
    int8 = quantize(graph, frames[:2, :1])
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = {
            "ONNX float": to_onnx(graph, Path(folder, "float.onnx")),
            "ONNX integer": to_onnx(int8, Path(folder, "int8.onnx")),
        }
        sessions = {
            name: OnnxRuntime(path, threads=options.threads, micro_batch=options.micro_batch) for name, path in files.items()
        }
        runners: dict[str, Callable[[], object]] = {
            name: lambda session=session: session.run(frames, probes="none") for name, session in sessions.items()
        }
        runners["torch eager"] = lambda: run_torch(graph, frames)
        seconds = seconds_by_round(runners, options.repetitions, warm_up=1)
        milliseconds = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
        megabytes = {name: path.stat().st_size / 1e6 for name, path in files.items()}

    for name, value in milliseconds.items():
        size = f"   {megabytes[name]:6.1f} MB" if name in megabytes else ""
        print(f"{name:13} {value:9.2f} ms   {value / milliseconds['ONNX float']:5.2f} of ONNX float{size}")


if __name__ == "__main__":
    main()
