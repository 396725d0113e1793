"""The command line: each command parses, calls one public function and prints its result.

Results go to standard output, progress and errors to standard error. Exit codes: 0 all is well, 1 a check or a run failed,
2 the request was wrong.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tet_deploy import pipeline, terminal
from tet_deploy._version import __version__
from tet_deploy.contracts import Recording
from tet_deploy.errors import DataError, TetDeployError
from tet_deploy.experiments import EXPERIMENTS, run_experiment
from tet_deploy.exporters import EXPORTERS
from tet_deploy.files import written_whole
from tet_deploy.inspection import graph_rows
from tet_deploy.ir.artifact import load, save
from tet_deploy.ir.graph import Graph
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.validation import Agreement

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Spiking networks from TET training to Lava, ONNX and an exact energy count. Add --debug to see a traceback.",
    epilog="Start with: `tet-deploy demo`",
)

NetworkFile = Annotated[Path, typer.Argument(help="A network that `convert` or `quantize` wrote.", metavar="NETWORK")]
Frames = Annotated[
    str | None,
    typer.Option(help="An .npz with 'frames' [T, B, C, H, W] (and 'labels'), or digits, or event-digits: the test samples."),
]
Samples = Annotated[int | None, typer.Option(min=1, help="Use the first N samples only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option(help="Where to write.")]


@app.command(epilog="Example: `tet-deploy demo --data digits --seed 1 --out out/digits`")
def demo(
    data: Annotated[str, typer.Option(help="event-digits or digits.")] = "event-digits",
    out: Annotated[Path, typer.Option(help="Folder for the networks, the Lava bundle and the report.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the camera, the weights and the order of samples.")] = 0,
    lava_samples: Annotated[
        int | None, typer.Option(min=1, help="Prove this many test samples equal on Lava, instead of all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on real digits, fold, quantize, run on ONNX Runtime and Lava, prove equality, count energy, write a report."""
    from tet_deploy.demo import run_demo

    result = run_demo(data, out, seed=seed, lava_samples=lava_samples)
    if as_json:
        _print_json(result.as_dict())
    else:
        result.show(terminal.output)
    raise typer.Exit(0 if result.equal else 1)


@app.command(epilog="Example: `tet-deploy train --recipe digits-tit --out net.ckpt.safetensors`")
def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, event-digits (the default), cifar10, ..., an .npz of frames and labels, a folder of events."
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe (digits-tit, cifar10-resnet19-t2, ...) or a TOML file of your own.")
    ] = None,
    out: Out = Path("checkpoint.safetensors"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training of --out that was interrupted.")] = False,
    model: Annotated[str | None, typer.Option(help="Name of a network, in place of the recipe's.")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the network's channels.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets.")] = None,
    loss: Annotated[str | None, typer.Option(help="tet (eq. 9) or sdt (eq. 7).")] = None,
    mse_weight: Annotated[float | None, typer.Option(help="lambda of eq. 13.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Time steps T. Like the others, of every stage.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At the start of the schedule.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per update, of all processes together.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    stage: Annotated[int | None, typer.Option(min=1, help="Run this stage of the recipe alone; see --weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Begin with the weights of this checkpoint.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (bf16 on CUDA), fp32 or bf16.")] = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Take each batch in so many parts, to need less memory.")] = 1,
    sync_batch_norm: Annotated[
        bool, typer.Option("--sync-batch-norm", help="Batch norm's statistics over all processes, not each its own.")
    ] = False,
    encode_every_step: Annotated[
        bool, typer.Option("--encode-every-step", help="Compute the first layer of a still image at every step, not once.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read samples.")] = 0,
    evaluate_every: Annotated[
        int, typer.Option(min=0, help="Test accuracy for the log, every N epochs; 0: at the end.")
    ] = 1,
    save_every: Annotated[int, typer.Option(min=0, help="Keep the state every N batches too; 0: after epochs only.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a spiking network by a recipe and write a checkpoint; with `torchrun --no-python`, on many processes.

    Beside the checkpoint lie a log, one JSON object an epoch, and until training is done its state, for --resume.
    """
    from tet_deploy.training import Settings, session

    asked = {"model": model, "loss": loss, "mse_weight": mse_weight, "steps": steps, "epochs": epochs, "seed": seed}
    asked |= {"learning_rate": learning_rate, "batch_size": batch_size}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    settings = Settings(
        precision=precision,
        accumulate=accumulate,
        sync_batch_norm=sync_batch_norm,
        encode_once=not encode_every_step,
        evaluate_every=evaluate_every,
        state_every=save_every,
        resume=resume,
        **session.files_beside(out),
    )
    chosen = session.choose(
        settings, data=data, recipe=recipe, stage=stage, weights=weights, width=width, root=root, changes=changes
    )
    trained = session.train_into(
        out, chosen, settings, weights=weights, device=device, workers=workers, bar=terminal.progress_bar
    )
    if trained is None:  # another process of the group prints
        return
    steps_text = " ".join(f"{accuracy:.2%}" for accuracy in trained.accuracy_by_step)
    _result(
        as_json,
        {
            "checkpoint": str(out),
            "log": str(settings.log),
            "accuracy_by_step": list(trained.accuracy_by_step),
            "seconds": trained.result.seconds,
        },
        f"test accuracy after 1..{chosen.steps} steps: {steps_text}\nwrote {out}",
    )


@app.command(epilog="Example: `tet-deploy convert checkpoint.safetensors --out net.safetensors`")
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="What `train` wrote.")],
    frames: Annotated[
        str | None, typer.Option(help="Frames it will see: an .npz, or a data set; by default its training samples.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Look at the first N samples.")] = 128,
    out: Out = Path("network.safetensors"),
    as_json: Json = False,
) -> None:
    """Trace a checkpoint, fold batch norm and pooling, snap to the frames' grid, and write a deployable float network."""
    from tet_deploy.passes import lower
    from tet_deploy.training import session

    traced = session.traced(checkpoint)
    graph = lower(traced, _frames(traced, frames, samples, split="train")[0])
    save(graph, out)
    _result(as_json, {"network": str(out), "digest": graph.digest()}, f"wrote {out}")


@app.command(epilog="Example: `tet-deploy quantize network.safetensors --calibration frames.npz --out net.int8.safetensors`")
def quantize(
    network: NetworkFile,
    calibration: Annotated[
        str | None, typer.Option(help="An .npz with 'frames', or digits, or event-digits: the training samples.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibrate on the first N samples.")] = 128,
    bits: Annotated[int, typer.Option(min=2, max=8, help="Width of the signed weights.")] = 8,
    out: Out = Path("network.int8.safetensors"),
    as_json: Json = False,
) -> None:
    """Turn a float network into the integers of a Loihi core, calibrated on frames."""
    from tet_deploy.passes import quantize as quantize_graph

    graph = load(network)
    frames, _ = _frames(graph, calibration, samples, split="train")
    with terminal.progress_bar("quantizing") as progress:
        quantized = quantize_graph(graph, frames, bits=bits, progress=progress)
    save(quantized, out)
    populations = json.loads(quantized.metadata["quantization"])
    if as_json:
        _print_json({"network": str(out), "digest": quantized.digest(), "populations": populations})
        return
    rows = [
        (name, f"{p['scale']:.4g}", f"{p['membrane_error']:.2e}", f"{p['clipped_weights']:.2%}",
         "impossible" if p["wrap_impossible"] else f"{p['largest_sum_seen'] / 131071:.0%} of the limit seen")
        for name, p in populations.items()
    ]  # fmt: skip
    columns = ("population", "scale", "membrane error", "clipped weights", "wrapping")
    terminal.output.print(terminal.table(f"{out}, {bits}-bit weights", columns, rows))


@app.command(epilog="Example: `tet-deploy export network.int8.safetensors --to lava --out bundle`")
def export(
    network: NetworkFile,
    to: Annotated[str, typer.Option(help=f"{' or '.join(EXPORTERS)}.")],
    out: Out,
    probes: Annotated[str, typer.Option(help="ONNX only: extra outputs, none, spikes, all, or names.")] = "none",
    as_json: Json = False,
) -> None:
    """Write a network as an ONNX file or as a Lava bundle."""
    if probes != "none" and to != "onnx":
        raise typer.BadParameter("only an ONNX file has them as outputs; a Lava bundle takes --probes when it runs.")
    path = pipeline.export(load(network), out, to=to, **({"probes": _probes(probes)} if to == "onnx" else {}))
    hint = f"; {path / 'README.md'} says how to run it" if path.is_dir() else ""
    _result(as_json, {"path": str(path), "to": to}, f"wrote {path}{hint}")


@app.command(epilog="Example: `tet-deploy run network.int8.safetensors --runtime lava --samples 16 --out recording.npz`")
def run(
    network: NetworkFile,
    frames: Frames = None,
    runtime: Annotated[str, typer.Option(help=", ".join(RUNTIMES) + ".")] = "onnx",
    samples: Samples = None,
    probes: Annotated[str, typer.Option(help="all, spikes, none, or names of LIF nodes with commas.")] = "none",
    out: Annotated[Path | None, typer.Option(help="Write readout, decisions and probes to this .npz.")] = None,
    as_json: Json = False,
) -> None:
    """Run a network over frames; print its accuracy where labels are known."""
    graph = load(network)
    x, labels = _frames(graph, frames, samples)
    with terminal.progress_bar(f"running on {runtime}") as progress:
        recording = pipeline.run(graph, x, runtime=runtime, probes=_probes(probes), progress=progress)
    if out is not None:
        _write_recording(recording, out)
    result: dict[str, Any] = {"runtime": runtime, "samples": recording.samples, "steps": recording.steps}
    text = f"{recording.samples} samples of {recording.steps} steps on {runtime}"
    if labels is not None:
        result["accuracy"] = float(np.mean(recording.decisions == labels))
        text += f": accuracy {result['accuracy']:.2%}"
    result["decisions"] = recording.decisions.tolist()
    _result(as_json, result, text + (f"\nwrote {out}" if out else ""))


@app.command(epilog="Example: `tet-deploy validate network.int8.safetensors --samples 64`")
def validate(
    network: NetworkFile,
    frames: Frames = None,
    runtimes: Annotated[
        str | None, typer.Option(help="Names with commas; the first is the reference. By default all that can run it.")
    ] = None,
    samples: Samples = 64,
    as_json: Json = False,
) -> None:
    """Prove that runtimes agree: every spike, every membrane potential, every step. Exit code 1 if they do not."""
    graph = load(network)
    x, _ = _frames(graph, frames, samples)
    names = runtimes.split(",") if runtimes else [name for name in RUNTIMES if name != "lava" or graph.is_quantized]
    with terminal.progress_bar("running " + ", ".join(names)) as progress:
        agreements = pipeline.validate(graph, x, runtimes=names, progress=lambda _: progress)
    must_be_equal = pipeline.equality_expected(graph, x)
    if as_json:
        _print_json({"equality_expected": must_be_equal} | {name: _agreement(a) for name, a in agreements.items()})
    else:
        _show_agreements(agreements, must_be_equal)
    raise typer.Exit(1 if must_be_equal and not all(a.equal for a in agreements.values()) else 0)


@app.command(epilog="Example: `tet-deploy energy network.int8.safetensors --table 45nm-fp32 --csv layers.csv`")
def energy(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    table: Annotated[str, typer.Option(help="Name of the energy table.")] = "45nm-fp32",
    csv: Annotated[Path | None, typer.Option(help="Write the per-layer table here.")] = None,
    as_json: Json = False,
) -> None:
    """Count every addition and multiplication of the real spike traffic and estimate energy per inference."""
    from tet_deploy import counting

    graph = load(network)
    x, _ = _frames(graph, frames, samples)
    with terminal.progress_bar("reference") as progress:
        report = pipeline.energy(graph, x, table=table, progress=progress)
    if csv is not None:
        counting.write_csv(report, csv)
    if as_json:
        _print_json(counting.to_dict(report))
    else:
        terminal.output.print(terminal.energy_table(report))
        terminal.output.print(terminal.layer_table(report))


@app.command(epilog="Example: `tet-deploy report network.int8.safetensors --out report.html`")
def report(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = 256,
    out: Out = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Run a network on the reference and on ONNX Runtime, count its energy, and write a page that shows it all."""
    graph = load(network)
    x, labels = _frames(graph, frames, samples)
    with terminal.progress_bar("running and drawing") as progress:
        path = pipeline.report(graph, x, labels, path=out, progress=lambda _: progress)
    _result(as_json, {"report": str(path)}, f"wrote {path}")


@app.command(epilog="Example: `tet-deploy experiment table4 --data event-digits --seeds 3 --out out/experiments`")
def experiment(
    name: Annotated[str, typer.Argument(help=", ".join(EXPERIMENTS) + ".")],
    data: Annotated[
        str | None, typer.Option(help="digits, event-digits, or another recipe or TOML file; by default the experiment's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with the seeds 0, 1, ...")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each training, for a quick look.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json and NAME.svg.")] = Path("out/experiments"),
    as_json: Json = False,
) -> None:
    """Repeat an experiment of Deng et al., ICLR 2022, on small data: numbers, tables and a figure, over several seeds."""
    with terminal.progress_bar(name) as progress:
        outcome = run_experiment(name, data=data, seeds=seeds, epochs=epochs, out=out, progress=progress)
    files = {"json": str(out / f"{name}.json"), "figure": str(out / f"{name}.svg")}
    if as_json:
        _print_json({"experiment": name, **files, **outcome.values})
        return
    terminal.output.print(f"The paper: {outcome.claim}", highlight=False)
    for found in outcome.tables:
        terminal.output.print(terminal.table(found.title, found.columns, found.rows))
    terminal.output.print(f"wrote {files['json']} and {files['figure']}", highlight=False)


@app.command("inspect", epilog="Example: `tet-deploy inspect network.int8.safetensors`")
def inspect_file(network: NetworkFile, as_json: Json = False) -> None:
    """Print a network as a table: node, kind, shape, parameters, bits, fan-out."""
    graph = load(network)
    rows = graph_rows(graph)
    if as_json:
        _print_json({"digest": graph.digest(), "metadata": dict(graph.metadata), "nodes": rows})
    else:
        kind = "quantized" if graph.is_quantized else "float"
        title = f"{network}: {kind} network, digest {graph.digest()[:16]}"
        columns = [column for column in rows[0] if column != "inputs"]
        cells = [[row[column] for column in columns] for row in rows]
        terminal.output.print(terminal.table(title, columns, cells, text=("settings",)))
        known = {key: value for key, value in graph.metadata.items() if not value.startswith("{")}
        terminal.output.print(", ".join(f"{key} {value}" for key, value in known.items()), highlight=False)


@app.command(epilog="Example: `tet-deploy doctor --setup-lava`")
def doctor(
    setup_lava: Annotated[bool, typer.Option("--setup-lava", help="Build the Lava Python if there is none.")] = False,
    into: Annotated[Path | None, typer.Option(help="Build it in this folder, not in the user's cache folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is installed, which Lava Python was found, and test that it computes what the tool proves."""
    from tet_deploy import doctor as examination

    found = examination.examine(setup_lava=setup_lava, into=into, self_test=not quiet, quiet=quiet)
    if as_json:
        _print_json(found.as_dict())
    else:
        found.show(terminal.output, quiet=quiet)
    raise typer.Exit(0 if found.lava_works else 1)


def _frames(graph: Graph, source: str | None, samples: int | None, *, split: str = "test") -> tuple[np.ndarray, Any]:
    """Frames and, where they are known, labels: a whole file, or one part of a data set, by default that of the training."""
    from tet_deploy import data

    about = graph.metadata
    if source is None and "data" not in about:
        raise DataError("frames: the network does not say what it was trained on. Give a FILE.npz, or digits.")
    if source is not None and source not in data.DATA:
        loaded = data.load_frames(source)
        frames, labels = loaded.frames[:, :samples], None if loaded.labels is None else loaded.labels[:samples]
    else:
        try:
            options = json.loads(about.get("data_arguments", "{}")) if source is None else {}
            steps, seed = int(about.get("steps", 4)), int(about.get("seed", 0))
        except ValueError as error:
            raise DataError(f"the network's metadata on its data is broken ({error}). Give frames by --frames.") from None
        part = getattr(data.load(source or about["data"], steps=steps, seed=seed, **options), split)
        frames, labels = part.batch(range(len(part) if samples is None else min(samples, len(part))))
    if labels is not None:
        labels = data.check_labels(labels, samples=frames.shape[1], classes=graph.shapes[graph.readout.name][0])
    return frames, labels


def _probes(text: str) -> str | list[str]:
    return text if text in ("all", "spikes", "none") else text.split(",")


def _write_recording(recording: Recording, out: Path) -> None:
    arrays = {"readout": recording.readout, "decisions": recording.decisions}
    arrays |= {f"{name}.spikes": array for name, array in recording.spikes.items()}
    arrays |= {f"{name}.potentials": array for name, array in recording.potentials.items()}
    with written_whole(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its keywords are arrays, save one


def _agreement(agreement: Agreement) -> dict[str, Any]:
    first = None if agreement.first is None else dataclasses.asdict(agreement.first)
    return agreement.counts() | {"samples": agreement.samples, "decisions": agreement.decisions, "first_divergence": first}


def _show_agreements(agreements: dict[str, Agreement], must_be_equal: bool) -> None:
    terminal.output.print(terminal.agreement_table(agreements, must_be_equal=must_be_equal))
    for agreement in agreements.values():
        if agreement.first is not None:
            terminal.output.print(f"{agreement.runtime}: {agreement.first}")
    if not must_be_equal:
        terminal.output.print("The frames do not lie on the network's grid, so float runtimes may differ by rounding.")


def _result(as_json: bool, values: dict[str, Any], text: str) -> None:
    if as_json:
        _print_json(values)
    else:
        terminal.output.print(text, highlight=False)


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, indent=2))


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of all commands."""


def main() -> None:
    """Entry point; turns our errors into one to three lines and an exit code."""
    debug = "--debug" in sys.argv or bool(os.environ.get("TET_DEPLOY_DEBUG"))
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        app()
    except SystemExit as error:
        if error.code == 130:  # Ctrl-C
            _fail("interrupted; no file was left half-written.", 1)
        raise
    except Exception as error:
        if debug:
            raise
        if isinstance(error, TetDeployError):
            _fail(str(error), error.exit_code)
        _fail(f"{type(error).__name__}: {error}\nThis is a fault of tet_deploy. Run it again with --debug and report it.", 1)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
