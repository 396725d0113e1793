"""Layers in sequence on time-major values, with plain torch layers among them.

A layer that contains a LIF sees time, [T, B, ...]. Any other layer is plain torch and sees T*B samples, [T*B, ...]; batch
norm so takes its statistics over batch and time together (Deng et al., ICLR 2022, section 3.3; Zheng et al., AAAI 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tet_deploy.nn.sequence import in_time, run, sees_time


class TimeMajor(nn.Sequential):
    """Like nn.Sequential, from [T, B, ...] to [T, B, ...].

    Time and batch are merged around plain torch layers (Conv2d, BatchNorm2d, AvgPool2d, Flatten, Linear, ...) and separate
    where a layer sees time (LIF, TimeMajor, your own module that contains one). An nn.Sequential that contains one is gone
    through as if it were a TimeMajor.

    In training, a batch norm, the LIF right after it and the average pool after that run as one (`norm_lif`), and on a CPU
    the values between layers then lie channels-last. Your own module gets contiguous values, unless it says `any_layout =
    True`: then it may get either, and must use reshape() in place of view(). What leaves the outermost TimeMajor is
    contiguous.

    A static image shown at every step, `image.expand(T, *image.shape)`, is recognised by its stride: layers before the first
    LIF see it once. Values are the same up to float rounding; repeat() the image, or set `encode_once = False`, to compute
    them at every step.

    Examples
    --------
    >>> from tet_deploy.nn import LIF
    >>> model = TimeMajor(
    ...     nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(800, 10)
    ... )
    >>> model(torch.zeros(4, 1, 2, 20, 20)).shape  # frames [T, B, 2, 20, 20], readout [T, B, 10]
    torch.Size([4, 1, 10])
    """

    sees_time = True
    any_layout = True
    encode_once = True

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, Tensor):
            return run(self, input, encode_once=self.encode_once)
        return self._layer_by_layer(input)  # torch.fx writes down what is called: each layer as it is

    def _layer_by_layer(self, input: Tensor) -> Tensor:
        steps_and_samples = input.shape[:2]
        merged = False
        for layer in in_time(self):
            if sees_time(layer) is merged:
                input = torch.unflatten(input, 0, steps_and_samples) if merged else input.flatten(0, 1)
                merged = not merged
            input = layer(input)
        return torch.unflatten(input, 0, steps_and_samples) if merged else input
