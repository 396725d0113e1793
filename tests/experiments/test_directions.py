"""Directions in weight space are normalised filter by filter (Li et al., NeurIPS 2018)."""

import pytest
import torch

from tet_deploy.experiments.directions import filter_normalised, moved
from tet_deploy.models import build


@pytest.fixture
def model():
    return build("event-digits", seed=0, shape=(2, 20, 20), classes=10)


def test_each_step_is_as_long_as_its_filter(model):
    """Convolutions per output channel, the readout per class; biases and batch norms do not move."""
    direction = filter_normalised(model, seed=1)
    moving = 0
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert not direction[name].any()
            continue
        moving += 1
        for filter_, step in zip(weight, direction[name], strict=True):
            assert torch.linalg.vector_norm(step).item() == pytest.approx(torch.linalg.vector_norm(filter_).item(), rel=1e-5)
    assert moving == 4


def test_directions_depend_on_the_seed_alone(model):
    """The same seed gives the same, another a nearly orthogonal one; torch's generator is left alone."""
    state = torch.get_rng_state()
    first, again, other = (filter_normalised(model, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    one, two = (torch.cat([step.flatten() for step in each.values()]) for each in (first, other))
    assert abs(torch.cosine_similarity(one, two, dim=0)) < 0.1


def test_weights_are_put_back_exactly(model):
    """Also after an error in the middle of a walk; batch norm's statistics are never touched."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    direction = filter_normalised(model, seed=0)
    with pytest.raises(RuntimeError, match="stop"), moved(model, [direction, direction], [0.5, 0.25]):
        weight = model.conv1.weight
        torch.testing.assert_close(weight, before["conv1.weight"] + 0.75 * direction["conv1.weight"])
        raise RuntimeError("stop")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
