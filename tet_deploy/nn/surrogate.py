"""The surrogate of the spike's derivative: Deng et al., ICLR 2022, eq. 5."""

from __future__ import annotations

from torch import Tensor


def surrogate_gradient(u: Tensor, threshold: float | Tensor = 1.0, gamma: float = 1.0) -> Tensor:
    """ds/du = max(0, gamma - |u - threshold|) / gamma^2  (eq. 5)."""
    return (gamma - (u - threshold).abs()).clamp(min=0) / gamma**2
