"""How fast networks run, in how much memory, from which files: our ONNX graphs against torch, SpikingJelly and snnTorch.

    pip install --no-deps -r benchmarks/requirements.txt
    python benchmarks/inference.py                        # VGGSNN, ResNet-19 and the demo's network in full width
    python benchmarks/inference.py --sweep batch          # T, batch, width or threads
    python benchmarks/inference.py --into docs/inference.md --plot docs/figures/inference.svg

All sides have the same weights and frames. Before anything is timed each must give the reference's spikes and readouts,
value for value; the integer graphs those of the integer network. Then they take turns in one process, each round in another
order; a ratio is the median over rounds of the ratio within a round. Peak memory is of one process for each; of it, what the
network and its run add to the libraries. Networks are kept in --folder: the first run makes them, in a minute or two.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference_results import Found, Point, draw_sides, draw_sweep, put_into, table_of_sides, table_of_sweep
from networks import NETWORKS, Network, random_frames
from rounds import cores, machine, peak_megabytes, seconds_by_round
from sides import REFERENCE, SIDES, DifferentWork, need_equal

import tet_deploy as td
from tet_deploy.experiments.figures import save_figure
from tet_deploy.terminal import progress_bar

SWEEPS: dict[str, tuple[float, ...]] = {
    "T": (1, 2, 4, 8, 16),
    "batch": (1, 2, 4, 8, 16),
    "width": (0.125, 0.25, 0.5, 1.0),
    "threads": tuple(2**power for power in range(cores().bit_length())),
}
SWEPT = (REFERENCE, "ONNX integer", "tet_deploy's torch model", "torch, layer by layer", "SpikingJelly, multi-step",
         "snnTorch, layer by layer")  # fmt: skip
PAUSE = 0.01  # seconds before each turn, in which the threads of the side before go to sleep


def measure(point: Point, sides: list[str], rounds: int, folder: Path, memory: bool, tick: Callable[[], object]) -> Found:
    """Compare the sides with the reference, then time them in turns, then measure the memory of each."""
    network = Network(point.name, point.width, folder)
    network.prepare()
    tick()
    frames = random_frames(point.name, point.steps, point.samples)
    expected = {kind: network.expected(kind, frames) for kind in {SIDES[side].kind for side in sides}}
    made, equal = {}, 0
    for side in sides:
        made[side] = SIDES[side].make(network, frames, point.threads, point.micro_batch)
        equal = need_equal(side, made[side], expected[SIDES[side].kind])
        tick()

    def before() -> None:
        tick()
        time.sleep(PAUSE)

    seconds = seconds_by_round({side: made[side].run for side in sides}, rounds, before=before)
    peaks = {}
    for side in sides if memory else ():
        peaks[side] = memory_of(point, side, folder)
        tick()
    return Found(seconds, equal, peaks, {side: SIDES[side].megabytes(network) for side in sides})


def memory_of(point: Point, side: str, folder: Path) -> tuple[float, float]:
    """Peak resident megabytes of a process of its own, and how many of them the network and its run added."""
    command = [sys.executable, __file__, "--memory-of", side, "--folder", str(folder)]
    command += ["--point", json.dumps(dataclasses.asdict(point))]
    peak, before = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    return peak, peak - before


def run_alone(point: Point, side: str, folder: Path) -> None:
    """What `memory_of` starts."""
    frames = random_frames(point.name, point.steps, point.samples)
    SIDES[side].imported()
    before = peak_megabytes()
    made = SIDES[side].make(Network(point.name, point.width, folder), frames, point.threads, point.micro_batch)
    for _ in range(2):
        made.run()
    print(json.dumps([peak_megabytes(), before]))


def installed(side: str) -> bool:
    """Whether a side's libraries are there."""
    try:
        SIDES[side].imported()
    except ModuleNotFoundError as error:
        print(f"without {side}: {error}")
        return False
    return True


def points(options: argparse.Namespace) -> dict[str, dict[Any, Point]]:
    """Of each network, the points by the value that is swept; one by its name where nothing is."""
    field = {"T": "steps", "batch": "samples"}.get(options.sweep, options.sweep)
    found = {}
    for name in options.networks or (["vgg_snn"] if options.sweep else NETWORKS):
        point = Point(
            name=name,
            width=options.width or (0.25 if options.sweep else 1.0),
            steps=options.steps or NETWORKS[name]["steps"],
            samples=options.samples,
            threads=options.threads,
            micro_batch=options.micro_batch,
        )
        if not options.sweep:
            found[name] = {name: point}
            continue
        kind = float if field == "width" else int
        values = [kind(value) for value in options.values or SWEEPS[options.sweep]]
        found[name] = {value: dataclasses.replace(point, **{field: value}) for value in values}
    return found


def main() -> None:
    """Measure, print, and put the tables into a page and a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), help="all; vgg_snn in a sweep")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), help="all; in a sweep those that run all steps at once")
    parser.add_argument("--compile", action="store_true", help="torch.compile too; it may take minutes, outside the timing")
    parser.add_argument("--width", type=float, help="share of the channels; 1, or 0.25 in a sweep")
    parser.add_argument("--steps", type=int, help="T; by default the network's own")
    parser.add_argument("--samples", type=int, default=1, help="batch size")
    parser.add_argument("--micro-batch", type=int, help="samples that ONNX Runtime gets at a time")
    parser.add_argument("--threads", type=int, default=1, help="more need a machine that runs nothing else: OpenMP waits")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-memory", action="store_true", help="leave the processes out that measure memory")
    parser.add_argument("--sweep", choices=list(SWEEPS), help="vary this, and print a row for each side")
    parser.add_argument("--values", nargs="+", type=float, help="of what is swept")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="replace the tables between the marks in a page")
    parser.add_argument("--folder", type=Path, default=Path("out/inference"), help="where networks are kept")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)  # the process of its own
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", td.TetDeployWarning)  # random frames may leave the range of random networks
    if options.memory_of:
        run_alone(Point(**json.loads(options.point)), options.memory_of, options.folder)
        return
    chosen = options.sides or (SWEPT if options.sweep else SIDES)
    wanted = [side for side in SIDES if side in (*chosen, REFERENCE)]
    if not (options.compile or options.sides):
        wanted = [side for side in wanted if side != "torch.compile"]
    sides = [side for side in wanted if installed(side)]
    by_network = points(options)
    memory = not (options.no_memory or options.sweep)
    about = machine("torch", "onnxruntime", "spikingjelly", "snntorch", "numpy") + f"; {options.rounds} rounds"
    found: dict[str, dict[Any, Found]] = {}
    with progress_bar("inference") as progress:
        turns = 1 + len(sides) * (1 + 2 + options.rounds + memory)
        total, done = turns * sum(map(len, by_network.values())), 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        for network, by_value in by_network.items():
            found[network] = {}
            for value, point in by_value.items():
                try:
                    found[network][value] = measure(point, sides, options.rounds, options.folder, memory, tick)
                except DifferentWork as error:
                    raise SystemExit(f"{network}, {point}: {error}") from error
    if options.sweep:
        tables = [table_of_sweep(options.sweep, by_network[network], found[network]) for network in found]
    else:
        tables = [table_of_sides(by_network[network][network], found[network][network]) for network in found]
    for network, table in zip(found, tables, strict=True):
        print(f"{about}\n\n{table}\n")
        if options.into:
            put_into(options.into, f"sweep {options.sweep}" if options.sweep else network, f"{about}\n\n{table}")
    if options.plot and options.sweep:
        panels = {network: (by_network[network], found[network]) for network in found}
        save_figure(lambda figure: draw_sweep(figure, options.sweep, panels), options.plot, (2.2 + 3.2 * len(panels), 2.8))
    elif options.plot:
        each = {network: found[network][network] for network in found}
        size = (1.8 + 2.2 * len(each), 0.9 + 0.22 * len(sides))
        save_figure(lambda figure: draw_sides(figure, each), options.plot, size)


if __name__ == "__main__":
    main()
