"""What a population's synaptic current makes of what flows into it, in real numbers, and what a chip cuts off of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.debugging.observed import Flow
from tet_deploy.debugging.synapses import unlimited
from tet_deploy.ir.nodes import CubaLIF, Population
from tet_deploy.units import along, unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Current:
    """That of one population; of one without, what arrives goes on as it is.

    Attributes
    ----------
    share
        What a step keeps of it; 0 where there is none.
    takes_bias
        Whether the bias flows through it, as in float networks; a chip adds it behind.
    truncated
        What integers cut off of it, [T, B, *shape] in units of the float network.
    """

    share: float
    takes_bias: bool
    truncated: np.ndarray | float = 0.0

    @classmethod
    def of(cls, population: Population, flow: Flow) -> Current:
        """Of a population, fed as its network says."""
        if not isinstance(population, CubaLIF):
            return cls(share=0.0, takes_bias=True)
        if population.quantization is None:
            return cls(share=population.current_decay, takes_bias=True)
        exact = cls(share=1 - dynamics.decay_u(population) / dynamics.DECAY_ONE, takes_bias=True)
        sums = unlimited(population, flow)
        cut = unwrapped(population, sums) - exact.linear(sums * 2.0**dynamics.FRACTION_BITS)
        return cls(share=exact.share, takes_bias=not exact.share, truncated=cut / along(unit(population), cut.ndim))

    def linear(self, sums: np.ndarray | float) -> np.ndarray:
        """The current that sums [T, B, *shape] make."""
        if not self.share:
            return np.asarray(sums, np.float64)
        found = np.array(sums, np.float64)
        for step in range(1, len(found)):
            found[step] += self.share * found[step - 1]
        return found

    def charge(self, sums: np.ndarray | float, bias: np.ndarray) -> np.ndarray:
        """What sums and bias give the potential together."""
        return self.linear(sums + bias) if self.takes_bias else self.linear(sums + 0 * bias) + bias


def unwrapped(population: CubaLIF, sums: np.ndarray) -> np.ndarray:
    """The current of a quantized population that nothing wraps, int64 [T, B, *shape], in 64ths of a mantissa."""
    found, current = np.empty_like(sums), np.zeros_like(sums[0])
    for step, arriving in enumerate(sums):
        found[step] = current = dynamics.unwrapped_current(population, current, arriving)
    return found
