"""Builds the Lava network that plan.json describes, between a source of frames and the recorders.

Timing, with T steps per sample and synapse layers l = 1..L: a synapse sends the sums of the step before, an LIF answers in
the same step. So LIF l sees local step k of sample n in Lava step n*T + k + 1 + l, is reset where k = 0, and the readout,
which is what synapse L sends, arrives in step n*T + k + 1 + L.
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
from lava.proc.lif.process import LIFReset
from loihi_models.fast_models import FastConv, FastLIFReset
from loihi_models.frames import FrameSource
from loihi_models.recorders import OutputRecorder, PotentialRecorder

Shape = tuple[int, ...]
_CURRENT_LIVES_ONE_STEP = 4095  # du


def build(
    plan: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    frames: Path,
    records: Path,
    probes: Mapping[str, Collection[str]],
) -> AbstractProcess:
    """Connect all processes and create the files they will record to.

    Parameters
    ----------
    plan, arrays
        Content of plan.json and arrays.npz.
    frames
        File of frames [T, B, *shape].
    records
        Folder that receives readout.npy, clock.npy, and spikes.<i>.npy and potentials.<i>.npy for the probed populations i.
    probes
        Names of populations under "spikes" and "potentials".

    Returns
    -------
    AbstractProcess
        One of the processes; Lava finds the others from it.
    """
    steps, samples = np.load(frames, mmap_mode="r").shape[:2]
    entry = plan["input"]
    shape = _lava_shape(entry["shape"])
    source = FrameSource(path=str(frames), shape=shape, scale=entry["scale"], limit=2 ** (entry["bits"] - 1) - 1)
    wire = source.s_out
    for index, layer in enumerate(plan["layers"]):
        out = _connect_synapses(layer["synapses"], arrays, wire)
        population, latency = layer["population"], index + 1
        if population is None:
            path = _new_record(records / "readout.npy", np.int32, (steps, samples, *out.shape))
            clock = _new_record(records / "clock.npy", np.float64, (steps * samples + latency,))
            reader = OutputRecorder(name="readout", path=path, shape=out.shape, latency=latency, clock=clock)
            out.connect(reader.a_in)
            continue
        name = population["name"]
        neurons = _population(population, arrays, period=steps, offset=latency + 1)
        out.connect(neurons.a_in)
        wire = neurons.s_out
        where: dict[str, Any] = {"shape": wire.shape, "latency": latency}
        recorded = (steps, samples, *population["shape"])
        if name in probes["spikes"]:
            path = _new_record(records / f"spikes.{index}.npy", np.uint8, recorded)
            wire.connect(OutputRecorder(name=f"spikes of {name}", path=path, **where).a_in)
        if name in probes["potentials"]:
            path = _new_record(records / f"potentials.{index}.npy", np.int32, recorded)
            PotentialRecorder(name=f"potentials of {name}", path=path, **where).v.connect_var(neurons.v)
    return source


def run_config(stock: bool) -> Loihi2SimCfg:
    """Fixed-point simulation with Lava's own models, or with the fast ones of this bundle."""
    models = {} if stock else {Conv: FastConv, LIFReset: FastLIFReset}
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)


def _connect_synapses(synapses: Mapping[str, Any], arrays: Mapping[str, np.ndarray], wire: Any) -> Any:
    """Connect a wire to new synapses and return the port that their sums leave."""
    name, weight = synapses["name"], arrays[synapses["weight"]].astype(np.int32)
    bits = synapses["message_bits"]  # 0 for spikes
    if synapses["process"] == "Dense":
        # The recipe that keeps the last bit of mixed-sign weights: twice the weight, exponent -1.
        dense = Dense(weights=2 * weight, weight_exp=-1, num_message_bits=bits, name=name)
        (wire if len(wire.shape) == 1 else wire.flatten()).connect(dense.s_in)
        return dense.a_out
    conv = Conv(
        weight=weight,
        input_shape=tuple(synapses["input_shape"]),
        stride=tuple(synapses["stride"]),
        padding=tuple(synapses["padding"]),
        dilation=tuple(synapses["dilation"]),
        groups=synapses["groups"],
        num_message_bits=bits,
        name=name,
    )
    (wire if wire.shape == conv.s_in.shape else wire.reshape(conv.s_in.shape)).connect(conv.s_in)
    return conv.a_out.flatten() if synapses["flat_output"] else conv.a_out


def _population(population: Mapping[str, Any], arrays: Mapping[str, np.ndarray], period: int, offset: int) -> LIFReset:
    bias = arrays[population["bias"]] if population["bias"] else 0
    return LIFReset(
        shape=_lava_shape(population["shape"]),
        du=_CURRENT_LIVES_ONE_STEP,
        dv=population["decay"],
        vth=population["threshold"],
        bias_mant=bias,  # [C]: broadcasts over Lava's [W, H, C]
        bias_exp=population["bias_exponent"],
        reset_interval=period,
        reset_offset=offset,
        name=population["name"],
    )


def _new_record(path: Path, dtype: type, shape: Shape) -> str:
    np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    return str(path)


def _lava_shape(shape: list[int]) -> Shape:
    return tuple(reversed(shape))  # [C, H, W] of torch becomes [W, H, C]
