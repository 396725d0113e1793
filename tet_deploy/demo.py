"""The whole path on real data: train, fold, quantize, export, run, prove equal, count energy, report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy import counting, validation
from tet_deploy.batches import FrameBatches
from tet_deploy.chips.resources import map_resources
from tet_deploy.contracts import Progress, Recording
from tet_deploy.data.frames import which_samples
from tet_deploy.decisions import Decisions, confusion
from tet_deploy.demo_result import DemoResult
from tet_deploy.deployment import Run, Runnable, export, side_by_side
from tet_deploy.doctor import versions
from tet_deploy.errors import ArgumentError, ArtifactError, ExecutionError, MissingDependencyError
from tet_deploy.exporters.bundle_folder import check_bundle_folder
from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.files import check_writable
from tet_deploy.ir.artifact import NETWORK, save
from tet_deploy.ir.graph import Graph
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.measure import deviation
from tet_deploy.links.opening import of_path
from tet_deploy.links.tables import link_values
from tet_deploy.onnx_file import ONNX_FILE
from tet_deploy.passes import fold, lower, quantize
from tet_deploy.reporting import (
    Membrane,
    ReportData,
    SampleView,
    added,
    check_report_path,
    firing_rates,
    membranes,
    origin,
    read_log,
    write_report,
)
from tet_deploy.terminal import Stages
from tet_deploy.totals import plus
from tet_deploy.units import float_thresholds, in_float_units, units
from tet_deploy.validation import Agreement

DEMO_DATA = ("event-digits", "digits")
_STAGES = {"traced": "as trained", "folded alone": "folded", "folded": "snapped to the grid", "int8_reference": "int8"}
_LOG = "checkpoint.log.jsonl"
CALIBRATION_SAMPLES = 128  # of the training samples; more does not change the scales that are chosen


def run_demo(
    data: str,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    model: str | None = None,
    width: float | None = None,
    lava_samples: int | None = None,
) -> DemoResult:
    """Run the whole path and write networks, ONNX files, Lava bundle and report into a folder.

    Parameters
    ----------
    data
        "event-digits" or "digits".
    out
        Folder to write into; made if need be.
    seed
        Of the split, the camera, the weights and the order of samples.
    model, width
        Name of another network of `models`, and the factor on its channels; by default the recipe's small one.
    lava_samples
        Number of test samples that are proved equal on Lava, all of them by default, as on ONNX Runtime.
    """
    if data not in DEMO_DATA:
        raise ArgumentError(f"data {data!r}: the demo runs on {' or '.join(DEMO_DATA)}. Others: see `tet-deploy train`.")
    from tet_deploy.training import Settings, session
    from tet_deploy.training.recipes import sdt

    folder, stages = _folder(out), Stages()
    result = DemoResult(data=data, seed=seed, folder=folder, seconds=stages.seconds)

    with stages("data", "loading " + data):
        recipe, samples = session.prepare(data, seed=seed, **_another(model, width))
    with stages("train_sdt", "training, SDT loss") as progress:
        baseline = session.fit(sdt(recipe), samples, progress=progress)
    with stages("train_tet", "training, TET loss") as progress:
        settings = Settings(log=folder / _LOG, overwrite=True)
        trained = session.fit(recipe, samples, settings=settings, progress=progress)
    checkpoint = session.store(trained, samples, folder / "checkpoint.safetensors", overwrite=True)

    with stages("fold", "tracing, folding"):
        traced = session.traced(checkpoint)
        folded = lower(traced, samples.train_frames)
    with stages("quantize", "quantizing") as progress:
        int8 = quantize(folded, samples.train_frames[:, :CALIBRATION_SAMPLES], progress=progress)
    with stages("export", "exporting"):
        _write(folded, int8, folder)

    frames, labels = FrameBatches.of(int8, samples.test_frames), samples.test_labels
    decided: dict[str, Decisions] = {}
    sample: SampleView | None = None
    confused: np.ndarray | None = None
    potentials: dict[str, Membrane] = {}
    chain: dict[tuple[str, str], Deviation] = {}
    with stages("reference", "reference runtime") as progress:
        networks = {"traced": traced, "folded alone": fold(traced), "folded": folded, "int8_reference": int8}
        for part, seen in _observed({name: Run(graph=graph) for name, graph in networks.items()}, frames, progress):
            result.folding = plus(result.folding, _compared(traced, seen["traced"], seen["folded alone"]))
            result.snapping = plus(result.snapping, _compared(traced, seen["traced"], seen["folded"]))
            potentials = added(potentials, membranes(seen["int8_reference"], validation.thresholds(int8)))
            int8_run, classes = seen["int8_reference"], seen["int8_reference"].readout.shape[-1]
            confused = plus(confused, confusion(labels[part.start : part.stop], int8_run.decisions, classes))
            for pair in zip(networks, list(networks)[1:], strict=False):
                link = _deviation(networks, seen, pair, labels[part.start : part.stop], part.start)
                chain[pair] = plus(chain.get(pair), link)
            for name in ("folded", "int8_reference"):
                decided[name] = plus(decided.get(name), Decisions.of(seen[name], labels[part.start : part.stop]))
            result.energy = plus(result.energy, counting.estimate(int8, seen["int8_reference"], part.frames()))
            sample = sample or SampleView.of(seen["int8_reference"], part.frames(), 0, int(labels[0]), 0)

    for name, graph, runtime in (("onnx_float", folded, "onnx"), ("onnx_int8", int8, "onnx"), ("lava", int8, "lava")):
        result.agreements[name] = None
        chosen = frames.part(0, (lava_samples or len(frames)) if runtime == "lava" else len(frames))
        with stages(name, f"{name} against reference") as progress:
            try:
                other = of_path(str(folder / "lava")) if runtime == "lava" else Run(graph=graph, runtime=runtime)
            except MissingDependencyError as error:
                result.lava_missing = str(error)
                continue
            for part, seen in _observed({"reference": Run(graph=graph), name: other}, chosen, progress):
                if runtime == "onnx":
                    _check_delivered(graph, part, seen[name], folder)
                both = _compared(graph, seen["reference"], seen[name], part.start)
                result.agreements[name] = plus(result.agreements[name], both)
                decided[name] = plus(decided.get(name), Decisions.of(seen[name], labels[part.start : part.stop]))

    result.accuracy_by_step = {"sdt": list(baseline.accuracy_by_step), "tet": list(trained.accuracy_by_step)}
    which, total = f"test samples of {data}", len(frames)
    result.accuracy["trained"], result.accuracy_of["trained"] = (
        trained.accuracy_by_step[-1],
        which_samples(total, total, which),
    )
    for name in ("folded", "int8_reference", *result.agreements):
        found = decided.get(name)
        result.accuracy[name] = None
        if found:
            result.accuracy[name] = found.accuracy
            result.accuracy_of[name] = which_samples(found.samples, total, which)
    result.digest, result.versions = int8.digest(), versions()
    with stages("report", "writing the report"):
        _write_report(result, int8, decided, confused, potentials, list(chain.values()), sample)
    return result


def _another(model: str | None, width: float | None) -> dict[str, Any]:
    """Changes of the recipe for another network, or for the same one of another width."""
    if model is None:
        return {} if width is None else {"model_arguments": {"width": width}}
    return {"model": model, "model_arguments": {} if width is None else {"width": width}}


def _folder(out: str | os.PathLike[str]) -> Path:
    """The folder to write to; nothing that lies there under the names of the demo's files is another's."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be made ({error.strerror}). Choose another folder with --out.") from error
    _check_checkpoint(folder / "checkpoint.safetensors")
    for form in ("float", "int8"):
        check_writable(folder / f"network.{form}.safetensors", NETWORK)
        check_writable(folder / f"network.{form}.onnx", ONNX_FILE)
    check_bundle_folder(folder / "lava")
    check_report_path(folder / "report.html")
    return folder


def _check_checkpoint(path: Path) -> None:
    """See that a checkpoint there is a demo's, of any seed: it can be made again in a minute."""
    from tet_deploy.training import DEMO, checkpoints, claims, log
    from tet_deploy.training.recipes import changed

    check_writable(path, checkpoints.CHECKPOINT)
    check_writable(path.with_name(_LOG), log.LOG)
    if checkpoints.CHECKPOINT.test(path):
        about = checkpoints.read_description(path)
        network = about.recipe.get("model", {})
        own = {"seed": about.seed, "model": network.get("name"), "model_arguments": network.get("arguments", {})}
        if not any(claims.came_of(changed(recipe, **own), path) for recipe in DEMO.values()):
            checkpoints.check_unfinished(path, "It is no demo's: choose another folder with --out.")


def _write(folded: Graph, int8: Graph, folder: Path) -> None:
    """Everything a user takes away: both networks, both ONNX files, the Lava bundle."""
    save(folded, folder / "network.float.safetensors")
    save(int8, folder / "network.int8.safetensors")
    export(folded, folder / "network.float.onnx", to="onnx")
    export(int8, folder / "network.int8.onnx", to="onnx")
    export(int8, folder / "lava", to="lava")


def _observed(
    runs: Mapping[str, Runnable], frames: FrameBatches, progress: Progress
) -> Iterator[tuple[FrameBatches, dict[str, Recording]]]:
    """What each run records, by its name, so many samples at a time as memory allows."""
    last = list(runs)[-1]
    told = {run.name: progress for name, run in runs.items() if name == last}
    for part, recordings in side_by_side(list(runs.values()), frames, progress=told.get):
        yield part, {name: found for name, found in zip(runs, recordings, strict=True) if found is not None}


def _check_delivered(graph: Graph, part: FrameBatches, found: Recording, folder: Path) -> None:
    """See that the file that the user takes away gives the readout of the network with probes."""
    from tet_deploy.runtimes.onnx_session import OnnxRuntime

    delivered = OnnxRuntime(folder / f"network.{'int8' if graph.is_quantized else 'float'}.onnx")
    if not np.array_equal(delivered.run(part.frames(), probes="none").readout, found.readout):
        raise ExecutionError(f"{delivered.path}: gives another readout than the network with probes. Please report it.")


def _deviation(
    networks: Mapping[str, Graph], seen: Mapping[str, Recording], pair: tuple[str, str], labels: np.ndarray, start: int
) -> Deviation:
    """Of one of the networks from the one before."""
    in_units = [units(networks[name]) for name in pair]
    one, other = (
        dataclasses.replace(in_float_units(seen[name], of), runtime=_STAGES[name])
        for name, of in zip(pair, in_units, strict=True)
    )
    first, second = (float_thresholds(networks[name]) for name in pair)
    return deviation(one, other, (first, second), labels=labels, same_units=in_units[0] == in_units[1], start=start)


def _compared(graph: Graph, expected: Recording, found: Recording, start: int = 0) -> Agreement:
    return validation.compare(expected, found, validation.thresholds(graph), start=start)


def _write_report(
    result: DemoResult,
    int8: Graph,
    decided: Mapping[str, Decisions],
    confused: np.ndarray | None,
    potentials: Mapping[str, Membrane],
    chain: Sequence[Deviation],
    sample: SampleView | None,
) -> None:
    assert result.energy is not None
    agreements = {name: agreement for name, agreement in result.agreements.items() if agreement is not None}
    data = ReportData(
        title=f"tet_deploy: {result.data}, seed {result.seed}",
        provenance={**origin(), "data": result.data, "seed": str(result.seed), "network": result.digest, **result.versions},
        samples=result.accuracy_of["trained"],
        accuracy={name: value for name, value in result.accuracy.items() if value is not None},
        accuracy_of=result.accuracy_of,
        accuracy_counts={"trained": decided["folded"].samples, **{name: found.samples for name, found in decided.items()}},
        confusion=confused,
        confusion_of="int8_reference",
        accuracy_by_step={name.upper(): values for name, values in result.accuracy_by_step.items()},
        firing_rates=firing_rates(result.energy),
        membranes=potentials,
        chain=[link_values(link) for link in chain],
        mismatches={name: agreement.counts() for name, agreement in agreements.items()},
        divergences={name: str(agreement.first) for name, agreement in agreements.items() if agreement.first},
        energy=result.energy,
        energy_accuracy_by_step=decided["int8_reference"].accuracy_by_step,
        views=[] if sample is None else [sample],
        training=read_log(result.folder / _LOG),
        graph=int8,
        latency=schedule(int8).latency,
        resources=map_resources(int8, "loihi2"),
        ranges=result.energy.ranges,
        seconds=result.seconds,
    )
    write_report(data, result.folder / "report.html")
