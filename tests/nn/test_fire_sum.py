"""The end of a residual block fires on a sum; fused with the batch norms before it, it gives the same."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from tet_deploy.nn import LIF, TimeMajor, fire_sum, use_backend


class Block(nn.Module):
    def __init__(self, branch, shortcut):
        super().__init__()
        self.branch, self.shortcut, self.lif = branch, shortcut, LIF()

    def forward(self, x):
        return fire_sum(self.lif, x, self.branch, self.shortcut)


def conv(out_channels, stride=1):
    return nn.Conv2d(4, out_channels, 3, stride, 1, bias=False)


BLOCKS = {
    "identity": lambda: Block(TimeMajor(conv(4), nn.BatchNorm2d(4)), nn.Identity()),
    "norm in the shortcut": lambda: Block(
        TimeMajor(conv(6, 2), nn.BatchNorm2d(6)), TimeMajor(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))
    ),
    "no norm in the branch": lambda: Block(TimeMajor(conv(4)), nn.Identity()),
    "frozen norm in the shortcut": lambda: Block(
        TimeMajor(conv(4), nn.BatchNorm2d(4)), TimeMajor(conv(4), nn.BatchNorm2d(4).eval())
    ),
    "spikes before the sum": lambda: Block(TimeMajor(conv(4), nn.BatchNorm2d(4), LIF()), nn.Identity()),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_fused_and_layers_agree(backend, name):
    """Spikes, gradients and running statistics agree to float rounding."""
    torch.manual_seed(0)
    block = BLOCKS[name]()
    frames = torch.rand(5, 3, 4, 6, 6).round()
    found, expected = ([] for _ in range(2))
    for values, chosen, dtype in ((found, backend, torch.float32), (expected, "torch", torch.float64)):
        model, x = copy.deepcopy(block).to(dtype), frames.clone().to(dtype).requires_grad_()
        with use_backend(chosen):
            spikes = model(x)
        (spikes * torch.arange(spikes.numel()).view(spikes.shape).cos()).sum().backward()
        values += [spikes, x.grad, *(p.grad for p in model.parameters()), *model.buffers()]
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-5, atol=1e-5)  # sums over 540 values in float32


def test_spikes_are_contiguous(backend):
    """A user's own code may view() what it gets."""
    with use_backend(backend):
        assert BLOCKS["identity"]()(torch.rand(2, 3, 4, 6, 6)).is_contiguous()


def test_a_listener_hears_the_layers(backend):
    """With a hook on the branch, the branch is called."""
    block, heard = BLOCKS["identity"](), []
    block.branch.register_forward_hook(lambda *_: heard.append(1))
    with use_backend(backend):
        block(torch.rand(2, 3, 4, 6, 6))
    assert heard == [1]


NARROW = """
import torch
from torch import nn
from tet_deploy.nn import LIF, TimeMajor
model = TimeMajor(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6), LIF())
kept = []
for _ in range(100):
    model(torch.rand(4, 3, 4, 6, 6, requires_grad=True)).sum().backward()
    kept.append(torch.rand(100))
"""


def test_narrow_strided_shortcuts_do_not_corrupt_memory():
    """On one thread, torch's convolution of few channels by 1x1 with a stride ended the process in channels-last memory."""
    ended = subprocess.run(
        [sys.executable, "-c", NARROW],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
