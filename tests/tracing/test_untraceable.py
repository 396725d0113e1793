"""Tracing stops where it cannot go on, and says where and why."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from traceable import SHAPE, Body, Function, net

from tet_deploy.errors import GraphError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.tracing import trace


class Calls(nn.Module):
    """Applies a function between a convolution and the readout."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.lif, self.fc = TimeMajor(nn.Conv2d(2, 3, 3)), LIF(), TimeMajor(nn.Flatten(), nn.Linear(72, 5))
        self.gain = nn.Parameter(torch.ones(()))
        self.function = function

    def forward(self, x):
        return self.function(self, self.lif(self.conv(x)))


def hooked(module):
    module.register_forward_hook(lambda *_: None)
    return module


class Offset(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1e-6


class ByStep(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * torch.linspace(1, 2, len(x)).reshape(-1, 1, 1, 1)


def changed_lif():
    lif = LIF()
    lif.decay = torch.tensor([0.5, 0.25])
    return lif


class Strange(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight.abs())


UNSUPPORTED = {
    "max pool of no spikes": (lambda: net(nn.MaxPool2d(2), features=24), "layer '0': MaxPool2d must take spikes"),
    "max pool that rounds up": (lambda: net(LIF(), nn.MaxPool2d(3, ceil_mode=True), features=12), "layer '1': .*ceil_mode"),
    "softmax": (lambda: net(nn.Softmax(dim=-1), features=96), r"layer '0': a torch\..*\.Softmax cannot .*Conv2d"),
    "relu deep inside": (lambda: net(TimeMajor(nn.Conv2d(2, 3, 3), nn.ReLU()), LIF(), features=72), r"layer '0\.1': .*ReLU"),
    "padding mode": (
        lambda: net(nn.Conv2d(2, 3, 3, padding_mode="reflect"), features=72),
        "layer '0': padding_mode .*'reflect'",
    ),
    "lopsided same": (
        lambda: net(nn.Conv2d(2, 3, 2, padding="same"), features=144),
        r"layer '0': padding='same' with kernel \(2, 2\)",
    ),
    "padded pool": (lambda: net(nn.AvgPool2d(2, padding=1), features=40), "layer '0': AvgPool2d .*padding 1"),
    "ceil mode": (lambda: net(nn.AvgPool2d(4, ceil_mode=True), features=8), "layer '0': AvgPool2d .*ceil_mode True"),
    "divisor": (lambda: net(nn.AvgPool2d(2, divisor_override=3), features=24), "divisor_override 3"),
    "uneven adaptive pool": (lambda: net(nn.AdaptiveAvgPool2d(4), features=32), "layer '0': AdaptiveAvgPool2d"),
    "no statistics": (
        lambda: net(nn.BatchNorm2d(2, track_running_stats=False), features=96),
        "layer '0': .*running statistics",
    ),
    "subclass": (lambda: net(Strange(2, 3, 3), features=72), r"'0': Strange is a Conv2d with .* its own.*Use Conv2d"),
    "norm with an offset": (lambda: net(Offset(2), LIF(), features=96), "'0': Offset is a batch norm with .* its own"),
    "norm of the step": (lambda: net(ByStep(2), LIF(), features=96), "'0': ByStep is a batch norm with .* its own"),
    "decay of many": (lambda: net(LIF(), changed_lif(), features=96), "layer '1', a LIF: LIF: decay must be one number"),
    "function": (lambda: Calls(lambda self, x: self.fc(F.relu(x))), "function 'relu' cannot be traced"),
    "product": (lambda: Calls(lambda self, x: self.fc(x * 2)), "function 'mul'"),
    "parameter": (lambda: Calls(lambda self, x: self.fc(x + self.gain)), "values of the network only; got gain"),
    "constant": (lambda: Calls(lambda self, x: self.fc(x + 1)), "values of the network only; got 1"),
    "weighted sum": (lambda: Calls(lambda self, x: self.fc(torch.add(x, x, alpha=2))), "a \\+ b"),
    "mean over time": (lambda: Calls(lambda self, x: self.fc(x).mean(0).flatten(1)), "sum over time must be the last"),
    "mean over samples": (lambda: Calls(lambda self, x: self.fc(x).mean(1)), "method 'mean'"),
    "time lost": (lambda: Calls(lambda self, x: self.fc(x).flatten(0, 1)), r"readout of every step.*\(6, 5\)"),
    "no vector": (lambda: Calls(lambda self, x: x), r"readout of every step.*\(2, 3, 3, 6, 4\)"),
    "functional max pool of no spikes": (lambda: net(Function(lambda x: F.max_pool2d(x, 2)), features=24), "'0.MaxPool2d'"),
    "functional pool that pads": (
        lambda: net(Function(lambda x: F.avg_pool2d(x, 2, 2, 1)), features=40),
        r"'0.AvgPool2d': AvgPool2d must .*padding 1",
    ),
    "functional pool of frames": (
        lambda: Calls(lambda self, x: self.fc(F.max_pool2d(x[:, 0], 1)[None])),
        "takes some steps or samples",
    ),
    "tuple": (lambda: Calls(lambda self, x: (self.fc(x), x)), "readout of every step.*tuple"),
    "samples mixed": (lambda: Calls(lambda self, x: x.flatten(1)), r"time first; got \(2, 216\)"),
    "transposed": (
        lambda: Calls(lambda self, x: self.fc(x.transpose(0, 1))),
        r"'transpose': moves axes; time must stay first.*x.flatten\(0, 1\)",
    ),
    "a shape unpacked": (
        lambda: Calls(lambda self, x: self.fc(x.reshape(-1, *x.shape[2:]).unflatten(0, x.shape[:2]))),
        r"Of shapes only x.shape\[:2\] may be unpacked.*y.unflatten\(0, x.shape\[:2\]\)",
    ),
    "other image": (lambda: Calls(lambda self, x: self.fc(x.reshape(*x.shape[:2], 3, 4, 6))), "may flatten a sample"),
    "functional dropout": (lambda: Calls(lambda self, x: self.fc(F.dropout(x, 0.0))), "function 'dropout'"),
    "merged neurons": (
        lambda: Calls(lambda self, x: self.fc(self.lif(x.flatten(0, 1)).unflatten(0, x.shape[:2]))),
        "'lif_?2?': LIF needs",
    ),
    "branch": (lambda: Calls(lambda self, x: self.fc(x) if x.sum() > 0 else self.fc(-x)), "must not loop or branch"),
    "loop over time": (
        lambda: Calls(lambda self, x: torch.stack([self.fc(step[None])[0] for step in x])),
        "must not loop or branch",
    ),
    "in place": (lambda: Calls(lambda self, x: (self.fc(x), self.fc(x).zero_())[0].add_(1)), "method 'add_'"),
    "random": (lambda: Calls(lambda self, x: self.fc(x + torch.rand(1).item())), "values of the network only; got 0"),
    "not time-major": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3)), "layer '0', a Conv2d: cannot run .* a TimeMajor holds"),
    "plain layers in a module of one's own": (
        lambda: net(Body(nn.Conv2d(2, 3, 3), LIF()), features=72),
        "layer '0.layer', a Conv2d: cannot run where .*also those of modules inside it",
    ),
    "hooks on a sequence": (lambda: net(hooked(nn.Sequential(nn.Conv2d(2, 3, 3), LIF())), features=72), "which has hooks"),
    "wrong input shape": (lambda: net(nn.Conv2d(3, 3, 3), features=72), "Check input_shape"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch warns of the very case that we refuse
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_traced_stops_with_an_error(name):
    """The error names path, type and what is possible, in at most three lines; modes are put back."""
    make, message = UNSUPPORTED[name]
    model = make().train()
    with pytest.raises(GraphError, match=message) as caught:
        trace(model, SHAPE)
    assert len(str(caught.value).splitlines()) <= 3
    assert all(module.training for module in model.modules())
