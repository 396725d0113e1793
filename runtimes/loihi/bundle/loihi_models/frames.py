"""A process that plays frames from a file, one a step, as signed integer messages."""

from __future__ import annotations

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
from loihi_models.records import optional_record


class FrameSource(AbstractProcess):
    """Sends message = clip(round(frame * scale), -limit, limit), samples back to back, then zeros.

    Parameters
    ----------
    path
        File of frames [T, B, *shape], the layout of torch, read a frame at a time.
    shape
        Shape of one message, in Lava's layout.
    scale, limit
        Messages per unit of the frames, and the largest message.
    clipped
        Where to write how many messages of each frame were held at the limit, see `records.Record`; None to count none.
    """

    def __init__(
        self, *, path: str, shape: tuple[int, ...], scale: float, limit: int, clipped: dict[str, Any] | None = None
    ) -> None:
        super().__init__(path=path, scale=scale, limit=limit, clipped=clipped, name="frames")
        self.s_out = OutPort(shape=shape)


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FrameSourceModel(PyLoihiProcessModel):
    """Sends frame n*T + k as message of step n*T + k + 1."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._frames = np.load(proc_params["path"], mmap_mode="r")
        self._scale = np.float32(proc_params["scale"])
        self._limit = proc_params["limit"]
        self._clipped = optional_record(proc_params["clipped"])

    def run_spk(self) -> None:
        """One step."""
        steps, samples = self._frames.shape[:2]
        sample, step = divmod(self.time_step - 1, steps)
        if sample < samples:
            scaled = np.rint(self._frames[step, sample].astype(np.float32) * self._scale)
            if self._clipped is not None:
                self._clipped.write(self.time_step, int(np.count_nonzero(np.abs(scaled) > self._limit)))
            messages = np.clip(scaled, -self._limit, self._limit).astype(np.int32)
            self.s_out.send(messages.T)  # [C, H, W] of torch becomes [W, H, C]; flat frames stay as they are
        else:  # the last samples are still on their way through the layers
            self.s_out.send(np.zeros(self.s_out.shape, np.int32))
