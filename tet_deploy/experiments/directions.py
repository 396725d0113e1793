"""Filter-normalised random directions in weight space (Li et al., NeurIPS 2018, section 4), and walks along them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

Direction = Mapping[str, Tensor]  # parameter name -> step in it


def filter_normalised(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction in which each filter's step is as long as the filter.

    A filter is what makes one output channel of a convolution, or one output of a linear layer. Biases and batch norms do
    not move, as in the authors' code: their direction is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, weight in model.named_parameters():
        step = torch.zeros_like(weight)
        if weight.dim() > 1:
            step = torch.randn(weight.shape, generator=generator).to(weight)
            step *= _norms(weight) / _norms(step)
        direction[name] = step.detach()
    return direction


@contextlib.contextmanager
def moved(model: nn.Module, directions: Sequence[Direction], distances: Sequence[float]) -> Iterator[nn.Module]:
    """The network with weights + sum of distance * direction; they are put back exactly afterwards."""
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    try:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                for direction, distance in zip(directions, distances, strict=True):
                    weight.add_(direction[name], alpha=distance)
        yield model
    finally:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(weights[name])


def _norms(weight: Tensor) -> Tensor:
    """Norm of each filter, shaped to divide the weight by."""
    norms: Tensor = torch.linalg.vector_norm(weight.detach().flatten(1), dim=1)
    return norms.reshape(-1, *[1] * (weight.dim() - 1))
