"""Networks of layers that can be traced: one for each idea that a user may write down."""

import torch
import torch.nn.functional as F
from torch import nn

from tet_deploy.nn import LIF, TimeMajor

SHAPE = (2, 8, 6)


class Residual(nn.Module):
    def __init__(self, channels, add):
        super().__init__()
        self.body = TimeMajor(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.lif = LIF()
        self.add = add

    def forward(self, x):
        return self.lif(self.add(self.body(x), x))


class Body(nn.Module):
    def __init__(self, layer, lif):
        super().__init__()
        self.layer, self.lif = layer, lif

    def forward(self, x):
        return self.lif(self.layer(x))


class ThresholdNorm(nn.BatchNorm2d):
    """tdBN as it is often written: alpha * threshold in forward()."""

    def forward(self, x):
        return 0.35 * F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def silent_norm():
    """A factor can be seen of no norm that gives 0 everywhere, and changes none."""
    norm = ThresholdNorm(2)
    nn.init.zeros_(norm.weight)
    return norm


class FactorNorm(nn.BatchNorm1d):
    def __init__(self, channels):
        super().__init__(channels, affine=False)
        self.factor = nn.Parameter(torch.arange(1.0, channels + 1) / 3)

    def forward(self, x):
        return self.factor * super().forward(x)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Free(nn.Module):
    """A forward() of the user's own, with his own way to flatten [T, B, C, H, W]."""

    def __init__(self, flatten):
        super().__init__()
        self.conv = TimeMajor(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
        self.lif = LIF(decay=0.75, threshold=0.5)
        self.readout = nn.Linear(3 * 6 * 4, 5)
        self.flatten = flatten

    def forward(self, x):
        return self.readout(self.flatten(self.lif(self.conv(x))))


class Merging(nn.Module):
    """A forward() that merges and separates time and batch by hand."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.lif = nn.Conv2d(2, 3, 3), nn.Linear(72, 5), LIF()

    def forward(self, x):
        steps, samples = x.shape[0], x.size(1)
        y = self.conv(x.reshape(steps * samples, *SHAPE))
        y = F.dropout(self.lif(y.view(steps, samples, 3, 6, 4)), 0.5, training=self.training)
        return self.fc(y.flatten(0, 1).flatten(1)).reshape(steps, samples, -1)


def net(*layers, features):
    return TimeMajor(*layers, nn.Flatten(), nn.Linear(features, 5))


def shared():
    lif, pool = LIF(), nn.AvgPool2d(2)
    return net(nn.Conv2d(2, 3, 3, padding=1), lif, pool, nn.Conv2d(3, 3, 3, padding=1), lif, pool, features=6)


MODELS = {
    "conv bias": lambda: net(nn.Conv2d(2, 3, 3), LIF(), features=72),
    "conv no bias": lambda: net(nn.Conv2d(2, 3, 3, bias=False), LIF(), features=72),
    "conv options": lambda: net(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2), LIF(), features=120
    ),
    "conv same": lambda: net(nn.Conv2d(2, 3, (3, 5), padding="same", dilation=(2, 1)), LIF(), features=144),
    "conv valid": lambda: net(nn.Conv2d(2, 3, 3, padding="valid"), LIF(), features=72),
    "batch norm": lambda: net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=0.01), LIF(), features=72),
    "batch norm without affine": lambda: net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), LIF(), features=72),
    "batch norm of vectors": lambda: net(nn.Flatten(), nn.Linear(96, 7), nn.BatchNorm1d(7), LIF(), features=7),
    "average pool": lambda: net(nn.Conv2d(2, 3, 3), LIF(), nn.AvgPool2d((3, 2), stride=(1, 2)), features=24),
    "adaptive average pool": lambda: net(nn.Conv2d(2, 3, 3), LIF(), nn.AdaptiveAvgPool2d((3, None)), features=36),
    "global average pool": lambda: net(nn.Conv2d(2, 3, 3), LIF(), nn.AdaptiveAvgPool2d(1), features=3),
    "max pool of spikes": lambda: net(
        nn.Conv2d(2, 3, 3, padding=1), LIF(), nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(1, 2)), features=72
    ),
    "integrate and fire": lambda: net(nn.Conv2d(2, 3, 3), LIF(decay=1.0, threshold=0.7), features=72),
    "dropout and identity": lambda: net(nn.Dropout(), nn.Conv2d(2, 3, 3), nn.Identity(), LIF(), nn.Dropout2d(), features=72),
    "nested": lambda: net(TimeMajor(nn.Conv2d(2, 3, 3), TimeMajor(nn.BatchNorm2d(3), LIF())), features=72),
    "blocks in sequences": lambda: net(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), LIF()),
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), LIF()), nn.Sequential(nn.AvgPool2d(2))),
        features=18,
    ),
    "blocks in modules of one's own": lambda: net(
        Body(TimeMajor(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), LIF()),
        TimeMajor(nn.Sequential(Body(TimeMajor(nn.Conv2d(3, 3, 3, padding=1)), LIF()), nn.AvgPool2d(2))),
        features=18,
    ),
    "linear only": lambda: net(nn.Flatten(), nn.Linear(96, 7, bias=False), LIF(), nn.Unflatten(1, (7,)), features=7),
    "threshold-dependent norm": lambda: net(
        *(nn.Conv2d(2, 3, 3), ThresholdNorm(3), LIF(threshold=0.1)),
        *(nn.Flatten(), nn.Linear(72, 6), FactorNorm(6), LIF(threshold=0.1)),
        features=6,
    ),
    "shared layers": shared,
    "residual a + b": lambda: net(Residual(2, lambda a, b: a + b), Residual(2, lambda a, b: a + b), features=96),
    "residual torch.add": lambda: net(Residual(2, lambda a, b: torch.add(input=a, other=b)), features=96),
    "residual method": lambda: net(Residual(2, lambda a, b: a.add(b)), features=96),
    "flatten method": lambda: Free(lambda x: x.flatten(2)),
    "flatten function": lambda: Free(lambda x: torch.flatten(x, start_dim=2)),
    "flatten keyword": lambda: Free(lambda x: torch.flatten(input=x, start_dim=2)),
    "flatten by view": lambda: Free(lambda x: x.view(x.size(0), x.size(1), -1)),
    "flatten by reshape": lambda: Free(lambda x: x.contiguous().reshape(*x.shape[:2], 72)),
    "merged by hand": Merging,
    "functional average pool": lambda: net(Function(lambda x: F.avg_pool2d(x, (2, 1))), LIF(threshold=0.6), features=48),
    "functional pools": lambda: net(
        *(nn.Conv2d(2, 3, 3, padding=1), LIF()),
        Function(lambda x: F.max_pool2d(x, 2, stride=(2, 1), padding=1)),
        Function(lambda x: F.max_pool2d(torch.max_pool2d(x, 2, 1), kernel_size=1)),
        Function(lambda x: F.adaptive_avg_pool2d(input=F.avg_pool2d(x, kernel_size=2), output_size=1)),
        features=3,
    ),
}  # fmt: skip


def lively(model, seed=0):
    """The model in float64 with float32 values: weights and statistics that make about a third of the neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.1, 0.5, generator=generator)
            elif value.is_floating_point():
                value.uniform_(-0.6, 0.7, generator=generator)
    return model.double()
