"""Fig. 4B: accuracy against energy over the number of steps, both read from one run of one network."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.contracts import Progress, Recording
from tet_deploy.counting import EnergyReport, estimate
from tet_deploy.data import FrameData
from tet_deploy.experiments.figures import COLORS
from tet_deploy.experiments.outcome import Outcome, at_index, number, over_seeds, percent
from tet_deploy.experiments.setting import Setting
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.layout import Table
from tet_deploy.nn import LIF
from tet_deploy.tracing import trace
from tet_deploy.training import accuracy_by_step, readouts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Fig. 4B, ResNet-19 on CIFAR100, 0.9 pJ an addition and 4.6 pJ a multiplication: TET is more accurate at equal energy."
)
ENOUGH = 0.95  # accuracy whose price is compared
SAMPLES_AT_ONCE = 128  # whose spikes are kept at a time


def energy(setting: Setting, *, steps: int = 8, progress: Progress | None = None) -> Outcome:
    """Train at one T with both losses, run once over the test samples, and stop the clock after each step."""
    plans = [Plan(seed=seed, steps=steps, loss=loss) for seed in setting.seeds for loss in ("sdt", "tet")]
    accuracy: dict[str, list[np.ndarray]] = {"sdt": [], "tet": []}
    reports: dict[str, list[EnergyReport]] = {"sdt": [], "tet": []}
    for plan, model, samples in trained(setting, plans, progress):
        readout, report = one_run(model, samples)
        accuracy[plan.loss].append(accuracy_by_step(readout, samples.test_labels))
        reports[plan.loss].append(report)

    name = reports["sdt"][0].default
    found = {loss: _summary(np.array(accuracy[loss]), reports[loss], name) for loss in ("sdt", "tet")}
    return Outcome(
        claim=CLAIM,
        values={"energy": name, "table": reports["sdt"][0].table.name, "unit": "pJ per inference", "networks": found},
        tables=[_table(found, name)],
        draw=lambda figure: _draw(figure, found, name),
    )


def one_run(model: nn.Module, samples: FrameData) -> tuple[np.ndarray, EnergyReport]:
    """Readout [T, N, K] and energy of the test samples, from the same spikes."""
    graph, frames = trace(model, samples.shape, samples.encoding), samples.test_frames
    parts, reports = [], []
    for start in range(0, frames.shape[1], SAMPLES_AT_ONCE):
        batch = frames[:, start : start + SAMPLES_AT_ONCE]
        recording = record(model, batch)
        parts.append(recording.readout)
        reports.append(estimate(graph, recording, batch))
    return np.concatenate(parts, axis=1), functools.reduce(operator.add, reports)


def record(model: nn.Module, frames: np.ndarray) -> Recording:
    """Run a torch network in eval mode and keep the spikes of its neurons, by module path as `trace` names them."""
    spikes: dict[str, list[np.ndarray]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            spikes.setdefault(name, []).append(output.to(torch.uint8).cpu().numpy())

        return hook

    populations = [(name, module) for name, module in model.named_modules() if isinstance(module, LIF)]
    hooks = [module.register_forward_hook(keep(name)) for name, module in populations]
    try:
        readout = readouts(model, frames)
    finally:
        for handle in hooks:
            handle.remove()
    joined = {name: np.concatenate(parts, axis=1) for name, parts in spikes.items()}
    return Recording(spikes=joined, readout=readout, runtime="torch")


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
    return Table(title=f"Test accuracy, and energy '{name}' per inference, of one run", columns=columns, rows=rows)


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
    ax.set(xlabel=f"energy per inference (nJ), '{name}'", ylabel="test accuracy (%)")
    ax.legend(loc="lower right")
