"""Residual blocks that sum before they spike, stages of blocks, and ResNet-34 made of them.

Convolutions have no bias; each is followed by batch norm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tet_deploy.models.sizes import checked, scaled
from tet_deploy.nn import LIF, TimeMajor, fire_sum

Block = Callable[[int, int, int], nn.Module]  # in_channels, out_channels, stride


class SumThenSpike(nn.Module):
    """y = LIF(norm2(conv2(LIF(norm1(conv1(x))))) + shortcut(x)):  the sum is taken before the block's last LIF.

    Zheng et al., AAAI 2021. The shortcut is x itself, or a 1x1 convolution and batch norm where channels or stride change.
    Only spikes leave the block.
    """

    any_layout = True

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.branch = TimeMajor(
            OrderedDict(
                conv1=conv(in_channels, out_channels, 3, stride),
                norm1=nn.BatchNorm2d(out_channels),
                lif1=LIF(),
                conv2=conv(out_channels, out_channels, 3),
                norm2=nn.BatchNorm2d(out_channels),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = TimeMajor(
                OrderedDict(conv=conv(in_channels, out_channels, 1, stride), norm=nn.BatchNorm2d(out_channels))
            )
        self.lif = LIF()

    def forward(self, x: Tensor) -> Tensor:
        return fire_sum(self.lif, x, self.branch, self.shortcut)


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias; stride 1 keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)


def stage(block: Block, in_channels: int, out_channels: int, blocks: int, stride: int) -> TimeMajor:
    """Blocks in sequence; the first changes channels and size."""
    first = block(in_channels, out_channels, stride)
    return TimeMajor(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def resnet34(block: Block, lif: LIF, shape: Sequence[int], classes: int, width: float) -> TimeMajor:
    """He et al., CVPR 2016, table 1, 34 layers; `lif` are the neurons of the stem.

    The maximum of spikes is a spike, so that the stem's pool sends spikes too.
    """
    in_channels, _, _ = checked(shape, classes, width)
    first, second, third, fourth = (scaled(channels, width) for channels in (64, 128, 256, 512))
    return TimeMajor(
        OrderedDict(
            conv1=conv(in_channels, first, 7, stride=2),
            norm1=nn.BatchNorm2d(first),
            lif1=lif,
            pool1=nn.MaxPool2d(3, stride=2, padding=1),
            layer1=stage(block, first, first, blocks=3, stride=1),
            layer2=stage(block, first, second, blocks=4, stride=2),
            layer3=stage(block, second, third, blocks=6, stride=2),
            layer4=stage(block, third, fourth, blocks=3, stride=2),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(fourth, classes),
        )
    )
