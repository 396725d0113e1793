"""TimeMajor runs plain torch layers on merged time and batch, and layers that see time on [T, B, ...]."""

import torch
from torch import nn

from tet_deploy.nn import LIF, TimeMajor, sees_time


class Residual(nn.Module):
    """A user's own block: takes [T, B, ...]."""

    def __init__(self, channels):
        super().__init__()
        self.body = TimeMajor(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.lif = LIF()
        self.seen = None

    def forward(self, x):
        self.seen = x.shape
        return self.lif(self.body(x) + x)


def test_plain_layers_see_every_step_as_samples():
    """Plain layers give at each step what they give for that step alone."""
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)).double()
    frames = torch.randn(5, 3, 2, 6, 6, dtype=torch.float64)
    found = TimeMajor(*layers)(frames)
    expected = torch.stack([layers(frame) for frame in frames])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)  # other batch sizes sum in another order


def test_batch_norm_takes_statistics_over_time_and_batch():
    """The running mean after one training step is that of all steps and samples together."""
    norm = nn.BatchNorm2d(2, momentum=1.0)
    frames = torch.randn(4, 3, 2, 5, 5)
    TimeMajor(norm)(frames)
    torch.testing.assert_close(norm.running_mean, frames.mean(dim=(0, 1, 3, 4)))


def test_layers_with_a_lif_inside_see_time():
    """A LIF, a TimeMajor and any module that holds one get [T, B, ...]."""
    block = Residual(2)
    model = TimeMajor(nn.Conv2d(1, 2, 3, padding=1), LIF(), block, nn.Flatten(), nn.Linear(32, 7))
    assert model(torch.randn(5, 3, 1, 4, 4)).shape == (5, 3, 7)
    assert block.seen == (5, 3, 2, 4, 4)
    assert [sees_time(layer) for layer in model] == [False, True, True, False, False]


def test_any_number_of_steps():
    """T is that of the frames: what a network gives in T steps, it gives in the first T of more."""
    model = TimeMajor(nn.Linear(6, 5), LIF(), nn.Linear(5, 2)).eval()
    frames = torch.randn(8, 4, 6)
    torch.testing.assert_close(model(frames)[:3], model(frames[:3]))
