"""Batch norm and LIF as one compute what the two layers compute, and update the norm as torch does."""

import pytest
import torch
from torch import nn

from tet_deploy.nn import LIF, TimeMajor, lif_by_steps, use_backend
from tet_deploy.nn.norm_lif import fusible, norm_lif, window

STEPS, SAMPLES, CHANNELS = 5, 3, 6


@pytest.fixture(autouse=True)
def fused(c_backend):
    """The backend that fuses on a CPU."""
    with use_backend(c_backend):
        yield


def make(seed=0, *, channels=CHANNELS, dtype=torch.float32, **options):
    """A norm with random parameters."""
    random = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(channels, **options).to(dtype)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.rand(channels, generator=random) + 0.5)
            norm.bias.copy_(torch.rand(channels, generator=random) - 0.2)
    return norm


def by_layers(x, norm, neurons, steps, other=None, other_norm=None, *, repeated=False, pool=1):
    """The definition: the layers one after the other."""
    current = norm(x.repeat(steps, 1, 1, 1) if repeated else x)
    if other is not None:
        current = current + (other_norm(other) if other_norm else other)
    current = current.unflatten(0, (steps, -1))
    spikes = lif_by_steps(current, neurons.decay, neurons.threshold, neurons.gamma).flatten(0, 1)
    return nn.functional.avg_pool2d(spikes, pool) if pool > 1 else spikes


def results(function, case, layout=torch.contiguous_format, dtype=torch.float32, channels=CHANNELS, of_norm=None):
    """Spikes, all gradients, all running statistics."""
    repeated, other, normed, pool = case
    random = torch.Generator().manual_seed(3)
    samples = SAMPLES * (1 if repeated else STEPS)
    x = (torch.randn(samples, channels, 4, 6, generator=random) * 2 + 3).to(dtype).contiguous(memory_format=layout)
    second = torch.randn(samples, channels, 4, 6, generator=random).to(dtype)
    weights = torch.randn(SAMPLES * STEPS, channels, 4 // pool, 6 // pool, generator=random).to(dtype)
    norm, other_norm = (make(seed, channels=channels, dtype=of_norm or dtype) for seed in (0, 1))
    x.requires_grad_(), second.requires_grad_()
    arguments = ([second] if other else []) + ([other_norm] if normed else [])
    spikes = function(x, norm, LIF(decay=0.9), STEPS, *arguments, repeated=repeated, pool=pool)
    (spikes * weights).sum().backward()
    used = [norm, other_norm] if normed else [norm]
    gradients = {f"{i}.{name}": value.grad for i, n in enumerate(used) for name, value in n.named_parameters()}
    buffers = {f"{i}.{name}": value for i, n in enumerate(used) for name, value in n.named_buffers()}
    return {"spikes": spikes.detach(), "x": x.grad, **({"other": second.grad} if other else {}), **gradients, **buffers}


CASES = {
    "norm": (False, False, False, 1),
    "norm, pool": (False, False, False, 2),
    "static image": (True, False, False, 1),
    "static image, pool": (True, False, False, 2),
    "plus a value": (False, True, False, 1),
    "plus another norm": (False, True, True, 1),
}


@pytest.mark.parametrize("channels", [1, 6, 40, 200])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_computes_what_the_layers_compute(case, layout, channels):
    """Spikes, gradients and running statistics are those of the layers in float64, to float rounding."""
    found = results(norm_lif, case, layout, channels=channels)
    expected = results(by_layers, case, dtype=torch.float64, channels=channels)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        # float32 carries 6e-8; a channel's sums over 360 values of size 1 lose up to some 100 of those
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 3.0, 1000.0])
def test_statistics_are_accurate_in_any_layout(mean):
    """Running mean and variance are within float rounding of float64, where torch's own channels-last sums are not."""
    x = torch.randn(64, 16, 24, 24, generator=torch.Generator().manual_seed(0)) + mean
    x = x.contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(16, momentum=1.0)
    norm_lif(x, norm, LIF(), 4)
    torch.testing.assert_close(norm.running_mean, x.double().mean((0, 2, 3)).float(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(norm.running_var, x.double().var((0, 2, 3)).float(), rtol=2e-7, atol=0)  # one rounding


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}],
)
def test_running_statistics_follow_torch(options):
    """After three batches the norm's state and parameters' gradients are those of torch's own, to one rounding a batch."""
    ours, theirs = make(**options), make(**options)
    for batch in torch.randn(3, STEPS * SAMPLES, CHANNELS, 4, 4) + torch.arange(3)[:, None, None, None, None]:
        norm_lif(batch, ours, LIF(), STEPS).sum().backward() if ours.affine else norm_lif(batch, ours, LIF(), STEPS)
        theirs(batch)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=3e-7, atol=1e-7)


def test_a_static_image_counts_at_every_step():
    """The unbiased variance divides by T*B*H*W - 1, as if the image had been copied."""
    image, norm, copied = torch.randn(2, CHANNELS, 2, 2), make(momentum=1.0), make(momentum=1.0)
    norm_lif(image, norm, LIF(), 3, repeated=True)
    copied(image.repeat(3, 1, 1, 1))
    torch.testing.assert_close(norm.running_var, copied.running_var, rtol=3e-7, atol=0)  # a rounding or two


def test_only_inputs_are_kept_for_the_backward_pass():
    """No membrane potential, no normalised value: the norm's input and its parameters."""
    kept = []
    x = torch.randn(STEPS * SAMPLES, CHANNELS, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = make()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        norm_lif(x, norm, LIF(), STEPS)
    assert {tensor.data_ptr() for tensor in kept} == {x.data_ptr(), norm.weight.data_ptr(), norm.bias.data_ptr()}


def test_frozen_parameters_get_no_gradient():
    """What does not require a gradient is left alone."""
    norm = make().requires_grad_(False)
    x = torch.randn(STEPS * SAMPLES, CHANNELS, 4, 4, requires_grad=True)
    norm_lif(x, norm, LIF(), STEPS).sum().backward()
    assert norm.weight.grad is None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda norm, neurons: None, True),
        (lambda norm, neurons: norm.eval(), False),
        (lambda norm, neurons: norm.register_forward_hook(lambda *_: None), False),
        (lambda norm, neurons: neurons.register_forward_pre_hook(lambda *_: None), False),
    ],
)
def test_layers_are_called_where_that_can_be_seen(change, expected):
    """In eval mode and with hooks the layers run one by one."""
    norm, neurons, x = make(), LIF(), torch.randn(4, CHANNELS, 3, 3)
    change(norm, neurons)
    assert fusible(norm, neurons, x) is expected


@pytest.mark.parametrize(
    ("norm", "neurons", "x"),
    [
        (nn.SyncBatchNorm(6), LIF(), torch.randn(4, 6, 3, 3)),
        (nn.BatchNorm2d(6), nn.ReLU(), torch.randn(4, 6, 3, 3)),
        (nn.BatchNorm2d(6), None, torch.randn(4, 6, 3, 3)),
        (nn.BatchNorm2d(6), LIF(), torch.randn(4, 5, 3, 3)),
        (nn.BatchNorm2d(6), LIF(), torch.randn(4, 6)),
        (nn.BatchNorm2d(6), LIF(), torch.randn(1, 6, 1, 1)),
        (nn.BatchNorm2d(6), LIF(), torch.randn(0, 6, 3, 3)),
    ],
)
def test_anything_else_is_left_to_torch(norm, neurons, x):
    """Other kinds, and values that torch refuses, so that the error is torch's own."""
    assert not fusible(norm, neurons, x)


@pytest.mark.parametrize(
    ("pool", "side"),
    [
        (nn.AvgPool2d(2), 2),
        (nn.AvgPool2d((3, 3), stride=3), 3),
        (nn.AvgPool2d(5), 1),  # does not divide 6
        (nn.AvgPool2d((1, 2)), 1),
        (nn.AvgPool2d(2, stride=1), 1),
        (nn.AvgPool2d(2, padding=1), 1),
        (nn.AvgPool2d(2, ceil_mode=True), 1),
        (nn.AvgPool2d(2, divisor_override=3), 1),
        (nn.MaxPool2d(2), 1),
        (None, 1),
    ],
)
def test_pools_of_equal_windows_are_taken_over(pool, side):
    """Others run as layers of their own."""
    assert window(pool, torch.randn(4, 6, 6, 6)) == side


def test_batch_norm_of_features_is_fused_too():
    """BatchNorm1d after a Linear: [T*B, C]."""
    model = TimeMajor(nn.Linear(7, 9), nn.BatchNorm1d(9), LIF(), nn.Linear(9, 2))
    frames = torch.randn(4, 5, 7)
    assert fusible(model[1], model[2], model[0](frames.flatten(0, 1)))
    found = model(frames)
    with use_backend("torch"):
        expected = model(frames)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # rounding of the statistics


@pytest.mark.parametrize("channels", [1, 7, 200])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bfloat16_values_are_computed_with_in_float32(case, channels):
    """Spikes, statistics, parameters' gradients are bit for bit those of the same values in float32; others are rounded."""

    def widened(x, norm, neurons, steps, *others, **options):
        others = [value.float() if isinstance(value, torch.Tensor) else value for value in others]
        return norm_lif(x.float(), norm, neurons, steps, *others, **options).to(x.dtype)

    found, expected = (
        results(function, case, torch.channels_last, torch.bfloat16, channels, torch.float32)
        for function in (norm_lif, widened)
    )
    for name, value in found.items():
        if name == "x" or (name == "other" and case[2]):  # rounded before the norm's backward pass, and after it: 2^-8 each
            torch.testing.assert_close(value, expected[name], rtol=2**-7, atol=2**-7 * float(expected[name].abs().max()))
        else:
            assert torch.equal(value, expected[name]), name
