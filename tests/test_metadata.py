"""Metadata says where a network came from: no result, energy or export depends on it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tet_deploy import counting, network_report, pipeline
from tet_deploy.deployment import export
from tet_deploy.ir.artifact import load, save
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.table import graph_rows
from tet_deploy.passes import lower, quantize

FILES = Path(__file__).parent / "versions" / "v0_1"
PROVENANCE = ("metadata", "accuracy", "training", "checksum", "sha256")  # of an export; a checksum covers the metadata too
OTHER = {  # what would do for another network, by every key that code ever read
    "model": "snn5",
    "data": "event-digits",
    "data_arguments": '{"width": 1}',
    "steps": "7",
    "seed": "5",
    "accuracy": "0.0100",
    "dense_macs": '{"conv3": 1, "fc": 2}',
    "sensitivity": '{"of": "x", "nodes": [{"node": "lif1", "bits": 8}]}',
    "losses_digest": "0123456789abcdef",
    "quantization": '{"lif1": {"scale": 2.0}}',
}


def network(graph, frames, folder):
    return graph.digest(), graph_rows(graph), load(save(graph, folder / "net.safetensors")).digest()


def run(graph, frames, folder):
    found = pipeline.run(graph, frames)
    arrays = {"readout": found.readout, **found.spikes, **{f"{name}.v": array for name, array in found.potentials.items()}}
    return {name: array.tolist() for name, array in arrays.items()}, pipeline.equality_expected(graph, frames)


def energies(graph, frames, folder):
    return [counting.to_dict(pipeline.energy(graph, frames, table=table)) for table in counting.TABLES]


def stages(graph, frames, folder):
    lowered = lower(graph, frames)
    return lowered.digest(), quantize(lowered, frames).digest()


def report(graph, frames, folder):
    page = network_report.report(graph, frames, path=folder / "report.html", runtimes=("reference",))
    numbers = json.loads(page.with_suffix(".json").read_text())
    for part in ("title", "provenance"):
        numbers.pop(part)
    return numbers, page.with_suffix(".csv").read_text()


def onnx_file(graph, frames, folder):
    model = onnx.load(export(graph, folder / "net.onnx", to="onnx", probes="all"))
    keep = {entry.key: entry.value for entry in model.metadata_props if not entry.key.endswith(PROVENANCE)}
    del model.metadata_props[:]
    for told in (model, next(iter(model.graph.input))):
        told.ClearField("doc_string")
    return model.SerializeToString(deterministic=True), keep


def lava_bundle(graph, frames, folder):
    bundle = export(graph, folder / "bundle", to="lava")
    plan = {
        key: value for key, value in json.loads((bundle / "plan.json").read_text()).items() if not key.endswith(PROVENANCE)
    }
    with np.load(bundle / "arrays.npz") as arrays:
        return plan, {name: (array.dtype.str, array.tolist()) for name, array in arrays.items()}


CASES = [
    *((stage, result) for stage in ("traced", "float", "int8") for result in (network, run, energies)),
    *(("traced", stages), ("float", onnx_file), ("int8", onnx_file), ("int8", lava_bundle), ("int8", report)),
]


@pytest.mark.filterwarnings("ignore:frames. read as")  # to warn of another T than the training's is what metadata is for
@pytest.mark.parametrize(("stage", "result"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_no_result_depends_on_metadata(stage, result, tmp_path):
    """Dropped, or another network's: whatever is computed, counted, shown or exported is equal, but for provenance."""
    graph = load(FILES / f"digits.{stage}.safetensors")
    with np.load(FILES / "digits.frames.npz") as arrays:
        frames = arrays["frames"]
    other = dict.fromkeys(graph.metadata, "another") | OTHER
    found = []
    for name, metadata in (("dropped", {}), ("other", other)):
        (tmp_path / name).mkdir()
        found.append(result(Graph(graph.nodes, metadata), frames, tmp_path / name))
    assert found[0] == found[1]
