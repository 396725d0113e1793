"""What a few thresholds in a population save in few bits: networks quantized with one, and with up to 8, side by side.

    python benchmarks/threshold_classes.py                       # 3 seeds of each task
    python benchmarks/threshold_classes.py --tasks spread --seeds 5

Networks and tasks are those of few_bits.py, trained in float and not fine-tuned; all are quantized on the same 128 training
samples and run on the whole test set. `flipped` are spikes that differ from the float network's, as a share of its spikes;
`decisions` those that differ.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import few_bits
import numpy as np
from rounds import processor

import tet_deploy as td
from tet_deploy.batches import FrameBatches
from tet_deploy.ir.nodes import LIF
from tet_deploy.layout import Table
from tet_deploy.training import finetuning, session

BITS, CLASSES = (8, 4, 3, 2), (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(few_bits.TASKS), default=["digits", "event-digits", "spread"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("out/few_bits"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks:
        results = [measure(task, seed, arguments.folder) for seed in range(arguments.seeds)]
        mean = {key: np.mean([found[key] for found in results], axis=0) for key in results[0]}
        digits = (2, 2, 2, 1, 1)
        rows = [
            (bits, classes, *(f"{number:.{n}f}" for number, n in zip(mean[bits, classes], digits, strict=True)))
            for bits in BITS
            for classes in CLASSES
        ]
        columns = ("bits", "classes at most", "flipped, %", "decisions, %", "accuracy, %", "thresholds used", "seconds")
        print(f"\n{Table(f'{task}: means of {len(results)} seeds', columns, rows)}", flush=True)
    print(f"\nPython {platform.python_version()}, tet_deploy {td.__version__}, numpy {np.__version__}, {processor()}")


def measure(task: str, seed: int, folder: Path) -> dict[tuple[int, int], tuple[float, ...]]:
    """By bits and classes: flipped, decisions that differ, accuracy, thresholds in a population, seconds to quantize."""
    arguments = {key: value for key, value in few_bits.TASKS[task].items() if key != "data"}
    recipe = session.recipe_for(few_bits.TASKS[task]["data"], seed=seed, **arguments)
    samples, checkpoint = session.load_samples(recipe), folder / f"{task}-{seed}.safetensors"
    if not checkpoint.exists():
        few_bits.train(task, recipe, samples, checkpoint)
    traced = session.traced(checkpoint)
    calibration = FrameBatches.of(traced, samples.train).part(0, finetuning.CALIBRATION_SAMPLES)
    network = td.lower(traced, calibration)
    expected = td.run(network, samples.test_frames, probes="spikes")
    spikes = sum(int(array.sum()) for array in expected.spikes.values())
    found = {}
    for bits in BITS:
        for classes in CLASSES:
            begun = time.perf_counter()
            quantized = td.quantize(network, calibration, bits=bits, threshold_classes=classes, rounding_limit=10)
            seconds = time.perf_counter() - begun
            run = td.run(quantized, samples.test_frames, probes="spikes")
            flipped = sum(int((array != run.spikes[name]).sum()) for name, array in expected.spikes.items())
            found[bits, classes] = (
                100 * flipped / spikes,
                few_bits.percent(float(np.mean(run.decisions != expected.decisions))),
                few_bits.percent(float(np.mean(run.decisions == samples.test_labels))),
                float(np.mean([np.unique(node.threshold).size for node in quantized.of_kind(LIF)])),
                seconds,
            )
    return found


if __name__ == "__main__":
    main()
