"""Agreement counts what differs and finds the first place."""

import dataclasses

import numpy as np
import pytest

from tet_deploy.contracts import Recording
from tet_deploy.errors import DataError
from tet_deploy.validation import compare


def recording(**changes):
    values = {
        "spikes": {"a": np.zeros((3, 2, 4), np.uint8), "b": np.zeros((3, 2, 2, 2, 2), np.uint8)},
        "potentials": {"a": np.full((3, 2, 4), 0.5, np.float32), "b": np.zeros((3, 2, 2, 2, 2), np.float32)},
        "readout": np.zeros((3, 2, 5), np.float32),
        "runtime": "reference",
    }
    return Recording(**{**values, **changes})


def test_equal_recordings_agree():
    """Nothing differs, and every value was compared."""
    agreement = compare(recording(), recording(runtime="other"))
    assert agreement.equal
    assert agreement.first is None
    assert agreement.counts() == {"spikes": 0, "potentials": 0, "readout": 0, "compared": 2 * (24 + 48) + 30}


def test_first_divergence_is_the_earliest_step_and_in_it_the_first_node():
    """It names node, step, sample, neuron, both potentials and the silent side's distance to threshold."""
    other = recording(runtime="other", spikes={key: np.array(value) for key, value in recording().spikes.items()})
    other.spikes["b"][1, 0, 0, 0, 0] = 1  # in the same step, later in the network
    other.spikes["a"][2, 1, 3] = 1
    other.spikes["a"][1, 1, 2] = 1
    other.potentials["a"][1, 1, 2] = 0.0
    other.readout[2, 1, 1] = 3.0
    agreement = compare(recording(), other, {"a": 0.75})
    assert (agreement.spikes, agreement.potentials, agreement.readout) == (3, 1, 1)
    assert agreement.by_node == {"a": (2, 1), "b": (1, 0)}
    assert agreement.decisions == 1
    first = agreement.first
    assert (first.node, first.step, first.sample, first.neuron) == ("a", 1, 1, (2,))
    assert (first.expected, first.found, first.distance) == (0.5, 0.0, 0.25)
    assert "step 1, sample 1, neuron (2,)" in str(first)


def test_a_readout_alone_can_diverge():
    """Where all spikes agree, the divergence lies in the readout."""
    other = recording(runtime="other", readout=np.full((3, 2, 5), 1e-7, np.float32))
    assert compare(recording(), other).first.node == "readout"


def test_recordings_of_different_runs_are_refused():
    """Different steps, samples or probes cannot be compared."""
    with pytest.raises(DataError, match="same steps, samples and classes"):
        compare(recording(), recording(readout=np.zeros((4, 2, 5))))
    with pytest.raises(DataError, match="must hold the spikes of the same nodes"):
        compare(recording(), recording(spikes={"c": np.zeros((3, 2, 4))}))


def test_decisions_average_over_time():
    """The decision is the argmax of the mean readout; by step, of the mean so far."""
    readout = np.zeros((2, 1, 2))
    readout[0, 0] = [1.0, 0.0]
    readout[1, 0] = [0.0, 3.0]
    result = dataclasses.replace(recording(), readout=readout)
    assert result.decisions.tolist() == [1]
    assert result.decisions_by_step.tolist() == [[0], [1]]
