"""Process models that compute the same integers as Lava's own Conv and LIFReset, some hundred times faster.

This folder holds Lava processes and their models only: Lava's compiler executes every file that lies beside a process.
Lava's Conv calls scipy once per pair of channels and strides afterwards. Equality with Lava's models, spike for spike and
potential for potential, is tested; `run.py --stock` runs Lava's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset
from loihi_models.convolution import Convolution
from loihi_models.records import optional_record

_HALF = 2048
_ONE = 4096
_STATE_LIMIT = 2**23
_FRACTION_BITS = 6


@implements(proc=Conv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FastConv(PyConvModelFixed):
    """Conv as matrix products; sends the sums of the step before, as Lava's does.

    Where the process's parameters ask for it, under "wrapped", it writes how many sums wrapped.
    """

    _convolution: Convolution | None = None

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._wrapped = optional_record(proc_params.get("wrapped"))

    def run_spk(self) -> None:
        """One step."""
        self.a_out.send(self.a_buf)
        data = self.s_in.recv()
        if self.num_message_bits.item() <= 0:
            data = data != 0
        if self._convolution is None:  # the builder sets the variables after __init__
            pairs = (tuple(map(int, pair)) for pair in (self.stride, self.padding, self.dilation))
            self._convolution = Convolution(self.weight, data.shape, *pairs, int(self.groups[0]))
        self.a_buf = self._convolution(data)
        if self._wrapped is not None:
            self._wrapped.write(self.time_step, self._convolution.wrapped)


@implements(proc=LIFReset, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class FastLIFReset(PyLifResetModelBitAcc):
    """LIFReset in few passes over int32 memory, fewer where du = 4095: the current then lives one step.

    Where the process's parameters ask for it, under "wrapped" and "saturated", it writes how many currents wrapped and how
    many potentials were held at the lower limit.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._wrapped = optional_record(proc_params.get("wrapped"))
        self._saturated = optional_record(proc_params.get("saturated"))

    def run_spk(self) -> None:
        """One step: reset, integrate, fire."""
        a = self.a_in.recv()
        if self.time_step % self.reset_interval == self.reset_offset:
            self.u[:] = 0
            self.v[:] = 0
        if not self.isbiasscaled:
            self.scale_bias()
            self.effective_bias = self.effective_bias.astype(np.int32)
        if not self.isthrscaled:
            self.scale_threshold()
        u = np.left_shift(a, _FRACTION_BITS)
        if int(self.du) != _ONE - 1:
            u += _decayed(self.u, int(self.du) + 1)
        self.u = _wrapped_once(u)
        if self._wrapped is not None:
            self._wrapped.write(self.time_step, 0 if self.u is u else int(np.count_nonzero(self.u != u)))
        v = _decayed(self.v, int(self.dv))
        v += self.u
        v += self.effective_bias
        if self._saturated is not None:
            held = int(np.count_nonzero(v < -(_STATE_LIMIT - 1))) if v.min() < -(_STATE_LIMIT - 1) else 0
            self._saturated.write(self.time_step, held)
        np.clip(v, -(_STATE_LIMIT - 1), _STATE_LIMIT - 1, out=v)
        spikes = v > self.effective_vth
        np.putmask(v, spikes, 0)
        self.v = v
        self.s_out.send(spikes)


def _wrapped_once(u: np.ndarray) -> np.ndarray:
    if u.max() > _STATE_LIMIT or u.min() <= -_STATE_LIMIT:
        u = np.where(u > _STATE_LIMIT, u - 2 * _STATE_LIMIT, u)
        u = np.where(u <= -_STATE_LIMIT, u + 2 * _STATE_LIMIT, u)
    return u


def _decayed(state: np.ndarray, decay: int) -> np.ndarray:
    """A new array state * (4096 - decay) / 4096, truncated toward zero."""
    if decay == _HALF:
        return (state + (state < 0)) >> 1
    if decay == 0:
        return state.copy()
    product = state.astype(np.int64) * (_ONE - decay)
    return np.asarray(np.sign(product) * (np.abs(product) >> 12), np.int32)
