"""Fig. 3: train with SDT, change to TET two thirds of the way, and watch test accuracy and both test losses."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tet_deploy.contracts import Progress
from tet_deploy.data import FrameData
from tet_deploy.errors import ArgumentError
from tet_deploy.experiments.figures import COLORS, GREY, band
from tet_deploy.experiments.outcome import Outcome, at_index, number, over_seeds, percent
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, fit, recipe_of, samples_of, shares
from tet_deploy.layout import Table
from tet_deploy.training import Recipe, accuracy_by_step, readouts
from tet_deploy.training.losses import CROSS_ENTROPIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Fig. 3, VGGSNN on DVS-CIFAR10: after 200 of 300 epochs the SDT loss no longer falls; when TET takes over, both test "
    "losses fall rapidly and the accuracy rises."
)
RUNS = {"sdt": "SDT throughout", "tet": "TET throughout", "switch": "SDT, then TET"}
CURVES = ("accuracy", *(f"{loss}_loss" for loss in CROSS_ENTROPIES))


def switch(setting: Setting, *, progress: Progress | None = None) -> Outcome:
    """Train with the change and, for comparison, with each loss throughout; all with one learning rate schedule."""
    curves: dict[str, list[np.ndarray]] = {run: [] for run in RUNS}
    parts = iter(shares(progress, len(setting.seeds) * len(RUNS)))
    epochs = change = 0
    for seed in setting.seeds:
        for run in RUNS:
            recipe = recipe_of(setting, Plan(seed=seed, loss="tet" if run == "tet" else "sdt"))
            epochs = recipe.stages[0].epochs
            change = 2 * epochs // 3
            if run == "switch":
                recipe = _changing(recipe, change)
            curves[run].append(_watched(recipe, samples_of(setting, recipe), epochs, next(parts)))

    found = {run: {name: over_seeds(np.array(c)[:, i]) for i, name in enumerate(CURVES)} for run, c in curves.items()}
    return Outcome(
        claim=CLAIM,
        values={"epochs": epochs, "switch_after_epoch": change, "by_epoch": found},
        tables=[_table(found, change)],
        draw=lambda figure: _draw(figure, found, change),
    )


def _changing(recipe: Recipe, change: int) -> Recipe:
    """The same training, with the TET loss after so many epochs."""
    stage = recipe.stages[0]
    if not 0 < change < stage.epochs:
        raise ArgumentError(f"switch: needs at least 2 epochs, to change the loss between them; got {stage.epochs}.")
    before = dataclasses.replace(stage, epochs=change)
    after = dataclasses.replace(stage, epochs=stage.epochs - change, loss="tet", continues=True)
    return dataclasses.replace(recipe, stages=(before, after))


def _watched(recipe: Recipe, samples: FrameData, epochs: int, progress: Progress) -> np.ndarray:
    """The CURVES on the test samples after each epoch, [3, epochs]."""
    found: list[list[float]] = []
    labels = torch.from_numpy(samples.test_labels)

    def watch(model: nn.Module, done: int, total: int) -> None:
        if done % (total // epochs) == 0:
            readout = readouts(model, samples.test_frames)
            losses = [float(loss(torch.from_numpy(readout), labels)) for loss in CROSS_ENTROPIES.values()]
            found.append([float(accuracy_by_step(readout, samples.test_labels)[-1]), *losses])

    fit(recipe, samples, watch=watch, progress=progress)
    return np.array(found).T


def _table(found: dict[str, Any], change: int) -> Table:
    rows = []
    for run, name in RUNS.items():
        for when, epoch in ((f"epoch {change}", change - 1), ("the end", -1)):
            accuracy, *losses = (at_index(found[run][curve], epoch) for curve in CURVES)
            rows.append((f"{name}, {when}", percent(accuracy, 2), *map(number, losses)))
    columns = ("", "accuracy, %", "SDT loss", "TET loss")
    return Table(title=f"On the test samples; the loss changes after epoch {change}", columns=columns, rows=rows)


def _draw(figure: Figure, found: dict[str, Any], change: int) -> None:
    axes = figure.subplots(1, len(CURVES))
    labels = ("test accuracy (%)", "SDT loss on test samples", "TET loss on test samples")
    for ax, curve, label in zip(axes, CURVES, labels, strict=True):
        for run, name in RUNS.items():
            epochs = np.arange(1, len(found[run][curve]["mean"]) + 1)
            band(ax, epochs, found[run][curve], 100 if curve == "accuracy" else 1, color=COLORS[run], label=name)
        ax.axvline(change + 0.5, color=GREY, linestyle=":")
        ax.set(xlabel="epoch", title=label)
        ax.title.set_fontsize(9.5)
        if curve != "accuracy":
            ax.set_yscale("log")
    late = [100 * mean for run in RUNS for mean in found[run]["accuracy"]["mean"][change // 2 :]]
    axes[0].set_ylim(min(late) - 2, max(late) + 1)
    axes[0].legend(fontsize=8)
