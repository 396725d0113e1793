"""Table 2: sigmoid(k * (u - threshold)) in place of the spike, so that gradient and loss match; both losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from tet_deploy.contracts import Progress
from tet_deploy.experiments.figures import categories
from tet_deploy.experiments.outcome import (
    Outcome,
    at_index,
    over_seeds,
    paired,
    percent,
    points,
    seeds_larger,
)
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.sigmoid import SigmoidNeurons
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.nn import LIF
from tet_deploy.training import accuracy_by_step, readouts
from tet_deploy.wording import number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Table 2, CNN-5 on CIFAR10, T = 4, smooth neurons, k = 1, 10, 20: SDT 88.00 +- 0.15, 88.83 +- 0.32, 88.50 +- 0.32 %, "
    "TET 87.63 +- 0.38, 89.31 +- 0.15, 88.64 +- 0.28 %. They are alike: where gradient and loss match, both work."
)


def table2(
    setting: Setting, *, sharpness: Sequence[float] = (1, 10, 20), steps: int = 4, progress: Progress | None = None
) -> Outcome:
    """Train smooth networks and, for comparison, spiking ones with both losses."""
    make: dict[str, Callable[[LIF], nn.Module] | None] = {
        f"sigmoid, k = {k:g}": partial(SigmoidNeurons.instead_of, sharpness=k) for k in sharpness
    }
    make["spike"] = None
    names = {neurons: name for name, neurons in make.items()}
    plans = [
        Plan(seed=seed, steps=steps, loss=loss, neurons=neurons)
        for seed in setting.seeds
        for neurons in make.values()
        for loss in ("sdt", "tet")
    ]
    runs: dict[tuple[str, str], list[np.ndarray]] = {(name, loss): [] for name in make for loss in ("sdt", "tet")}
    for plan, model, samples in trained(setting, plans, progress):
        by_step = accuracy_by_step(readouts(model, samples.test_frames), samples.test_labels)
        runs[names[plan.neurons], plan.loss].append(by_step)

    values, rows = {}, []
    for name in make:
        last = {loss: [by_step[-1] for by_step in runs[name, loss]] for loss in ("sdt", "tet")}
        gain = paired(last["tet"], last["sdt"])
        values[name] = {loss: over_seeds(runs[name, loss]) for loss in ("sdt", "tet")} | {"gain_of_tet": gain}
        accuracies = (percent(over_seeds(last[loss]), 2) for loss in ("sdt", "tet"))
        rows.append((name, *accuracies, points(gain), seeds_larger(gain)))

    columns = ("neurons", "SDT", "TET", "TET - SDT", "seeds with a gain")

    def draw(figure: Figure) -> None:
        last = {loss: [at_index(values[name][loss], -1) for name in make] for loss in ("sdt", "tet")}
        categories(figure, {f"after {number_of('step', steps)}": last}, list(make))

    return Outcome(
        claim=CLAIM,
        values={"steps": steps, "accuracy_by_step": values},
        tables=[Table(title=f"Test accuracy, %, T = {steps}", columns=columns, rows=rows)],
        draw=draw,
    )
