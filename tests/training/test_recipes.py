"""Recipes are the paper's, and mistakes in one are named with their place."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tet_deploy import data
from tet_deploy.data.augmentation import augmentation_for
from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.models import MODELS
from tet_deploy.recipes import RECIPES
from tet_deploy.training import DEMO, Recipe, Stage, load_recipe
from tet_deploy.training.recipes import changed, from_dict, one_stage, sdt

ROOT = Path(__file__).resolve().parents[2]

# Deng et al., ICLR 2022, appendix A.1 and section 5.2: model, data, stages (T, epochs, learning rate, optimiser, momentum,
# weight decay), lambda. Weight decay None: the paper says nothing.
CIFAR = (2, 300, 0.01, "adam", 0, None)
PAPER = {
    "cifar10-resnet19-t2": ("resnet19", "cifar10", [CIFAR], 0.05),
    "cifar10-resnet19-t4": ("resnet19", "cifar10", [CIFAR, (4, 50, 1e-4, "adam", 0, None)], 0.05),
    "cifar10-resnet19-t6": ("resnet19", "cifar10", [CIFAR, (6, 50, 1e-4, "adam", 0, None)], 0.05),
    "cifar100-resnet19-t2": ("resnet19", "cifar100", [CIFAR], 0.05),
    "cifar100-resnet19-t4": ("resnet19", "cifar100", [CIFAR, (4, 50, 1e-4, "adam", 0, None)], 0.05),
    "cifar100-resnet19-t6": ("resnet19", "cifar100", [CIFAR, (6, 50, 1e-4, "adam", 0, None)], 0.05),
    "imagenet-spiking-resnet34-t6": (
        "spiking_resnet34",
        "imagenet",
        [(4, 90, 0.1, "sgd", 0.9, 4e-5), (6, 30, 1e-4, "adam", 0, None)],
        0.001,
    ),
    "imagenet-sew-resnet34-t4": ("sew_resnet34", "imagenet", [(4, 120, 0.1, "sgd", 0.9, 4e-5)], 0.001),
    "dvs-cifar10-vgg-snn": ("vgg_snn", "dvs-cifar10", [(10, 300, 1e-3, "adam", 0, 5e-4)], 0.001),
    "dvs-cifar10-vgg-snn-augmented": ("vgg_snn", "dvs-cifar10", [(10, 300, 1e-3, "adam", 0, None)], 0.001),
}


@pytest.mark.parametrize("name", PAPER)
def test_every_row_of_table_3_that_is_our_model_is_as_the_paper_says(name):
    """Stages, optimisers and lambda are those of appendix A.1 and section 5.2, with the TET loss and a cosine to 0."""
    model, source, stages, mse_weight = PAPER[name]
    recipe = load_recipe(name)
    assert (recipe.model, recipe.data) == (model, source)
    for found, (steps, epochs, rate, optimizer, momentum, weight_decay) in zip(recipe.stages, stages, strict=True):
        assert (found.steps, found.epochs, found.learning_rate) == (steps, epochs, rate)
        assert (found.optimizer, found.momentum) == (optimizer, momentum)
        assert found.weight_decay == (weight_decay or 0)
        assert (found.loss, found.mse_weight, found.schedule, found.continues) == ("tet", mse_weight, "cosine", False)


def test_augmentation_is_the_papers():
    """Flip and crop; flip and roll within 5 pixels; none in the row without."""
    wanted = {"cifar": {"flip": True, "crop_padding": 4}, "imagenet": {"flip": True, "resized_crop": True}}
    for name in PAPER:
        if name.startswith("dvs"):
            expected = {"flip": True, "roll": 5} if name.endswith("augmented") else {}
        else:
            expected = wanted[re.match("[a-z]+", name)[0]]
        assert load_recipe(name).augmentation == expected


def test_the_table_names_every_file():
    """RECIPES and the folder hold the same names; the paper's rows are in it."""
    assert set(RECIPES) == {path.stem for path in (ROOT / "recipes").glob("*.toml")}
    assert set(PAPER) < set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_what_there_is(name):
    """Network, data and augmentation exist; a recipe as plain values is the recipe again."""
    recipe = load_recipe(name)
    assert recipe.model in MODELS
    assert recipe.data in data.DATA
    augmentation_for(recipe.data, recipe.augmentation, without={})
    assert from_dict(recipe.as_dict(), source=name) == recipe


GOOD = """
seed = 1
[model]
name = "digits"
arguments = { width = 0.5 }
[data]
name = "digits"
[[stages]]
steps = 2
epochs = 3
learning_rate = 0.01
[[stages]]
steps = 4
epochs = 1
learning_rate = 1e-4
optimizer = "sgd"
momentum = 0.9
"""


def test_a_file_of_your_own_is_read(tmp_path):
    """Values are as written; what is left out has its default."""
    path = tmp_path / "own.toml"
    path.write_text(GOOD)
    recipe = load_recipe(path)
    assert recipe == Recipe(
        model="digits",
        model_arguments={"width": 0.5},
        data="digits",
        seed=1,
        stages=(
            Stage(steps=2, epochs=3, learning_rate=0.01),
            Stage(steps=4, epochs=1, learning_rate=1e-4, optimizer="sgd", momentum=0.9),
        ),
    )
    assert recipe.steps == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "learning_rate = 1e-4",
            "learning_rat = 1e-4",
            r"stage 2: unknown key 'learning_rat'\. Did you mean 'learning_rate'",
        ),
        ("seed = 1", "sead = 1", r"unknown key 'sead'\. Did you mean 'seed'"),
        ("seed = 1", "xyz = 1", r"unknown key 'xyz'\. The keys are model, data"),
        ("arguments = {", "argments = {", r"model: unknown key 'argments'\. Did you mean 'arguments'"),
        ("epochs = 1\n", "", "stage 2: epochs is missing"),
        ("[data]\nname", "[data]\narguments", "data: must be a table|data.*name is missing"),
        ("steps = 2", "steps = 0", r"stage 1: steps: must be at least 1; got 0"),
        ("steps = 4", "steps = 4.0", r"stage 2: steps: must be a whole number; got 4\.0"),
        ("epochs = 3", "epochs = true", "stage 1: epochs: must be a whole number; got True"),
        ("epochs = 3", 'epochs = "3"', "stage 1: epochs: must be a whole number; got '3'"),
        ("learning_rate = 0.01", "learning_rate = -0.01", r"stage 1: learning_rate: .*not negative; got -0\.01"),
        ("learning_rate = 1e-4", "learning_rate = nan", "stage 2: learning_rate: .*got nan"),
        ("learning_rate = 1e-4", "learning_rate = 0", "stage 2: learning_rate: must be positive"),
        ("steps = 4", "steps = 4\nmse_weight = 1.5", r"stage 2: mse_weight \(lambda.*\[0, 1\]; got 1\.5"),
        ("steps = 4", "steps = 4\nmse_weight = -0.1", r"stage 2: mse_weight \(lambda"),
        ("steps = 4", 'steps = 4\nloss = "ted"', "stage 2: loss 'ted'"),
        ('"sgd"', '"sgdm"', r"stage 2: optimizer: must be one of adam, sgd; got 'sgdm'\. Did you mean 'sgd'"),
        ('"sgd"', '"adam"', r"stage 2: momentum: is SGD's"),
        ("momentum = 0.9", 'schedule = "cosin"', r"stage 2: schedule: .*Did you mean 'cosine'"),
        ("momentum = 0.9", "momentum = 0.9\ncontinues = true", "stage 2: continues the stage before"),
        ("seed = 1", "seed = -1", "seed: must be at least 0"),
        ("steps = 4", f'steps = 4\nloss = "{"x" * 10**5}"', r"stage 2: loss 'x+\.\.\.x+': must"),
        ("seed = 1", "threads = 0", r"threads: must be in 1\.\.65536; got 0"),
        ('[model]\nname = "digits"', "[model]\nname = 3", "model: must be a text; got 3"),
        ("[[stages]]\nsteps = 2", "[stages]\nsteps = 2", "is not TOML|stages: must be a list"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, old, new, message):
    """The file, the stage, the key, what was found; for an unknown key the nearest known one."""
    path = tmp_path / "own.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises((ArgumentError, ArtifactError), match=f"own.toml(.|\n)*({message})"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[model", "is not TOML"),
        (b"seed = " + b"9" * 5000, "is not TOML.*limit"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_recipe_are_refused(tmp_path, content, message):
    """Broken TOML, bytes, nothing."""
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    with pytest.raises((ArtifactError, ArgumentError), match=message):
        load_recipe(path)


def test_an_unknown_name_is_answered_with_the_nearest():
    """All names are listed."""
    with pytest.raises(ArgumentError, match=r"Did you mean 'digits'.*dvs-cifar10-vgg-snn-augmented"):
        load_recipe("digitz")


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"epochs": 0}, {"batch_size": 0}, {"learning_rate": -1e-3}, {"loss": "best"}, {"mse_weight": 1.2}],
)
def test_a_stage_out_of_range_is_refused(change):
    """Stages are checked when they are written, not after an hour."""
    with pytest.raises(ArgumentError):
        dataclasses.replace(DEMO["digits"].stages[0], **change)


def test_a_recipe_without_stages_is_refused():
    """One is needed."""
    with pytest.raises(ArgumentError, match="stages: needs at least one"):
        Recipe(model="own", data="own", stages=())


def test_changes_reach_the_recipe_and_all_its_stages():
    """Fields of a recipe and of stages are told apart by their names; a stage alone is the first of what is left."""
    recipe = changed(load_recipe("digits-tit"), seed=3, epochs=1)
    assert (recipe.seed, [stage.epochs for stage in recipe.stages]) == (3, [1, 1])
    assert [stage.steps for stage in one_stage(recipe, 2).stages] == [4]
    with pytest.raises(ArgumentError, match="stages 1 to 2"):
        one_stage(recipe, 3)


def test_the_sdt_recipe_is_the_standard_loss_alone():
    """SDT has no regularising term (eq. 7)."""
    stage = sdt(DEMO["digits"]).stages[0]
    assert (stage.loss, stage.mse_weight) == ("sdt", 0.0)


@pytest.mark.slow
def test_recipes_are_read_from_an_installed_package(tmp_path):
    """The TOML files are in the wheel, and found where there is no checkout."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(ROOT)]
    subprocess.run(pip, check=True)
    code = (
        "from tet_deploy.training import recipes as r; print(r.__file__, [len(r.load_recipe(n).stages) for n in r.RECIPES])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "site") in done.stdout
    assert "[1, 2, 1, 1, 2, 2, 1, 2, 2, 2, 1, 1, 1]" in done.stdout
