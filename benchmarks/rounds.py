"""What the benchmarks share: sides that take turns, ratios within a round, peak memory, and what it all ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def seconds_by_round(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 2,
    before: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Wall-clock seconds of each side in each round; a round has them all, each time in another order.

    Parameters
    ----------
    warm_up
        Rounds that do not count.
    before
        Called before each side's turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for round_ in range(-warm_up, rounds):
        for name in order:
            before()
            start = time.perf_counter()
            sides[name]()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
        order = order[1:] + order[:1]
    return seconds


def ratio(seconds: Mapping[str, list[float]], side: str, other: str) -> tuple[float, float, float]:
    """Quartiles of side / other within each round: the lower one, the median, the upper one."""
    ratios = [a / b for a, b in zip(seconds[side], seconds[other], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return low, median, high


def peak_megabytes() -> float:
    """Of this process; not getrusage, which inherits the parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def processor() -> str:
    """Its name, and those of its instructions that matter here."""
    file = Path("/proc/cpuinfo")
    pairs = [line.partition(":") for line in file.read_text().splitlines()] if file.exists() else []
    lines = {name.strip(): value.strip() for name, _, value in pairs}
    if "model name" not in lines:
        return platform.processor()
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    has = [flag for flag in known if flag in lines.get("flags", "").split()]
    kind = f"family {lines.get('cpu family')} model {lines.get('model')}"
    return f"{lines['model name']} ({kind}; {' '.join(has)})"


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(*libraries: str) -> str:
    """Processor, cores, load average and versions in a line."""
    versions = [f"Python {platform.python_version()}"]
    for library in libraries:
        try:
            versions.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            versions.append(f"no {library}")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{processor()}, {cores()} cores, load average {load}; {', '.join(versions)}"


def allocator() -> str:
    """What the environment says of it."""
    set_ = [
        f"{name}={value}" for name, value in os.environ.items() if name.startswith(("MALLOC_", "THP_MEM_", "LD_PRELOAD"))
    ]
    return " ".join(set_) or "the C library's, as it is"
