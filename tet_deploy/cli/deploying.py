"""Commands that turn a checkpoint into what is deployed: convert, quantize, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tet_deploy import deployment, terminal
from tet_deploy.arguments import check_named
from tet_deploy.calibration_table import scale_text
from tet_deploy.cli.changes import (
    TestData,
    TestSamples,
    change_values,
    check_loss,
    held_out,
    measured,
    need_labels,
    show_change,
)
from tet_deploy.cli.options import Json, NetworkFile, Out, any_of, probes_of, samples_for, words_of
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.dynamics import LARGEST_SYNAPTIC_SUM
from tet_deploy.errors import ArgumentError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.exporters.lava_host import ENCODERS
from tet_deploy.files import check_apart, check_writable
from tet_deploy.importing import IMPORTERS
from tet_deploy.ir.artifact import NETWORK, load, save
from tet_deploy.layout import Table
from tet_deploy.links.link import fast_runtime, of_graph
from tet_deploy.passes.threshold_classes import MOST_CLASSES
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.sensitivity_table import keep, sensitivity_table
from tet_deploy.vectors import vectors_path


def _meaning(option: str) -> str:
    """What an option of an importer says, for each that takes it."""
    takers = [entry for entry in IMPORTERS.values() if option in entry.options]
    return "; ".join(f"Of {entry.reads}: {entry.options[option]}" for entry in takers) + "."


def convert(
    file: Annotated[Path, typer.Argument(help=f"{' or '.join(entry.reads for entry in IMPORTERS.values())}.")],
    frames: Annotated[
        str | None, typer.Option(help="Frames it will see: an .npz, or a data set; by default its training samples.")
    ] = None,
    source: Annotated[str | None, typer.Option(help=_meaning("source"))] = None,
    reset: Annotated[str | None, typer.Option(help=_meaning("reset"))] = None,
    dt: Annotated[float | None, typer.Option(help=_meaning("dt"))] = None,
    encoding: Annotated[str | None, typer.Option(help=_meaning("encoding"))] = None,
    samples: Annotated[int, typer.Option(min=1, help="Look at the first N samples.")] = 128,
    test_data: TestData = None,
    test_samples: TestSamples = None,
    out: Out = Path("network.safetensors"),
    as_json: Json = False,
) -> None:
    """Trace a checkpoint, or read another tool's network; fold, snap to the frames' grid, write a deployable float network.

    What that changed is measured against the trained model itself, on samples that it has not seen.
    """
    from tet_deploy.passes import lower

    check_writable(out, NETWORK)
    said = {"source": source, "reset": reset, "dt": dt, "encoding": encoding}
    model = deployment.imported(file, **{name: value for name, value in said.items() if value is not None})
    assert model.graph is not None
    traced = model.graph.with_metadata(**model.metadata)
    graph = lower(traced, samples_for(traced, frames, samples, split="train").frames)
    shown = held_out(graph, frames, samples, test_data, test_samples)
    save(graph, out)
    change = None if shown is None else measured(model, graph, str(out), shown)
    result = {"network": str(out), "digest": graph.digest(), "change": change_values(change)}
    print_result(as_json, result, f"wrote {out}")
    if not as_json and test_samples != 0:
        show_change(change)


def quantize(
    network: NetworkFile,
    calibration: Annotated[
        str | None, typer.Option(help="An .npz with 'frames', or digits, or event-digits: the training samples.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibrate on the first N samples.")] = 128,
    bits: Annotated[
        list[str] | None,
        typer.Option(help="Width of the signed weights, 2 to 8 (default 8): of all, or NAME=BITS for some."),
    ] = None,
    threshold_classes: Annotated[
        int, typer.Option(min=1, max=MOST_CLASSES, help="Thresholds that the channels of a population may have at most.")
    ] = MOST_CLASSES,
    test_data: TestData = None,
    test_samples: TestSamples = None,
    max_loss: Annotated[
        float | None, typer.Option(min=0, help="Points of accuracy that may be lost; exit code 1 if more are.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Rank the nodes by what is lost if only they are quantized, and keep that in the file."
        ),
    ] = False,
    out: Out = Path("network.int8.safetensors"),
    as_json: Json = False,
) -> None:
    """Turn a float network into the integers of a Loihi core, calibrated on frames.

    What that changed is measured against the float network, on samples that it has not seen.
    """
    from tet_deploy.links.sensitivity import advice, sensitivities, sensitivity_values
    from tet_deploy.passes import quantize as quantize_graph
    from tet_deploy.passes.fit import check_populations
    from tet_deploy.passes.widths import WIDEST, parsed, widths

    check_writable(out, NETWORK)
    check_apart(out, network)
    graph, wanted = load(network), parsed(bits) if bits else WIDEST
    widths(graph, wanted)  # before frames are read
    check_populations(graph)
    shown = samples_for(graph, calibration, samples, split="train", option="--calibration")
    unseen = held_out(graph, calibration, samples, test_data, test_samples)
    if max_loss is not None:
        need_labels(unseen)
    if report and unseen is None:
        raise ArgumentError("--report: needs samples that were not used to calibrate. Name some: --test-data.")
    with terminal.progress_bar("quantizing") as progress:
        quantized = quantize_graph(graph, shown.frames, bits=wanted, threshold_classes=threshold_classes, progress=progress)
    save(quantized, out)
    populations = json.loads(quantized.metadata["quantization"])
    change = None
    if unseen is not None:
        change = measured(of_graph(graph, fast_runtime(), name=str(network)), quantized, str(out), unseen)
    ranked = None
    if report and unseen is not None:
        with terminal.progress_bar("quantizing one at a time") as progress:
            ranked = sensitivities(graph, quantized, unseen.frames, progress=progress)
        save(keep(quantized, sensitivity_values(ranked), unseen.which), out)
    if as_json:
        result = {"network": str(out), "digest": quantized.digest(), "populations": populations}
        result["change"] = change_values(change)
        print_json(result | ({} if ranked is None else {"report": sensitivity_values(ranked)}))
        check_loss(change, max_loss)
        return
    rows = [
        (name, scale_text(p["scale"]), f"{p['differing']:.2%}", f"{p['clipped_weights']:.2%}",
         "impossible" if p["wrap_impossible"] else f"{p['largest_sum_seen'] / LARGEST_SYNAPTIC_SUM:.0%} of the limit seen")
        for name, p in populations.items()
    ]  # fmt: skip
    columns = ("population", "scale", "differs", "clipped weights", "wrapping")
    terminal.say(Table(f"{out}: weights of {', '.join(bits or ['8'])} bits, calibrated on {shown.which}", columns, rows))
    if test_samples != 0:
        show_change(change)
    if ranked is not None and unseen is not None:
        terminal.say(sensitivity_table(sensitivity_values(ranked), unseen.which))
        terminal.say(advice(ranked, str(network)))
    check_loss(change, max_loss)


def export(
    network: NetworkFile,
    to: Annotated[str, typer.Option(help=f"{' or '.join(EXPORTERS)}.", autocompletion=any_of(EXPORTERS))],
    out: Out,
    probes: Annotated[
        str, typer.Option(help="Outputs of the file besides the readout, where it has such: none, spikes, all, or names.")
    ] = "none",
    period: Annotated[
        int | None,
        typer.Option(min=1, help="Of a Lava bundle: steps between resets, a power of two; samples are padded with silence."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Of a Lava bundle: host, so that run.py computes the first layer and sends its spikes (Loihi 1).",
            autocompletion=any_of(ENCODERS),
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Of an ONNX file: the graph of a step, with states as inputs and outputs.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(help="Of an ONNX file, for its metadata: under which others may use the network.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Of an ONNX file, for its metadata: names of all classes in order, with commas between."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Of an ONNX file: version of ONNX's operators, from 17.")] = None,
    vectors: Annotated[
        int,
        typer.Option(min=0, help="Write so many inputs too, and every spike, potential and readout that belongs to them."),
    ] = 0,
    frames: Annotated[
        str | None, typer.Option(help="Inputs of --vectors: the first samples of an .npz or a data set; else random ones.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a network as an ONNX file, a Lava bundle or a NIR file."""
    check_named("exporter", to, EXPORTERS)
    if frames is not None and not vectors:
        raise ArgumentError("--frames: are the inputs of --vectors. Say how many: --vectors 4.")
    if probes != "none" and "probes" not in EXPORTERS[to].options:
        runs = any(entry.form == to for entry in RUNTIMES.values())
        why = "takes --probes when it runs" if runs else "has no outputs but the readout"
        raise ArgumentError(f"--probes: {EXPORTERS[to].writes} {why}. Leave it out.")
    options: dict[str, Any] = {"probes": probes_of(probes)} if probes != "none" else {}
    names = None if classes is None else words_of(classes)
    named = {"period": period, "encoder": encoder, "licence": licence, "classes": names, "opset": opset}
    options |= {name: value for name, value in named.items() if value is not None}
    options |= {"stream": True} if stream else {}
    graph = load(network)
    if frames is not None:
        shown = samples_for(graph, frames, vectors)
        options |= {"frames": shown.frames, "inputs": shown.which}
    path = deployment.export(graph, out, to=to, vectors=vectors, **options)
    hint = f"; {path / 'README.md'} says how to run it" if path.is_dir() else ""
    golden = str(vectors_path(path)) if vectors else None
    print_result(as_json, {"path": str(path), "to": to, "vectors": golden}, f"wrote {path}{hint}")
    if golden and not as_json:
        terminal.say(f"wrote {golden}; `tet-deploy validate {path} --vectors` compares every value")
