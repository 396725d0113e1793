"""The command line as a user runs it, in a folder with networks and frames."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.testing import random_float_network, random_frames

ROOT = Path(__file__).resolve().parents[2]


def command(*words, cwd, expect=0, env=None):
    """Run `tet-deploy` as a user would, and return standard output and error."""
    words = [sys.executable, "-m", "tet_deploy", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **(env or {})}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    if find_spec("torch") is None and "need torch" in done.stderr:  # the Pythons in which `make test-pythons` has none
        pytest.skip("needs torch, and says so")
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout, done.stderr


def small_networks(path):
    """Write a small float network, frames for it and the integers that `quantize` makes of it into a folder; return that."""
    rng = np.random.default_rng(0)
    graph = td.lower(random_float_network(rng, layers=2, encoding="events"))
    td.save(graph, path / "net.safetensors")
    frames = random_frames(graph, rng, 4, 12)
    np.savez(path / "frames.npz", frames=frames, labels=np.zeros(12, int))
    command("quantize", "net.safetensors", "--calibration", "frames.npz", "--out", "int8.safetensors", cwd=path)
    return path
