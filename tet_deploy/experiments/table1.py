"""Table 1: networks trained with SDT (eq. 7) and with TET (eq. 9) at several numbers of time steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.experiments.figures import categories
from tet_deploy.experiments.outcome import Outcome, over_seeds, paired, percent, points, seeds_larger
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.training import accuracy_by_step, readouts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Table 1, ResNet-19 on CIFAR100: SDT 69.41 +- 0.08, 70.86 +- 0.22, 71.12 +- 0.57 % at T = 2, 4, 6; "
    "TET 72.37 +- 0.21, 74.11 +- 0.18, 74.65 +- 0.12 %."
)


def table1(setting: Setting, *, steps: Sequence[int] = (2, 4, 6), progress: Progress | None = None) -> Outcome:
    """Train with both losses at each T and compare the final test accuracy and that after the first step."""
    plans = [Plan(seed=s, steps=t, loss=loss) for s in setting.seeds for t in steps for loss in ("sdt", "tet")]
    accuracy: dict[tuple[str, int], list[np.ndarray]] = {(loss, t): [] for loss in ("sdt", "tet") for t in steps}
    for plan, model, samples in trained(setting, plans, progress):
        by_step = accuracy_by_step(readouts(model, samples.test_frames), samples.test_labels)
        accuracy[plan.loss, len(by_step)].append(by_step)

    by_T = {str(t): {loss: over_seeds(accuracy[loss, t]) for loss in ("sdt", "tet")} for t in steps}
    after: dict[str, dict[str, list[dict[str, Any]]]] = {}
    gains, rows = {}, []
    for place, step in (("last step", -1), ("first step", 0)):
        after[place] = {
            loss: [over_seeds([run[step] for run in accuracy[loss, t]]) for t in steps] for loss in ("sdt", "tet")
        }
        pairs = zip(after[place]["tet"], after[place]["sdt"], strict=True)
        gain = [paired(tet["by_seed"], sdt["by_seed"]) for tet, sdt in pairs]
        gains[place] = dict(zip(by_T, gain, strict=True))
        rows += [(f"{loss.upper()}, {place}", *map(percent, found)) for loss, found in after[place].items()]
        rows += [(f"gain, {place}", *map(points, gain)), ("  seeds with a gain", *map(seeds_larger, gain))]

    def draw(figure: Figure) -> None:
        for ax in categories(figure, {f"after the {place}": found for place, found in after.items()}, list(by_T)):
            ax.set_xlabel("trained steps T")

    return Outcome(
        claim=CLAIM,
        values={"accuracy_by_step": by_T, "gain_of_tet": gains},
        tables=[Table(title="Test accuracy, %", columns=("", *(f"T = {t}" for t in steps)), rows=rows)],
        draw=draw,
    )
