"""Processes that observe the network and write what they see to files, step by step."""

from __future__ import annotations

import sys
import time
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
from loihi_models.records import Record

_SECONDS_BETWEEN_REPORTS = 0.2


class OutputRecorder(AbstractProcess):
    """Writes what arrives at `a_in`.

    Parameters
    ----------
    path
        An existing .npy file [T, B, *shape in the layout of torch] that is filled in place: memory stays small, and reading
        a Lava variable back would cost tens of microseconds per element.
    shape
        Shape of one step, in Lava's layout.
    latency
        Steps until the first frame's result arrives.
    clock
        An existing .npy file [all steps] that receives the second at which each step's data arrived. This recorder then
        also reports progress.
    """

    def __init__(self, *, name: str, path: str, shape: tuple[int, ...], latency: int, clock: str | None = None) -> None:
        super().__init__(name=name, path=path, latency=latency, clock=clock)
        self.a_in = InPort(shape=shape)


class PotentialRecorder(AbstractProcess):
    """Writes the variable that `v` refers to at the end of each step; parameters as for `OutputRecorder`."""

    def __init__(self, *, name: str, path: str, shape: tuple[int, ...], latency: int) -> None:
        super().__init__(name=name, path=path, latency=latency)
        self.v = RefPort(shape=shape)


@implements(proc=OutputRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class OutputRecorderModel(PyLoihiProcessModel):
    """Receives in the spiking phase."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._record = Record(proc_params["path"], proc_params["latency"])
        self._clock = np.load(proc_params["clock"], mmap_mode="r+") if proc_params["clock"] else None
        self._last_report = 0.0

    def run_spk(self) -> None:
        """One step."""
        self._record.write(self.time_step, self.a_in.recv().T)  # [W, H, C] becomes [C, H, W]
        if self._clock is not None:
            self._clock[self.time_step - 1] = now = time.monotonic()
            if now - self._last_report > _SECONDS_BETWEEN_REPORTS:
                self._last_report = now
                print(f"progress {self.time_step} {len(self._clock)}", file=sys.stderr, flush=True)


@implements(proc=PotentialRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PotentialRecorderModel(PyLoihiProcessModel):
    """Reads in the management phase, when all neurons have integrated and reset."""

    v: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._record = Record(proc_params["path"], proc_params["latency"])

    def post_guard(self) -> bool:
        """Take part in the management phase of each step."""
        return True

    def run_post_mgmt(self) -> None:
        """Read the variable at the end of a step."""
        self._record.write(self.time_step, self.v.read().T)
