"""A process that plays frames from a file, one a step, as signed integer messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from loihi_engine.messages import Messages
from loihi_engine.records import optional_record


class FrameSource(AbstractProcess):
    """Sends the messages that stand for frames; `path`, `entry` and `period` are those of `Messages`.

    Parameters
    ----------
    shape
        Shape of one message, in Lava's layout.
    clipped
        Where to write how many messages of each frame were held at the limit, see `Record`; None to count none.
    """

    def __init__(
        self, *, path: str, shape: tuple[int, ...], entry: Mapping[str, Any], period: int, clipped: Any = None
    ) -> None:
        super().__init__(path=path, entry=entry, period=period, clipped=clipped, name="frames")
        self.s_out = OutPort(shape=shape)


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FrameSourceModel(PyLoihiProcessModel):
    """Sends frame k of sample n as message of step n*period + k + 1."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._messages = Messages(proc_params["path"], proc_params["entry"], proc_params["period"])
        self._clipped = optional_record(proc_params["clipped"])

    def run_spk(self) -> None:
        """One step."""
        self.s_out.send(self._messages.at(self.time_step))
        if self._clipped is not None:
            self._clipped.write(self.time_step, self._messages.clipped)
