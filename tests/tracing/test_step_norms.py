"""Batch norm that depends on the time step is refused by name, however it is written, with the reason and a way out."""

import pytest
import torch
from torch import nn

from tet_deploy.errors import GraphError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.tracing import trace

SHAPE = (2, 6, 6)


class Scaled(nn.Module):
    """TEBN as its authors write it, a 3d norm among transpositions; under another name."""

    sees_time = True

    def __init__(self, steps, move=True):
        super().__init__()
        self.bn = nn.BatchNorm3d(4) if move else nn.BatchNorm2d(4)
        self.p = nn.Parameter(torch.ones(steps, 1, 1, 1, 1))
        self.move = move

    def forward(self, x):
        if not self.move:
            return self.bn(x.flatten(0, 1)).unflatten(0, x.shape[:2]) * self.p
        y = self.bn(x.transpose(0, 1).transpose(1, 2).contiguous())
        return y.transpose(1, 2).transpose(0, 1).contiguous() * self.p


class ScaledVectors(nn.Module):
    sees_time = True

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(144)
        self.register_buffer("factor", torch.ones(2, 1, 1))

    def forward(self, x):
        return (self.bn(x.flatten(2).flatten(0, 1)).unflatten(0, x.shape[:2]) * self.factor).unflatten(2, (4, 6, 6))


class Each(nn.Module):
    """BNTT: a norm for each step."""

    sees_time = True

    def __init__(self, steps, loop=False):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(steps))
        self.loop = loop

    def forward(self, x):
        steps = range(x.shape[0]) if self.loop else range(len(self.norms))
        return torch.stack([self.norms[step](x[step]) for step in steps])


class TEBN(nn.BatchNorm2d):
    """Of this one only the name tells."""

    def forward(self, x):
        return super().forward(x) * torch.linspace(1, 2, len(x)).reshape(-1, 1, 1, 1)


NORMS = {
    "a factor": (lambda: Scaled(2), "'1', a Scaled: its .* step .a number for each of 2 steps in 'p', as in TEBN.*Retrain"),
    "a factor of more steps": (lambda: Scaled(5), "'1', a Scaled: .*5 steps in 'p'"),
    "a factor on merged norms": (lambda: Scaled(2, move=False), "'1', a Scaled: .*2 steps in 'p'"),
    "a factor of vectors": (ScaledVectors, "'1', a ScaledVectors: .*2 steps in 'factor'"),
    "a list": (lambda: Each(2), "'1': its batch norm depends on the time step .2 norms in 'norms', as in BNTT.*Retrain"),
    "a longer list": (lambda: Each(4), "'1', a Each: cannot run .*4 norms in 'norms', as in BNTT.*Retrain"),
    "a loop over a list": (lambda: Each(2, loop=True), "'1', a Each: .*2 norms in 'norms', as in BNTT.*Retrain"),
    "a name": (lambda: TEBN(4), "'1', a TEBN: its batch norm depends on the time step .its class says so"),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_the_step_is_refused_by_name(name):
    """The module, what of it depends on the step, and the way out."""
    make, message = NORMS[name]
    model = TimeMajor(nn.Conv2d(2, 4, 3, padding=1), make(), LIF(), nn.Flatten(), nn.Linear(144, 3))
    with pytest.raises(GraphError, match=message) as caught:
        trace(model, SHAPE)
    assert len(str(caught.value)) < 500


class PerLayer(nn.Module):
    """A list of norms of one size, one for each layer, and functions in between."""

    def __init__(self, function):
        super().__init__()
        self.convs = nn.ModuleList(TimeMajor(nn.Conv2d(2, 2, 3, padding=1)) for _ in range(2))
        self.norms = nn.ModuleList(TimeMajor(nn.BatchNorm2d(2)) for _ in range(2))
        self.plain = nn.ModuleList(nn.BatchNorm2d(2) for _ in range(2))
        self.lif, self.fc, self.function = LIF(), nn.Linear(72, 3), function

    def forward(self, x):
        for conv, norm, plain in zip(self.convs, self.norms, self.plain, strict=True):
            y = plain(norm(conv(x)).flatten(0, 1)).unflatten(0, x.shape[:2])
            x = self.lif(self.function(y))
        return self.fc(x.flatten(2))


def test_norms_of_layers_are_none_of_steps():
    """They are traced; where something else cannot be, that is named."""
    assert sum(node.kind == "BatchNorm" for node in trace(PerLayer(lambda x: x.contiguous()).eval(), SHAPE)) == 4
    with pytest.raises(GraphError, match="function 'relu' cannot be traced"):
        trace(PerLayer(torch.relu), SHAPE)
