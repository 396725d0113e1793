"""From a recipe and data to a checkpoint, through several stages, with a log beside it."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.reporting import find_log
from tet_deploy.training import DEMO, Settings, load_checkpoint, load_recipe, readouts, session
from tet_deploy.training.evaluation import accuracy_by_step
from tet_deploy.training.recipes import changed, one_stage

TIT = changed(load_recipe("digits-tit"), epochs=1)


@contextlib.contextmanager
def no_bar(title):
    yield lambda done, total: None


def settings(out, **more):
    return Settings(**session.files_beside(out), **more)


def test_a_later_stage_inherits_the_weights(tmp_path):
    """Two stages in one go are the first, and then the second alone on its weights: every weight is the same."""
    both = session.fit(TIT, session.load_samples(TIT)).model.state_dict()
    first, out = one_stage(TIT, 1), tmp_path / "first.safetensors"
    session.train_into(out, first, settings(out), bar=no_bar)
    alone = session.fit(first, session.load_samples(first)).model.state_dict()
    assert not torch.equal(alone["conv1.weight"], both["conv1.weight"])  # the second stage does train
    inherited = session.fit(
        dataclasses.replace(TIT, stages=(dataclasses.replace(TIT.stages[1], learning_rate=1e-30),)),
        session.load_samples(TIT),
        weights=out,
    )
    torch.testing.assert_close(inherited.model.state_dict()["conv1.weight"], alone["conv1.weight"], atol=1e-7, rtol=0)


def test_trainings_of_different_names_share_no_file(tmp_path):
    """Names that differ behind a dot alone have a log and a state each; `.safetensors` is left out of them."""
    names = ["lr0.1", "lr0.2", "net", "net.ckpt", "net.int4", "net.ckpt.safetensors2"]
    files = [path for name in names for path in session.files_beside(tmp_path / name).values()]
    assert len({*files}) == 2 * len(names)
    assert session.files_beside(tmp_path / "net.ckpt.safetensors")["log"] == tmp_path / "net.ckpt.log.jsonl"
    for nameless in (".", "/"):
        with pytest.raises(ArtifactError, match="is a folder"):
            session.train_into(Path(nameless), TIT, settings(Path(nameless)), bar=no_bar)


def test_checkpoint_log_and_accuracy_are_of_the_last_epoch(tmp_path):
    """The accuracy is that of the weights in the file on held-out samples; the state is gone, an epoch is a line."""
    out = tmp_path / "net.safetensors"
    trained = session.train_into(out, TIT, settings(out, evaluate_every=1), bar=no_bar)
    model, description = load_checkpoint(out)
    samples = session.load_samples(TIT)
    by_step = accuracy_by_step(readouts(model, samples.test_frames), samples.test_labels)
    assert trained.accuracy_by_step == pytest.approx(tuple(by_step))
    assert description.accuracy == trained.accuracy_by_step[-1]
    assert (description.steps, description.recipe["split"]) == (4, samples.split_hash)
    lines = [json.loads(line) for line in (tmp_path / "net.log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"], line["steps"], len(line["accuracy_by_step"])) for line in lines] == [
        (1, 1, 2, 2),
        (2, 1, 4, 4),
    ]
    assert lines[-1]["accuracy"] == description.accuracy
    assert [line["loss"] for line in lines] == list(trained.result.losses)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.log.jsonl", "net.safetensors"]


class Stop(Exception):
    """In the middle of a training."""


def test_what_was_begun_is_resumed_by_its_own_recipe(tmp_path):
    """The recipe is in the state: nothing needs to be said again, and nothing else may be."""
    out = tmp_path / "net.safetensors"

    @contextlib.contextmanager
    def stopping(title):
        def progress(done, total):
            if done > 25:
                raise Stop

        yield progress

    recipe = session.choose(settings(out), recipe="digits-tit", width=0.5, changes={"epochs": 1, "seed": 2})
    assert (recipe.seed, recipe.model_arguments) == (2, {"width": 0.5})
    with pytest.raises(Stop):
        session.train_into(out, recipe, settings(out), bar=stopping)
    with pytest.raises(ArtifactError, match=r"interrupted training\. Go on with --resume"):
        session.train_into(out, recipe, settings(out), bar=no_bar)
    again = settings(out, resume=True)
    with pytest.raises(ArgumentError, match="Leave out --recipe, --batch-size"):
        session.choose(again, recipe="digits", changes={"batch_size": 3})
    chosen = session.choose(again, changes={})
    assert chosen == recipe
    resumed = session.train_into(out, chosen, again, bar=no_bar)
    whole = session.fit(recipe, session.load_samples(recipe))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    assert find_log(tmp_path, session.traced(out).metadata) == out.with_suffix(".log.jsonl")


def test_data_choose_their_recipe(tmp_path):
    """The demo's for its data, one of one's own for frames of one's own; where there are several, one must be named."""
    assert session.recipe_for("digits") == DEMO["digits"]
    assert session.recipe_for() == DEMO["event-digits"]
    assert session.recipe_for("digits", "digits-tit", seed=3).seed == 3
    np.savez(tmp_path / "own.npz", frames=np.zeros((7, 4, 2, 8, 8)), labels=np.array([0, 1, 0, 1]))
    own = session.recipe_for(str(tmp_path / "own.npz"))
    assert (own.steps, own.threads) == (7, None)
    with pytest.raises(ArgumentError, match="--recipe, one of cifar10-resnet19-t2, cifar10"):
        session.recipe_for("cifar10")


def test_a_folder_that_is_not_there_is_named_before_training(tmp_path):
    """Hours later would be too late."""
    out = tmp_path / "no" / "net.safetensors"
    with pytest.raises(ArtifactError, match="no folder"):
        session.train_into(out, TIT, settings(out), bar=no_bar)


def test_a_log_that_a_dead_training_left_is_taken_up(tmp_path):
    """Lines of epochs that the state does not know, or half of one, are not kept."""
    out = tmp_path / "net.safetensors"

    @contextlib.contextmanager
    def stopping(title):
        def progress(done, total):
            if done > 25:
                shutil.copy(tmp_path / "net.log.jsonl", tmp_path / "before")
                raise Stop

        yield progress

    with pytest.raises(Stop):
        session.train_into(out, TIT, settings(out), bar=stopping)
    (tmp_path / "net.log.jsonl").write_text((tmp_path / "before").read_text() + '{"stage": 2, "ep')
    session.train_into(out, TIT, settings(out, resume=True), bar=no_bar)
    lines = (tmp_path / "net.log.jsonl").read_text().splitlines()
    assert lines[0] == (tmp_path / "before").read_text().strip()
    assert [json.loads(line)["stage"] for line in lines] == [1, 2]
