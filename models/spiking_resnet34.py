"""Spiking-ResNet34 of Zheng et al., AAAI 2021, for ImageNet: ResNet-34 whose blocks sum before their last LIF.

First weights: convolutions from N(0, 2 / fan-out). Where two batch norms are added, both start with gamma = 1/sqrt(2), so
that the sum has the variance of one: Zheng et al.'s factor alpha. All else are torch's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from tet_deploy.models.initialisation import normal_by_fan_out
from tet_deploy.models.residual import SumThenSpike, resnet34
from tet_deploy.nn import LIF, TimeMajor


def spiking_resnet34(shape: Sequence[int] = (3, 224, 224), classes: int = 1000, width: float = 1.0) -> TimeMajor:
    """Stages of 3, 4, 6 and 3 blocks with 64, 128, 256 and 512 channels; any frame size. `width` scales the channels."""
    model = resnet34(SumThenSpike, LIF(), shape, classes, width)
    normal_by_fan_out(model)
    for block in model.modules():
        if isinstance(block, SumThenSpike) and isinstance(block.shortcut, TimeMajor):
            for norm in (block.branch[-1], block.shortcut[-1]):
                nn.init.constant_(norm.get_parameter("weight"), 1 / math.sqrt(2))
    return model
