"""Processes that observe the network and write what they see to files, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from loihi_engine.records import Clock, Record


class OutputRecorder(AbstractProcess):
    """Writes what arrives at `a_in`.

    Parameters
    ----------
    path
        An existing .npy file [T, B, *shape in the layout of torch] that is filled in place: memory stays small, and reading
        a Lava variable back would cost tens of microseconds per element.
    shape
        Shape of one step, in Lava's layout.
    latency, period
        Steps until the first frame's result arrives, and that a sample takes.
    clock
        An existing .npy file [all steps] that receives the second at which each step's data arrived. This recorder then
        also reports progress.
    """

    def __init__(
        self, *, name: str, path: str, shape: tuple[int, ...], latency: int, period: int, clock: str | None = None
    ) -> None:
        super().__init__(name=name, path=path, latency=latency, period=period, clock=clock)
        self.a_in = InPort(shape=shape)


class PotentialRecorder(AbstractProcess):
    """Writes the variable that `v` refers to at the end of each step; parameters as for `OutputRecorder`."""

    def __init__(self, *, name: str, path: str, shape: tuple[int, ...], latency: int, period: int) -> None:
        super().__init__(name=name, path=path, latency=latency, period=period)
        self.v = RefPort(shape=shape)


@implements(proc=OutputRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class OutputRecorderModel(PyLoihiProcessModel):
    """Receives in the spiking phase."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._record = Record(proc_params["path"], proc_params["latency"], proc_params["period"])
        self._clock = Clock(proc_params["clock"]) if proc_params["clock"] else None

    def run_spk(self) -> None:
        """One step."""
        self._record.write(self.time_step, self.a_in.recv().T)  # [W, H, C] becomes [C, H, W]
        if self._clock is not None:
            self._clock.tick(self.time_step)


@implements(proc=PotentialRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PotentialRecorderModel(PyLoihiProcessModel):
    """Reads in the management phase, when all neurons have integrated and reset."""

    v: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._record = Record(proc_params["path"], proc_params["latency"], proc_params["period"])

    def post_guard(self) -> bool:
        """Take part in the management phase of each step."""
        return True

    def run_post_mgmt(self) -> None:
        """Read the variable at the end of a step."""
        self._record.write(self.time_step, self.v.read().T)
