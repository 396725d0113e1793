"""Figs. 4A and 8: networks trained at a small T, run for up to 64 steps without further training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.experiments.figures import COLORS
from tet_deploy.experiments.longer import longer
from tet_deploy.experiments.outcome import Outcome, at_index, number, over_seeds, percent, points
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.training import accuracy_by_step, readouts
from tet_deploy.wording import number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Figs. 4A and 8, ResNet-19 on CIFAR100: run for longer than the T = 2, 3, 4 it was trained for, a network's accuracy "
    "rises and then stays in a band, where a TET network is no worse than one trained at T = 4 or 6 from scratch. Over the "
    "simulation length the variance is 11.13 for SDT and 1.80 for TET."
)


def time_scaling(
    setting: Setting, *, trained_steps: Sequence[int] = (2, 3, 4, 6), steps: int = 64, progress: Progress | None = None
) -> Outcome:
    """Train at each T with both losses, run for more steps, and decide on the mean readout so far."""
    plans = [Plan(seed=seed, steps=t, loss=loss) for seed in setting.seeds for t in trained_steps for loss in ("sdt", "tet")]
    runs: dict[tuple[str, int], list[np.ndarray]] = {(loss, t): [] for loss in ("sdt", "tet") for t in trained_steps}
    for plan, model, samples in trained(setting, plans, progress):
        readout = readouts(model, longer(samples.test_frames, steps))
        runs[plan.loss, samples.steps].append(accuracy_by_step(readout, samples.test_labels))

    found = {f"{loss}, T = {t}": _summary(np.array(accuracy), t) for (loss, t), accuracy in runs.items()}
    return Outcome(
        claim=CLAIM,
        values={"steps": steps, "accuracy_by_step": found},
        tables=[_table(found, trained_steps, steps, loss) for loss in ("sdt", "tet")],
        draw=lambda figure: _draw(figure, found, trained_steps, steps),
    )


def _summary(accuracy: np.ndarray, trained_steps: int) -> dict[str, Any]:
    """Of accuracies [seeds, steps]: by step; gain of the longest run; variance over all lengths from T on."""
    return {
        "by_step": over_seeds(accuracy),
        "gain_at_the_end": over_seeds(accuracy[:, -1] - accuracy[:, trained_steps - 1]),
        "variance_from_T_points_squared": over_seeds((100 * accuracy[:, trained_steps - 1 :]).var(axis=1)),
    }


def _table(found: dict[str, Any], trained_steps: Sequence[int], steps: int, loss: str) -> Table:
    networks = [found[f"{loss}, T = {t}"] for t in trained_steps]
    shown = [t for t in sorted({1, *trained_steps, 8, 16, steps}) if t <= steps]
    rows = [(number_of("step", t), *(percent(at_index(n["by_step"], t - 1)) for n in networks)) for t in shown]
    rows.append((f"{number_of('step', steps)} - T", *(points(n["gain_at_the_end"]) for n in networks)))
    rows.append(("variance from T on", *(number(n["variance_from_T_points_squared"], 2) for n in networks)))
    columns = ("run for", *(f"T = {t}" for t in trained_steps))
    return Table(title=f"Test accuracy, %, of networks trained with {loss.upper()} at T", columns=columns, rows=rows)


def _draw(figure: Figure, found: dict[str, Any], trained_steps: Sequence[int], steps: int) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    for ax, loss in zip(axes, ("sdt", "tet"), strict=True):
        for index, t in enumerate(trained_steps):
            by_step = found[f"{loss}, T = {t}"]["by_step"]
            strength = 0.4 + 0.6 * index / max(len(trained_steps) - 1, 1)
            mean = 100 * np.array(by_step["mean"])
            ax.plot(np.arange(1, steps + 1), mean, color=COLORS[loss], alpha=strength, label=f"trained at T = {t}")
            ax.plot(t, mean[t - 1], "o", color=COLORS[loss], alpha=strength)
        ax.set_xscale("log", base=2)
        ax.set_xticks([2**n for n in range(int(np.log2(steps)) + 1)], [str(2**n) for n in range(int(np.log2(steps)) + 1)])
        ax.set(xlabel="steps run (dot: as trained)", title=loss.upper())
        ax.legend()
    axes[0].set_ylabel("test accuracy (%)")
