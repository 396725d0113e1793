"""What a model's forward() calls, and what each call gives for a known number of steps and samples.

The calls are written down by torch.fx. What the layers give is what they give in the model itself, called as it is, so that
whatever the calls do not show can be seen in the values; only neurons give seeded spikes in place of their own, so that
there is something to see at every depth.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from tet_deploy.errors import ArgumentError, GraphError, first_line
from tet_deploy.ir.shapes import Shape
from tet_deploy.tracing import step_norms, stimuli
from tet_deploy.tracing.calls import BY_STEP
from tet_deploy.tracing.eval_mode import owner
from tet_deploy.tracing.foreign import snntorch, spikingjelly
from tet_deploy.tracing.layers import is_neurons, layout_needed, needs_eval_mode
from tet_deploy.tracing.loops import Rolled, rolled_up

Heard = dict[str, deque[tuple[Any, Any]]]  # per layer and call, what it gave, and before that, of neurons, what they took
SAMPLES = 3
_STEPS = 2  # [2, 3, ...] and [6, ...] tell apart how time and batch lie: see `Captured.layout`
_REPEATS = ("unsqueeze", "repeat", "expand", torch.unsqueeze, torch.stack)  # functions, and names of methods
_NUMBERS = (getattr, "size", "dim")  # of a shape


@dataclass(frozen=True)
class Captured:
    """The calls of a model's forward() in order, and what each gave.

    Attributes
    ----------
    frames
        The call that gives frames [T, B, ...]: forward()'s argument, or what shows that, an image, at every step.
    steps, samples
        T and B.
    by_step
        Whether forward() is called for each step, with [B, ...]; `results` hold what all those calls gave, [T, B, ...].
    lines
        Whether the model takes samples [C, L], which are [C, 1, L] here.
    """

    program: fx.GraphModule
    results: Mapping[fx.Node, Any]
    frames: fx.Node
    steps: int
    samples: int
    by_step: bool
    lines: bool

    def layout(self, call: fx.Node) -> tuple[str, Shape] | None:
        """How time and batch lie in what a call gave, "separate" or "merged", and one sample's shape; None if neither."""
        shape = tuple(self.results[call].shape)
        if shape[:2] == (self.steps, self.samples):
            return "separate", self._sample(shape[2:])
        if shape[:1] == (self.steps * self.samples,):
            return "merged", self._sample(shape[1:])
        return None

    def _sample(self, shape: Shape) -> Shape:
        return (shape[0], 1, shape[1]) if self.lines and len(shape) == 2 else shape

    def separate(self, call: fx.Node) -> np.ndarray:
        """What a call gave, as [T, B, ...]."""
        _, shape = self.layout(call) or ("", ())
        values: np.ndarray = self.results[call].reshape(self.steps, self.samples, *shape).numpy()
        return values

    def is_by_step(self, call: fx.Node) -> bool:
        """Whether the layer is called for each step, with [B, ...]."""
        return self.by_step or BY_STEP in call.meta

    def makes_frames(self, call: fx.Node) -> bool:
        """Whether a call is a step on the way from forward()'s argument to frames."""
        return call is not self.frames and call in _ancestors(self.frames)


def capture(model: nn.Module, shape: Shape, encoding: str, *, lines: bool = False) -> Captured:
    """Write down the calls of model.forward, and run the model once on seeded frames [2, 3, *shape].

    Or on images, which forward() shows at as many steps as it does.

    Parameters
    ----------
    model
        In eval mode, float64 and no_grad; see `in_eval_mode`.

    Raises
    ------
    GraphError
        forward() cannot be written down, cannot run on such frames, or does something that the calls do not show.
    """
    rolled = rolled_up(model)
    program = rolled.program
    layers = {rolled.written.get_submodule(path): path for path in _layers_called(rolled.written)}
    for layer, path in {**layers, model: ""}.items():
        _check_standard(layer, path)
    image = torch.from_numpy(stimuli.frames((SAMPLES, *shape), encoding))
    shown = _shown(program, image)
    steps = shown[1] if shown else rolled.steps or _STEPS
    if steps == SAMPLES:  # steps and samples must not be as many
        image = torch.from_numpy(stimuli.frames((SAMPLES + 1, *shape), encoding))
    frames = torch.from_numpy(stimuli.frames((steps, len(image), *shape), encoding))
    by_step = shown is None and (rolled.by_step or spikingjelly.goes_by_step(model))
    inputs = [image] if shown else list(frames) if by_step else [frames]
    try:
        with _InFloat64():
            with _listening(layers) as heard:
                expected = _together([model(given) for given in inputs], by_step)
            replays = [_Replay(rolled.written, heard) for _ in inputs]
            found = _together([replay.run(given) for replay, given in zip(replays, inputs, strict=True)], by_step)
    except GraphError:
        raise
    except ArgumentError as error:  # a setting that was changed after the layer was made
        raise GraphError(f"{_failing(model, error)}: {error}") from error
    except Exception as error:  # it is anybody's code
        path, failing = _innermost(model, error)
        step_norms.refuse(failing, path)
        given, remedy = f"frames [T, B, *{shape}]", "that a TimeMajor holds plain layers, also those of modules inside it"
        if any(map(spikingjelly.is_layer, model.modules())):
            remedy = "that functional.set_step_mode(model, 'm') was called"
        if shown or by_step:
            given = f"an image [B, *{shape}]" if shown else f"one step [B, *{shape}], as its neurons have step_mode 's'"
            remedy = "that forward() does not loop over time: trace what it calls in the loop"
        if any(map(snntorch.is_layer, model.modules())):
            given = given.replace("have step_mode 's'", "are called once")
            remedy = "that forward() takes any number of samples, as with x.flatten(1) for x.view(batch_size, -1)"
        raise GraphError(
            f"{_failing(model, error)}: cannot run where the model is given {given} ({first_line(error)}). Check "
            f"input_shape, and {step_norms.remedy(failing, remedy)}."
        ) from error
    if isinstance(expected, Tensor) and not _same(expected, found):
        raise _unseen(type(model).__name__, "gives other values than")
    results = {
        call: _together(
            [_value(rolled, one, replay.results[one]) for replay in replays for one in calls], by_step or len(calls) > 1
        )
        for call, calls in rolled.calls.items()
    }
    program.graph.eliminate_dead_code()
    return Captured(program, results, shown[0] if shown else _argument(program), steps, len(image), by_step, lines)


def _failing(model: nn.Module, error: Exception) -> str:
    """The innermost module of the model in which an error arose, as errors name it."""
    path, module = _innermost(model, error)
    return f"layer {path!r}, a {type(module).__name__}" if path else type(model).__name__


def _innermost(model: nn.Module, error: Exception) -> tuple[str, nn.Module]:
    paths = {id(module): path for path, module in model.named_modules()}
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = [module for module in running if isinstance(module, nn.Module) and paths.get(id(module))]
    return (paths[id(inside[-1])], inside[-1]) if inside else ("", model)


def _value(rolled: Rolled, call: fx.Node, given: Any) -> Any:
    """What counts of what a call gave."""
    return snntorch.value_in(rolled.written.get_submodule(str(call.target)), given) if call.op == "call_module" else given


def _together(values: Sequence[Any], by_step: bool) -> Any:
    """What the calls for each step gave, [T, B, ...]; of the one call, what it gave; of neurons, their spikes."""
    values = [snntorch.spikes_in(value) for value in values]
    return torch.stack(values) if by_step and isinstance(values[0], Tensor) else values[0]


def _argument(program: fx.GraphModule) -> fx.Node:
    argument: fx.Node = next(call for call in program.graph.nodes if call.op == "placeholder")
    return argument


def _shown(program: fx.GraphModule, image: Tensor) -> tuple[fx.Node, int] | None:
    """The call that shows an image at every step, and at how many: x.unsqueeze(0).repeat(T, 1, ...) and the like."""
    call = _argument(program)
    while True:
        users = [user for user in call.users if user.target not in _NUMBERS]
        if len(users) != 1 or users[0].target not in _REPEATS:
            break
        call = users[0]
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in program.graph.nodes:
        if node in _ancestors(call):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[call])
    try:
        frames = fx.GraphModule(program, graph)(image)
    except Exception:  # it takes frames, and does something else with them
        return None
    if call is _argument(program) or frames.shape[1:] != image.shape or not _same(frames, image.expand_as(frames)):
        return None
    return call, len(frames)


def _ancestors(call: fx.Node) -> set[fx.Node]:
    """The call, and all that it needs."""
    found, left = set[fx.Node](), [call]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left.extend(node.all_input_nodes)
    return found


def _layers_called(program: fx.GraphModule) -> list[str]:
    return [str(call.target) for call in program.graph.nodes if call.op == "call_module"]


def _check_standard(layer: nn.Module, path: str) -> None:
    """See that a layer computes in eval mode what its class says."""
    what = owner(layer, path)
    if "forward" in vars(layer):
        raise GraphError(
            f"{what}: its forward() was replaced on the object, where tracing does not look. Write it into the class of a "
            "layer of your own."
        )
    if layer.training and needs_eval_mode(layer):
        raise GraphError(
            f"{what}: a {type(layer).__name__} that stays in training mode after model.eval() cannot be traced. Does a "
            "train() or eval() of the model hold it there? Leave it in eval mode, and check the accuracy so."
        )


@contextlib.contextmanager
def _listening(layers: Mapping[nn.Module, str]) -> Iterator[Heard]:
    """Hear what layers give when the model runs, after all other hooks, and let neurons give seeded spikes instead."""
    heard: Heard = defaultdict(deque)
    left: dict[nn.Module, dict[str, tuple[Tensor, int]]] = {}  # state, by neurons that keep it where a caller can change it

    def hook(path: str, seed: int) -> Callable[..., Any]:
        def hear(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            taken, left[layer] = None, snntorch.state(layer, args, kwargs)
            if is_neurons(layer):
                taken = _copy((*args, *kwargs.values())[0])
                step = len(heard[path]) if layout_needed(layer) == "step" else None
                seeded = torch.from_numpy(_seeded(snntorch.spikes_in(output).shape, seed, step))
                output = (seeded, *output[1:]) if isinstance(output, tuple) else seeded
            heard[path].append((taken, _copy(output)))
            return output

        return hear

    def look(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before = left.get(layer, {})
        for name, (tensor, version) in snntorch.state(layer, args, kwargs).items():
            if name not in before or (tensor is before[name][0] and version == before[name][1]):
                continue
            raise GraphError(
                f"layer {layers[layer]!r}: forward() changes its {snntorch.NAMES[name]} between steps, as utils.reset() "
                "does, which no node can express. Reset it before the first step only."
            )

    handles = [
        layer.register_forward_hook(hook(path, number), with_kwargs=True)
        for number, (layer, path) in enumerate(layers.items())
    ]
    handles += [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _seeded(shape: Sequence[int], seed: int, step: int | None) -> np.ndarray:
    """Spikes [T, B, ...]; or [B, ...], of that step."""
    if step is None:
        return stimuli.spikes(tuple(shape), seed)
    return np.asarray(stimuli.spikes((1, *shape), hash((seed, step)) % 2**32)[0])


class _InFloat64(TorchFunctionMode):
    """What a model casts to its own float32, as frames in x.float(), goes on in the float64 that it is looked at in."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args[1:], *(kwargs or {}).values()]
        if func is Tensor.float or (func in (Tensor.to, Tensor.type) and torch.float32 in given):
            return args[0].to(torch.float64)
        return func(*args, **(kwargs or {}))


class _Replay(fx.Interpreter):
    """Goes through the calls once more, with layers that give what they gave in the model."""

    def __init__(self, program: fx.GraphModule, heard: Heard) -> None:
        super().__init__(program)
        self.extra_traceback = False  # it would be added to our errors
        self.heard, self.results = heard, dict[fx.Node, Any]()

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.by_step:  # one call here, for each step one in the model
            return torch.stack([self._call(target, value) for value in (*args, *kwargs.values())[0]])
        return self._call(target, (*args, *kwargs.values())[0])

    def _call(self, target: Any, given: Any) -> Any:
        if not self.heard[target]:
            raise _unseen(f"layer {target!r}", "is not called, unlike in")
        taken, result = self.heard[target].popleft()
        if taken is not None and not _same(taken, given):
            raise _unseen(f"layer {target!r}", "takes other values than in")
        return result

    def run_node(self, n: fx.Node) -> Any:
        self.by_step = BY_STEP in n.meta
        self.results[n] = super().run_node(n)
        return self.results[n]


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value  # somebody may write into the original


def _same(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _unseen(what: str, does: str) -> GraphError:
    return GraphError(f"{what}: {does} the calls that torch.fx saw. Does forward() change values in place?")
