"""Run this bundle: python run.py frames.npy recording.npz, on Lava, or without it: --engine numpy

frames.npy holds numbers [T, B, *shape], time first, in the layout of torch. recording.npz then holds `readout` [T, B, K]
(int64), `spikes/<name>` (uint8) and `potentials/<name>` (int32) [T, B, *shape] of the probed populations, and `clock`, the
second at which each step ended. All samples stream through the network in one run, back to back, or each with silent steps
up to the bundle's period, of which nothing is recorded. Of each node whose values may leave the chip's range it holds how
many did, int64 [T, B]: `ranges/clipped/<name>`, `ranges/wrapped/<name>` and `ranges/saturated/<name>`; a line says so where
any did.

    python run.py --check                  runs the bundle's vectors and compares every value; exit code 1 if one differs
    python run.py --check recording.npz    compares what something else recorded of the vectors' frames, a chip perhaps
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: each Lava process is an operating-system process already
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import contextlib
import errno
import logging
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import numpy as np
except ImportError as error:
    sys.exit(f"error: numpy cannot be imported ({error}). Install it, or use the Python that has it: pip install numpy")
from loihi_checks.bundle import bundle_vectors, read_bundle
from loihi_checks.frames import check_frames, check_period
from loihi_checks.reading import Refused, opened, said
from loihi_checks.vectors import compare, read_recording
from loihi_engine.records import Records, report
from loihi_engine.simulation import simulate
from supervision import FAILED, FULL, Supervisor, wait_for_failure

BUNDLE = Path(__file__).resolve().parent


def main() -> None:
    """Parse the command line, run or check, and leave through the supervisor."""
    options, code = _options(), 0
    try:
        supervisor = Supervisor(options.recording, options.shared_memory_prefix)
    except OSError as error:
        print(
            f"error: {options.recording}: cannot write there: {error.strerror}. Choose a folder that exists.",
            file=sys.stderr,
        )
        sys.exit(FAILED)
    try:
        if options.check is None:
            _run(options, supervisor)
        else:
            code = _check(options, supervisor)
    except Refused as error:
        supervisor.end(FAILED, str(error))
    except Exception as error:
        traceback.print_exc()
        supervisor.end(FAILED, _reason(error))
    supervisor.end(code)


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return f"{type(error).__name__}: {said(error)}"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}." + (f" {FULL}" if error.errno == errno.ENOSPC else "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path, nargs="?", help="numbers [T, B, *shape] in a .npy file")
    parser.add_argument("recording", type=Path, nargs="?", help="the .npz file to write")
    parser.add_argument(
        "--check", type=Path, nargs="?", const=True, metavar="RECORDING", help="the vectors, run here or recorded elsewhere"
    )
    parser.add_argument("--probes", nargs="+", default=["all"], help="all, spikes, none, or names of populations")
    parser.add_argument(
        "--engine", choices=["lava", "numpy"], help="numpy: the same integers without Lava, in any Python; lava by default"
    )
    parser.add_argument("--stock", action="store_true", help="Lava's own process models: the same integers, much slower")
    parser.add_argument("--processes", type=int, metavar="N", help="of the network; by default as many as pay")
    parser.add_argument("--shared-memory-prefix", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stock and options.engine == "numpy":
        parser.error("--stock asks for Lava's own process models, which --engine numpy does without")
    if options.processes is not None and options.processes < 1:
        parser.error("--processes must be 1 or more")
    how = options.engine or options.stock or options.processes or options.probes != ["all"]
    if isinstance(options.check, Path) and how:
        parser.error("--check RECORDING compares what was recorded already; leave out how to run")
    if options.check is not None and options.frames:
        parser.error("--check takes the bundle's own frames; leave out frames and recording")
    if options.check is None and not options.recording:
        parser.error("needs frames and recording, or --check alone")
    options.engine = options.engine or "lava"
    options.recording = options.recording or Path(tempfile.gettempdir()) / "recording.npz"
    return options


def _check(options: argparse.Namespace, supervisor: Supervisor) -> int:
    """Compare the bundle's vectors with what runs here, or with a recording of them; 1 if a value differs."""
    vectors = bundle_vectors(BUNDLE, read_bundle(BUNDLE)[0])
    if options.check is True:
        options.frames, options.recording = (supervisor.scratch / name for name in ("frames.npy", "checked.npz"))
        np.save(options.frames, vectors.frames)
        _run(options, supervisor)
        where, by = options.recording, f"engine {options.engine}{' with its own models' if options.stock else ''}"
    else:
        where, by = options.check, f"recording {options.check}"
    comparison = compare(vectors, read_recording(where), str(where))
    print("\n".join(comparison.lines(vectors, by)), flush=True)
    return 1 if comparison.differ else 0


def _run(options: argparse.Namespace, supervisor: Supervisor) -> None:
    plan, arrays = read_bundle(BUNDLE)
    names = [node["name"] for node in plan["nodes"] if node["kind"] == "lif"]
    probes = _probes(options.probes, names)
    _check_replaceable(options.recording)
    steps, samples = check_frames(options.frames, plan["input"])
    check_period(options.frames, steps, plan)
    possible = plan.get("ranges", {})
    counted = {kind: names for kind, names in possible.items() if kind == "clipped" or not options.stock}
    records = Records(supervisor.scratch, plan, (steps, samples), probes, counted)
    if options.engine == "numpy":
        simulate(plan, arrays, options.frames, records)
    else:
        _run_lava(plan, arrays, options, records, supervisor)
    members = records.files()
    entry = plan["readout"]
    readout = _readout(np.load(supervisor.scratch / "readout.npy"), arrays.get(entry["bias"]), entry.get("decay"))
    partial = supervisor.scratch / "recording.npz"
    _write_recording(partial, readout, members)
    partial.replace(options.recording)
    _tell_ranges({key: np.load(file) for key, file in members.items() if key.startswith("ranges/")})
    uncounted = dict.fromkeys(name for kind in possible.keys() - counted.keys() for name in possible[kind])
    if uncounted:
        print(f"warning: --stock does not count whether {', '.join(uncounted):.200} left the chip's range", file=sys.stderr)


def _tell_ranges(counts: dict[str, np.ndarray]) -> None:
    """Say in a line which values left the chip's range."""
    words = {"clipped": "messages clipped", "wrapped": "sums wrapped", "saturated": "potentials held at the limit"}
    found = []
    for key, count in counts.items():
        _, kind, name = key.split("/", 2)
        if count.any():
            found.append(f"{name}: {count.sum():,} {words[kind]} in {np.count_nonzero(count):,} of {count.size:,} steps")
    if found:
        print(f"warning: {'; '.join(found)}", file=sys.stderr, flush=True)


def _run_lava(
    plan: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    options: argparse.Namespace,
    records: Records,
    supervisor: Supervisor,
) -> None:
    if sys.platform != "linux":
        raise Refused("Lava is run on Linux alone", "Use --engine numpy: the same integers without Lava.")
    try:
        from network import build  # only now: it brings Lava, and is known to be the file that was exported
    except ImportError as error:
        raise Refused(
            f"Lava cannot be imported ({said(error)})",
            "Use CPython 3.10 with lava-nc 0.10.0 and numpy 1.26.4, or --engine numpy: the same integers without Lava.",
        ) from error
    process, config = build(plan, arrays, options.frames.resolve(), records, options.processes, options.stock)
    logging.getLogger().handlers.clear()  # every Lava process has added one that prints
    supervisor.watch(process)
    _simulate(process, records.steps, config)


def _simulate(process: Any, steps: int, config: Any) -> None:
    from lava.magma.core.run_conditions import RunSteps

    try:
        process.create_runtime(config)
        report(0, steps)
        process.run(RunSteps(num_steps=steps), config)
        report(steps, steps)
    except Exception as error:  # Lava's own message only counts the processes that failed, or names none
        failure = wait_for_failure(process)
        if not failure:
            raise
        raise Refused(failure, "What it printed stands above.") from error


def _check_replaceable(path: Path) -> None:
    """A recording may replace a recording or an empty file, and nothing else: least of all the frames."""
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return
    with contextlib.suppress(Refused, OSError, ValueError, zipfile.BadZipFile), opened(path, 2**62) as file:
        if zipfile.is_zipfile(file) and "readout.npy" in zipfile.ZipFile(file).namelist():
            return
    raise Refused(f"{path}: exists and is no recording, so it is not replaced", "Choose another name.")


def _probes(asked: list[str], names: list[str]) -> dict[str, list[str]]:
    named: dict[str, dict[str, list[str]]] = {
        "all": {"spikes": names, "potentials": names},
        "spikes": {"spikes": names, "potentials": []},
        "none": {"spikes": [], "potentials": []},
    }
    if len(asked) == 1 and asked[0] in named:
        return named[asked[0]]
    for name in asked:
        if name not in names:
            raise Refused(
                f"--probes {name:.200}: no population has that name",
                f"Use all, spikes, none, or some of {' '.join(names):.200}.",
            )
    return {"spikes": asked, "potentials": asked}


def _readout(sums: np.ndarray, bias: np.ndarray | None, decay: int | None) -> np.ndarray:
    """Readout in units of 64 * scale: (a << 6) + bias, added here and not on the chip.

    A leaky one has a decay: v = truncate(v * (4096 - decay) / 4096) + (a << 6) + bias, kept here for each sample.
    """
    readout = sums.astype(np.int64) << 6
    readout = readout if bias is None else readout + bias.astype(np.int64)
    if decay is not None:
        for step in range(1, len(readout)):
            before = readout[step - 1]
            readout[step] += np.sign(before) * ((np.abs(before) * (4096 - decay)) >> 12)
    return readout


def _write_recording(path: Path, readout: np.ndarray, files: dict[str, Path]) -> None:
    """Write an .npz file without reading the recorded files into memory."""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("readout.npy", "w") as member:
            np.lib.format.write_array(member, readout)
        for key, file in files.items():
            archive.write(file, f"{key}.npy")


if __name__ == "__main__":
    main()
