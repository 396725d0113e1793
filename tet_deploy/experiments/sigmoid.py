"""Neurons that pass on a smooth value in place of a spike, so that the gradient is the loss's own and no surrogate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tet_deploy.errors import ArgumentError
from tet_deploy.nn import LIF


class SigmoidNeurons(nn.Module):
    """A population as LIF's, its step function replaced by a sigmoid; [T, B, ...] to values in (0, 1), [T, B, ...].

        u(t) = decay * v(t-1) + I(t) ;  a(t) = sigmoid(sharpness * (u(t) - threshold)) ;  v(t) = u(t) * (1 - a(t))

    Deng et al., ICLR 2022, eqs. 1-3 and section 5.1, where the step function of eq. 2 becomes sigmoid(k * input). The larger
    the sharpness k, the closer to a spike.

    Raises
    ------
    ArgumentError
        A sharpness that is not positive.
    """

    sees_time = True

    def __init__(self, sharpness: float, decay: float = 0.5, threshold: float = 1.0) -> None:
        super().__init__()
        if not sharpness > 0:
            raise ArgumentError(f"SigmoidNeurons: sharpness must be positive; got {sharpness}.")
        self.sharpness, self.decay, self.threshold = float(sharpness), float(decay), float(threshold)

    @classmethod
    def instead_of(cls, population: LIF, sharpness: float) -> SigmoidNeurons:
        """Neurons with the decay and threshold of a LIF."""
        return cls(sharpness, population.decay, population.threshold)

    def forward(self, current: Tensor) -> Tensor:
        v, values = torch.zeros_like(current[0]), []
        for presynaptic_input in current:
            u = self.decay * v + presynaptic_input
            a = torch.sigmoid(self.sharpness * (u - self.threshold))
            v = u * (1 - a)
            values.append(a)
        return torch.stack(values)

    def extra_repr(self) -> str:
        return f"sharpness={self.sharpness}, decay={self.decay}, threshold={self.threshold}"
