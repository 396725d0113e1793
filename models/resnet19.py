"""ResNet-19 of Zheng et al., AAAI 2021, as Deng et al., ICLR 2022, train it on CIFAR10 and CIFAR100.

Its first weights are torch's defaults, as in the authors' code. The 256 neurons before the readout then stay silent until
training has moved their weights; the surrogate gradient reaches them all the same, as it is not zero below the threshold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tet_deploy.models.residual import SumThenSpike, conv, stage
from tet_deploy.models.sizes import checked, scaled
from tet_deploy.nn import LIF, TimeMajor


def resnet19(shape: Sequence[int] = (3, 32, 32), classes: int = 10, width: float = 1.0) -> TimeMajor:
    """64C3; 3 blocks of 128, 3 of 256, 2 of 512 channels, the last two stages at stride 2; global average pool; 256; FC.

    Any frame size. `width` scales the channels and the 256 neurons.
    """
    in_channels, _, _ = checked(shape, classes, width)
    stem, first, second, third, hidden = (scaled(channels, width) for channels in (64, 128, 256, 512, 256))
    return TimeMajor(
        OrderedDict(
            conv1=conv(in_channels, stem, 3),
            norm1=nn.BatchNorm2d(stem),
            lif1=LIF(),
            layer1=stage(SumThenSpike, stem, first, blocks=3, stride=1),
            layer2=stage(SumThenSpike, first, second, blocks=3, stride=2),
            layer3=stage(SumThenSpike, second, third, blocks=2, stride=2),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc1=nn.Linear(third, hidden),
            lif2=LIF(),
            fc2=nn.Linear(hidden, classes),
        )
    )
