"""Exporters by name: each writes a graph in another tool's format, where that is exact."""

from collections.abc import Mapping
from typing import NamedTuple


class ExporterEntry(NamedTuple):
    """Where an exporter lives, what it needs and what it writes."""

    location: str  # "module:function", imported on use so that each needs its own libraries only
    writes: str  # in words, for people
    suffix: str  # of the file that it writes; empty for a folder
    quantized: bool  # whether it takes quantized networks only
    rules: Mapping[str, str]  # "float" or "integers" -> the "module:function" that knows each kind of node by dispatch
    options: Mapping[str, str] = {}  # what else it takes, and what that means


EXPORTERS = {
    "onnx": ExporterEntry(
        location="tet_deploy.exporters.to_onnx:to_onnx",
        writes="an ONNX file",
        suffix=".onnx",
        quantized=False,
        rules={
            "float": "tet_deploy.exporters.onnx_float:_emit",
            "integers": "tet_deploy.exporters.onnx_integer:_emit",
        },
        options={
            "probes": "outputs besides the readout: none, spikes, all, or names",
            "stream": "the graph of a step: states as inputs and outputs",
            "states": "the same, by its earlier name",
            "ranges": "outputs that count what left its range",
            "opset": "version of ONNX's operators",
            "licence": "for the metadata: under which others may use the network",
            "classes": "for the metadata: their names, in the order of the readout",
        },
    ),
    "lava": ExporterEntry(
        location="tet_deploy.exporters.to_lava:to_lava",
        writes="a Lava bundle",
        suffix="",
        quantized=True,
        rules={"integers": "tet_deploy.exporters.lava_plan:_describe"},
        options={
            "period": "steps between resets, a power of two: silent steps are added to each sample",
            "encoder": "host: run.py computes the first layer and sends its spikes",
        },
    ),
    "nir": ExporterEntry(
        location="tet_deploy.exporters.to_nir:to_nir",
        writes="a NIR file",
        suffix=".nir",
        quantized=False,
        rules={"float": "tet_deploy.exporters.nir_nodes:fields"},
    ),
}
