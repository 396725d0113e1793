"""A test set through Lava in one command: `python benchmarks/lava_test_set.py out/demo/network.int8.safetensors`.

`tet-deploy demo` writes that network. Its test samples, shifted at random until there are enough, go through `tet-deploy run
--runtime lava --workers 2`: a quarter, a half and all of them, and all once more while a worker is killed on the way. Time
should be linear in their number and memory flat. The decisions must be those of ONNX Runtime on the same samples.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tet_deploy.data.opened import open_samples
from tet_deploy.ir.artifact import load

_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_TO_THE_KILL = 10
_SHIFTS = 3  # pixels


def main() -> None:
    """Run, print the table, and draw it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("network", type=Path)
    options.add_argument("--samples", type=int, default=10_000)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--plot", type=Path, help="an .svg to draw time and memory in; needs matplotlib")
    chosen = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames = _frames(chosen.network, chosen.samples, Path(folder) / "frames.npz")
        print(f"{'samples':>8}{'seconds':>9}{'ms each':>9}{'MB at most':>12}  killed")
        for share, kill in ((4, False), (2, False), (1, False), (1, True)):
            samples = chosen.samples // share
            answer, seconds, memory, killed = _watched(_command(chosen, frames, samples, "lava"), kill)
            print(f"{samples:8,}{seconds:9.1f}{1000 * seconds / samples:9.2f}{memory:12,.0f}  {killed}", flush=True)
            if not kill:
                rows.append((samples, seconds, memory))
            expected = json.loads(_command_output(_command(chosen, frames, samples, "onnx")))
            if answer["decisions"] != expected["decisions"] or len(expected["decisions"]) != samples:
                sys.exit("Lava and ONNX Runtime decide differently.")
    if chosen.plot:
        _draw(rows, chosen.plot)


def _frames(network: Path, samples: int, path: Path) -> Path:
    """A file of so many samples: those of the network's own test set, each as often as needed, shifted."""
    source, _ = open_samples(None, load(network).metadata, split="test")
    rng = np.random.default_rng(0)
    parts, labels = [], []
    for start in range(0, samples, len(source)):
        frames, of_these = source.batch(range(min(len(source), samples - start)))
        shift = rng.integers(-_SHIFTS, _SHIFTS + 1, 2)
        parts.append(np.roll(frames, shift, axis=(-2, -1)).astype(np.uint8))
        labels.append(of_these)
    np.savez(path, frames=np.concatenate(parts, axis=1), labels=np.concatenate(labels))
    return path


def _command(chosen: argparse.Namespace, frames: Path, samples: int, runtime: str) -> list[str]:
    command = [sys.executable, "-m", "tet_deploy", "run", str(chosen.network), "--frames", str(frames), "--json"]
    workers = ["--workers", str(chosen.workers)] if runtime == "lava" else []
    return [*command, "--samples", str(samples), "--runtime", runtime, *workers]


def _command_output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def _watched(command: list[str], kill: bool) -> tuple[dict[str, object], float, float, str]:
    """What a command prints, its seconds, the most megabytes that it and its processes had, and which one was killed."""
    start, most, killed = time.monotonic(), 0.0, "no"
    with tempfile.TemporaryFile("w+") as answer:  # a pipe would fill up while nobody reads it
        child = subprocess.Popen(command, stdout=answer, stderr=subprocess.DEVNULL, start_new_session=True)
        while child.poll() is None:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            family = _family(child.pid)
            most = max(most, sum(_megabytes(pid) for pid in family))
            workers = [pid for pid in family if _is_worker(pid)]
            if kill and killed == "no" and workers and time.monotonic() - start > _SECONDS_TO_THE_KILL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[0], signal.SIGKILL)
                    killed = f"a worker after {time.monotonic() - start:.0f} s"
        seconds = time.monotonic() - start
        if child.returncode:
            sys.exit(f"{' '.join(command)}: ended with exit code {child.returncode}")
        answer.seek(0)
        return json.load(answer), seconds, most, killed


def _family(pid: int) -> list[int]:
    """A process and all that it started, grandchildren too."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _megabytes(pid: int) -> float:
    """Memory of a process; what it shares is divided among those that share it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
    return 0.0


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _draw(rows: list[tuple[int, float, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    samples, seconds, memory = zip(*rows, strict=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(samples, seconds, "o-")
    left.set(xlabel="samples", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    right.plot(samples, memory, "o-")
    right.set(xlabel="samples", ylabel="MB, all processes together", xlim=(0, None), ylim=(0, None))
    figure.savefig(path)


if __name__ == "__main__":
    main()
