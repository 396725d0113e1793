"""Layers in sequence on time-major values, with plain torch layers among them.

A layer that contains a LIF sees time, [T, B, ...]. Any other layer is plain torch and sees T*B samples, [T*B, ...]; batch
norm so takes its statistics over batch and time together (Deng et al., ICLR 2022, section 3.3; Zheng et al., AAAI 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sees_time(layer: nn.Module) -> bool:
    """Whether a layer takes [T, B, ...]: it, or a layer inside it, is a LIF, a TimeMajor or says `sees_time = True`."""
    return any(getattr(module, "sees_time", False) is True for module in layer.modules())


class TimeMajor(nn.Sequential):
    """Like nn.Sequential, from [T, B, ...] to [T, B, ...].

    Time and batch are merged around plain torch layers (Conv2d, BatchNorm2d, AvgPool2d, Flatten, Linear, ...) and separate
    where a layer sees time (LIF, TimeMajor, your own module that contains one).

    Examples
    --------
    >>> model = TimeMajor(
    ...     nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(800, 10)
    ... )
    >>> readout = model(frames)  # frames [T, B, 2, 20, 20], readout [T, B, 10]
    """

    sees_time = True

    def forward(self, input: Tensor) -> Tensor:
        steps_and_samples = input.shape[:2]
        merged = False
        for layer in self:
            if sees_time(layer) is merged:
                input = torch.unflatten(input, 0, steps_and_samples) if merged else input.flatten(0, 1)
                merged = not merged
            input = layer(input)
        return torch.unflatten(input, 0, steps_and_samples) if merged else input
