"""How fast a network trains, and in how much memory: our step against a plain loop over time, SpikingJelly and snnTorch.

    pip install --no-deps -r benchmarks/requirements.txt
    python benchmarks/train_step.py

One step is forward, backward and Adam on random frames, with the TET loss; in float32, or where it says bf16 under autocast.
All run the same network from the same weights in one process with one allocator, in turns, each round in another order; a
ratio is the median over rounds of the ratio within a round, so that a busy machine slows both sides alike. Peak memory is of
one process for each, and of it what training adds to torch and the weights. The plain loop is written as the authors of TET
wrote theirs: [B, T, ...], one Function for the spike, everything else left to autograd, a static image copied to every step.
Channels-last is what the others can have for a line: weights and frames in that format.

A floor is what the convolutions of one of our steps take alone, in the same shapes, memory format and type.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from rounds import allocator, peak_megabytes, processor, ratio, seconds_by_round
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor, surrogate_gradient, use_backend

NETWORKS: dict[str, dict[str, Any]] = {
    "vgg_snn": {"shape": (2, 48, 48), "steps": 10, "samples": 16, "static": False},
    "resnet19": {"shape": (3, 32, 32), "steps": 4, "samples": 32, "static": True},
}
Step = Callable[[], float]


class PlainSpike(torch.autograd.Function):
    """1 where u is above the threshold, and the triangle of eq. 5."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad * surrogate_gradient(u, threshold=0.0)


class PlainLIF(nn.Module):
    """[B, T, ...] to spikes, step by step under autograd."""

    sees_time = True

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor | float = 0.0
        spikes = []
        for t in range(x.shape[1]):
            v = v * 0.5 + x[:, t]
            s = PlainSpike.apply(v - 1.0)
            v = (1 - s) * v
            spikes.append(s)
        return torch.stack(spikes, dim=1)


class Sequence(nn.Sequential):
    """The first two axes, time and batch in either order, merged around plain layers."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            if any(getattr(module, "sees_time", False) for module in layer.modules()):
                x = layer(x)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x


def rebuilt(network: nn.Module, neurons: Callable[[], nn.Module]) -> nn.Module:
    """The same layers and weights with other neurons and none of our TimeMajor."""
    if isinstance(network, LIF):
        return neurons()
    result = copy.copy(network)
    result._modules = {name: rebuilt(child, neurons) for name, child in network.named_children()}
    if isinstance(network, TimeMajor):
        sequence = Sequence()
        sequence._modules = result._modules
        sequence.sees_time = True
        return sequence
    return result if network._modules else copy.deepcopy(network)


def spikingjelly_neurons(step_mode: str = "m", threshold: float = 1.0) -> nn.Module:
    """Its multi-step or single-step node; on a CPU the torch backend is the only one."""
    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_threshold=threshold,
        v_reset=0.0,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
        detach_reset=False,
        step_mode=step_mode,
    )
    node.sees_time = True
    return node


class SnnTorchNeurons(nn.Module):
    """Its Leaky neuron in the loop over time that its tutorials show."""

    sees_time = True

    def __init__(self) -> None:
        super().__init__()
        import snntorch

        self.node = snntorch.Leaky(beta=0.5, threshold=1.0, spike_grad=PlainSpike.apply, reset_mechanism="zero")

    def forward(self, x: Tensor) -> Tensor:
        membrane = self.node.init_leaky()
        spikes = []
        for current in x:
            spike, membrane = self.node(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)


def stepper(variant: str, name: str, width: float, samples: int | None = None) -> Step:
    """A function that trains one step and gives the loss."""
    chosen = NETWORKS[name]
    steps, samples = chosen["steps"], samples or chosen["samples"]
    model = build(name, seed=0, shape=chosen["shape"], width=width)
    random = torch.Generator().manual_seed(0)
    if chosen["static"]:
        frames = torch.randn(1, samples, *chosen["shape"], generator=random).expand(steps, -1, -1, -1, -1)
    else:
        frames = torch.poisson(torch.full((steps, samples, *chosen["shape"]), 0.3), generator=random)
    labels = torch.randint(10, (samples,), generator=random)
    time_first, reset = True, lambda: None
    library, *traits = variant.split(", ")
    if library == "plain loop":
        model, time_first = rebuilt(model, PlainLIF), False
    elif library == "SpikingJelly":
        from spikingjelly.activation_based import functional

        model = rebuilt(model, spikingjelly_neurons)
        reset = lambda: functional.reset_net(model)  # noqa: E731  # two lines more say no more
    elif library == "snnTorch":
        model = rebuilt(model, SnnTorchNeurons)
    backend = "torch" if "plain torch" in traits else "auto"
    layout = torch.channels_last if "channels-last" in traits else torch.contiguous_format
    model.to(memory_format=layout).train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    targets = labels.repeat(steps) if time_first else labels.repeat_interleave(steps)

    def step() -> float:
        x = frames if time_first else frames.transpose(0, 1)
        if library != "ours":  # they have no means to see that the steps of an image are the same
            x = x.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, x.shape[:2])
        with use_backend(backend):
            with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in traits):
                readout = model(x)
            loss = cross_entropy(readout.float().flatten(0, 1), targets)
            adam.zero_grad()
            loss.backward()
        adam.step()
        reset()
        return float(loss.detach())

    return step


OTHERS = ("plain loop", "SpikingJelly", "snnTorch")
VARIANTS = (
    *(variant for library in OTHERS for variant in (library, f"{library}, channels-last")),
    *("ours, plain torch", "ours", "ours, bf16"),
)


class Convolutions(TorchDispatchMode):
    """Notes the convolutions of what runs inside, forward and backward, to run them again alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[Any]]] = []
        self._tensors: dict[tuple[Any, ...], Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default):
            self.calls.append((func, [self._like(value) if isinstance(value, Tensor) else value for value in args]))
        return func(*args, **(kwargs or {}))

    def _like(self, x: Tensor) -> Tensor:
        key = x.shape, x.stride(), x.dtype
        if key not in self._tensors:
            self._tensors[key] = torch.empty_strided(*key[:2], dtype=x.dtype).normal_()
        return self._tensors[key]

    def __call__(self) -> float:
        for func, args in self.calls:
            func(*args)
        return 0.0


def floor(step: Step) -> Step:
    """The convolutions of a step alone."""
    convolutions = Convolutions()
    with convolutions:
        step()
    return convolutions


def measure_memory(variant: str, name: str, options: argparse.Namespace) -> tuple[float, float]:
    """Peak resident megabytes of a process of its own, and how many of them training added."""
    command = [sys.executable, __file__, "--memory-of", variant, "--networks", name]
    command += ["--width", str(options.width), "--threads", str(options.threads)]
    command += ["--samples", str(options.samples)] if options.samples else []
    peak, before = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return peak, peak - before


def installed(variant: str) -> bool:
    """Whether a variant's library is there."""
    try:
        stepper(variant, "vgg_snn", 0.05, 1)
    except ModuleNotFoundError as error:
        print(f"without {variant}: {error}")
        return False
    return True


def main() -> None:
    """Measure and print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--width", type=float, default=0.25, help="share of the channels")
    parser.add_argument("--samples", type=int, default=None, help="batch size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="measure peak memory too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)  # the process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        step = stepper(options.memory_of, options.networks[0], options.width, options.samples)
        before = peak_megabytes()
        for _ in range(3):
            step()
        print(json.dumps([peak_megabytes(), before]))
        return
    variants = [variant for variant in options.variants if installed(variant)]
    print(f"torch {torch.__version__}, {options.threads} threads, width {options.width}, {options.rounds} rounds")
    print(f"{processor()}; allocator: {allocator()}")
    for name in options.networks:
        steppers = {variant: stepper(variant, name, options.width, options.samples) for variant in variants}
        floors = {f"{variant}: convolutions alone": variant for variant in variants if variant in ("ours", "ours, bf16")}
        steppers |= {alone: floor(steppers[variant]) for alone, variant in floors.items()}
        seconds = seconds_by_round(steppers, options.rounds)
        chosen, first = NETWORKS[name], variants[0]
        print(f"\n{name}: T={chosen['steps']}, {options.samples or chosen['samples']} samples of {chosen['shape']}\n")
        print(
            f"| variant | ms a step | times as fast as {first} (quartiles) | peak MB | of it training | that / {first}'s |"
        )
        print("|---|---|---|---|---|---|")
        memory = {variant: measure_memory(variant, name, options) for variant in variants} if options.memory else {}
        for variant in steppers:
            low, median, high = ratio(seconds, first, variant)
            row = f"| {variant} | {1e3 * statistics.median(seconds[variant]):.0f} | {median:.2f} ({low:.2f} to {high:.2f}) |"
            if variant in memory:
                peak, added = memory[variant]
                row += f" {peak:.0f} | {added:.0f} | {added / memory[first][1]:.2f} |"
            print(row)
        for alone, variant in floors.items():
            low, median, high = ratio(seconds, variant, alone)
            print(f"{variant}: {median:.2f} ({low:.2f} to {high:.2f}) times its convolutions alone")
        others = [f"{variant} {ratio(seconds, variant, 'ours')[1]:.2f}" for variant in variants if "ours" in seconds]
        print(f"ours is faster by: {', '.join(others)}")


if __name__ == "__main__":
    main()
