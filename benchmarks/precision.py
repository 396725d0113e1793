"""What training in bfloat16 does to accuracy: the demo's recipes from the same seeds in fp32 and in bf16, in pairs.

    python benchmarks/precision.py --seeds 20

A seed gives first weights, split and order of samples; both trainings of a pair share them, and both networks are tested in
float32, as they are exported. Printed are the mean difference of test accuracy with its 95 % interval (Student's t over the
pairs), and the seconds of both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from rounds import machine
from scipy.stats import t as student

from tet_deploy.training import Settings
from tet_deploy.training.session import fit, load_samples, recipe_for

PRECISIONS = ("fp32", "bf16")


def pair(name: str, seed: int) -> dict[str, tuple[float, float]]:
    """Accuracy in percent and seconds of each precision."""
    recipe = recipe_for(recipe=name, seed=seed)
    samples = load_samples(recipe)
    found = {}
    for precision in PRECISIONS if seed % 2 else PRECISIONS[::-1]:
        start = time.perf_counter()
        accuracy = fit(recipe, samples, settings=Settings(precision=precision)).accuracy_by_step[-1]
        found[precision] = 100 * accuracy, time.perf_counter() - start
    return found


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval."""
    spread = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), float(student.ppf(0.975, len(differences) - 1)) * spread


def main() -> None:
    """Train the pairs and print a row for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["digits", "event-digits"])
    parser.add_argument("--seeds", type=int, default=20, help="at least 2")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine('torch')}, {options.threads} threads, {options.seeds} seeds\n")
    print("| recipe | fp32, % | bf16, % | bf16 - fp32, points | s a training, fp32 | bf16 |")
    print("|---|---|---|---|---|---|")
    for name in options.recipes:
        pairs = [pair(name, seed) for seed in range(options.seeds)]
        accuracy, seconds = ({p: [found[p][i] for found in pairs] for p in PRECISIONS} for i in (0, 1))
        mean, half = interval([b - a for a, b in zip(accuracy["fp32"], accuracy["bf16"], strict=True)])
        means = " | ".join(f"{statistics.mean(accuracy[p]):.2f}" for p in PRECISIONS)
        times = " | ".join(f"{statistics.median(seconds[p]):.1f}" for p in PRECISIONS)
        print(f"| {name} | {means} | {mean:+.2f} +- {half:.2f} | {times} |", flush=True)


if __name__ == "__main__":
    main()
