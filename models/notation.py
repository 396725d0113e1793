"""Networks in the notation of the literature.

16C3 is a 3x3 convolution to 16 channels, 16C3S2 the same with stride 2, AP2 a 2x2 average pool, FC the readout.
Convolutions of stride 1 keep the size. Each is followed by batch norm and spiking neurons, as in Deng et al., ICLR 2022;
the readout does not spike.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tet_deploy.errors import ArgumentError
from tet_deploy.models.sizes import checked, scaled
from tet_deploy.nn import LIF, TimeMajor


def from_notation(notation: str, shape: Sequence[int], classes: int, *, width: float = 1.0, bias: bool = False) -> TimeMajor:
    """Build the network that a string such as "8C3-AP2-16C3-AP2-FC" describes.

    Layers are named conv1, norm1, lif1, pool1, conv2, ..., flatten, fc. Weights start as torch's defaults (uniform within
    1/sqrt(fan-in)); batch norm makes their scale irrelevant except in the readout.

    Parameters
    ----------
    notation
        Layers joined by "-", the last of them FC.
    shape
        (C, H, W) of one frame.
    classes
        Number of readouts.
    width
        Factor on the channels of every convolution.
    bias
        Whether convolutions have a bias; batch norm cancels it in training.

    Raises
    ------
    ArgumentError
        A layer the notation does not have, or a frame too small for the pools.
    """
    channels, height, width_px = checked(shape, classes, width)
    layers: dict[str, nn.Module] = {}
    convs = pools = 0
    *body, last = notation.split("-")
    for word in body:
        if match := re.fullmatch(r"(\d+)C(\d*[13579])(?:S([1-9]))?", word):
            convs += 1
            out_channels, kernel, stride = scaled(int(match[1]), width), int(match[2]), int(match[3] or 1)
            layers[f"conv{convs}"] = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=bias)
            layers[f"norm{convs}"] = nn.BatchNorm2d(out_channels)
            layers[f"lif{convs}"] = LIF()
            channels = out_channels
            height, width_px = (height - 1) // stride + 1, (width_px - 1) // stride + 1
        elif match := re.fullmatch(r"AP([1-9]\d*)", word):
            pools += 1
            window = int(match[1])
            layers[f"pool{pools}"] = nn.AvgPool2d(window)
            height, width_px = height // window, width_px // window
        else:
            raise ArgumentError(f"{notation!r}: {word!r} is no layer; use e.g. 16C3 (odd kernel), AP2, FC at the end.")
    if last != "FC" or min(height, width_px) < 1:
        raise ArgumentError(f"{notation!r}: must end with FC and fit the frame; {tuple(shape)} leaves {height}x{width_px}.")
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * height * width_px, classes)
    return TimeMajor(OrderedDict(layers))
