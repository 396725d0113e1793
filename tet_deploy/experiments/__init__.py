"""The experiments of Deng et al., ICLR 2022, in minutes on a CPU: each trains its networks, measures and draws a figure."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tet_deploy.arguments import nearest
from tet_deploy.contracts import Progress
from tet_deploy.errors import ArgumentError
from tet_deploy.experiments.outcome import Outcome, make_folder, write_outcome
from tet_deploy.experiments.setting import Setting
from tet_deploy.reporting.figures import need


@dataclass(frozen=True)
class Experiment:
    """Where an experiment is, "module:function", what it shows, and the data it runs on unless told otherwise."""

    location: str
    about: str
    data: str


EXPERIMENTS = {
    "table1": Experiment("table1:table1", "Table 1: TET and SDT over the number of steps", "event-digits"),
    "table2": Experiment("table2:table2", "Table 2: a sigmoid in place of the spike", "digits"),
    "landscape": Experiment("landscape:landscape", "Figs. 2 and 5: loss landscapes around both minima", "event-digits"),
    "switch": Experiment("switch:switch", "Fig. 3: from SDT to TET midway", "event-digits"),
    "table4": Experiment("table4:table4", "Table 4: accuracy of single steps beyond the trained T", "digits"),
    "time-scaling": Experiment("time_scaling:time_scaling", "Figs. 4A and 8: run for up to 64 steps", "digits"),
    "energy": Experiment("energy:energy", "Fig. 4B: accuracy against energy, from one run", "event-digits"),
    "lambda": Experiment("mse_weight:mse_weight", "Fig. 6: the weight of the regularising term", "event-digits"),
}


def run_experiment(
    name: str,
    *,
    data: str | None = None,
    seeds: int = 5,
    epochs: int | None = None,
    out: Path = Path("out/experiments"),
    progress: Progress | None = None,
) -> Outcome:
    """Run an experiment and write NAME.json, with every number, and NAME.svg into a folder.

    Parameters
    ----------
    name
        A key of EXPERIMENTS.
    data
        Name of a recipe, or a TOML file: its network, data and first stage are what is trained. By default the experiment's.
    seeds
        Number of repetitions, with seeds 0, 1, ...; each has its own split, initial weights and order of samples.
    epochs
        Of each training; by default the recipe's.
    out
        Folder to write into; made if need be.
    progress
        Called as progress(done, total).

    Raises
    ------
    ArgumentError
        An unknown experiment, or a number of seeds or epochs below 1.
    ArtifactError
        An unknown recipe, or a folder that cannot be written to.
    MissingDependencyError
        torch, matplotlib, or a library that the data needs is not installed.
    """
    if name not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise ArgumentError(f"experiment {name!r}: none has that name; there are {known}.{nearest(name, EXPERIMENTS)}")
    if seeds < 1:
        raise ArgumentError(f"seeds: must be at least 1; got {seeds}.")
    setting = Setting(data=data or EXPERIMENTS[name].data, seeds=tuple(range(seeds)), epochs=epochs)
    need("matplotlib")  # what can be missing is looked for before minutes of training
    experiment = function(name)
    from tet_deploy.training.recipes import load_recipe

    recipe = load_recipe(setting.data).as_dict()
    make_folder(out, name)
    started = time.perf_counter()
    outcome = experiment(setting, progress=progress)
    about = {"setting": dataclasses.asdict(setting), "recipe": recipe, "seconds": round(time.perf_counter() - started, 1)}
    write_outcome(outcome, name, out, **about)
    return outcome


def function(name: str) -> Callable[..., Outcome]:
    """The function of an experiment; called with a Setting and progress, it trains and returns an Outcome."""
    module, _, attribute = EXPERIMENTS[name].location.partition(":")
    importlib.import_module("tet_deploy.nn")  # first: it says what to install where torch is missing
    experiment: Callable[..., Outcome] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return experiment


__all__ = ["EXPERIMENTS", "Experiment", "Outcome", "Setting", "function", "run_experiment"]
