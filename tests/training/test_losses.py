"""The losses are eqs. 7, 9, 12 and 13 of the paper, and its Lemma 4.1 holds for them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.errors import ArgumentError
from tet_deploy.training.losses import mse_loss, sdt_loss, tet_loss, total_loss

ROUNDING = 1e-12  # float64, some dozen terms of size up to 100


def draw(seed, steps=4, samples=3, classes=5, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    readout = torch.randn(steps, samples, classes, generator=generator, dtype=torch.float64) * scale
    return readout, torch.randint(0, classes, (samples,), generator=generator)


def cross_entropy(logits, label):
    """CE of one sample, by its definition."""
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def test_losses_are_those_of_the_paper():
    """Each loss equals its equation written out with plain numbers."""
    readout, labels = draw(0)
    steps, samples, classes = readout.shape
    numbers, targets = readout.tolist(), labels.tolist()
    mean = [[sum(numbers[t][b][k] for t in range(steps)) / steps for k in range(classes)] for b in range(samples)]
    sdt = sum(cross_entropy(mean[b], targets[b]) for b in range(samples)) / samples
    tet = sum(cross_entropy(numbers[t][b], targets[b]) for t in range(steps) for b in range(samples)) / (steps * samples)
    mse = sum((o - 1.0) ** 2 for step in numbers for sample in step for o in sample) / (steps * samples * classes)
    assert sdt_loss(readout, labels).item() == pytest.approx(sdt, abs=ROUNDING)
    assert tet_loss(readout, labels).item() == pytest.approx(tet, abs=ROUNDING)
    assert mse_loss(readout).item() == pytest.approx(mse, abs=ROUNDING)
    assert total_loss(readout, labels, mse_weight=0.05).item() == pytest.approx(0.95 * tet + 0.05 * mse, abs=ROUNDING)
    assert total_loss(readout, labels, loss="sdt", mse_weight=0.2).item() == pytest.approx(
        0.8 * sdt + 0.2 * mse, abs=ROUNDING
    )


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 8), scale=st.floats(0, 100))
def test_lemma_4_1_sdt_never_exceeds_tet(seed, steps, scale):
    """L_SDT <= L_TET, whatever the readouts."""
    readout, labels = draw(seed, steps=steps, scale=scale)
    assert sdt_loss(readout, labels) <= tet_loss(readout, labels) + ROUNDING


def test_one_step_makes_no_difference():
    """With T = 1, SDT and TET are the same loss."""
    readout, labels = draw(1, steps=1)
    assert sdt_loss(readout, labels).item() == pytest.approx(tet_loss(readout, labels).item(), abs=ROUNDING)


@pytest.mark.parametrize("mse_weight", [-0.01, 1.01, float("nan")])
def test_lambda_outside_its_range_is_refused(mse_weight):
    """lambda must lie in [0, 1]."""
    with pytest.raises(ArgumentError, match="lambda"):
        total_loss(*draw(2), mse_weight=mse_weight)


def test_an_unknown_loss_is_refused():
    """The error lists the losses that there are."""
    with pytest.raises(ArgumentError, match="sdt, tet"):
        total_loss(*draw(3), loss="hinge")
