"""Loops over time in forward(), as networks of snnTorch hold them, rolled up to the calls of one step.

    mem = self.lif.init_leaky()
    for step in range(x.size(0)):
        spk, mem = self.lif(self.fc(x[step]), mem)
        record.append(spk)
    return torch.stack(record)

torch.fx writes down the calls of every step, one step after another. What the steps give is stacked at the end; from there
the calls of all steps are followed backwards side by side. They must be the same calls, of the frame of their step, and each
population must go on from the potential that it left a step before.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from tet_deploy.errors import GraphError
from tet_deploy.tracing import step_norms
from tet_deploy.tracing.calls import BY_STEP, is_copy, written_down
from tet_deploy.tracing.foreign import snntorch

_STEPS, _MANY = 3, 128  # of frames; what a loop does later than that is not seen
_NUMBERS = (getattr, "size", "dim")  # of a shape
_OTHER_VALUE = {  # by whether the layer integrates
    False: "its {} is used as a value, which no node gives. Let its spikes go on; return torch.stack of "
    "them, or of what the last layer before neurons gives, or of the potentials of a last layer of reset_mechanism='none'.",
    True: "its spikes are used, and as one of reset_mechanism 'none' it spikes whenever its potential is above the "
    "threshold, which no node does. Return torch.stack of its potentials, as the first or only result.",
}
_ZEROS = (torch.zeros_like, torch.zeros, "new_zeros")  # functions, and names of methods
_Calls = tuple[fx.Node, ...]  # one for each step of the loop; or the one of a call outside of it


@dataclass(frozen=True)
class Rolled:
    """The calls of a model's forward().

    Attributes
    ----------
    written
        As they are made.
    program
        The same, but that those in a loop over time stand there once, with BY_STEP in their meta. Neurons give spikes only,
        integrators potentials; of several results the first is kept, as the others are what a user looks at.
    calls
        Of each call of the program, those that it stands for.
    steps
        Of the loop; None without one.
    by_step
        Whether forward() is called for each step.
    """

    written: fx.GraphModule
    program: fx.GraphModule
    calls: Mapping[fx.Node, _Calls]
    steps: int | None
    by_step: bool


def rolled_up(model: nn.Module) -> Rolled:
    """The calls of model.forward, as torch.fx writes them down, and with a loop over time rolled up.

    Raises
    ------
    GraphError
        forward() cannot be written down, or does not do the same at each step.
    """
    rolled = _rolled_up(written_down(model, _STEPS))
    if rolled.steps and _numbered(_rolled_up(written_down(model, _MANY)).program) != _numbered(rolled.program):
        raise GraphError(
            f"{type(model).__name__}: its loop over time does something else after {_STEPS} steps. It must do the same at "
            "each step."
        )
    return rolled


def _numbered(program: fx.GraphModule) -> list[tuple[Any, ...]]:
    """The calls of a program, each known to the others by its place."""
    places = {call: f"call {place}" for place, call in enumerate(program.graph.nodes)}
    return [
        (call.op, call.target, *fx.map_arg((call.args, call.kwargs), lambda call: places[call]))
        for call in program.graph.nodes
    ]


def _rolled_up(written: fx.GraphModule) -> Rolled:
    neurons = defaultdict[str, list[fx.Node]](list)
    for call in written.graph.nodes:
        layer = written.get_submodule(call.target) if call.op == "call_module" else None
        if layer is None or not snntorch.is_layer(layer):
            continue
        if not snntorch.is_neurons(layer):
            kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
            raise GraphError(f"layer {call.target!r}: a {kind} cannot be traced. {snntorch.REMEDY}")
        if snntorch.integrates(layer) and not snntorch.gives_state(layer):
            raise GraphError(f"layer {call.target!r}: a {type(layer).__name__} {snntorch.SPIKES_ALONE}")
        neurons[call.target].append(call)
    if not neurons:
        return Rolled(written, written, {call: (call,) for call in written.graph.nodes}, None, False)
    steps = _steps_of_loop(written)
    for path, calls in neurons.items():
        if steps is None and len(calls) > 1:
            raise GraphError(
                f"layer {path!r}: is called {len(calls)} times, and forward() does not return what torch.stack makes of all "
                "steps. Give each call a layer of its own; from a loop over time, return torch.stack(record), or its "
                "mean(0) or sum(0)."
            )
    rolling = _Rolling(written, neurons, steps or 1)
    return Rolled(written, rolling.program(), rolling.calls, steps, steps is None)


def _steps_of_loop(written: fx.GraphModule) -> int | None:
    """How many values are stacked on the way to what forward() returns first."""
    seen, left = set[fx.Node](), [_first_result(written)]
    while left:
        call = left.pop(0)
        if not isinstance(call, fx.Node) or call in seen:
            continue
        if _stacked(call) is not None:
            return len(_stacked(call) or ())
        seen.add(call)
        left.extend(call.all_input_nodes)
    return None


def _first_result(written: fx.GraphModule) -> Any:
    result = next(call for call in written.graph.nodes if call.op == "output").args[0]
    return result[0] if isinstance(result, (tuple, list)) and result else result


def _stacked(call: fx.Node) -> _Calls | None:
    """What torch.stack stacks over its first axis."""
    if call.target is not torch.stack or (*call.args[1:], call.kwargs.get("dim", 0))[0] != 0:
        return None
    values: Any = (*call.args, call.kwargs.get("tensors"))[0]
    return tuple(values) if isinstance(values, (tuple, list)) else None


class _Rolling:
    def __init__(self, written: fx.GraphModule, neurons: Mapping[str, list[fx.Node]], steps: int) -> None:
        self.written, self.neurons, self.steps = written, neurons, steps
        self.place = {call: place for place, call in enumerate(written.graph.nodes)}
        self.calls: dict[fx.Node, _Calls] = {}

    def program(self) -> fx.GraphModule:
        arguments = [(call,) for call in self.place if call.op == "placeholder"]
        last = self._meant((_first_result(self.written),))
        found, left = set[_Calls](arguments), [last]
        while left:
            calls = left.pop()
            if calls not in found:
                found.add(calls)
                self._each(calls, left.append)
        graph, made = fx.Graph(), dict[_Calls, fx.Node]()
        for calls in sorted(found, key=lambda calls: (self.place[calls[0]], len(calls))):
            made[calls] = self._make(graph, calls, made)
            self.calls[made[calls]] = calls
        end = graph.output(made[last])
        self.calls[end] = (next(call for call in self.place if call.op == "output"),)
        return fx.GraphModule(self.written, graph)

    def _make(self, graph: fx.Graph, calls: _Calls, made: Mapping[_Calls, fx.Node]) -> fx.Node:
        first = calls[0]
        if first.op == "placeholder" and len(calls) > 1:  # an image
            return graph.call_function(torch.stack, ([made[first,]] * len(calls),))
        args, kwargs = self._each(calls, made.__getitem__)
        node = graph.create_node(first.op, first.target, args, kwargs, first.name)
        node.meta = {**first.meta, **({BY_STEP: True} if len(calls) > 1 else {})}
        return node

    def _each(self, calls: _Calls, do: Callable[[_Calls], Any]) -> tuple[Any, Any]:
        """The arguments of calls that stand side by side, with what `do` gives for those that are calls themselves."""
        first = calls[0]
        if first.op == "placeholder":
            return (do((first,)),) if len(calls) > 1 else first.args, {}
        for step, call in enumerate(calls):
            if (call.op, call.target) != (first.op, first.target):
                raise self._differ(step, call, first)
        given: list[Any] = [(call.args, call.kwargs) for call in calls]
        if self._is_neurons(first):
            self._check_state(calls)
            given = [(self._given(call)[:1], {}) for call in calls]
        try:
            args, kwargs = self._zipped(given, lambda calls: do(self._meant(calls)))
            return args, kwargs
        except _DifferError:
            raise self._differ(1, calls[1], first) from None

    def _zipped(self, values: Any, do: Callable[[_Calls], Any]) -> Any:
        """What stands in the same place at each step, as one value."""
        first = values[0]
        if all(isinstance(value, fx.Node) for value in values):
            return do(tuple(values))
        if all(isinstance(value, (tuple, list)) and len(value) == len(first) for value in values):
            return tuple(self._zipped(of_steps, do) for of_steps in zip(*values, strict=True))
        if all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
            return {key: self._zipped([value[key] for value in values], do) for key in first}
        if all(isinstance(value, slice) for value in values):
            return slice(*self._zipped([(value.start, value.stop, value.step) for value in values], do))
        if any(isinstance(value, fx.Node) or value != first for value in values):
            raise _DifferError
        return first

    def _meant(self, calls: _Calls) -> _Calls:
        """The calls that are made for what these give: frames for one of each step, neurons for their spikes.

        Those that integrate for their potentials. Copies are what was copied.
        """
        calls = tuple(map(_same_value, calls))
        first = calls[0]
        if len(calls) == 1 and self.steps > 1 and len(_stacked(first) or ()) == self.steps:
            return self._meant(_stacked(first) or ())
        if all(map(_is_size, calls)) or {(call.op, call.target) for call in calls} == {("get_attr", first.target)}:
            return (first,)
        if any(call.target is not operator.getitem for call in calls):
            return calls
        of: list[Any] = [call.args[0] for call in calls]
        index: list[Any] = [call.args[1] for call in calls]
        if len(calls) > 1 and set(of) == {of[0]} and index == list(range(self.steps)):
            return self._meant((of[0],))
        if not self._is_neurons(of[0]) or not snntorch.gives_state(self.written.get_submodule(of[0].target)):
            return calls
        integrates = snntorch.integrates(self.written.get_submodule(of[0].target))
        if set(index) != {int(integrates)}:
            kept = snntorch.states(self.written.get_submodule(of[0].target))
            which = " or ".join(snntorch.NAMES[name] for name in kept)
            raise GraphError(f"layer {of[0].target!r}: {_OTHER_VALUE[integrates].format(which)}")
        return tuple(of)

    def _is_neurons(self, call: Any) -> bool:
        return isinstance(call, fx.Node) and call.op == "call_module" and call.target in self.neurons

    def _given(self, call: fx.Node) -> tuple[Any, ...]:
        """What neurons are given: their input, and then their states, None for those that they are not given."""
        names = ("input_", *snntorch.states(self.written.get_submodule(str(call.target))))
        return (*call.args, *(call.kwargs.get(name) for name in names[len(call.args) :]))

    def _check_state(self, calls: _Calls) -> None:
        """See that neurons are called once in each step, and go on from where they were."""
        path = str(calls[0].target)
        if tuple(self.neurons[path]) != calls:
            raise GraphError(
                f"layer {path!r}: is called {len(self.neurons[path])} times by a forward() that gives {self.steps} steps; "
                "it must be called once in each. Give each call a layer of its own, as a population keeps one state."
            )
        for place in range(1, len(self._given(calls[0]))):
            states = [self._given(call)[place] for call in calls]
            if all(state is None for state in states):
                continue  # each call goes on from where the last one was
            kept = snntorch.states(self.written.get_submodule(path))
            which = snntorch.NAMES[kept[place - 1]]
            if len(calls) == 1:
                raise GraphError(
                    f"layer {path!r}: is given a {which} by a forward() that takes one step, so that nothing is "
                    "kept from step to step. Use init_hidden=True, or loop over time in forward()."
                )
            wrong = None if self._is_zero(_same_value(states[0])) else 0
            for step in range(1, len(calls)):
                state = _same_value(states[step])
                goes_on = isinstance(state, fx.Node) and state.target is operator.getitem
                if wrong is None and not (goes_on and state.args == (calls[step - 1], place)):
                    wrong = step
            if wrong is not None:
                names = ", ".join(kept)
                raise GraphError(
                    f"layer {path!r}: at step {wrong} its {which} must be "
                    f"{'the one that it gave a step before' if wrong else '0'}; it is given another. Write "
                    f"{names} = self.{path}.reset_mem() before the loop over time, and spk, {names} = "
                    f"self.{path}(cur, {names}) in it."
                )

    def _is_zero(self, state: Any) -> bool:
        if state is None:
            return True
        if getattr(state, "op", None) == "get_attr":
            value: Any = operator.attrgetter(state.target)(self.written)
            return not bool(value.any())
        return isinstance(state, fx.Node) and state.target in _ZEROS

    def _differ(self, step: int, call: fx.Node, first: fx.Node) -> GraphError:
        if call.op == first.op == "call_module" and call.target != first.target:
            layers = [self.written.get_submodule(str(one.target)) for one in (first, call)]
            if all(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
                found = f"{call.target!r} at step {step}, as in BNTT"
                return step_norms.refusal(f"layer {str(first.target)!r}, a {type(layers[0]).__name__}", found)
        return GraphError(
            f"{first.name!r}: the loop over time in forward() does something else at step {step} than at step 0 "
            f"({_shown(call)}, not {_shown(first)}). It must do the same at each step, with the frame of that step."
        )


class _DifferError(Exception):
    pass


def _same_value(state: Any) -> Any:
    """What was detached or copied, which changes no value."""
    while is_copy(state):
        state = state.args[0]
    return state


def _is_size(call: fx.Node) -> bool:
    """Whether a call gives the shape of forward()'s argument, or a number made from it."""
    given = call.all_input_nodes
    of_argument = call.target in _NUMBERS and given[0].op == "placeholder"
    return of_argument or (call.op == "call_function" and bool(given) and all(map(_is_size, given)))


def _shown(call: fx.Node) -> str:
    target = call.target if isinstance(call.target, str) else getattr(call.target, "__name__", str(call.target))
    return f"{target}({', '.join(map(str, call.args))})"[:80]
