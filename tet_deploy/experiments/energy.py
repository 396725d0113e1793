"""Fig. 4B: accuracy against energy over the number of steps, both read from one run of one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Progress
from tet_deploy.counting import WORDS, EnergyReport, estimate
from tet_deploy.data import FrameData
from tet_deploy.decisions import Decisions
from tet_deploy.deployment import Run, side_by_side
from tet_deploy.experiments.figures import COLORS
from tet_deploy.experiments.outcome import Outcome, at_index, number, over_seeds, percent
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.totals import plus
from tet_deploy.tracing import trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Fig. 4B, ResNet-19 on CIFAR100, 0.9 pJ an addition and 4.6 pJ a multiplication: TET is more accurate at equal energy."
)
ENOUGH = 0.95  # accuracy whose price is compared


def energy(setting: Setting, *, steps: int = 8, progress: Progress | None = None) -> Outcome:
    """Train at one T with both losses, run once over the test samples, and stop the clock after each step."""
    plans = [Plan(seed=seed, steps=steps, loss=loss) for seed in setting.seeds for loss in ("sdt", "tet")]
    accuracy: dict[str, list[np.ndarray]] = {"sdt": [], "tet": []}
    reports: dict[str, list[EnergyReport]] = {"sdt": [], "tet": []}
    for plan, model, samples in trained(setting, plans, progress):
        decided, report = one_run(model, samples)
        accuracy[plan.loss].append(np.array(decided.accuracy_by_step))
        reports[plan.loss].append(report)

    name = reports["sdt"][0].default
    found = {loss: _summary(np.array(accuracy[loss]), reports[loss], name) for loss in ("sdt", "tet")}
    return Outcome(
        claim=CLAIM,
        values={"energy": name, "table": reports["sdt"][0].table.name, "unit": "pJ per inference", "networks": found},
        tables=[_table(found, name)],
        draw=lambda figure: _draw(figure, found, name),
    )


def one_run(model: nn.Module, samples: FrameData) -> tuple[Decisions, EnergyReport]:
    """What a torch network decides on the test samples, and what the same spikes cost."""
    graph = trace(model, samples.shape, samples.encoding)
    frames = FrameBatches.of(graph, samples.test_frames)
    decided: Decisions | None = None
    spent: EnergyReport | None = None
    for part, (found,) in side_by_side([Run(graph=graph, runtime=model)], frames, probes="spikes"):
        assert found is not None
        decided = plus(decided, Decisions.of(found, samples.test_labels[part.start : part.stop]))
        spent = plus(spent, estimate(graph, found, part.frames()))
    assert decided is not None and spent is not None
    return decided, spent


def _summary(accuracy: np.ndarray, reports: list[EnergyReport], name: str) -> dict[str, Any]:
    """Accuracy [seeds, T], all energies by step, and what the first step that is accurate enough costs."""
    energies = {each: np.array([report.by_step(each) for report in reports]) for each in reports[0].names}
    reached = accuracy.max(axis=1) >= ENOUGH
    steps = (accuracy >= ENOUGH).argmax(axis=1)[reached]
    return {
        "accuracy_by_step": over_seeds(accuracy),
        "energy_by_step": {each: over_seeds(values) for each, values in energies.items()},
        f"to_{100 * ENOUGH:.0f}_percent": {
            "seeds_that_reach_it": int(reached.sum()),
            "steps": over_seeds(steps + 1) if reached.any() else None,
            "picojoules": over_seeds(energies[name][reached, steps]) if reached.any() else None,
        },
    }


def _table(found: dict[str, Any], name: str) -> Table:
    rows = []
    for t in range(len(found["sdt"]["accuracy_by_step"]["mean"])):
        accuracy = (percent(at_index(found[loss]["accuracy_by_step"], t)) for loss in ("sdt", "tet"))
        spent = (at_index(found[loss]["energy_by_step"][name], t) for loss in ("sdt", "tet"))
        nanojoules = (number({key: value / 1e3 for key, value in energy.items()}, 1) for energy in spent)
        rows.append((f"step {t + 1}", *accuracy, *nanojoules))
    columns = ("stopped after", "SDT, %", "TET, %", "SDT, nJ", "TET, nJ")
    return Table(title=f"Test accuracy, and energy per inference ({WORDS[name]}), of one run", columns=columns, rows=rows)


def _draw(figure: Figure, found: dict[str, Any], name: str) -> None:
    ax = figure.subplots()
    for loss, summary in found.items():
        spent = np.array(summary["energy_by_step"][name]["mean"]) / 1e3
        mean, spread = (100 * np.array(summary["accuracy_by_step"][key]) for key in ("mean", "std"))
        ax.errorbar(spent, mean, spread, fmt="o-", capsize=3, markersize=4, color=COLORS[loss], label=loss.upper())
        for step in (1, len(spent)):
            place: dict[str, Any] = {"xytext": (6, -10), "textcoords": "offset points", "fontsize": 8, "color": COLORS[loss]}
            ax.annotate(f"step {step}", (spent[step - 1], mean[step - 1]), **place)
    ax.set_xlim(left=0)
    ax.set(xlabel=f"energy per inference (nJ), {WORDS[name]}", ylabel="test accuracy (%)")
    ax.legend(loc="lower right")
