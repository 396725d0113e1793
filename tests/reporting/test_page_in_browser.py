"""A report, opened in a headless Chromium as a reader would."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tet_deploy.ir.artifact import load
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Readout
from tet_deploy.network_report import report
from tet_deploy.passes import quantize

pytestmark = pytest.mark.slow
TRAINED = Path(__file__).parents[1] / "versions" / "v0_1"
VIEWS = [
    {"width": width, "media": media, "scheme": scheme}
    for width, media, scheme in (
        (1200, "screen", "dark"),
        (700, "print", "light"),
        (400, "screen", "light"),
    )
]


@pytest.mark.parametrize(
    ("network", "kept", "table"),
    [("digits.int8", 1, None), ("digits.int8", 1, ["all"]), ("events.int8", 1, None), ("events.int8", 0.003, None)],
)
def test_a_reader_meets_nothing_broken(network, kept, table, in_web, tmp_path):
    """No error, no request, nothing cut off in any view; a table sorts by a click; a saved figure has its colours."""
    with np.load(TRAINED / f"{network.partition('.')[0]}.frames.npz") as given:
        frames = given["frames"]
    frames = frames * (np.random.default_rng(0).random(frames.shape) < kept)  # few events: energies on a logarithmic axis
    labels = np.arange(frames.shape[1]) % 3
    graph = load(TRAINED / f"{network}.safetensors")
    page = report(
        graph,
        frames,
        labels,
        path=tmp_path / "report.html",
        runtimes=["reference"],
        table=table,
        chip="loihi2",
        against=[graph],
    )
    (link,) = json.loads(page.with_suffix(".json").read_text())["chain"]
    assert link["equal"] and link["spikes"] > 0 and not link["fault"]
    told = json.loads(in_web("page.mjs", job={"page": str(page), "views": VIEWS, "sort": ["Counts per layer", "Synops"]}))
    assert told["errors"] == [] and told["requests"] == []
    for view, found in zip(VIEWS, told["views"], strict=True):
        assert found["outside"] == [], view
        assert found["scrollWidth"] <= found["clientWidth"] == view["width"]
    before, up, down = (told["sorted"][key] for key in ("before", "up", "down"))
    assert up == sorted(before) and down == up[::-1] and len(set(before)) > 1
    energy = json.loads(page.with_suffix(".json").read_text())["energy"]
    synops = {row["layer"]: row["counts"]["synops"] for row in energy["layers"] if row["layer"] in told["sorted"]["rows"]}
    assert before == pytest.approx(list(synops.values()), rel=1e-12)  # the file rounds to 15 digits
    assert told["saved"]["name"].endswith(".svg") and "var(" not in told["saved"]["text"]
    assert ElementTree.fromstring(told["saved"]["text"]).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("length", [195, 16])  # and what tells them apart: 16 make names of which most are called short
def test_long_names_and_many_layers_break_nothing(length, in_web, tmp_path):
    """Nothing is cut off or sticks out where names of several scripts have up to 200 characters and layers are many."""
    rng = np.random.default_rng(0)
    names = [f"{letter * length}{number}" for number, letter in enumerate(["ш", "層", "W", "ש", "m"] * 5)]
    nodes = [Input(name="input", shape=(6,))]
    for name in names:
        nodes += [Linear(name=f"{name}.w", weight=rng.normal(size=(6, 6)).astype(np.float32)), LIF(name=f"{name}.n")]
    frames = rng.integers(0, 2, size=(3, 4, 6)).astype(np.float32)
    nodes += [Linear(name="fc", weight=rng.normal(size=(3, 6)).astype(np.float32)), Readout(name="readout")]
    graph = quantize(chain(nodes), frames)
    page = report(graph, frames, path=tmp_path / "report.html", runtimes=["reference"])
    told = json.loads(in_web("page.mjs", job={"page": str(page), "views": VIEWS}))
    assert told["errors"] == [] and [found["outside"] for found in told["views"]] == [[]] * len(VIEWS)
