"""How long deployment of a full-width network takes at ImageNet's size, and how much memory, stage by stage.

    python benchmarks/imagenet_size.py sew_resnet34

Each stage is a process of its own that starts from files; time and the peak of its memory are the system's. The network has
random weights and batch norms that have seen some images, so that it fires as a trained one; images are smoothed noise.
Run one stage under `/usr/bin/time -v` with `--stage NAME`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

STAGES = ("network", "trace", "lower", "quantize", "onnx_float", "onnx_int8", "energy")


def images(samples: int, steps: int, size: int, seed: int) -> np.ndarray:
    """Multiples of 1/64 in [-2, 2], smooth over some pixels, the same at every step: float32 [T, B, 3, size, size]."""
    coarse = np.random.default_rng(seed).normal(size=(samples, 3, -(-size // 8), -(-size // 8)))
    fine = np.kron(coarse, np.ones((8, 8)))[:, :, :size, :size]
    pixels = (np.rint(np.clip(fine, -2, 2) * 64) / 64).astype(np.float32)
    return np.broadcast_to(pixels, (steps, *pixels.shape))


def run_stage(stage: str, options: argparse.Namespace) -> str:
    """Run one stage from the files of those before; what it found, in words."""
    import tet_deploy as td

    folder, size, steps = options.folder, options.size, options.steps
    few = images(8, steps, size, seed=1)
    if stage == "network":
        save_network(options)
        return "weights drawn, batch norms shown some images"
    if stage == "trace":
        graph = td.trace(network(options), input_shape=(3, size, size))
        td.save(graph, folder / "traced.safetensors")
        return f"{len(graph)} nodes"
    if stage == "lower":
        graph = td.lower(td.load(folder / "traced.safetensors"), few)
        td.save(graph, folder / "float.safetensors")
        return f"{len(graph)} nodes"
    if stage == "quantize":
        graph = td.quantize(td.load(folder / "float.safetensors"), images(options.calibration, steps, size, seed=0))
        td.save(graph, folder / "int8.safetensors")
        return f"{options.calibration} samples of calibration"
    if stage == "energy":
        return repr(td.energy(td.load(folder / "int8.safetensors"), few))
    graph = td.load(folder / f"{stage.removeprefix('onnx_')}.safetensors")
    return str(td.validate(graph, few, runtimes=["reference", "onnx"])["onnx"])


def network(options: argparse.Namespace):
    """The network with the weights that `save_network` left."""
    import torch

    from tet_deploy.models import build

    model = build(options.model, seed=0, shape=(3, options.size, options.size), classes=1000, width=options.width)
    weights = options.folder / "weights.pt"
    if weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def save_network(options: argparse.Namespace) -> None:
    """Show some images to the batch norms in training mode and write the network's weights."""
    import torch

    model = network(options).train()
    for module in model.modules():
        if hasattr(module, "momentum"):
            module.momentum = None  # batch norms average over all that they see
    with torch.no_grad():
        model(torch.from_numpy(images(4, options.steps, options.size, seed=2).copy()))
    torch.save(model.state_dict(), options.folder / "weights.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="sew_resnet34")
    parser.add_argument("--folder", type=Path, default=Path("out/imagenet_size"))
    parser.add_argument("--stage", choices=STAGES, help="this one alone, in this process")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--calibration", type=int, default=32)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.stage:
        print(run_stage(options.stage, options))
        return
    print(f"{options.model} at {options.size}x{options.size}, width {options.width}, T={options.steps}")
    for stage in STAGES:
        start = time.monotonic()
        child = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--stage", stage], stdout=subprocess.PIPE)
        said = child.stdout.read().decode().strip()
        _, status, usage = os.wait4(child.pid, 0)
        seconds, peak = time.monotonic() - start, usage.ru_maxrss / 2**20
        print(f"{stage:10s} {seconds:7.1f} s {peak:6.2f} GiB  {said or f'ended with {status}'}", flush=True)


if __name__ == "__main__":
    main()
