"""Builds the Lava network that plan.json describes, between a source of frames and the recorders.

Timing, with T steps per sample: a synapse sends the sums of the step before, an LIF answers in the same step. So an LIF of
latency l sees local step k of sample n in Lava step n*T + k + 1 + l and is reset where k = 0. The plan says every latency;
where branches of different length meet, it makes the shorter one wait.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIFReset
from loihi_models.fast_models import FastConv, FastLIFReset
from loihi_models.frames import FrameSource
from loihi_models.recorders import OutputRecorder, PotentialRecorder

Shape = tuple[int, ...]
_LIVES_ONE_STEP = 4096  # the decay of a current that an LIF of the plan does not have


def build(
    plan: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    frames: Path,
    records: Path,
    probes: Mapping[str, Collection[str]],
    counted: Mapping[str, Collection[str]],
) -> AbstractProcess:
    """Connect all processes and create the files they will record to.

    Parameters
    ----------
    plan, arrays
        Content of plan.json and arrays.npz.
    frames
        File of frames [T, B, *shape].
    records
        Folder that receives readout.npy, clock.npy, spikes.<i>.npy and potentials.<i>.npy for the probed populations i, and
        for each kind of `counted` <kind>.<i>.npy for its names.
    probes
        Names of populations under "spikes" and "potentials".
    counted
        Names of nodes whose values are counted, under "clipped", "wrapped" and "saturated", where they leave their range.

    Returns
    -------
    AbstractProcess
        One of the processes; Lava finds the others from it.
    """
    steps, samples = np.load(frames, mmap_mode="r").shape[:2]
    counts = _Counts(records, (steps, samples), counted)
    entry, probed = plan["input"], [node["name"] for node in plan["nodes"] if node["kind"] == "lif"]
    shape = _lava_shape(entry["shape"])
    source = FrameSource(
        path=str(frames),
        shape=shape,
        scale=entry["scale"],
        limit=2 ** (entry["bits"] - 1) - 1,
        clipped=counts.where("clipped", entry["name"], 0),
    )
    wires: dict[str, Any] = {entry["name"]: source.s_out}
    for node in plan["nodes"]:
        name = node["name"]
        if node["kind"] == "sum":
            wires[name] = _sum(node, wires)
        elif node["kind"] == "lif":
            neurons = _population(node, arrays, period=steps)
            for kind in ("wrapped", "saturated"):
                neurons.proc_params[kind] = counts.where(kind, name, node["latency"])
            _connect([wires[port] for port in node["sources"]], neurons.a_in)
            wires[name] = neurons.s_out
            where: dict[str, Any] = {"shape": neurons.s_out.shape, "latency": node["latency"]}
            index, recorded = probed.index(name), (steps, samples, *node["shape"])
            if name in probes["spikes"]:
                path = _new_record(records / f"spikes.{index}.npy", np.uint8, recorded)
                neurons.s_out.connect(OutputRecorder(name=f"spikes of {name}", path=path, **where).a_in)
            if name in probes["potentials"]:
                path = _new_record(records / f"potentials.{index}.npy", np.int32, recorded)
                PotentialRecorder(name=f"potentials of {name}", path=path, **where).v.connect_var(neurons.v)
        else:
            wires[name] = _synapses(node, arrays, wires[node["source"]], counts)
    readout = plan["readout"]
    ports, latency = [wires[port] for port in readout["sources"]], readout["latency"]
    path = _new_record(records / "readout.npy", np.int32, (steps, samples, *ports[0].shape))
    clock = _new_record(records / "clock.npy", np.float64, (steps * samples + latency,))
    _connect(ports, OutputRecorder(name="readout", path=path, shape=ports[0].shape, latency=latency, clock=clock).a_in)
    return source


def _connect(ports: list[Any], target: Any) -> None:
    """Let several ports send to one, which sums what arrives."""
    for port in ports:
        port.connect(target)


def run_config(stock: bool) -> Loihi2SimCfg:
    """Fixed-point simulation with Lava's own models, or with the fast ones of this bundle."""
    models = {} if stock else {Conv: FastConv, LIFReset: FastLIFReset}
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)


class _Counts:
    """The files that processes write to how many of their values left their range."""

    def __init__(self, records: Path, layout: Shape, counted: Mapping[str, Collection[str]]) -> None:
        self._paths = {
            (kind, name): _new_record(records / f"{kind}.{index}.npy", np.int64, layout)
            for kind, names in counted.items()
            for index, name in enumerate(names)
        }

    def where(self, kind: str, name: str, latency: int) -> dict[str, Any] | None:
        """What a process needs of `records.Record`; None where it need not count."""
        path = self._paths.get((kind, name))
        return path and {"path": path, "latency": latency}


def _synapses(node: Mapping[str, Any], arrays: Mapping[str, np.ndarray], wire: Any, counts: _Counts) -> Any:
    """Connect a wire to new synapses and return the port that their sums leave."""
    name, weight = node["name"], arrays[node["weight"]].astype(np.int32)
    bits = node["message_bits"]  # 0 for spikes
    if node["kind"] == "dense":
        return _dense(name, weight, bits, wire)
    conv = Conv(
        weight=weight,
        input_shape=tuple(node["input_shape"]),
        stride=tuple(node["stride"]),
        padding=tuple(node["padding"]),
        dilation=tuple(node["dilation"]),
        groups=node["groups"],
        num_message_bits=bits,
        name=name,
    )
    conv.proc_params["wrapped"] = counts.where("wrapped", name, node["latency"] - 1)  # summed a step before they are sent
    (wire if wire.shape == conv.s_in.shape else wire.reshape(conv.s_in.shape)).connect(conv.s_in)
    return conv.a_out.flatten() if node["flat_output"] else conv.a_out


def _dense(name: str, weight: np.ndarray, bits: int, wire: Any) -> Any:
    # The recipe that keeps the last bit of mixed-sign weights: twice the weight, exponent -1.
    dense = Dense(weights=2 * weight, weight_exp=-1, num_message_bits=bits, name=name)
    (wire if len(wire.shape) == 1 else wire.flatten()).connect(dense.s_in)
    return dense.a_out


def _sum(node: Mapping[str, Any], wires: Mapping[str, Any]) -> Any:
    """Identities from all sources into GradedVec, which sends on what it gets, and keeps nothing, where vth is 0."""
    shape = _lava_shape(node["shape"])
    graded = GradedVec(shape=shape, vth=0)
    for index, (source, bits) in enumerate(zip(node["sources"], node["message_bits"], strict=True)):
        unit, name = np.eye(shape[-1], dtype=np.int32), f"{node['name']} from {index}"
        if len(shape) == 1:
            out = _dense(name, unit, bits, wires[source])
        else:
            conv = Conv(weight=unit[:, None, None, :], input_shape=shape, num_message_bits=bits, name=name)
            wires[source].connect(conv.s_in)
            out = conv.a_out
        out.connect(graded.a_in)
    return graded.s_out


def _population(population: Mapping[str, Any], arrays: Mapping[str, np.ndarray], period: int) -> LIFReset:
    bias = arrays[population["bias"]] if population["bias"] else 0
    threshold = population["threshold"]
    return LIFReset(
        shape=_lava_shape(population["shape"]),
        du=population.get("current_decay", _LIVES_ONE_STEP) - 1,
        dv=population["decay"],
        vth=arrays[threshold] if isinstance(threshold, str) else threshold,  # [C] too, though Lava speaks of a number
        bias_mant=bias,  # [C]: broadcasts over Lava's [W, H, C]
        bias_exp=population["bias_exponent"],
        reset_interval=period,
        reset_offset=population["latency"] + 1,
        name=population["name"],
    )


def _new_record(path: Path, dtype: type, shape: Shape) -> str:
    np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    return str(path)


def _lava_shape(shape: list[int]) -> Shape:
    return tuple(reversed(shape))  # [C, H, W] of torch becomes [W, H, C]
