"""Training with the losses of TET, recipes, evaluation and checkpoints."""

import tet_deploy.nn  # noqa: F401  # first: it says what to install where torch is missing
from tet_deploy.training.batches import ArrayFeed, Feed, SourceFeed, feed_of
from tet_deploy.training.checkpoints import Description, load_checkpoint, load_weights, save_checkpoint
from tet_deploy.training.distribution import Group, process_group
from tet_deploy.training.evaluation import accuracy_by_step, accuracy_of_single_steps, readouts
from tet_deploy.training.finetuning import finetune
from tet_deploy.training.losses import mse_loss, sdt_loss, tet_loss, total_loss
from tet_deploy.training.recipes import DEMO, Recipe, Stage, load_recipe
from tet_deploy.training.settings import Settings
from tet_deploy.training.trainer import TrainingResult, run, train

__all__ = [
    "DEMO",
    "ArrayFeed",
    "Description",
    "Feed",
    "Group",
    "Recipe",
    "Settings",
    "SourceFeed",
    "Stage",
    "TrainingResult",
    "accuracy_by_step",
    "accuracy_of_single_steps",
    "feed_of",
    "finetune",
    "load_checkpoint",
    "load_recipe",
    "load_weights",
    "mse_loss",
    "process_group",
    "readouts",
    "run",
    "save_checkpoint",
    "sdt_loss",
    "tet_loss",
    "total_loss",
    "train",
]
