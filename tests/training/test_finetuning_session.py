"""From a checkpoint to a file of a fine-tuned network, also after an interruption."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.models import build
from tet_deploy.passes import lower
from tet_deploy.reporting import find_log
from tet_deploy.training import DEMO, Description, Settings, finetuning_session, save_checkpoint, session
from tet_deploy.training.checkpoints import load_checkpoint
from tet_deploy.training.recipes import changed

pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.QuantizationWarning")  # that few bits are coarse
RECIPE = changed(DEMO["digits"], epochs=2, model_arguments={"width": 0.5})


@contextlib.contextmanager
def no_bar(title):
    yield lambda done, total: None


def settings(out, **more):
    return Settings(precision="fp32", **session.files_beside(out), **more)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network that learned the digits for two epochs."""
    out = tmp_path_factory.mktemp("trained") / "net.ckpt.safetensors"
    session.train_into(out, RECIPE, settings(out), bar=no_bar)
    return out


def finetuned(out, checkpoint, *, bar=no_bar, bits=3, **more):
    plan = finetuning_session.choose(settings(out, **more), checkpoint, None if more.get("resume") else bits, {})
    return finetuning_session.finetune_into(out, checkpoint, plan, settings(out, **more), bar=bar)


class Stop(Exception):
    """In the middle of a fine-tuning."""


@contextlib.contextmanager
def stopping(title):
    """Stop after 30 batches, a state being kept every 5."""

    def progress(done, total):
        if title.startswith("fine-tuning") and done == 30:
            raise Stop

    yield progress


def test_one_that_is_resumed_is_the_one_left_alone(checkpoint, tmp_path):
    """The network, its metadata and its log are the same; then state and lock are gone."""
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    expected = finetuned(whole, checkpoint, evaluate_every=1)
    with pytest.raises(Stop):
        finetuned(cut, checkpoint, bar=stopping, evaluate_every=1, state_every=5)
    assert finetuning_session.how_to_go_on(checkpoint, cut).startswith("Go on with: tet-deploy finetune ")
    with pytest.raises(ArtifactError, match="interrupted"):
        finetuned(cut, checkpoint)
    found = finetuned(cut, checkpoint, resume=True, evaluate_every=1)
    assert td.load(cut).digest() == td.load(whole).digest()
    assert dict(td.load(cut).metadata) == dict(td.load(whole).metadata)
    assert (found.result.losses, found.accuracy_by_step) == (expected.result.losses, expected.accuracy_by_step)
    assert find_log(tmp_path, td.load(whole).metadata) == tmp_path / "cut.log.jsonl"  # of the same losses
    assert find_log(checkpoint.parent, td.load(whole).metadata) is None  # that one is the float network's
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cut.log.jsonl", "cut.safetensors", "whole.log.jsonl", "whole.safetensors"]


def test_accuracies_are_of_the_test_samples_that_training_held_out(checkpoint, tmp_path):
    """Float as the checkpoint says, before as td.quantize leaves it, after as any runtime finds it, on the same samples."""
    out = tmp_path / "net.safetensors"
    found = finetuned(out, checkpoint)
    samples, graph = session.load_samples(RECIPE), td.load(out)
    accuracy = lambda graph: np.mean(td.run(graph, samples.test_frames).decisions == samples.test_labels)  # noqa: E731  # short
    assert found.trained == load_checkpoint(checkpoint)[1].accuracy
    calibration = samples.train_frames[:, :128]
    assert found.before[-1] == accuracy(td.quantize(lower(session.traced(checkpoint), calibration), calibration, bits=3))
    assert found.accuracy_by_step[-1] == accuracy(graph) > found.before[-1] - 0.02
    assert graph.metadata["finetuned_accuracy"] == f"{found.accuracy_by_step[-1]:.4f}"
    assert "all 360 test samples of digits" in graph.metadata["finetuned_accuracy_of"]
    lines = [json.loads(line) for line in (tmp_path / "net.log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == list(found.result.losses)


def test_the_recipe_is_the_checkpoints_own(checkpoint):
    """Data, split, loss, steps and batches stay; epochs, optimiser and learning rate are those of fine-tuning."""
    plan = finetuning_session.plan_for(checkpoint, 4)
    (before,), (stage,) = RECIPE.stages, plan.recipe.stages
    own = {"epochs": 3, "learning_rate": 0.03}
    assert stage == dataclasses.replace(before, **own)
    assert plan.recipe == dataclasses.replace(RECIPE, stages=(stage,))
    assert finetuning_session.plan_for(checkpoint, 4, epochs=7).recipe.stages[0].epochs == 7


def foreign(folder):
    """A checkpoint that does not say how it was trained."""
    about = Description(
        model="digits", arguments={}, shape=(1, 8, 8), encoding="analog", steps=4, seed=0, data="digits", recipe={}
    )
    return save_checkpoint(build("digits", seed=0), about, folder / "foreign.safetensors")


def other_split(checkpoint, folder):
    """One whose test samples are others than those of its data now."""
    model, about = load_checkpoint(checkpoint)
    about = dataclasses.replace(about, recipe={**about.recipe, "split": "0" * 64})
    return save_checkpoint(model, about, folder / "split.safetensors")


WRONG = {
    "bits": (lambda c, d: finetuned(d / "x.safetensors", c, bits=9), ArgumentError, "bits: must lie in 2..8"),
    "epochs": (lambda c, d: finetuning_session.plan_for(c, 4, epochs=0), ArgumentError, "epochs: must be at least 1"),
    "rate": (lambda c, d: finetuning_session.plan_for(c, 4, learning_rate=-1.0), ArgumentError, "learning_rate"),
    "no checkpoint": (lambda c, d: finetuning_session.plan_for(d / "no", 4), ArtifactError, "no such file"),
    "no recipe": (lambda c, d: finetuning_session.plan_for(foreign(d), 4), ArtifactError, "training.finetune"),
    "split": (lambda c, d: finetuned(d / "x.safetensors", other_split(c, d)), ArtifactError, "another split of digits"),
    "no folder": (lambda c, d: finetuned(d / "no" / "x.safetensors", c), ArtifactError, "no folder"),
    "onto the checkpoint": (lambda c, d: finetuned(c, c, overwrite=True), ArtifactError, "net.ckpt"),
    "nothing to resume": (lambda c, d: finetuned(d / "x.safetensors", c, resume=True), ArtifactError, "nothing to resume"),
    "resume with bits": (
        lambda c, d: finetuning_session.choose(settings(d / "x", resume=True), c, 4, {}),
        ArgumentError,
        "Leave out --bits",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_say_the_way_out(case, checkpoint, tmp_path):
    """One to three lines, before anything is trained or written."""
    use, error, message = WRONG[case]
    with pytest.raises(error, match=message) as found:
        use(checkpoint, tmp_path)
    assert str(found.value).count("\n") < 3
    assert not (tmp_path / "x.safetensors").exists()


def test_a_state_of_a_training_is_none_of_a_fine_tuning(checkpoint, tmp_path):
    """It is told to go on with `train`."""
    out = tmp_path / "net.safetensors"

    @contextlib.contextmanager
    def stop(title):
        def progress(done, total):
            if title.startswith("training") and done == 10:
                raise Stop

        yield progress

    with pytest.raises(Stop):
        session.train_into(out, RECIPE, settings(out, state_every=5), bar=stop)
    with pytest.raises(ArtifactError, match="tet-deploy train --resume"):
        finetuned(out, checkpoint, resume=True)
