"""NIR's neurons as ours: what the constants mean to the framework that wrote them, see `sources`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tet_deploy.errors import ArgumentError
from tet_deploy.importing.nir.building import Building
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.importing.nir.sources import SOURCES, Leak, Source
from tet_deploy.ir.nodes import LIF, SOFT_RESETS, CubaLIF, Flatten, LeakyReadout, SoftResetLIF
from tet_deploy.ir.shapes import Shape

AT_ONCE = "zero-at-once"  # what is said of snnTorch's reset_delay=False
_SAID_DECAY = 1e-9  # that what our exporter says may differ from what its constants give
_EDITED = "If it was edited, say source='nir', which reads the constants."


def leaky(building: Building, node: NirNode, x: str) -> str:
    source = _source(building, node)
    reset = _reset(building, node, source)
    shape = building.shape_in_file(x)
    decay, gain = _leaks(building, node, shape, source)
    rest = node.constant("v_leak", shape)
    if rest != _reset_potential(node, shape):
        raise node.refused(
            f"v_leak = {rest:g} and v_reset = {_reset_potential(node, shape):g} must be one potential, at which it rests",
            "Train with neurons that reset to where they rest.",
        )
    if rest and reset != "zero":
        raise node.refused(f"v_leak = {rest:g} must be 0 where a spike subtracts the threshold", "Train with a rest of 0.")
    return _neuron(building, node, x, source, reset, decay, gain)


def _leaks(building: Building, node: NirNode, shape: Shape, source: Source) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Decay and gain of all neurons, or [C] of those of each channel."""
    tau, r = (np.asarray(_positive_by_channel(node, name, shape)) for name in ("tau", "r"))
    if not tau.ndim and not r.ndim:
        return _leak(building, node, float(tau), float(r), source)
    pairs = list(zip(*(values.tolist() for values in np.broadcast_arrays(tau, r)), strict=True))
    known = {pair: _leak(building, node, pair[0], pair[1], source) for pair in set(pairs)}
    decays, gains = (np.array(values) for values in zip(*map(known.__getitem__, pairs), strict=True))
    return _one_or_all(decays), _one_or_all(gains)


def _one_or_all(values: np.ndarray) -> float | np.ndarray:
    return values if (values != values[0]).any() else float(values[0])


def _leak(building: Building, node: NirNode, tau: float, r: float, source: Source) -> Leak:
    dt = source.dt if building.dt is None else building.dt
    leak = source.leak(node, tau, r, dt)
    if not 0 <= leak.decay <= 1:
        raise node.refused(
            f"tau = {tau:g} and dt = {dt:g} give a decay of {leak.decay:g} a step, which must lie in [0, 1]",
            "Say the dt of the network, or the source that wrote the file.",
        )
    return leak


def leaky_integrator(building: Building, node: NirNode, x: str) -> str:
    """The readout: v' = decay * v + gain * I, where v is measured in gains."""
    source, shape = _source(building, node), building.shape_in_file(x)
    tau, r = (_positive(node, name, shape) for name in ("tau", "r"))
    decay, gain = _leak(building, node, tau, r, source)
    rest = node.constant("v_leak", shape)
    if rest or not gain > 0:
        raise node.refused(f"v_leak must be 0 and its input arrive; they are {rest:g} and {gain:g} times the input")
    return _readout(building, node, x, source, decay)


def integrator(building: Building, node: NirNode, x: str) -> str:
    """The same without a leak."""
    source = _source(building, node)
    _positive(node, "r", building.shape_in_file(x))
    return _readout(building, node, x, source, 1.0)


def _readout(building: Building, node: NirNode, x: str, source: Source, decay: float) -> str:
    if source.says_neurons:
        said = _said(node).constant("decay", building.shape_in_file(x))
        if abs(said - decay) > _SAID_DECAY:
            raise node.refused(f"its constants give a decay of {decay:g}, and its metadata say {said:g}", _EDITED)
        decay = said
    if len(building.shapes[x]) > 1:
        x = building.add(Flatten(name=building.new_name(f"{node.name}.flatten"), inputs=(x,)))
    return building.add(LeakyReadout(name=node.name, inputs=(x,), decay=decay))


def with_current(building: Building, node: NirNode, x: str) -> str:
    """A CubaLIF of SpikingJelly's or snnTorch's: tau = dt / (1 - decay), w_in = tau_syn / dt, r = tau_mem / dt.

    Nothing is scaled.
    """
    source = _source(building, node)
    if source.current_reset is None:
        raise node.refused(
            f"how a CubaLIF of source {source.name!r} makes a step is not in the file, or has no form here",
            "Train with neurons without a synaptic current, such as LIF.",
        )
    how = _reset(building, node, source)
    if how != "zero":
        raise node.refused(
            f"a neuron with a synaptic current must reset to zero; reset is {how!r}, which has no form here",
            "Say reset='zero', if that is how it was trained; else retrain with it.",
        )
    shape = building.shape_in_file(x)
    dt = source.dt if building.dt is None else building.dt
    current, gain = source.leak(node, _positive(node, "tau_syn", shape), _positive(node, "w_in", shape), dt)
    decay, more = source.leak(node, _positive(node, "tau_mem", shape), _positive(node, "r", shape), dt)
    rests = {name: node.constant(name, shape) for name in ("v_leak", "v_reset")}
    if (gain, more) != (1.0, 1.0) or any(rests.values()) or not (0 <= decay <= 1 and 0 <= current <= 1):
        raise node.refused(
            f"w_in and r must be tau_syn/dt and tau_mem/dt, and v_leak and v_reset 0; with dt = {dt:g} input is scaled by "
            f"{gain:g} and {more:g}, and they are {rests['v_leak']:g} and {rests['v_reset']:g}",
            "Say the dt of the network.",
        )
    return building.add(
        CubaLIF(
            name=node.name,
            inputs=(x,),
            current_decay=current,
            decay=decay,
            threshold=_float32(node, node.by_channel("v_threshold", shape)),
            reset="zero" if building.reset == AT_ONCE else source.current_reset,
            comparison=source.comparison,
        )
    )


def integrate_and_fire(building: Building, node: NirNode, x: str) -> str:
    source = _source(building, node)
    reset = _reset(building, node, source)
    if source.integrate is None:
        raise node.refused(f"source {source.name!r} writes no IF neurons", "Say the source that wrote the file.")
    r = _positive(node, "r", building.shape_in_file(x))
    gain = source.integrate(node, r, source.dt if building.dt is None else building.dt)
    return _neuron(building, node, x, source, reset, 1.0, gain)


def without_memory(building: Building, node: NirNode, x: str) -> str:
    """z = 1 where x > threshold: a neuron that remembers nothing."""
    threshold = node.by_channel("threshold", building.shape_in_file(x))
    return building.add(LIF(name=node.name, inputs=(x,), decay=0.0, threshold=_float32(node, threshold)))


def _neuron(
    building: Building,
    node: NirNode,
    x: str,
    source: Source,
    reset: str,
    decay: float | np.ndarray,
    gain: float | np.ndarray,
) -> str:
    shape = building.shape_in_file(x)
    rest = _reset_potential(node, shape)
    if rest and reset != "zero":
        raise node.refused(
            f"v_reset = {rest:g} says that its neurons do not subtract their threshold", "Say reset='zero', or nothing."
        )
    if rest and not source.rests_at_reset:
        raise node.refused(
            f"v_reset = {rest:g} must be 0, as its first potential is not said", "Train with neurons that reset to 0."
        )
    threshold = _float32(node, (node.by_channel("v_threshold", shape) - rest) / gain if np.all(gain) else math.inf)
    if source.says_neurons:
        if reset != "zero":
            raise node.refused("the neurons of this file reset to 0, as its metadata say", "Say reset='zero', or nothing.")
        return building.add(_as_said(node, x, shape, decay, threshold))
    if isinstance(decay, np.ndarray) and reset != "zero":
        raise node.refused(
            "tau must be one number for all neurons where a spike subtracts the threshold",
            "Train with one tau for the layer.",
        )
    kind: Any = LIF if reset == "zero" else SoftResetLIF
    return building.add(
        kind(
            name=node.name,
            inputs=(x,),
            decay=decay,
            threshold=threshold,
            reset=reset,
            comparison=source.comparison,
        )
    )


def _as_said(node: NirNode, x: str, shape: Shape, decay: float | np.ndarray, threshold: float | np.ndarray) -> LIF:
    """The neuron of which our exporter made these constants: they are off by the rounding that it allows other readers."""
    about = _said(node)
    if about.fields.get("comparison") not in (">", ">="):
        raise node.refused(
            "its metadata must say '>' or '>=', as tet_deploy writes them", "Say the source that wrote the file."
        )
    said = LIF(
        name=node.name,
        inputs=(x,),
        decay=about.by_channel("decay", shape),
        threshold=about.by_channel("threshold", shape),
        comparison=about.fields["comparison"],
    )
    if np.max(np.abs(said.decay - decay)) > _SAID_DECAY or np.max(np.abs(said.threshold / threshold - 1)) > 1e-6:
        raise node.refused(
            f"its constants give a decay of {np.min(decay):g} and a threshold from {np.min(threshold):g}, and its "
            f"metadata say {np.min(said.decay):g} and {np.min(said.threshold):g}",
            _EDITED,
        )
    return said


def _said(node: NirNode) -> NirNode:
    """What our exporter says of a node, as fields."""
    metadata = node.fields.get("metadata")
    return NirNode(node.name, node.kind, metadata if isinstance(metadata, dict) else {})


def _float32(node: NirNode, threshold: float | np.ndarray) -> float | np.ndarray:
    with np.errstate(over="ignore"):
        narrow = np.asarray(threshold, np.float32)
    if not ((narrow > 1e-30) & (narrow < np.inf)).all():
        raise node.refused(
            f"its threshold, of what a step adds to the potential, must be positive and finite; it is {np.min(threshold):g}",
            "Check v_threshold, r and tau, or say the source that wrote the file.",
        )
    return narrow if narrow.ndim else float(narrow)


def _source(building: Building, node: NirNode) -> Source:
    if building.source is None:
        tell = "; ".join(f"'{source.name}' ({source.tell})" for source in SOURCES.values())
        raise ArgumentError(
            f"node {node.name!r}: the constants of a {node.kind} depend on who wrote the file. Say source=, one of\n{tell}."
        )
    return building.source


def _reset(building: Building, node: NirNode, source: Source) -> str:
    """What a spike does to the potential: "zero", or one of `SOFT_RESETS`."""
    said = "zero" if building.reset == AT_ONCE else building.reset
    how = said or ("zero" if source.reset == "file" and "v_reset" in node else None)
    if source.reset == "subtract" and how != "zero":
        raise node.refused(
            "Rockpool's neurons subtract their threshold and may spike several times a step, which has no form here",
            "reset='zero' reads them as neurons that reset to 0: compare its spikes with the framework's.",
        )
    if how in SOFT_RESETS and source.subtract is None:
        raise node.refused("SpikingJelly writes no neurons that subtract their threshold", "Say reset='zero', or nothing.")
    if how is None:
        why = "writes the same file for each kind of reset" if source.reset is None else "up to 1.0.5 does not write it"
        who = source.name if source.reset is None else "NIR"
        raise ArgumentError(
            f"node {node.name!r}: how it resets is not in the file, as {who} {why}. Say reset='zero' or reset='subtract', "
            f"as the network was trained.{' The default of snnTorch is subtract.' if source.reset is None else ''}"
        )
    return source.subtract if how == "subtract" and source.subtract else how


def _reset_potential(node: NirNode, shape: Shape) -> float:
    return node.constant("v_reset", shape) if "v_reset" in node else 0.0


def _positive_by_channel(node: NirNode, name: str, shape: Shape) -> float | np.ndarray:
    found = node.by_channel(name, shape)
    if np.min(found) <= 0:
        raise node.refused(f"{name} must be positive; got {np.min(found):g}")
    return found


def _positive(node: NirNode, name: str, shape: Shape) -> float:
    found = node.constant(name, shape)
    if found <= 0:
        raise node.refused(f"{name} must be positive; got {found:g}")
    return found
