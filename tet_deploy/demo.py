"""The whole path on real data: train, fold, quantize, export, run, prove equal, count energy, report."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy import counting, pipeline, terminal, validation
from tet_deploy.contracts import Progress, Recording
from tet_deploy.data.frames import which_samples
from tet_deploy.deployment import export
from tet_deploy.doctor import versions
from tet_deploy.errors import ArgumentError, ArtifactError, ExecutionError, MissingDependencyError
from tet_deploy.exporters.bundle_folder import check_bundle_folder
from tet_deploy.files import check_writable
from tet_deploy.ir.artifact import NETWORK, save
from tet_deploy.ir.graph import Graph
from tet_deploy.layout import Table
from tet_deploy.onnx_file import ONNX_FILE
from tet_deploy.passes import fold, lower, quantize
from tet_deploy.reporting import ReportData, SampleView, check_report_path, firing_rates, write_report
from tet_deploy.runtimes.loihi.session import LavaRuntime
from tet_deploy.terminal import Stages
from tet_deploy.validation import Agreement, agreement_table

DEMO_DATA = ("event-digits", "digits")
CALIBRATION_SAMPLES = 128  # of the training samples; more does not change the scales that are chosen


@dataclass(kw_only=True)
class DemoResult:
    """What the demo found; `as_dict` is what `--json` prints."""

    data: str
    seed: int
    folder: Path
    accuracy: dict[str, float | None] = field(default_factory=dict)
    accuracy_of: dict[str, str] = field(default_factory=dict)  # which samples each accuracy is of
    accuracy_by_step: dict[str, list[float]] = field(default_factory=dict)
    agreements: dict[str, Agreement | None] = field(default_factory=dict)
    folding: Agreement | None = None  # of batch norm and pooling, against the network as it was trained
    snapping: Agreement | None = None  # of the weights too
    energy: counting.EnergyReport | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    lava_missing: str | None = None

    @property
    def equal(self) -> bool:
        """Whether every runtime that ran agrees with the reference in every value."""
        return all(agreement is None or agreement.equal for agreement in self.agreements.values())

    def show(self) -> None:
        """Print what a person wants to know first."""
        by_step = [(name.upper(), *(f"{value:.2%}" for value in values)) for name, values in self.accuracy_by_step.items()]
        steps = range(1, len(by_step[0]))
        title = f"Accuracy after each step, {self.accuracy_of['trained']}"
        terminal.say(Table(title, ("loss", *(f"step {t}" for t in steps)), by_step))
        stages = [
            (stage, "-" if accuracy is None else f"{accuracy:.2%}", self.accuracy_of.get(stage))
            for stage, accuracy in self.accuracy.items()
        ]
        terminal.say(Table("Accuracy of the TET network at each stage", ("stage", "accuracy", "of"), stages, text=("of",)))
        terminal.say(agreement_table(self.agreements))
        assert self.energy is not None
        terminal.say(counting.energy_table(self.energy, self.accuracy_of["trained"]))
        for what, link in (("Folding", self.folding), ("Folding and snapping", self.snapping)):
            if link is not None:
                terminal.say(
                    f"{what} changed {link.spikes:,} spikes, and the readout by at most {link.largest_readout_error:.2g}."
                )
        if self.lava_missing:
            terminal.say(f"Lava did not run: {self.lava_missing}")
        terminal.say(f"Report: {self.folder / 'report.html'}")

    def as_dict(self) -> dict[str, Any]:
        """One JSON object; `lava` is null where no Lava Python was found."""
        assert self.energy and self.folding and self.snapping
        summary = self.energy.summary()
        return {
            "data": self.data,
            "seed": self.seed,
            "accuracy": self.accuracy,
            "accuracy_of": self.accuracy_of,
            "accuracy_by_step": self.accuracy_by_step,
            "mismatches": {name: a and a.counts() for name, a in self.agreements.items()},
            "samples": {name: a and a.samples for name, a in self.agreements.items()},
            "folding": _with_error(self.folding),
            "folding_and_snapping": _with_error(self.snapping),
            "energy_table": self.energy.table.name,
            "energy_pj": summary["energy_pj"],
            "energy_pj_by_table": summary["energy_pj_by_table"],
            "counts": summary["counts"],
            "seconds": self.seconds,
            "versions": self.versions,
            "digest": self.digest,
            "lava_missing": self.lava_missing,
            "report": str(self.folder / "report.html"),
        }


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
    from tet_deploy.training import session
    from tet_deploy.training.recipes import sdt

    folder, stages = _folder(out), Stages()
    result = DemoResult(data=data, seed=seed, folder=folder, seconds=stages.seconds)

    with stages("data", "loading " + data):
        recipe, samples = session.prepare(data, seed=seed, **_another(model, width))
    with stages("train_sdt", "training, SDT loss") as progress:
        baseline = session.fit(sdt(recipe), samples, progress=progress)
    with stages("train_tet", "training, TET loss") as progress:
        trained = session.fit(recipe, samples, progress=progress)
    checkpoint = session.store(trained, samples, folder / "checkpoint.safetensors", overwrite=True)

    with stages("fold", "tracing, folding"):
        traced = session.traced(checkpoint)
        folded = lower(traced, samples.train_frames)
    with stages("quantize", "quantizing") as progress:
        int8 = quantize(folded, samples.train_frames[:, :CALIBRATION_SAMPLES], progress=progress)
    with stages("export", "exporting"):
        _write(folded, int8, folder)

    frames = samples.test_frames
    with stages("reference", "reference runtime") as progress:
        as_traced = pipeline.run(traced, frames)
        as_folded = pipeline.run(folded, frames)
        as_integers = pipeline.run(int8, frames, progress=progress)
        result.folding = _agreement(traced, as_traced, pipeline.run(fold(traced), frames))
        result.snapping = _agreement(traced, as_traced, as_folded)

    compared = {
        "onnx_float": ("onnx", folded, as_folded, frames.shape[1]),
        "onnx_int8": ("onnx", int8, as_integers, frames.shape[1]),
        "lava": ("lava", int8, as_integers, lava_samples or frames.shape[1]),
    }
    found: dict[str, Recording | None] = {}
    for name, (runtime, graph, expected, count) in compared.items():
        found[name] = None
        with stages(name, f"{name} against reference") as progress:
            try:
                found[name] = _run(graph, frames[:, :count], runtime, folder, progress)
            except MissingDependencyError as error:
                if runtime != "lava":
                    raise
                result.lava_missing = str(error)
        result.agreements[name] = _agreement(graph, expected, found[name])

    result.accuracy_by_step = {"sdt": list(baseline.accuracy_by_step), "tet": list(trained.accuracy_by_step)}
    recordings = {"folded": as_folded, "int8_reference": as_integers, **found}
    which, total = f"test samples of {data}", frames.shape[1]
    result.accuracy["trained"], result.accuracy_of["trained"] = (
        trained.accuracy_by_step[-1],
        which_samples(total, total, which),
    )
    for name, recording in recordings.items():
        result.accuracy[name] = None
        if recording is not None:
            result.accuracy[name] = float(np.mean(recording.decisions == samples.test_labels[: recording.samples]))
            result.accuracy_of[name] = which_samples(recording.samples, total, which)
    with stages("energy", "counting"):
        result.energy = counting.estimate(int8, as_integers, frames)
    result.digest, result.versions = int8.digest(), versions()
    with stages("report", "writing the report"):
        _write_report(result, int8, as_integers, frames, samples.test_labels)
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
    from tet_deploy.training import DEMO, checkpoints, places
    from tet_deploy.training.recipes import changed

    check_writable(path, checkpoints.CHECKPOINT)
    if checkpoints.CHECKPOINT.test(path):
        about = checkpoints.read_description(path)
        network = about.recipe.get("model", {})
        own = {"seed": about.seed, "model": network.get("name"), "model_arguments": network.get("arguments", {})}
        if not any(places.came_of(changed(recipe, **own), path) for recipe in DEMO.values()):
            checkpoints.check_unfinished(path, "It is no demo's: choose another folder with --out.")


def _write(folded: Graph, int8: Graph, folder: Path) -> None:
    """Everything a user takes away: both networks, both ONNX files, the Lava bundle."""
    save(folded, folder / "network.float.safetensors")
    save(int8, folder / "network.int8.safetensors")
    export(folded, folder / "network.float.onnx", to="onnx")
    export(int8, folder / "network.int8.onnx", to="onnx")
    export(int8, folder / "lava", to="lava")


def _with_error(agreement: Agreement) -> dict[str, Any]:
    return agreement.counts() | {"largest_readout_error": agreement.largest_readout_error}


def _run(graph: Graph, frames: np.ndarray, runtime: str, folder: Path, progress: Progress) -> Recording:
    """Run with every probe, and check that what the user takes away gives the same readout."""
    if runtime == "lava":
        return LavaRuntime(folder / "lava").run(frames, progress=progress)
    from tet_deploy.runtimes.onnx_session import OnnxRuntime

    found = pipeline.run(graph, frames, runtime=runtime, progress=progress)
    delivered = OnnxRuntime(folder / f"network.{'int8' if graph.is_quantized else 'float'}.onnx")
    if not np.array_equal(delivered.run(frames, probes="none").readout, found.readout):
        raise ExecutionError(f"{delivered.path}: gives another readout than the network with probes. Please report it.")
    return found


def _agreement(graph: Graph, expected: Recording, found: Recording | None) -> Agreement | None:
    if found is None:
        return None
    return validation.compare(expected.sample(0, found.samples), found, validation.thresholds(graph))


def _write_report(result: DemoResult, int8: Graph, recording: Recording, frames: np.ndarray, labels: np.ndarray) -> None:
    assert result.energy is not None
    agreements = {name: agreement for name, agreement in result.agreements.items() if agreement is not None}
    data = ReportData(
        title=f"tet_deploy: {result.data}, seed {result.seed}",
        provenance={"data": result.data, "seed": str(result.seed), "network": result.digest, **result.versions},
        samples=result.accuracy_of["trained"],
        accuracy={name: value for name, value in result.accuracy.items() if value is not None},
        accuracy_of=result.accuracy_of,
        accuracy_by_step={name.upper(): values for name, values in result.accuracy_by_step.items()},
        firing_rates=firing_rates(result.energy),
        mismatches={name: agreement.counts() for name, agreement in agreements.items()},
        divergences={name: str(agreement.first) for name, agreement in agreements.items() if agreement.first},
        energy=result.energy,
        energy_accuracy_by_step=list(np.mean(recording.decisions_by_step == labels, axis=1)),
        sample=SampleView.of(recording, frames, 0, int(labels[0])),
        graph=int8,
        seconds=result.seconds,
    )
    write_report(data, result.folder / "report.html")
