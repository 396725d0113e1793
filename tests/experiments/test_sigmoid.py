"""Sigmoid neurons are LIF neurons whose spike is smooth."""

import pytest
import torch

from tet_deploy.errors import ArgumentError
from tet_deploy.experiments.sigmoid import SigmoidNeurons
from tet_deploy.experiments.trainings import replace_neurons
from tet_deploy.models import build
from tet_deploy.nn import LIF, lif


def test_two_steps_by_hand():
    """u(2) = decay * u(1) * (1 - a(1)) + I(2), a = sigmoid(k (u - threshold))."""
    current = torch.tensor([[[1.2]], [[0.4]]], dtype=torch.float64)
    found = SigmoidNeurons(2, decay=0.5, threshold=1.0)(current)
    a1 = torch.sigmoid(torch.tensor(2 * (1.2 - 1), dtype=torch.float64))
    a2 = torch.sigmoid(2 * (0.5 * 1.2 * (1 - a1) + 0.4 - 1))
    torch.testing.assert_close(found.flatten(), torch.stack([a1, a2]))


def test_a_large_sharpness_approaches_the_spike():
    """The difference to LIF shrinks with k, and vanishes where no membrane potential is at the threshold."""
    current = torch.randn(6, 4, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spikes = lif(current)
    distance = [float((SigmoidNeurons(k)(current) - spikes).abs().mean()) for k in (1, 10, 100, 1e6)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-3


def test_the_gradient_is_that_of_the_values():
    """It agrees with finite differences, through the reset too: there is no surrogate."""
    current = torch.randn(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(SigmoidNeurons(3), (current,))


@pytest.mark.parametrize("sharpness", [1, 10, 20])
def test_no_gradient_is_zero_where_a_spike_has_none(sharpness):
    """Far below the threshold, where the surrogate's triangle is 0, every input still has a gradient."""
    current = torch.full((3, 1, 4), -0.5, requires_grad=True)
    SigmoidNeurons(sharpness)(current).sum().backward()
    assert (current.grad != 0).all()
    current.grad = None
    lif(current).sum().backward()
    assert not current.grad.any()


def test_all_populations_are_replaced():
    """No LIF is left, decay and threshold are kept, and every weight of the network gets a gradient."""
    model = build("digits", seed=0, shape=(1, 8, 8), classes=10)
    replace_neurons(model, lambda population: SigmoidNeurons.instead_of(population, 10))
    assert not any(isinstance(module, LIF) for module in model.modules())
    assert [(n.decay, n.threshold) for n in model.modules() if isinstance(n, SigmoidNeurons)] == [(0.5, 1.0)] * 3
    model(torch.rand(2, 8, 1, 8, 8)).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for name, weight in model.named_parameters() if "conv" in name or "fc" in name)


def test_a_sharpness_of_zero_is_refused():
    """It would pass on one half, whatever comes in."""
    with pytest.raises(ArgumentError, match="sharpness must be positive; got 0"):
        SigmoidNeurons(0)
