"""The trained model itself as a runtime: torch runs it as it is, and hooks on its layers see what its neurons do.

Tracing says which call of which layer a population of the graph stands for, and proves that it computes the same; what is
recorded here goes by the names of those populations.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy import dynamics
from tet_deploy.contracts import ProbeNames, Probes, Progress, Recording, check_frames, concatenate, populations, probe_names
from tet_deploy.errors import DataError, ExecutionError, GraphError, first_line
from tet_deploy.ir.nodes import LEAKY, CubaLIF, SoftResetLIF
from tet_deploy.ir.nodes import LIF as LIFNode
from tet_deploy.tracing.eval_mode import in_eval_mode, unwrapped
from tet_deploy.tracing.foreign.snntorch import spikes_in, value_in
from tet_deploy.tracing.layers import is_neurons
from tet_deploy.tracing.trace import trace_calls
from tet_deploy.tracing.translation import Call
from tet_deploy.wording import number_of

_Heard = dict[tuple[str, str], np.ndarray]  # by name of a population, and what of it
_VALUES_AT_ONCE = 2**24  # of the widest layer, over all steps and samples of one call


class TorchRuntime:
    """Runs a torch model in eval mode, with its own precision and on its own device, and leaves it as it was.

    Parameters
    ----------
    model
        One that `trace` takes.
    input_shape, encoding
        Of one sample in one step, and what the frames are; as in `trace`.

    Attributes
    ----------
    graph
        The model, traced.
    precision
        Rounding unit of its arithmetic.

    Raises
    ------
    GraphError
        The model cannot be traced, so that nobody knows which of its values are a node's.

    Examples
    --------
    >>> recording = TorchRuntime(model, (2, 20, 20), "events").run(frames)  # doctest: +SKIP
    """

    name = "torch"

    def __init__(self, model: nn.Module, input_shape: Sequence[int], encoding: str = "analog") -> None:
        self._traced = trace_calls(model, input_shape, encoding)
        self.graph = self._traced.graph
        deaf = [name for name in populations(self.graph) if name not in self._traced.populations]
        if deaf:
            raise GraphError(
                f"node {deaf[0]!r}: is a function's, to which no hook can listen. Make it a layer, nn.MaxPool2d."
            )
        self.model = unwrapped(model)
        self.precision = _precision(*_kind_of(self.model))
        self._widest = max(map(math.prod, self.graph.shapes.values()))

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the model over frames [T, B, *shape]; see `contracts.Runtime`.

        Membrane potentials are those that follow from the currents and the spikes of each layer of neurons, in its own
        precision; a max pool of spikes keeps none, they are 0.

        Raises
        ------
        DataError
            The frames do not fit the network, or are no image shown at every step where the model takes one.
        ExecutionError
            The model stopped, or does not give the readout of every step.
        """
        frames = check_frames(frames, self.graph.input.shape, self.graph.input.encoding)
        names = probe_names(populations(self.graph), probes)
        steps, samples = frames.shape[:2]
        size, parts = max(1, _VALUES_AT_ONCE // (steps * self._widest)), []
        for start in range(0, samples, size):
            parts.append(self._run_batch(frames[:, start : start + size], names))
            if progress:
                progress(min(start + size, samples), samples)
        return concatenate(parts)

    def _run_batch(self, frames: np.ndarray, names: ProbeNames) -> Recording:
        dtype, device = _kind_of(self.model)
        steps, samples = frames.shape[:2]
        _check_shown(frames, self._traced.shown, type(self.model).__name__)
        with in_eval_mode(self.model, as_float64=False), self._listening(names, steps, samples) as heard:
            given = torch.from_numpy(np.ascontiguousarray(frames)).to(device, dtype)
            given = given.squeeze(3) if self._traced.lines else given
            try:
                if self._traced.by_step:
                    readout = torch.stack([spikes_in(self.model(frame)) for frame in given])
                else:
                    readout = spikes_in(self.model(given[0] if self._traced.shown else given))
            except (GraphError, DataError):
                raise
            except Exception as error:  # it is anybody's code
                raise ExecutionError(
                    f"{type(self.model).__name__}: stopped on frames {frames.shape} ({first_line(error)}). Does it run on "
                    "other numbers of steps and samples?"
                ) from error
        classes = self.graph.shapes[self.graph.readout.name]
        if self._traced.readout is not None:
            readout = torch.from_numpy(heard[self.graph.readout.name, "readout"])
        if not isinstance(readout, Tensor) or tuple(readout.shape) != (steps, samples, *classes):
            raise ExecutionError(
                f"{type(self.model).__name__}: must give the readout of every step, {(steps, samples, *classes)}; got "
                f"{tuple(readout.shape) if isinstance(readout, Tensor) else type(readout).__name__}."
            )
        return Recording(
            spikes={name: heard[name, "spikes"] for name in names.spikes},
            potentials={name: heard[name, "potentials"] for name in names.potentials},
            readout=_array(readout),
            runtime=self.name,
        )

    @contextlib.contextmanager
    def _listening(self, names: ProbeNames, steps: int, samples: int) -> Iterator[_Heard]:
        """What the probed populations do while the model runs, and the readout where it is a layer's, [T, B, *shape]."""
        heard: _Heard = {}
        traced, parts = self._traced, defaultdict[Call, list[tuple[Tensor, Tensor]]](list)
        wanted = defaultdict[Call, list[str]](list)
        for name in {*names.spikes, *names.potentials}:
            wanted[traced.populations[name]].append(name)
        if traced.readout is not None:
            wanted[traced.readout].append(self.graph.readout.name)
        called = Counter[nn.Module]()

        def hear(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            each_step = traced.calls_per_step.get(layer, 0)
            call = Call(layer, called[layer] % each_step if each_step else called[layer])
            called[layer] += 1
            if call not in wanted:
                return
            parts[call].append(((*args, *kwargs.values())[0].detach(), value_in(layer, output).detach()))
            if each_step and len(parts[call]) < steps:
                return
            current, given = (torch.cat(of_steps) for of_steps in zip(*parts.pop(call), strict=True))
            for name in wanted[call]:
                record(name, layer, current, given.reshape(steps, samples, *self.graph.shapes[name]))

        def record(name: str, layer: nn.Module, current: Tensor, given: Tensor) -> None:
            if name == self.graph.readout.name:
                heard[name, "readout"] = _array(given)
                return
            heard[name, "spikes"] = given.to(torch.uint8).cpu().numpy()
            if name in names.potentials:
                node = self.graph[name]
                assert isinstance(node, LEAKY), node
                heard[name, "potentials"] = _array(_potentials(node if is_neurons(layer) else None, current, given))

        register: Callable[..., Any] = nn.Module.register_forward_hook
        handles = [register(layer, hear, with_kwargs=True) for layer in {call.layer for call in wanted}]
        try:
            yield heard
        finally:
            for handle in handles:
                handle.remove()


def _kind_of(model: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Type and device of the model's own numbers."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.float32, torch.device("cpu")


def _precision(dtype: torch.dtype, device: torch.device) -> float:
    """Half the distance of 1 to the next number; convolutions on a GPU may round what they multiply to 11 bits (TF32)."""
    tf32 = device.type == "cuda" and dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    return 2.0**-11 if tf32 else float(torch.finfo(dtype).eps) / 2


def _check_shown(frames: np.ndarray, steps: int | None, model: str) -> None:
    if steps is not None and (len(frames) != steps or not np.array_equal(frames, np.broadcast_to(frames[:1], frames.shape))):
        found = "that differ" if len(frames) == steps else f"of {number_of('step', len(frames))}"
        raise DataError(
            f"{model}: shows an image at {number_of('step', steps)} by itself, so that frames must be one image at as "
            f"many; got frames {found}. Use image[None].repeat({steps}, axis=0)."
        )


def _potentials(node: LIFNode | SoftResetLIF | CubaLIF | None, current: Tensor, spikes: Tensor) -> Tensor:
    """What a neuron's equation leaves at each step where it made these spikes;  0 for a max pool."""
    if node is None:
        return torch.zeros_like(spikes, dtype=torch.float32)
    current = current.reshape(spikes.shape)
    current = current.float() if current.dtype.itemsize < 4 else current
    if isinstance(node, SoftResetLIF):
        return torch.from_numpy(_soft_potentials(node, current.cpu().numpy(), spikes.cpu().numpy()))
    found, v = torch.empty_like(current), torch.zeros_like(current[0])
    held, zeroed = torch.zeros_like(v), spikes > 0
    if node.reset == "zero-delayed":
        zeroed = torch.cat([torch.zeros_like(zeroed[:1]), zeroed[:-1]])
    decay = torch.as_tensor(dynamics.per_channel(node.decay, v.dim())).to(v)
    for step, presynaptic in enumerate(current):
        if isinstance(node, CubaLIF):
            presynaptic = held = node.current_decay * held + presynaptic
        v = torch.where(zeroed[step], 0, decay * v + presynaptic)
        found[step] = v
    return found


def _soft_potentials(node: SoftResetLIF, current: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    found, v = np.empty_like(current), np.zeros_like(current[0])
    for step, presynaptic in enumerate(current):
        v = dynamics.after_reset(node, v, dynamics.compared(node, v, presynaptic), spikes[step])
        found[step] = v
    return found


def _array(values: Tensor) -> np.ndarray:
    values = values.detach()
    return np.asarray((values.float() if values.dtype.itemsize < 4 else values).cpu().numpy())
