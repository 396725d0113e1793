"""The neuron that trains in integers is that of `dynamics.py` forward, and the recipe's `lif` backward."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy import dynamics
from tet_deploy.ir.nodes import CubaLIF, Quantization
from tet_deploy.nn import lif_by_steps
from tet_deploy.nn.fixed_point_lif import UNIT, FixedPointNeuron, fixed_point_lif, wrap24

SIZE = (3, 2, 4, 5)  # samples, channels, height, width


@given(
    seed=st.integers(0, 2**32 - 1),
    decay_v=st.integers(0, 4095) | st.sampled_from([0, 2048, 3072, 4095]),
    decay_u=st.integers(1, 4096) | st.sampled_from([1, 2048, 4095, 4096, 4096]),
    largest=st.sampled_from([3, 2**10, 2**17, 2**19, 2**24]),
    threshold=st.integers(0, dynamics.LARGEST_THRESHOLD) | st.integers(0, 40),
    exponent=st.integers(0, 7),
)
def test_every_potential_is_that_of_the_integers(seed, decay_v, decay_u, largest, threshold, exponent):
    """Truncation, wrap and limits included, whatever decay, threshold and bias are, and however large the sums."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-largest, largest + 1, (6, *SIZE))
    bias = rng.integers(-4095, 4096, SIZE[1]) << exponent
    thresholds = np.minimum(threshold + np.arange(SIZE[1]), dynamics.LARGEST_THRESHOLD)  # one a channel
    levels = torch.tensor(thresholds, dtype=torch.float64).reshape(-1, 1, 1)
    neuron = FixedPointNeuron(decay_v, levels, torch.tensor(1.0), decay_u)
    spikes, potentials = fixed_point_lif(torch.tensor(sums).float(), torch.tensor(bias).double().reshape(-1, 1, 1), neuron)
    node = CubaLIF(
        name="lif",
        decay=1 - decay_v / 4096,
        current_decay=1 - decay_u / 4096,
        threshold=thresholds,
        bias=(bias >> exponent).astype(np.int16),
        quantization=Quantization(scale=1.0, bias_exponent=exponent),
    )
    current, v = np.zeros(SIZE, np.int64), np.zeros(SIZE, np.int64)
    for step, a in enumerate(sums):
        current = dynamics.synaptic_current(node, current, a)
        expected, v = dynamics.step(node, v, current)
        assert np.array_equal(spikes[step].numpy(), expected)
        assert np.array_equal((potentials[step] * (1 - spikes[step])).numpy(), v)


@given(seed=st.integers(0, 2**32 - 1))
def test_sums_wrap_as_a_synapse_process_wraps_them(seed):
    """Into 24 bit, at any size that float64 holds; the gradient passes as if nothing had wrapped."""
    sums = np.random.default_rng(seed).integers(-(2**27), 2**27, 50)
    x = torch.tensor(sums, dtype=torch.float64, requires_grad=True)
    wrapped = wrap24(x)
    assert np.array_equal(wrapped.detach().numpy(), dynamics.wrap24(sums))
    wrapped.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("decay", [0.5, 1.0, 0.0])
@pytest.mark.parametrize("scale", [16.0, 64.0])
def test_the_gradient_is_that_of_the_float_neuron(decay, scale):
    """Where integers hold the potentials exactly, gradients are those of `lif_by_steps`, times what a unit is worth."""
    rng = torch.Generator().manual_seed(0)
    current = (torch.randn(4, *SIZE, generator=rng) * 8 + 3).round() / 16
    shift = torch.tensor([0.25, -0.5]).reshape(-1, 1, 1)
    weights = torch.randn(current.shape, generator=rng)
    expected_current, expected_shift = current.clone().requires_grad_(), shift.clone().requires_grad_()
    expected = lif_by_steps(expected_current + expected_shift, decay)
    (expected * weights).sum().backward()

    sums, bias = (current * scale).requires_grad_(), (shift * scale * UNIT).requires_grad_()
    neuron = FixedPointNeuron(round((1 - decay) * 4096), torch.tensor(scale), torch.tensor(scale))
    spikes, _ = fixed_point_lif(sums, bias, neuron)
    (spikes * weights).sum().backward()
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(sums.grad * scale, expected_current.grad)
    torch.testing.assert_close(bias.grad * scale * UNIT, expected_shift.grad)
    assert expected_current.grad.abs().sum() > 0


@pytest.mark.parametrize(("current_decay", "decay"), [(0.5, 0.5), (0.75, 1.0), (0.5, 0.0)])
def test_the_gradient_through_a_current_is_that_of_the_float_neuron(current_decay, decay):
    """What arrives in one step reaches all later ones; the bias is added behind the current."""
    rng, scale = torch.Generator().manual_seed(0), 64.0
    arriving = (torch.randn(3, *SIZE, generator=rng) * 8 + 3).round() / 4
    shift = torch.tensor([0.25, -0.5]).reshape(-1, 1, 1)
    weights = torch.randn(arriving.shape, generator=rng)
    expected_arriving, expected_shift = arriving.clone().requires_grad_(), shift.clone().requires_grad_()
    currents = [expected_arriving[0]]
    for a in expected_arriving[1:]:
        currents.append(current_decay * currents[-1] + a)
    expected = lif_by_steps(torch.stack(currents) + expected_shift, decay)
    (expected * weights).sum().backward()

    sums, bias = (arriving * scale).requires_grad_(), (shift * scale * UNIT).requires_grad_()
    decay_v, decay_u = (round((1 - share) * 4096) for share in (decay, current_decay))
    neuron = FixedPointNeuron(decay_v, torch.tensor(scale), torch.tensor(scale), decay_u)
    spikes, _ = fixed_point_lif(sums, bias, neuron)
    (spikes * weights).sum().backward()
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(sums.grad * scale, expected_arriving.grad)
    torch.testing.assert_close(bias.grad * scale * UNIT, expected_shift.grad)
    assert expected_arriving.grad.abs().sum() > 0
