"""Figs. 2 and 5: the loss in a plane through the minima that SDT and TET found, under both losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tet_deploy.contracts import Progress
from tet_deploy.experiments.directions import filter_normalised, moved
from tet_deploy.experiments.outcome import Outcome, number, over_seeds, paired, seeds_larger
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, shares, trained
from tet_deploy.layout import Table
from tet_deploy.training import readouts
from tet_deploy.training.losses import CROSS_ENTROPIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Figs. 2 and 5: under the SDT loss both minima are equally deep, but TET's is flatter; under the TET loss SDT's minimum "
    "is sharper and higher than TET's."
)
RADII = (0.25, 0.5, 1.0)


def landscape(
    setting: Setting, *, extent: float = 1.0, points: int = 13, shown: int = 256, progress: Progress | None = None
) -> Outcome:
    """Walk from each trained network along two filter-normalised directions and measure both losses on training samples.

    Parameters
    ----------
    extent
        How far to walk each way; at 1 each filter's step is as long as the filter.
    points
        Of the grid in each direction; odd, so that the middle is the trained network.
    shown
        Number of training samples that the losses are measured on.
    """
    distances = np.linspace(-extent, extent, points)
    training, walking = shares(progress, 2)
    plans = [Plan(seed=seed, loss=loss) for seed in setting.seeds for loss in ("sdt", "tet")]
    networks = [
        (plan, model, *samples.train.batch(np.arange(min(shown, len(samples.train)))))
        for plan, model, samples in trained(setting, plans, training)
    ]
    planes: dict[str, list[np.ndarray]] = {"sdt": [], "tet": []}
    for (plan, model, frames, labels), part in zip(networks, shares(walking, len(networks)), strict=True):
        planes[plan.loss].append(plane(model, frames, labels, distances, seed=plan.seed, progress=part))

    values: dict[str, Any] = {"distances": distances.tolist(), "networks": {}}
    for trained_with, grids in planes.items():
        values["networks"][trained_with] = {
            measured: _shape(np.array([grid[index] for grid in grids]), distances)
            for index, measured in enumerate(CROSS_ENTROPIES)
        }
    return Outcome(
        claim=CLAIM,
        values=values,
        tables=[_table(values["networks"])],
        draw=lambda figure: _draw(figure, {name: grids[0] for name, grids in planes.items()}, distances),
        size=(6.4, 6.0),
    )


def plane(
    model: nn.Module,
    frames: np.ndarray,
    labels: np.ndarray,
    distances: np.ndarray,
    *,
    seed: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """SDT and TET loss over a plane of weights, float64 [2, points, points]; batch norm keeps its running statistics."""
    directions = [filter_normalised(model, seed=2 * seed), filter_normalised(model, seed=2 * seed + 1)]
    losses, target = np.empty((2, len(distances), len(distances))), torch.from_numpy(labels)
    for row, first in enumerate(distances):
        for column, second in enumerate(distances):
            with moved(model, directions, (first, second)):
                readout = torch.from_numpy(readouts(model, frames))
            losses[:, row, column] = [float(loss(readout, target)) for loss in CROSS_ENTROPIES.values()]
        if progress:
            progress(row + 1, len(distances))
    return losses


def _shape(grids: np.ndarray, distances: np.ndarray) -> dict[str, Any]:
    """Loss in the middle, how much higher it is on average within each radius, and the grids; grids [seeds, n, n]."""
    middle = grids[:, len(distances) // 2, len(distances) // 2]
    radius = np.hypot(*np.meshgrid(distances, distances))
    rise = {
        f"{r:g}": over_seeds((grids[:, radius <= r] - middle[:, None]).mean(axis=1)) for r in RADII if r <= distances[-1]
    }
    return {"minimum": over_seeds(middle), "mean_rise_within": rise, "loss": np.round(grids, 5).tolist()}


def _table(networks: dict[str, Any]) -> Table:
    radii = list(networks["sdt"]["sdt"]["mean_rise_within"])
    rows = []
    for measured in CROSS_ENTROPIES:
        numbers = {
            name: [network[measured]["minimum"], *network[measured]["mean_rise_within"].values()]
            for name, network in networks.items()
        }
        for name, summaries in numbers.items():
            rows.append((f"{measured.upper()} loss, {name.upper()} network", *map(number, summaries)))
        pairs = zip(numbers["sdt"], numbers["tet"], strict=True)
        counts = [paired(sdt["by_seed"], tet["by_seed"]) for sdt, tet in pairs]
        rows.append(("  seeds lower with TET", *map(seeds_larger, counts)))
    columns = ("", "minimum", *(f"within {radius}" for radius in radii))
    return Table(title="Loss of training samples at the minima, and its mean rise around them", columns=columns, rows=rows)


def _draw(figure: Figure, planes: dict[str, np.ndarray], distances: np.ndarray) -> None:
    """The first seed's four planes, with the same levels under the same loss."""
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, measured in enumerate(CROSS_ENTROPIES):
        highest = max(plane[row].max() for plane in planes.values())
        levels = np.geomspace(1e-2, highest, 12)
        for column, (trained_with, grids) in enumerate(planes.items()):
            ax = axes[row][column]
            floored = np.maximum(grids[row], levels[0])
            ax.contourf(distances, distances, np.log10(floored), np.log10(levels), cmap="viridis", extend="both")
            lines = ax.contour(distances, distances, floored, levels[::2], colors="white", linewidths=0.7)
            ax.clabel(lines, fontsize=7, fmt="%.2g")
            ax.set_title(f"{measured.upper()} loss, trained with {trained_with.upper()}", fontsize=9.5)
            ax.grid(visible=False)
            ax.set_aspect("equal")
