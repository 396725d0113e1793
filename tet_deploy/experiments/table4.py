"""Table 4: accuracy of each step's own readout, also at steps beyond those that the network was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.experiments.figures import COLORS, GREY, band
from tet_deploy.experiments.longer import longer
from tet_deploy.experiments.outcome import Outcome, at_index, number, over_seeds, paired, percent
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.training import accuracy_of_single_steps, readouts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Table 4, ResNet-19 on CIFAR100, run for 8 steps: trained at T = 3, single steps of SDT reach 53.54 to 57.95 %, those "
    "of TET 65.97 to 72.22 %; trained at T = 4, 37.96 to 61.78 and 62.17 to 72.08 %. Over the steps beyond T the variance "
    "is 3.81 and 4.04 for SDT, 1.41 and 0.08 for TET."
)


def table4(
    setting: Setting, *, trained_steps: Sequence[int] = (3, 4), steps: int = 8, progress: Progress | None = None
) -> Outcome:
    """Train at each T with both losses, run for more steps, and let each step decide alone."""
    plans = [Plan(seed=seed, steps=t, loss=loss) for seed in setting.seeds for t in trained_steps for loss in ("sdt", "tet")]
    runs: dict[tuple[str, int], list[np.ndarray]] = {(loss, t): [] for t in trained_steps for loss in ("sdt", "tet")}
    for plan, model, samples in trained(setting, plans, progress):
        readout = readouts(model, longer(samples.test_frames, steps))
        runs[plan.loss, samples.steps].append(accuracy_of_single_steps(readout, samples.test_labels))

    found = {f"{loss}, T = {t}": _summary(np.array(accuracy), t) for (loss, t), accuracy in runs.items()}
    flatter = {
        f"T = {t}": paired(found[f"sdt, T = {t}"]["range"]["by_seed"], found[f"tet, T = {t}"]["range"]["by_seed"])
        for t in trained_steps
    }
    return Outcome(
        claim=CLAIM,
        values={"steps": steps, "accuracy_of_single_steps": found, "range_sdt_minus_tet": flatter},
        tables=[_table(found, steps)],
        draw=lambda figure: _draw(figure, found, trained_steps, steps),
    )


def _summary(accuracy: np.ndarray, trained_steps: int) -> dict[str, Any]:
    """Of accuracies [seeds, steps]: by step; largest minus smallest; variance over the steps beyond T, in points squared."""
    beyond = 100 * accuracy[:, trained_steps:]
    variance = beyond.var(axis=1, ddof=1) if beyond.shape[1] > 1 else np.zeros(len(beyond))
    return {
        "by_step": over_seeds(accuracy),
        "range": over_seeds(np.ptp(accuracy, axis=1)),
        "variance_beyond_T_points_squared": over_seeds(variance),
    }


def _table(found: dict[str, Any], steps: int) -> Table:
    networks = found.values()
    rows = [(f"step {t + 1}", *(percent(at_index(n["by_step"], t)) for n in networks)) for t in range(steps)]
    rows.append(("range", *(percent(n["range"]) for n in networks)))
    rows.append(("variance beyond T", *(number(n["variance_beyond_T_points_squared"], 2) for n in networks)))
    columns = ("", *(name.upper() for name in found))
    return Table(title="Test accuracy of single steps, %, by loss and trained T", columns=columns, rows=rows)


def _draw(figure: Figure, found: dict[str, Any], trained_steps: Sequence[int], steps: int) -> None:
    axes = figure.subplots(1, len(trained_steps), sharey=True, squeeze=False)[0]
    for ax, t in zip(axes, trained_steps, strict=True):
        for loss in ("sdt", "tet"):
            by_step = found[f"{loss}, T = {t}"]["by_step"]
            band(ax, np.arange(1, steps + 1), by_step, 100, color=COLORS[loss], marker="o", markersize=4, label=loss.upper())
        ax.axvline(t + 0.5, color=GREY, linestyle=":")
        ax.set(xlabel="time step", title=f"trained at T = {t}")
    axes[0].set_ylabel("accuracy of the step alone (%)")
    axes[0].legend()
