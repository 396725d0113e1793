"""The examples in docstrings run, and print what stands there."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import MissingDependencyError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, BatchNorm, Conv, Flatten, Input, Linear, Readout

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tet_deploy", "exporters", "runtimes", "models")
BUNDLE = ROOT / "runtimes" / "loihi" / "bundle"  # runs beside Lava, and is no package
WITH_EXAMPLES = [
    ".".join(parts if parts[0] == "tet_deploy" else ("tet_deploy", *parts)).removesuffix(".__init__")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8") and BUNDLE not in path.parents
    for parts in [path.relative_to(ROOT).with_suffix("").parts]
]


@pytest.fixture(scope="module")
def names():
    """What examples take for given: td and np, a traced, a lowered and a quantized network, frames and their classes."""
    rng = np.random.default_rng(0)
    weights = [rng.integers(-8, 9, shape).astype(np.float32) / 8 for shape in ((4, 2, 3, 3), (3, 36))]
    norm = {name: np.full(4, value, np.float32) for name, value in {"gamma": 2, "beta": 0, "mean": 0, "variance": 1}.items()}
    traced = chain([
        Input(name="input", shape=(2, 8, 8), encoding="events"), Conv(name="conv", weight=weights[0]),
        BatchNorm(name="norm", **norm, epsilon=0.0), LIF(name="lif"), AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat"), Linear(name="fc", weight=weights[1]), Readout(name="readout"),
    ])  # fmt: skip
    frames = rng.poisson(0.5, (4, 3, 2, 8, 8)).astype(np.float32)
    graph = td.lower(traced, frames)
    int8 = td.quantize(graph, frames)
    labels = td.run(int8, frames).decisions
    return {"td": td, "np": np, "traced": traced, "graph": graph, "int8": int8, "frames": frames, "labels": labels}


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_print_what_stands_there(module, names, tmp_path, monkeypatch):
    """Each example of a module runs in an empty folder; one whose library is missing is left out."""
    try:
        found = importlib.import_module(module)
    except (ModuleNotFoundError, MissingDependencyError) as error:  # in environments without every extra
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or str(missing.name).startswith("tet_deploy"):
            raise
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    report, runner = [], doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(found, extraglobs=names):
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_an_example_that_prints_something_else_fails():
    """The check can fail, and there are examples to check."""
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1 and len(WITH_EXAMPLES) > 20
