"""Training with the losses of TET, evaluation and checkpoints."""

import tet_deploy.nn  # noqa: F401  # first: it says what to install where torch is missing
from tet_deploy.training.checkpoints import Description, load_checkpoint, load_weights, save_checkpoint
from tet_deploy.training.evaluation import accuracy_by_step, accuracy_of_single_steps, readouts
from tet_deploy.training.losses import mse_loss, sdt_loss, tet_loss, total_loss
from tet_deploy.training.recipes import DEMO, Recipe
from tet_deploy.training.trainer import TrainingResult, train

__all__ = [
    "DEMO",
    "Description",
    "Recipe",
    "TrainingResult",
    "accuracy_by_step",
    "accuracy_of_single_steps",
    "load_checkpoint",
    "load_weights",
    "mse_loss",
    "readouts",
    "save_checkpoint",
    "sdt_loss",
    "tet_loss",
    "total_loss",
    "train",
]
