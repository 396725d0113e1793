"""Two processes train as one does: real ones, started by torchrun, that talk by gloo on the CPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tet_deploy.errors import ArgumentError, DataError, MissingDependencyError
from tet_deploy.training import Group, process_group
from tet_deploy.training.batches import order, parts

SCRIPT = Path(__file__).with_name("many_processes.py")
ROOT = SCRIPT.parents[2]
spec = importlib.util.spec_from_file_location("many_processes", SCRIPT)
many = importlib.util.module_from_spec(spec)
spec.loader.exec_module(many)
ROUNDING = 1e-6  # the loss is computed from readouts in single precision


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(3):  # torch's own threads abort about one process in twenty at its end, on a busy machine
        folder = tmp_path_factory.mktemp("two")  # anew: the first try has left a training that can be resumed
        done = subprocess.run([*launch, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def distance(found, expected):
    """Largest difference of losses and of weights."""
    losses = np.abs(np.array(found["losses"]) - np.array(expected["losses"])).max()
    weights = [np.abs(np.array(found["weights"][n]) - np.array(w)).max() for n, w in expected["weights"].items()]
    return losses, max(weights)


@pytest.mark.parametrize("case", ["plain", "in parts", "synchronized batch norm"])
def test_losses_and_weights_are_those_of_one_process(two, case):
    """The same loss curve and the same weights within rounding, batch norm's running statistics among them."""
    alone = many.trained("plain" if case == "in parts" else case)
    for found in two:
        losses, weights = distance(found[case], alone)
        assert losses < ROUNDING
        assert weights < 100 * ROUNDING  # Adam divides small gradients by their size
        assert found[case]["accuracy"] == pytest.approx(alone["accuracy"])


def test_without_synchronization_batch_norm_makes_a_difference(two):
    """Each process's statistics are its own, so the losses are not those of one process; the weights are still shared."""
    losses, _ = distance(two[0]["each its own batch norm"], many.trained("each its own batch norm"))
    assert losses > 1e-3
    first, second = (found["each its own batch norm"]["weights"]["1.0.weight"] for found in two)
    assert first == second


def test_every_held_out_sample_is_seen_once(two):
    """No sample is repeated to make the processes' shares equal, and none is left out."""
    seen = [index for found in two for index in found["plain"]["held out"]]
    assert sorted(seen) == list(range(many.HELD_OUT))


def test_processes_that_resume_keep_their_own_random_numbers(two):
    """Dropout differs between processes; interrupted and resumed, losses and weights are bit for bit the same."""
    for found in two:
        assert found["resumed"]["losses"] == found["dropout"]["losses"]
        assert found["resumed"]["weights"] == found["dropout"]["weights"]


@pytest.mark.parametrize(("samples", "size", "accumulate"), [(12, 1, 1), (13, 2, 3), (13, 3, 8), (5, 5, 2)])
def test_processes_and_parts_share_a_batch(samples, size, accumulate):
    """Every sample is in one part of one process, and all processes have as many parts, none of them empty."""
    batch = np.arange(samples) + 100
    shares = [parts(batch, Group(rank=rank, size=size), accumulate) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    assert all(len(part) for share in shares for part in share)
    assert sorted(np.concatenate([part for share in shares for part in share])) == batch.tolist()


def test_a_batch_smaller_than_the_processes_is_refused():
    """Some would have nothing to do."""
    with pytest.raises(DataError, match="8 processes"):
        parts(np.arange(5), Group(size=8), 1)


def test_the_order_of_an_epoch_is_a_permutation_fixed_by_its_seed():
    """Every sample once, in batches that differ by one sample at most; another epoch and another seed are another order."""
    batches = order(50, 16, seed=1, epoch=2)
    assert [len(batch) for batch in batches] == [13, 13, 12, 12]
    assert sorted(np.concatenate(batches)) == list(range(50))
    again, later, other = (np.concatenate(order(50, 16, seed=s, epoch=e)) for s, e in ((1, 2), (1, 3), (2, 2)))
    assert np.array_equal(np.concatenate(batches), again)
    assert not np.array_equal(again, later)
    assert not np.array_equal(again, other)


def test_what_stops_the_first_process_stops_all(two):
    """It says why; the others do not wait for it, and do nothing themselves."""
    assert [found["refused"] for found in two] == [
        "no, says 0",
        "the first process of the group stopped, and says why. Start all of them anew.",
    ]


def test_without_torchrun_a_process_is_alone():
    """It leads, sums are its own, and a model is not wrapped."""
    with process_group("cpu") as group:
        assert (group.leads, group.size, group.device.type) == (True, 1, "cpu")
        assert group.sum(torch.ones(2)).tolist() == [1, 1]
        model = torch.nn.Linear(1, 1)
        assert group.parallel(model) is model


@pytest.mark.parametrize(("device", "message"), [("tpu", "knows none of that name|has none"), ("cuda:99", "99|has none")])
def test_a_device_that_is_not_there_is_named(device, message):
    """The error says what there is."""
    with pytest.raises((ArgumentError, MissingDependencyError), match=message), process_group(device):
        pass
