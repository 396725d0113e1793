"""What few bits cost in accuracy: networks trained in float, quantized to 8, 4 and 3 bits, and fine-tuned, seed by seed.

    python benchmarks/few_bits.py                       # 20 seeds of digits and event digits, 5 of the others
    python benchmarks/few_bits.py --tasks digits --seeds 2

Each seed has its own split, initial weights and order of samples; all accuracies of a seed are on the same test samples,
with the weights of the last epoch, so that nothing is chosen on them. Differences are taken seed by seed; the interval is
Student's, of 95 %. Checkpoints and results are kept by seed in the folder, and an interrupted run goes on where it was.

    resnet19   ResNet-19 of an eighth of the width, on the digits
    spread     the digits' network, its batch-norm gains drawn log-uniformly over 2^-3 to 2^3 before training

`largest weight`, for comparison, rounds each layer's weights at the scale that maps its largest one to the largest integer,
and computes all else in float.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rounds import processor
from scipy import stats
from torch import nn

import tet_deploy as td
from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Recording
from tet_deploy.data import FrameData
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED
from tet_deploy.layout import Table
from tet_deploy.models import build
from tet_deploy.training import Recipe, finetuning, finetuning_session, session, trainer
from tet_deploy.training.batches import feed_of
from tet_deploy.training.checkpoints import read_description

BITS = (8, 4, 3)
NEEDED = {8: -0.3, 4: -1.0, 3: -2.0}  # points that the interval of the difference must lie above, on 20 seeds
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits"},
    "event-digits": {"data": "event-digits"},
    "resnet19": {"data": "digits", "model": "resnet19", "model_arguments": {"width": 0.125}},
    "spread": {"data": "digits"},
}
SEEDS = {"digits": 20, "event-digits": 20, "resnet19": 5, "spread": 5}
COMPARED = 64  # samples on which every value is compared with the reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, help="0, 1, ...; by default 20 and 5")
    parser.add_argument("--folder", type=Path, default=Path("out/few_bits"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wanted = [(task, seed) for task in arguments.tasks for seed in range(arguments.seeds or SEEDS[task])]
    for task, seed in sorted(wanted, key=lambda each: (arguments.tasks.index(each[0]) >= 2, each[1])):
        path = arguments.folder / f"{task}-{seed}.json"
        if not path.exists():
            found = measure(task, seed, arguments.folder)
            path.write_text(json.dumps(found))
            print(task, seed, json.dumps({key: found[key] for key in ("float", "bits")}), flush=True)
    for task in arguments.tasks:
        results = [json.loads(path.read_text()) for t, seed in wanted if t == task
                   if (path := arguments.folder / f"{task}-{seed}.json").exists()]  # fmt: skip
        print("\n" + str(table(task, results)))
    versions = f"tet_deploy {td.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    print(f"\nPython {platform.python_version()}, {versions}, {processor()}")


def measure(task: str, seed: int, folder: Path) -> dict[str, Any]:
    """Accuracies of one seed, in percent."""
    recipe = session.recipe_for(TASKS[task]["data"], seed=seed, **{k: v for k, v in TASKS[task].items() if k != "data"})
    samples = session.load_samples(recipe)
    checkpoint = folder / f"{task}-{seed}.safetensors"
    if not checkpoint.exists():
        train(task, recipe, samples, checkpoint)
    traced = session.traced(checkpoint)
    calibration = FrameBatches.of(traced, samples.train).part(0, finetuning.CALIBRATION_SAMPLES)
    network = td.lower(traced, calibration)
    frames = samples.test_frames[:, :COMPARED]
    found: dict[str, Any] = {"float": percent(read_description(checkpoint).accuracy), "bits": {}}
    for bits in BITS:
        quantized = finetuning_session.begin(network, calibration, bits)
        plan = finetuning_session.plan_for(checkpoint, bits)
        tuned = finetuning.fit(
            network, quantized, plan.recipe, feed_of(samples.train), calibration, held_out=feed_of(samples.test)
        )
        found["bits"][bits] = {
            "quantized": percent(tuned.before[-1]),
            "finetuned": percent(tuned.accuracy_by_step[-1]),
            "seconds": tuned.result.seconds,
            **differing(td.run(tuned.graph, frames), tuned.model.record(torch.from_numpy(frames.copy()))[0]),
        }
        if task == "spread":
            rounded = td.run(largest_weight(network, bits), samples.test_frames, probes="none")
            found["bits"][bits]["largest weight"] = percent(float(np.mean(rounded.decisions == samples.test_labels)))
    return found


def train(task: str, recipe: Recipe, samples: FrameData, checkpoint: Path) -> None:
    """Train in float by the recipe and write the checkpoint."""
    if task != "spread":
        session.store(session.fit(recipe, samples), samples, checkpoint)
        return
    model = build(recipe.model, seed=recipe.seed, **session.arguments(recipe, samples))
    rng = np.random.default_rng(recipe.seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data *= torch.from_numpy(2 ** rng.uniform(-3, 3, len(layer.weight))).float()
    held_out = feed_of(samples.test)
    result = trainer.run(model, recipe, lambda _: (feed_of(samples.train), held_out))
    trained = session.Trained(
        model=model, result=result, accuracy_by_step=result.accuracy_by_step, test_samples=len(held_out)
    )
    session.store(trained, samples, checkpoint)


def largest_weight(network: Graph, bits: int) -> Graph:
    """The float network with each layer's weights rounded at the scale of its largest."""
    limit, changes = 2 ** (bits - 1) - 1, {}
    for node in network:
        if isinstance(node, WEIGHTED):
            scale = limit / np.abs(node.weight).max()
            changes[node.name] = dataclasses.replace(node, weight=np.rint(node.weight * scale) / np.float32(scale))
    return network.replace(changes)


def differing(expected: Recording, found: Recording) -> dict[str, int]:
    """How many of the reference's values differ in another recording, of how many."""
    pairs = [(expected.readout, found.readout)]
    for before, after in ((expected.spikes, found.spikes), (expected.potentials, found.potentials)):
        pairs += [(before[name], after[name]) for name in before]
    return {"differ": sum(int((a != b).sum()) for a, b in pairs), "compared": sum(a.size for a, _ in pairs)}


def percent(share: float | None) -> float:
    """Accuracy in percent."""
    assert share is not None
    return 100 * share


def table(task: str, results: list[dict[str, Any]]) -> Table:
    """Means and sample deviations over the seeds, and intervals of the differences to float, in points."""
    rows = []
    floats = np.array([found["float"] for found in results])
    for bits in BITS:
        at = [found["bits"][str(bits)] for found in results]
        for stage in ("largest weight", "quantized", "finetuned"):
            if not all(stage in each for each in at):
                continue
            accuracies = np.array([each[stage] for each in at])
            low, high = interval(accuracies - floats)
            needed = f"> {NEEDED[bits]}: {'yes' if low > NEEDED[bits] else 'no'}"
            met = needed if stage == "finetuned" and task in ("digits", "event-digits") else ""
            rows.append((bits, stage, spread(accuracies), f"{np.mean(accuracies - floats):+.2f}",
                         f"{low:+.2f} to {high:+.2f}", f"{min(accuracies - floats):+.2f}", met))  # fmt: skip
    equal = [each for found in results for each in found["bits"].values()]
    values = f"{sum(each['differ'] for each in equal):,} of {sum(each['compared'] for each in equal):,}"
    title = f"{task}: {len(results)} seeds, float {spread(floats)} %; values that differ from the reference: {values}"
    return Table(title, ("bits", "stage", "accuracy, %", "minus float", "95 % interval", "worst seed", "needed"), rows)


def spread(values: np.ndarray) -> str:
    """Mean and sample deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else math.nan:.2f}"


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % interval of their mean, by Student's distribution."""
    if len(differences) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / math.sqrt(len(differences))
    return float(np.mean(differences) - half), float(np.mean(differences) + half)


if __name__ == "__main__":
    main()
