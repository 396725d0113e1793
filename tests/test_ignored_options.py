"""Options that would do nothing beside others are refused, with the way out; none is ignored without a word."""

import numpy as np
import pytest
from typer.testing import CliRunner

import tet_deploy as td
from tet_deploy.cli import app
from tet_deploy.errors import ArgumentError
from tet_deploy.testing import random_float_network, random_frames

PAIRS = {
    "doctor --supported --setup-lava": "--setup-lava: --supported does nothing else",
    "doctor --supported --quiet": "--quiet: --supported does nothing else",
    "doctor --build-kernels folder --setup-lava": "--setup-lava: --build-kernels does nothing else",
    "doctor --build-kernels folder --supported": "--build-kernels: --supported does nothing else",
    "doctor --native": "--native: says how --build-kernels compiles",
    "doctor --into folder": "--into: says where --setup-lava builds",
    "run NET --frames FRAMES --probes all": "--probes: says what --out holds. Give --out too",
    "run NET --frames FRAMES --range 0:2 --samples 2": "--samples: --range says which samples",
    "run NET --frames FRAMES --part part.json": "--part: says where --range writes",
    "run NET --frames FRAMES --out run.npz --workers 2": "--out: writes one recording of one run",
    "validate NET --frames FRAMES --range 0:2 --samples 2": "--samples: --range says which samples",
    "energy NET --frames FRAMES --range 0:2 --samples 2": "--samples: --range says which samples",
    "validate NET --frames FRAMES --no-why": "--no-why: is of a comparison with OTHER",
    "validate NET NET --frames FRAMES --runtimes onnx": "Leave out --runtimes",
    "quantize NET --calibration FRAMES --test-data FRAMES --test-samples 0": "--test-data: --test-samples 0 measures",
    "export NET --to lava --out bundle --probes all": "--probes: a Lava bundle takes --probes when it runs",
}


@pytest.mark.parametrize("words", PAIRS)
def test_an_option_that_would_do_nothing_is_refused(words, tmp_path, monkeypatch):
    """Before anything is run or written."""
    monkeypatch.chdir(tmp_path)
    graph = random_float_network(np.random.default_rng(0), layers=1, encoding="events")
    td.save(graph, "net.safetensors")
    np.savez("frames.npz", frames=random_frames(graph, np.random.default_rng(0), 2, 3), labels=np.zeros(3, np.int64))
    before = sorted(tmp_path.iterdir())
    found = CliRunner().invoke(app, words.replace("NET", "net.safetensors").replace("FRAMES", "frames.npz").split())
    assert isinstance(found.exception, ArgumentError) and PAIRS[words] in str(found.exception)
    assert sorted(tmp_path.iterdir()) == before
