"""Does a Lava installation compute what it should? A tiny network, with Lava's own process models and with ours."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.errors import ExecutionError
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import ARRAYS, FORMAT, PLAN, VERSION, sealed
from tet_deploy.runtimes.loihi.interpreter import LavaPython
from tet_deploy.runtimes.loihi.session import LavaRuntime

_BUNDLE_CODE = Path(__file__).resolve().parent / "bundle"
_STEPS, _SAMPLES = 4, 2


def self_test(python: LavaPython) -> dict[str, Any]:
    """Run a convolution, a population and a dense readout on real Lava twice; takes a few seconds.

    Returns
    -------
    dict
        "steps", "spikes" (how many were fired), "seconds", and "mismatches" between the two runs, which is 0.

    Raises
    ------
    ExecutionError
        Lava failed, or the two disagree.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    frames = rng.poisson(0.5, (_STEPS, _SAMPLES, 2, 6, 6)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="tet-deploy-lava-") as folder:
        bundle = _tiny_bundle(Path(folder) / "bundle", rng)
        own, lavas = (LavaRuntime(bundle, python.path, stock=stock).execute(frames, "all") for stock in (False, True))
    observed = [key for key in own if key != "clock"]
    mismatches = sum(int(np.count_nonzero(own[key] != lavas[key])) for key in observed)
    spikes = int(own["spikes/lif"].sum())
    if mismatches or not spikes:
        raise ExecutionError(
            f"{python.path}: Lava's self-test failed: {mismatches} values differ, {spikes} spikes. "
            "Set Lava up again: tet-deploy doctor --setup-lava."
        )
    return {
        "steps": _STEPS * _SAMPLES,
        "spikes": spikes,
        "mismatches": mismatches,
        "seconds": round(time.perf_counter() - start, 1),
    }


def _tiny_bundle(folder: Path, rng: np.random.Generator) -> Path:
    """What an exporter would write for 3C3-LIF-FC2 with random weights."""
    shutil.copytree(_BUNDLE_CODE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    arrays = {
        "conv": rng.integers(-60, 127, (3, 3, 3, 2), dtype=np.int8),
        "fc": rng.integers(-127, 128, (2, 48), dtype=np.int8),
        "bias": np.array([-300, 0, 500], np.int16),
    }
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]  # the stub takes the names for options
    conv = {"kind": "conv", "name": "conv", "latency": 1, "source": "input", "weight": "conv", "message_bits": 8}
    geometry = {"input_shape": [6, 6, 2], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    lif = {
        "kind": "lif",
        "name": "lif",
        "latency": 1,
        "sources": ["conv"],
        "shape": [3, 4, 4],
        "threshold": 200,
        "decay": 2048,
        "bias": "bias",
        "bias_exponent": 2,
    }
    dense = {"kind": "dense", "name": "fc", "latency": 2, "source": "lif", "weight": "fc", "message_bits": 0}
    plan = {
        "format": FORMAT,
        "version": VERSION,
        "digest": "",
        "input": {"name": "input", "shape": [2, 6, 6], "encoding": "events", "scale": 1.0, "bits": 8},
        "nodes": [{**conv, **geometry, "flat_output": False}, lif, dense],
        "readout": {"name": "readout", "sources": ["fc"], "latency": 2, "shape": [2], "bias": None},
    }
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / PLAN).write_text(json.dumps(sealed(plan, files)), encoding="utf-8")
    return folder
