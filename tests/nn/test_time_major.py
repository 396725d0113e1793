"""TimeMajor runs plain torch layers on merged time and batch, and layers that see time on [T, B, ...]."""

import copy

import pytest
import torch
from torch import nn

from tet_deploy.nn import LIF, TimeMajor, sees_time, use_backend


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


def test_a_sequence_with_a_lif_inside_is_gone_through_as_a_time_major():
    """At any depth: the same values, gradients and names of parameters as of TimeMajors in its place."""

    def model(kind):
        torch.manual_seed(0)
        block = kind(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), LIF(), nn.Sequential(nn.AvgPool2d(2)))
        return TimeMajor(block, kind(kind(nn.Conv2d(3, 2, 1), LIF()), nn.Flatten()), nn.Linear(8, 5))

    frames = torch.randn(4, 3, 2, 6, 6)
    one, other = model(nn.Sequential), model(TimeMajor)
    found, expected = one(frames), other(frames)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for output in (found, expected):
        output.sum().backward()
    assert [name for name, _ in one.named_parameters()] == [name for name, _ in other.named_parameters()]
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)  # a fused norm sums in another order


def test_any_number_of_steps():
    """T is that of the frames: what a network gives in T steps, it gives in the first T of more."""
    model = TimeMajor(nn.Linear(6, 5), LIF(), nn.Linear(5, 2)).eval()
    frames = torch.randn(8, 4, 6)
    torch.testing.assert_close(model(frames)[:3], model(frames[:3]))


def network():
    """Every way through a TimeMajor: fused with and without a pool, and not fused."""
    return TimeMajor(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), LIF(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), LIF(decay=1.0)),
        Residual(5),
        *(nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.0), LIF()),
        *(nn.Flatten(), nn.Linear(16, 3)),
    )


def trained_once(model, frames, chosen, dtype=torch.float32):
    """Readout, gradients and running statistics after one backward pass."""
    model = copy.deepcopy(model).to(dtype)
    with use_backend(chosen):
        readout = model(frames.to(dtype))
    readout.square().sum().backward()
    return [readout, *(p.grad for p in model.parameters()), *model.buffers()]


@pytest.mark.parametrize("static", [False, True])
def test_fused_layers_agree_with_layers_one_by_one(backend, static):
    """Readout, gradients and running statistics of a whole network agree with float64 to float rounding."""
    torch.manual_seed(0)
    model, frames = network(), torch.randn(4, 3, 2, 8, 8) * 2
    if static:
        frames = frames[:1].expand(4, -1, -1, -1, -1)
    found = trained_once(model, frames, backend)
    expected = trained_once(model, frames.contiguous(), "torch", torch.float64)
    for value, wanted in zip(found, expected, strict=True):
        # rounding of sums over some 1,000 values; the seed leaves no membrane potential that close to its threshold
        torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-4, atol=1e-4)


def test_state_dicts_do_not_change(backend):
    """Keys and eval-mode readouts are those of the layers, whatever trained them."""
    model, frames = network(), torch.randn(4, 3, 2, 8, 8)
    keys = list(model.state_dict())
    with use_backend(backend):
        model(frames)
        assert list(model.state_dict()) == keys
        readout = model.eval()(frames)
    with use_backend("torch"):
        assert torch.equal(readout, model(frames))


@pytest.mark.parametrize("training", [True, False])
def test_a_static_image_is_encoded_once(backend, training):
    """The layers before the first LIF see an expanded image once, a copied one, or with encode_once off, at every step."""
    seen = []
    model = TimeMajor(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), LIF(), nn.Flatten(), nn.Linear(16, 2)).train(training)
    forward = model[0].forward
    model[0].forward = lambda x: seen.append(len(x)) or forward(x)
    image = torch.randn(3, 1, 4, 4)
    with use_backend(backend):
        once = model(image.expand(5, 3, 1, 4, 4))
        every_step = model(image.repeat(5, 1, 1, 1, 1))
        model.encode_once = False
        model(image.expand(5, 3, 1, 4, 4))
    assert seen == [3, 15, 15]
    torch.testing.assert_close(once, every_step)


def test_random_layers_are_not_encoded_once():
    """Dropout on a static image draws anew at every step."""
    image = torch.ones(3, 8)
    dropped = TimeMajor(nn.Dropout(0.5))(image.expand(6, 3, 8))
    assert not torch.equal(dropped[0], dropped[1])


def test_users_modules_get_and_give_contiguous_values(backend):
    """view() works in a user's block and on what a TimeMajor returns; a block that says any_layout may get channels-last."""

    class Block(nn.Module):
        sees_time = True

        def forward(self, x):
            self.contiguous = x.is_contiguous()
            return x

    plain, any_layout = Block(), Block()
    any_layout.any_layout = True
    layers = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), LIF()
    with use_backend(backend):
        result = TimeMajor(*layers, any_layout, plain, *layers[1:])(torch.randn(2, 3, 2, 4, 4))
    assert result.is_contiguous()
    assert plain.contiguous
    assert any_layout.contiguous is (backend == "torch")


def test_batch_norm_of_torch_gets_contiguous_values(backend):
    """Its statistics in channels-last memory are off by 1e-4 and more on a CPU; here they are those of float64."""
    frames = torch.rand(16, 16, 2, 24, 24)
    norm = nn.BatchNorm2d(8, momentum=1.0)
    model = TimeMajor(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), LIF(), nn.Conv2d(6, 8, 1), norm)
    with use_backend(backend):
        result = model(frames).detach().double()
    weight, bias = norm.weight.double().view(-1, 1, 1), norm.bias.double().view(-1, 1, 1)
    normalised = (result - bias) / weight
    torch.testing.assert_close(normalised.mean((0, 1, 3, 4)), torch.zeros(8).double(), rtol=0, atol=1e-6)  # of deviations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_before_batch_norm_moves_the_running_mean_alone(c_backend, dtype):
    """Left out of the convolution in training: spikes do not depend on it, its gradient is 0, running statistics follow."""
    frames, found = torch.randn(4, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0)), []
    for shift in (0.0, 2.0):
        torch.manual_seed(0)
        model = TimeMajor(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), LIF())
        with torch.no_grad():
            model[0].bias.fill_(shift)
        with use_backend(c_backend), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            spikes = model(frames)
        spikes.sum().backward()
        assert spikes.dtype == dtype and torch.equal(model[0].bias.grad, torch.zeros(5))
        found.append((spikes, model[1].running_mean, model[1].running_var, model[0].weight.grad))
    (spikes, mean, *others), (shifted, shifted_mean, *shifted_others) = found
    assert torch.equal(spikes, shifted) and all(map(torch.equal, others, shifted_others))
    torch.testing.assert_close(shifted_mean, mean + 0.1 * 2.0, rtol=1e-6, atol=1e-6)  # the share of one batch; a rounding


def test_a_bias_stays_where_neurons_do_not_fuse(c_backend):
    """With a batch norm in eval mode, or hooks on it, the convolution keeps its bias."""
    for change in (lambda norm: norm.eval(), lambda norm: norm.register_forward_hook(lambda *_: None)):
        model = TimeMajor(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), LIF())
        change(model[1])
        frames = torch.randn(2, 3, 1, 4, 4)
        with use_backend(c_backend):
            spikes = model(frames)
        current = model[1](model[0](frames.flatten(0, 1))).unflatten(0, (2, 3))
        assert torch.equal(spikes, model[2](current))
