"""SEW-ResNet34 of Fang et al., NeurIPS 2021, with ADD: integrate-and-fire neurons, and blocks that sum spikes.

A block adds its own spikes to what entered it, so that whole numbers travel, not spikes: after block n of a stage at most
n + 1. The next layer multiplies by them.

First weights: convolutions from N(0, 2 / fan-out), the rest torch's defaults, as in Fang et al.'s code. The surrogate
gradient is ours (Deng et al., ICLR 2022, eq. 5), which also flows through the reset; theirs is an arctangent's and does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from tet_deploy.models.initialisation import normal_by_fan_out
from tet_deploy.models.residual import conv, resnet34
from tet_deploy.nn import LIF, TimeMajor


class SpikeThenSum(nn.Module):
    """y = IF(norm2(conv2(IF(norm1(conv1(x)))))) + shortcut(x), with IF a LIF that does not leak.

    Fang et al., NeurIPS 2021, section 3.2, g = ADD. The shortcut is x itself, or IF(norm(conv(x))) with a 1x1 convolution
    where channels or stride change.
    """

    any_layout = True

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.branch = TimeMajor(
            OrderedDict(
                conv1=conv(in_channels, out_channels, 3, stride),
                norm1=nn.BatchNorm2d(out_channels),
                lif1=LIF(decay=1),
                conv2=conv(out_channels, out_channels, 3),
                norm2=nn.BatchNorm2d(out_channels),
                lif2=LIF(decay=1),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = TimeMajor(
                OrderedDict(
                    conv=conv(in_channels, out_channels, 1, stride), norm=nn.BatchNorm2d(out_channels), lif=LIF(decay=1)
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x) + self.shortcut(x)
        return y


def sew_resnet34(shape: Sequence[int] = (3, 224, 224), classes: int = 1000, width: float = 1.0) -> TimeMajor:
    """Stages of 3, 4, 6 and 3 blocks with 64, 128, 256 and 512 channels; any frame size. `width` scales the channels."""
    model = resnet34(SpikeThenSum, LIF(decay=1), shape, classes, width)
    normal_by_fan_out(model)
    return model
