"""Nodes of a plan as Lava's own processes, with recorders beside them.

Timing, with P steps per sample: a synapse sends the sums of the step before, an LIF answers in the same step. So an LIF of
latency l sees local step k of sample n in Lava step n*P + k + 1 + l and is reset where k = 0. The plan says every latency;
where branches of different length meet, it makes the shorter one wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIFReset
from loihi_engine.pipeline import Node, current_decay
from loihi_engine.records import Records
from loihi_models.frames import FrameSource
from loihi_models.recorders import OutputRecorder, PotentialRecorder

Shape = tuple[int, ...]


class StockNodes:
    """Connects processes node by node; parameters as for `Pipeline`, and the wires that enter.

    Attributes
    ----------
    processes
        All that were made.
    wires
        The port that each node sends from, by its name.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        wires: dict[str, Any],
        arrays: Mapping[str, np.ndarray],
        frames: str,
        records: Records,
    ) -> None:
        self.processes: list[AbstractProcess] = []
        self.wires = wires
        self._arrays, self._frames, self._records = arrays, frames, records
        makers = {
            "input": self._source,
            "conv": self._conv,
            "dense": self._dense,
            "sum": self._sum,
            "lif": self._population,
            "readout": self._readout,
        }
        for node in nodes:
            port = makers[node["kind"]](node)
            if port is not None:
                self.wires[node["name"]] = port

    def _add(self, process: Any) -> Any:
        self.processes.append(process)
        return process

    def _source(self, node: Node) -> Any:
        source = FrameSource(
            path=self._frames,
            shape=_lava_shape(node["shape"]),
            entry=node,
            period=self._records.period,
            clipped=self._records.where("clipped", node["name"]),
        )
        return self._add(source).s_out

    def _conv(self, node: Node) -> Any:
        conv = self._add(
            Conv(
                weight=self._arrays[node["weight"]].astype(np.int32),
                input_shape=tuple(node["input_shape"]),
                stride=tuple(node["stride"]),
                padding=tuple(node["padding"]),
                dilation=tuple(node["dilation"]),
                groups=node["groups"],
                num_message_bits=node["message_bits"],  # 0 for spikes
                name=node["name"],
            )
        )
        wire = self.wires[node["source"]]
        (wire if wire.shape == conv.s_in.shape else wire.reshape(conv.s_in.shape)).connect(conv.s_in)
        return conv.a_out.flatten() if node["flat_output"] else conv.a_out

    def _dense(self, node: Node) -> Any:
        return self._connected_dense(node["name"], self._arrays[node["weight"]], node["message_bits"], node["source"])

    def _connected_dense(self, name: str, weight: np.ndarray, bits: int, source: str) -> Any:
        # The recipe that keeps the last bit of mixed-sign weights: twice the weight, exponent -1.
        dense = self._add(Dense(weights=2 * weight.astype(np.int32), weight_exp=-1, num_message_bits=bits, name=name))
        wire = self.wires[source]
        (wire if len(wire.shape) == 1 else wire.flatten()).connect(dense.s_in)
        return dense.a_out

    def _sum(self, node: Node) -> Any:
        """Identities from all sources into GradedVec, which sends on what it gets, and keeps nothing, where vth is 0."""
        shape = _lava_shape(node["shape"])
        graded = self._add(GradedVec(shape=shape, vth=0))
        for index, (source, bits) in enumerate(zip(node["sources"], node["message_bits"], strict=True)):
            unit, name = np.eye(shape[-1], dtype=np.int32), f"{node['name']} from {index}"
            if len(shape) == 1:
                out = self._connected_dense(name, unit, bits, source)
            else:
                conv = Conv(weight=unit[:, None, None, :], input_shape=shape, num_message_bits=bits, name=name)
                self.wires[source].connect(self._add(conv).s_in)
                out = conv.a_out
            out.connect(graded.a_in)
        return graded.s_out

    def _population(self, node: Node) -> Any:
        name, shape = node["name"], _lava_shape(node["shape"])
        by_channel = {
            key: self._arrays[node[key]] if isinstance(node[key], str) else node[key] for key in ("threshold", "decay")
        }
        neurons = self._add(
            LIFReset(
                shape=shape,
                du=current_decay(node),
                dv=by_channel["decay"],  # [C], as vth: Lava speaks of a number
                vth=by_channel["threshold"],
                bias_mant=self._arrays[node["bias"]] if node["bias"] else 0,  # [C]: broadcasts over Lava's [W, H, C]
                bias_exp=node["bias_exponent"],
                reset_interval=self._records.period,
                reset_offset=node["latency"] + 1,
                name=name,
            )
        )
        self._join(node["sources"], neurons.a_in)
        spikes, potentials = (self._records.where(kind, name) for kind in ("spikes", "potentials"))
        if spikes:
            neurons.s_out.connect(self._add(OutputRecorder(name=f"spikes of {name}", shape=shape, **spikes)).a_in)
        if potentials:
            recorder = self._add(PotentialRecorder(name=f"potentials of {name}", shape=shape, **potentials))
            recorder.v.connect_var(neurons.v)
        return neurons.s_out

    def _readout(self, node: Node) -> None:
        where = self._records.where("readout", node["name"]) or {}
        shape = _lava_shape(node["shape"])
        recorder = self._add(OutputRecorder(name="readout", shape=shape, clock=self._records.clock, **where))
        self._join(node["sources"], recorder.a_in)

    def _join(self, sources: Sequence[str], target: Any) -> None:
        """Let several ports send to one, which sums what arrives."""
        for source in sources:
            self.wires[source].connect(target)


def _lava_shape(shape: list[int]) -> Shape:
    return tuple(reversed(shape))  # [C, H, W] of torch becomes [W, H, C]
