"""Networks and frames that benchmarks of inference run: random weights that fire as trained ones do, kept as files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Conv

if TYPE_CHECKING:
    from torch import nn

NETWORKS: dict[str, dict[str, Any]] = {
    "vgg_snn": {"shape": (2, 48, 48), "steps": 10, "encoding": "events"},
    "resnet19": {"shape": (3, 32, 32), "steps": 4, "encoding": "analog"},
    "event-digits": {"shape": (2, 20, 20), "steps": 5, "encoding": "events"},
}
KINDS = ("float", "integer")


def random_frames(name: str, steps: int, samples: int) -> np.ndarray:
    """[T, B, C, H, W], smooth over 4 pixels: event counts up to 7, or a still image in multiples of 1/64 up to 2.

    The first pixel is the largest value there can be, so that a few frames tell the range of all.
    """
    rng = np.random.default_rng(0)
    channels, height, width = NETWORKS[name]["shape"]
    coarse, fine = (channels, height // 4, width // 4), np.ones((4, 4))
    if NETWORKS[name]["encoding"] == "events":
        frames = np.minimum(rng.poisson(np.kron(rng.gamma(0.5, 0.6, (steps, samples, *coarse)), fine)), 7)
        frames[0, 0, 0, 0, 0] = 7
    else:
        images = np.rint(np.clip(np.kron(rng.normal(size=(samples, *coarse)), fine), -2, 2) * 64) / 64
        images[0, 0, 0, 0] = 2
        frames = np.broadcast_to(images, (steps, *images.shape))
    return frames.astype(np.float32)


@dataclass(frozen=True)
class Network:
    """One network of one width, in files, so that the process of a side holds no more than the side needs."""

    name: str
    width: float
    folder: Path

    def prepare(self) -> None:
        """Make the network where it is not there yet, and export it anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.weights.exists():
            self._make()
        for kind, stream, probed in itertools.product(KINDS, (False, True), (False, True)):
            path, probes = self.onnx(kind, stream=stream, probed=probed), "spikes" if probed else "none"
            td.export(self.graph(kind), path, to="onnx", probes=probes, stream=stream)

    def graph(self, kind: str) -> Graph:
        """The lowered network, "float", or the quantized one, "integer"."""
        return td.load(self._path(f"{kind}.safetensors"))

    def onnx(self, kind: str, *, stream: bool = False, probed: bool = False) -> Path:
        """File of whole runs or of single steps; a probed one also gives the spikes, for the comparison."""
        return self._path(f"{kind}{'.stream' * stream}{'.probed' * probed}.onnx")

    @property
    def weights(self) -> Path:
        """The float network's weights for torch: batch norms folded, pools as layers again."""
        return self._path("float.pt")

    def expected(self, kind: str, frames: np.ndarray) -> Recording:
        """What the reference gives: the readout and every spike."""
        return td.run(self.graph(kind), frames, runtime="reference", probes="spikes")

    def skeleton(self) -> nn.Module:
        """The torch model as it was before any pass, but for its batch norms; without weights, on torch's device meta."""
        import torch
        from torch import nn

        from tet_deploy.models import build

        with torch.device("meta"):
            model = build(self.name, shape=NETWORKS[self.name]["shape"], classes=10, width=self.width)
        for module in list(model.modules()):
            for child_name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, child_name, nn.Identity())
                elif isinstance(child, nn.Conv2d):
                    child.bias = nn.Parameter(torch.empty(child.out_channels, device="meta"))
        return model.eval()

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self.name}-{self.width:g}.{ending}"

    def _make(self) -> None:
        import torch

        from tet_deploy.models import build

        setting = NETWORKS[self.name]
        seen = random_frames(self.name, setting["steps"], 4)
        model = build(self.name, seed=0, shape=setting["shape"], classes=10, width=self.width)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # averages over all that it sees
        with torch.no_grad():
            model.train()(torch.from_numpy(seen))
        traced = td.trace(model.eval(), input_shape=setting["shape"], encoding=setting["encoding"])
        network = td.lower(traced, seen[:2, :1])
        td.save(network, self._path("float.safetensors"))
        td.save(td.quantize(network, seen[:2, :1]), self._path("integer.safetensors"))
        torch.save(unfolded(network, self.skeleton()), self.weights)


def unfolded(network: Graph, model: nn.Module) -> Mapping[str, Any]:
    """The lowered network's weights for the layers that it came from: pools taken out of the kernels again, which is exact.

    Otherwise torch and the frameworks would compute wider kernels than their users' networks have.
    """
    import torch
    from torch import nn

    layers, state = dict(model.named_modules()), {}
    for node in network:
        if not isinstance(node, WEIGHTED) or node.name not in layers:
            continue  # an identity shortcut has no layer
        layer, weight = layers[node.name], node.weight
        if isinstance(node, Conv):
            assert isinstance(layer, nn.Conv2d)
            window = node.stride[0] // layer.stride[0]
            weight = weight[:, :, ::window, ::window] * window**2
        else:
            shape = network.shapes[network[node.inputs[0]].inputs[0]]  # of what is flattened
            share = np.prod(shape) // layer.in_features
            window = round(float(share) ** 0.5)
            if window > 1:
                weight = (weight.reshape(-1, *shape)[:, :, ::window, ::window] * window**2).reshape(len(weight), -1)
        state[f"{node.name}.weight"] = torch.tensor(np.ascontiguousarray(weight))
        bias = np.zeros(len(weight), np.float32) if node.bias is None else node.bias
        state[f"{node.name}.bias"] = torch.tensor(bias)
    return state
