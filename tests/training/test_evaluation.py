"""Accuracy by step is that of the mean readout so far."""

import numpy as np
import pytest
import torch
from torch import nn

from tet_deploy.errors import DataError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import accuracy_by_step, accuracy_of_single_steps, readouts

READOUT = np.array(  # [T=3, N=2, K=2]: sample 0 turns to class 1 on the mean at step 3, sample 1 is always class 0
    [[[2, 0], [1, 0]], [[0, 1], [1, 0]], [[0, 3], [1, 0]]], dtype=np.float32
)


def test_decisions_are_on_the_mean_so_far():
    """After t steps the class with the largest mean readout of steps 1..t decides."""
    assert accuracy_by_step(READOUT, np.array([1, 0])).tolist() == [0.5, 0.5, 1.0]


def test_single_steps_decide_alone():
    """Each step's own readout decides."""
    assert accuracy_of_single_steps(READOUT, np.array([1, 0])).tolist() == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("labels", [[1], [1, 2], [0.0, 1.0]])
def test_labels_that_do_not_fit_are_refused(labels):
    """Too few labels, a class that the readout lacks, fractions."""
    with pytest.raises(DataError, match="labels"):
        accuracy_by_step(READOUT, np.array(labels))


def test_readouts_are_those_of_eval_mode_for_all_samples():
    """Batch norm uses running statistics, samples keep their order over batches, and the mode is put back."""
    model = TimeMajor(nn.Linear(4, 6), nn.BatchNorm1d(6), LIF(), nn.Linear(6, 3)).train()
    frames, reports = np.random.default_rng(0).normal(size=(2, 300, 4)).astype(np.float32), []
    found = readouts(model, frames, progress=lambda done, total: reports.append((done, total)))
    assert model.training
    assert reports == [(256, 300), (300, 300)]
    with torch.no_grad():
        expected = model.eval()(torch.tensor(frames)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)  # another batch size sums in another order
