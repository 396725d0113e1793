"""The sides that `inference.py` compares, each on the same weights and frames, and the proof that they do the same work.

torch and the frameworks run the trained model's layers, batch norm folded and pools as layers, so that they compute no more
than their users' networks do. SpikingJelly fires at `>=`: its threshold is one float higher.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from networks import Network

from tet_deploy.contracts import Recording

if TYPE_CHECKING:
    from torch import nn

    from tet_deploy.runtimes.onnx_session import OnnxRuntime

REFERENCE = "ONNX float"  # the side whose time is 1


@dataclass(frozen=True)
class Side:
    """One way to run a network on some frames."""

    run: Callable[[], np.ndarray]  # the readout [T, B, K]; this is timed
    spikes: Callable[[], Mapping[str, np.ndarray]]  # of each population


@dataclass(frozen=True)
class Way:
    """How a side is made, of the float or the integer network, and the modules that it imports."""

    make: Callable[..., Side]  # network, frames, threads, micro_batch
    kind: str
    modules: tuple[str, ...]
    megabytes: Callable[[Network], float]

    def imported(self) -> None:
        """Import them.

        Raises
        ------
        ModuleNotFoundError
            One is not installed.
        """
        for module in self.modules:
            importlib.import_module(module)


class DifferentWork(Exception):
    """A side computes something else than the reference."""


def need_equal(name: str, side: Side, expected: Recording) -> int:
    """How many values are equal to the reference's: all spikes of all populations, and the readout of each step.

    Raises
    ------
    DifferentWork
        One value differs, or a population is missing.
    """
    values = {"readout": (side.run(), expected.readout)}
    spikes = side.spikes()
    if spikes.keys() != expected.spikes.keys():
        missing = sorted(expected.spikes.keys() ^ spikes.keys())
        raise DifferentWork(f"{name}: {', '.join(missing)} of it and of the reference have no match, so it is not timed.")
    values |= {f"spikes of {population}": (spikes[population], expected.spikes[population]) for population in spikes}
    for what, (found, wanted) in values.items():
        if found.shape != wanted.shape:
            raise DifferentWork(f"{name}: {what} {found.shape}, of the reference {wanted.shape}, so it is not timed.")
        if differing := int((found != wanted).sum()):
            raise DifferentWork(f"{name}: {differing:,} of {wanted.size:,} {what} differ, so it is not timed.")
    return sum(wanted.size for _, wanted in values.values())


def whole_run(network: Network, frames: np.ndarray, threads: int, micro_batch: int | None, *, kind: str) -> Side:
    """An ONNX file that gets all frames at once."""
    from tet_deploy.runtimes.onnx_session import OnnxRuntime

    def session(probed: bool) -> OnnxRuntime:
        return OnnxRuntime(network.onnx(kind, probed=probed), threads=threads, micro_batch=micro_batch)

    timed = session(probed=False)
    return Side(
        run=lambda: timed.run(frames, probes="none").readout,
        spikes=lambda: session(probed=True).run(frames, probes="spikes").spikes,
    )


def stream(network: Network, frames: np.ndarray, threads: int, micro_batch: int | None, *, kind: str) -> Side:
    """The graph of a step, driven by `td.Stream`."""
    import tet_deploy as td

    def opened(probed: bool) -> td.Stream:
        path, probes = network.onnx(kind, stream=True, probed=probed), "spikes" if probed else "none"
        return td.Stream(path, samples=frames.shape[1], probes=probes, threads=threads)

    timed = opened(probed=False)

    def run() -> np.ndarray:
        timed.reset()
        return np.stack([timed.step(frame).readout for frame in frames])

    def spikes() -> Mapping[str, np.ndarray]:
        probed = opened(probed=True)
        steps = [probed.step(frame).spikes for frame in frames]
        return {population: np.stack([step[population] for step in steps]) for population in steps[0]}

    return Side(run, spikes)


def in_torch(
    network: Network,
    frames: np.ndarray,
    threads: int,
    micro_batch: int | None,
    *,
    neurons: Callable[[], nn.Module] | None,
    reset: Callable[[nn.Module], object] = lambda _: None,
    by_steps: bool = False,
    compiled: bool = False,
) -> Side:
    """The layers in torch, over all steps at once or step by step; None leaves our own neurons."""
    import torch
    from train_step import rebuilt

    from tet_deploy.nn import LIF

    model: nn.Module = network.skeleton()
    populations = [name for name, module in model.named_modules() if isinstance(module, LIF)]
    if neurons is not None:
        model = rebuilt(model, neurons).eval()
    unknown = model.load_state_dict(torch.load(network.weights), strict=False, assign=True).unexpected_keys
    assert not unknown and not any(each.is_meta for each in model.parameters()), unknown
    x = torch.from_numpy(frames)
    called = torch.compile(model) if compiled else model

    def run(called: nn.Module = called) -> np.ndarray:
        torch.set_num_threads(threads)
        reset(model)
        with torch.no_grad():
            readout = torch.cat([called(step) for step in x.split(1)]) if by_steps else called(x)
        return np.asarray(readout.numpy())

    def spikes() -> Mapping[str, np.ndarray]:  # of the layers themselves, also where they are compiled
        heard: dict[str, list[np.ndarray]] = {name: [] for name in populations}
        handles = [
            model.get_submodule(name).register_forward_hook(lambda *call, name=name: heard[name].append(call[-1].numpy()))
            for name in populations
        ]
        run(model)
        for handle in handles:
            handle.remove()
        return {name: np.concatenate(parts) for name, parts in heard.items()}

    return Side(run, spikes)


def plain_neurons() -> nn.Module:
    """The equation written down, step by step."""
    import torch
    from torch import Tensor, nn

    class PlainNeurons(nn.Module):
        sees_time = True
        v: Tensor | float = 0.0

        def forward(self, x: Tensor) -> Tensor:
            v, spikes = self.v, []
            for current in x:
                u = v * 0.5 + current
                s = (u > 1.0).to(u.dtype)
                v = u - u * s
                spikes.append(s)
            self.v = v
            return torch.stack(spikes)

    return PlainNeurons()


def reset_plain(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "v"):
            module.v = 0.0


def spikingjelly(step_mode: str) -> nn.Module:
    """Its LIFNode, whose neurons fire at `>=`."""
    from train_step import spikingjelly_neurons

    return spikingjelly_neurons(step_mode, threshold=float(np.nextafter(np.float32(1), np.float32(2))))


def reset_spikingjelly(model: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.reset_net(model)


def snntorch_over_time() -> nn.Module:
    """Its Leaky neuron in a loop over time for each layer."""
    from train_step import SnnTorchNeurons

    return SnnTorchNeurons()


def snntorch_by_steps() -> nn.Module:
    """Its Leaky neuron that keeps its membrane, as in its tutorials: the loop over time is round the network."""
    import snntorch
    from torch import Tensor, nn

    class Steps(nn.Module):
        sees_time = True

        def __init__(self) -> None:
            super().__init__()
            self.node = snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero", init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.node(x[0])[None]

    return Steps()


def reset_snntorch(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "reset_mem"):
            module.reset_mem()


def _torch_way(*modules: str, **how: Any) -> Way:
    make = functools.partial(in_torch, **how)
    modules = ("torch", "train_step", "tet_deploy.models", "tet_deploy.nn", *modules)
    return Way(make, "float", modules, lambda network: network.weights.stat().st_size / 1e6)


def _onnx_way(make: Callable[..., Side], kind: str) -> Way:
    modules = ("tet_deploy.runtimes.onnx_session", "tet_deploy.stream")
    by_steps = make is stream
    return Way(
        functools.partial(make, kind=kind),
        kind,
        modules,
        lambda network: network.onnx(kind, stream=by_steps).stat().st_size / 1e6,
    )


_SPIKINGJELLY = "spikingjelly.activation_based.neuron"
SIDES: dict[str, Way] = {
    REFERENCE: _onnx_way(whole_run, "float"),
    "ONNX integer": _onnx_way(whole_run, "integer"),
    "ONNX float, td.Stream": _onnx_way(stream, "float"),
    "ONNX integer, td.Stream": _onnx_way(stream, "integer"),
    "tet_deploy's torch model": _torch_way(neurons=None),
    "torch, layer by layer": _torch_way(neurons=plain_neurons, reset=reset_plain),
    "torch, step by step": _torch_way(neurons=plain_neurons, reset=reset_plain, by_steps=True),
    "torch.compile": _torch_way(neurons=plain_neurons, reset=reset_plain, compiled=True),
    "SpikingJelly, multi-step": _torch_way(
        _SPIKINGJELLY, neurons=functools.partial(spikingjelly, "m"), reset=reset_spikingjelly
    ),
    "SpikingJelly, step by step": _torch_way(
        _SPIKINGJELLY, neurons=functools.partial(spikingjelly, "s"), reset=reset_spikingjelly, by_steps=True
    ),
    "snnTorch, layer by layer": _torch_way("snntorch", neurons=snntorch_over_time),
    "snnTorch, step by step": _torch_way("snntorch", neurons=snntorch_by_steps, reset=reset_snntorch, by_steps=True),
}
