"""A training that was killed goes on as if nothing had happened."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("interrupted.py")
ROOT = SCRIPT.parents[2]
spec = importlib.util.spec_from_file_location("interrupted", SCRIPT)
interrupted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interrupted)
TOTAL = interrupted.BATCHES * sum(stage.epochs for stage in interrupted.STAGES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights, losses and log of the training that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    model, result = interrupted.train(folder)
    return model.state_dict(), result.losses, log(folder)


def log(folder):
    """The log without what the clock says."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def kill(folder, how, *words):
    """Run the training in a process of its own until it dies of SIGKILL."""
    command = [sys.executable, str(SCRIPT), str(folder), how, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr


def check(folder, whole):
    model, result = interrupted.train(folder, resume=True)
    weights, losses, lines = whole
    assert result.losses == losses
    assert log(folder) == lines
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_killed_at_a_random_batch_and_resumed_every_weight_is_the_same(tmp_path, whole):
    """kill -9 at a random batch, twice: final weights, losses and log are bit for bit those of the training left alone."""
    first = random.SystemRandom().randint(interrupted.BATCHES, TOTAL - 3)  # an epoch at least, so that there is a state
    second = random.SystemRandom().randint(first + 1, TOTAL - 1)
    print(f"killed after batches {first} and {second} of {TOTAL}")
    kill(tmp_path, "begin", first)
    kill(tmp_path, "resume", second)
    check(tmp_path, whole)


def test_killed_while_the_state_is_written_the_one_before_is_whole(tmp_path, whole):
    """A state is never half-written: killed in the middle, the one before it serves."""
    kill(tmp_path, "begin", 11, "while-writing")
    check(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(3, TOTAL))
def test_killed_at_any_batch(tmp_path, whole, batch):
    """Wherever it is killed, at the edges of epochs and stages too."""
    kill(tmp_path, "begin", batch)
    check(tmp_path, whole)
