"""A quantized network that trains computes what the integer reference computes."""

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.training.quantized import QuantizedNetwork


def differing(expected, found):
    """Number of values that differ, and how many were compared."""
    pairs = [(expected.readout, found.readout)]
    for name in ("spikes", "potentials"):
        before, after = getattr(expected, name), getattr(found, name)
        assert before.keys() == after.keys()
        pairs += [(before[key], after[key]) for key in before]
    return sum(int((a != b).sum()) for a, b in pairs), sum(a.size for a, _ in pairs)


def shaken(model, rng, by=2.0):
    """The model with its latent numbers moved by some integers, as training might."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.from_numpy(rng.normal(0, by, parameter.shape)).to(parameter)
    return model


@pytest.mark.parametrize("seed", range(40))
def test_it_equals_the_reference_wherever_training_went(seed):
    """Spikes, potentials and readouts are those of the exported integers, from 2 to 8 bits, branches and parts included."""
    rng = np.random.default_rng(seed)
    network = random_float_network(rng)
    frames = random_frames(network, rng, 5, 4)
    quantized = td.quantize(network, frames, bits=2 + seed % 7)
    model = QuantizedNetwork(quantized, network).eval()
    assert model.graph().digest() == quantized.digest()
    for _ in range(3):
        expected = td.run(model.graph(), frames)
        found, _ = model.record(torch.from_numpy(frames))
        assert differing(expected, found) == (0, differing(expected, expected)[1])
        assert np.array_equal(model(torch.from_numpy(frames)).detach().numpy(), expected.readout)
        shaken(model, rng)
