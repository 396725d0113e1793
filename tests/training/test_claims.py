"""A finished or interrupted training is kept, and no two trainings write into one place."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tet_deploy.errors import ArtifactError, TetDeployError
from tet_deploy.files import written_whole
from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import ArrayFeed, Description, Group, Recipe, Settings, Stage, claims, run, save_checkpoint, session

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(model="digits", data="digits", threads=1,
                stages=(Stage(steps=2, epochs=2, learning_rate=1e-2, batch_size=8),))  # fmt: skip


def train(settings, progress=None):
    """A training of its own on a few numbers."""
    rng = np.random.default_rng(0)
    feed = ArrayFeed(rng.normal(size=(2, 16, 4)), rng.integers(0, 3, 16), steps=2)
    model = TimeMajor(nn.Linear(4, 6), LIF(), nn.Linear(6, 3))
    return run(model, RECIPE, lambda stage: (feed, None), settings=settings, progress=progress)


def checkpoint(path, recipe=RECIPE, **more):
    about = {"recipe": {**recipe.as_dict(), "split": "abc", **more}, "seed": recipe.seed, "steps": 2, "data": "digits"}
    description = Description(model="digits", arguments={"width": 0.5}, shape=(1, 8, 8), encoding="analog", **about)
    return save_checkpoint(build("digits", seed=recipe.seed, width=0.5), description, path)


def settings(out, **more):
    return Settings(**session.files_beside(out), **more)


class Stop(Exception):
    """In the middle of a training."""


@pytest.fixture
def out(tmp_path):
    return tmp_path / "net.safetensors"


def begun(out):
    """A training that was interrupted after its first epoch."""

    def stop(done, total):
        if done == 3:
            raise Stop

    with contextlib.suppress(Stop):
        train(settings(out), stop)


# What lies there before -> what the settings say -> the refusal, or None.
LEFT = {
    "finished": (checkpoint, {}, r"net.safetensors: is a finished training\. Choose another name, or .*--force"),
    "finished, forced": (checkpoint, {"overwrite": True}, None),
    "interrupted": (begun, {}, r"net.state.safetensors: is of an interrupted training\. Go on with --resume"),
    "interrupted, forced": (begun, {"overwrite": True}, None),
    "interrupted, resumed": (begun, {"resume": True}, None),
    "log": (lambda out: out.with_suffix(".log.jsonl").write_text('{"stage": 1}\n'), {}, "is the log of a former training"),
    "another's": (lambda out: out.write_text("diary"), {"overwrite": True}, "is not a checkpoint of tet_deploy"),
    "another's log": (
        lambda out: out.with_suffix(".log.jsonl").write_text("diary"), {"overwrite": True}, "is not the log of a training"
    ),
    "another's state": (
        lambda out: checkpoint(out.with_suffix(".state.safetensors")), {"overwrite": True}, "is not the state of a training"
    ),
    "empty": (lambda out: out.touch(), {}, None),
    "nothing": (lambda out: None, {}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_nothing_is_lost_unless_asked(out, case):
    """A finished and an interrupted training and a log stay, unless overwrite says so; what is no training's always does."""
    leave, chosen, message = LEFT[case]
    leave(out)
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    if message is None:
        claims.check_free(settings(out, **chosen), out, RECIPE)
        return
    with pytest.raises(ArtifactError, match=message):
        claims.check_free(settings(out, **chosen), out, RECIPE)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before


def test_the_checkpoint_just_written_may_be_written_again(out):
    """Killed between writing the checkpoint and removing the state, --resume ends; over another's, it needs --force."""
    begun(out)
    checkpoint(out)
    with pytest.raises(ArtifactError, match="interrupted training"):  # that one would be lost
        claims.check_free(settings(out), out, RECIPE)
    claims.check_free(settings(out, resume=True), out, RECIPE)
    for other in (dataclasses.replace(RECIPE, seed=1), dataclasses.replace(RECIPE, augmentation={"flip": True})):
        with pytest.raises(ArtifactError, match=r"net.safetensors: is a finished training\. Add --force"):
            claims.check_free(settings(out, resume=True), out, other)
        claims.check_free(settings(out, resume=True, overwrite=True), out, other)


def test_python_keeps_to_the_same_rule(out):
    """`run` and `save_checkpoint` refuse what the command line refuses, before anything is trained."""
    begun(out)
    with pytest.raises(ArtifactError, match="interrupted training"):
        train(settings(out), lambda done, total: pytest.fail("it trained"))
    assert len(train(settings(out, overwrite=True)).losses) == 2
    path = checkpoint(out)
    with pytest.raises(ArtifactError, match="finished training"):
        checkpoint(path)
    with pytest.raises(ArtifactError, match="finished training"):
        session.train_into(path, RECIPE, Settings(), bar=None)


def test_begun_anew_the_old_state_is_gone(out):
    """Interrupted again before its first epoch ends, --resume cannot go on with the training that was given up."""
    begun(out)

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        train(settings(out, overwrite=True), stop)
    assert not settings(out).state.exists()


def test_weights_that_are_read_are_not_replaced(out):
    """Not even where all is forced: --weights and --out are two files."""
    checkpoint(out)
    with pytest.raises(ArtifactError, match="is read and would be replaced"):
        session.train_into(out, RECIPE, settings(out, overwrite=True), weights=out, bar=None)


def test_what_cannot_be_resumed_is_named(out, tmp_path):
    """A training that is finished, and one that was never begun there."""
    with pytest.raises(ArtifactError, match=r"no such file\. There is nothing to resume: start without"):
        session.choose(settings(out, resume=True), out=out, changes={})
    checkpoint(out)
    with pytest.raises(ArtifactError, match=r"net.safetensors: is a finished training\. There is nothing to resume"):
        session.choose(settings(out, resume=True), out=out, changes={})


def test_a_second_training_is_refused_at_once(out):
    """While one trains, another into its files is refused, in this process too; the log holds one training's lines."""
    seen = []

    def meanwhile(done, total):
        for other in (settings(out), settings(out, resume=True), Settings(log=settings(out).log, overwrite=True)):
            with pytest.raises(ArtifactError, match="another training is writing there"):
                train(other)
        seen.append(done)

    train(settings(out), meanwhile)
    assert seen == [1, 2, 3, 4]
    lines = [json.loads(line) for line in settings(out).log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert sorted(path.name for path in out.parent.iterdir()) == ["net.log.jsonl", "net.state.safetensors"]


HOLDING = """
import sys, time
from pathlib import Path
from tet_deploy.training import Group, claims
with claims.held(Group(), [Path(sys.argv[1])], lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_its_process(out, tmp_path):
    """Another process is refused, also through a link to the place; after kill -9 the place is free."""
    (tmp_path / "link").symlink_to(out)
    words = [sys.executable, "-c", HOLDING, str(tmp_path / "link")]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match="another training"), claims.held(Group(), [out], lambda: None):
            pytest.fail("both hold it")
        other.send_signal(signal.SIGKILL)
    with claims.held(Group(), [out], lambda: None):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_nothing_is_opened_through_a_planted_lock(tmp_path, out):
    """A link in the lock's place is refused, and what it points to is left alone."""
    (tmp_path / ".net.safetensors.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ArtifactError, match="cannot be written"), claims.held(Group(), [out], lambda: None):
        pytest.fail("it opened the link")
    assert not (tmp_path / "victim").exists()


def test_a_failure_leaves_no_lock(out):
    """A check that fails, and a training that does, free the place."""

    def fail():
        raise TetDeployError("no")

    for _ in range(2):
        with pytest.raises(TetDeployError, match="no"), claims.held(Group(), [out], fail):
            pytest.fail("it went on")
    with written_whole(out, claims.CHECKPOINT) as temporary:
        temporary.write_text("")
    assert [path.name for path in out.parent.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize("beside", [{}, {"losses": "0123456789abcdef"}], ids=["of before 0.2", "with its losses"])
def test_a_checkpoint_came_of_its_recipe(beside, out):
    """Whether or not it tells its losses; of another seed's it did not come."""
    checkpoint(out, **beside)
    assert claims.came_of(RECIPE, out)
    assert not claims.came_of(dataclasses.replace(RECIPE, seed=1), out)
