"""Fig. 6: the weight lambda of the regularising term (eqs. 12 and 13), with TET, and with SDT as a control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.training import accuracy_by_step, readouts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Fig. 6: the regularising term makes TET more accurate; lambda = 0.05 suits still images, a smaller one events. The "
    "paper has no control with SDT."
)
PLACES = {"last step": -1, "first step": 0}


def mse_weight(
    setting: Setting, *, weights: Sequence[float] = (0, 0.001, 0.05, 0.2), progress: Progress | None = None
) -> Outcome:
    """Train with each lambda and with both cross-entropies."""
    plans = [Plan(seed=s, loss=loss, mse_weight=w) for s in setting.seeds for w in weights for loss in ("sdt", "tet")]
    runs: dict[tuple[str, float], list[np.ndarray]] = {(loss, w): [] for loss in ("sdt", "tet") for w in weights}
    for plan, model, samples in trained(setting, plans, progress):
        by_step = accuracy_by_step(readouts(model, samples.test_frames), samples.test_labels)
        runs[plan.loss, plan.mse_weight].append(by_step)

    by_weight = {loss: {f"{w:g}": over_seeds(runs[loss, w]) for w in weights} for loss in ("sdt", "tet")}
    names, gains, rows = [f"{w:g}" for w in weights], {}, []
    for place, step in PLACES.items():
        gains[place] = {loss: [_gain(by_weight[loss], names[0], name, step) for name in names[1:]] for loss in by_weight}
        for loss, found in by_weight.items():
            rows.append((f"{loss.upper()} + MSE, {place}", *(percent(at_index(found[name], step)) for name in names)))
            rows.append((f"  gain over {names[0]}", "", *map(points, gains[place][loss])))
            rows.append(("  seeds with a gain", "", *map(seeds_larger, gains[place][loss])))
    return Outcome(
        claim=CLAIM,
        values={
            "accuracy_by_step": by_weight,
            f"gain_over_{names[0]}": {
                place: {loss: dict(zip(names[1:], gain, strict=True)) for loss, gain in found.items()}
                for place, found in gains.items()
            },
        },
        tables=[Table(title="Test accuracy, %", columns=("lambda", *names), rows=rows)],
        draw=lambda figure: _draw(figure, by_weight),
    )


def _gain(found: dict[str, Any], first: str, other: str, step: int) -> dict[str, Any]:
    """What another lambda gains over the first one, after one step."""
    with_first, with_other = (np.array(found[name]["by_seed"])[:, step] for name in (first, other))
    return paired(with_other, with_first)


def _draw(figure: Figure, by_weight: dict[str, Any]) -> None:
    panels = {
        f"after the {place}": {
            loss: [at_index(summary, step) for summary in found.values()] for loss, found in by_weight.items()
        }
        for place, step in PLACES.items()
    }
    for ax in categories(figure, panels, list(by_weight["tet"])):
        ax.set_xlabel("lambda")
