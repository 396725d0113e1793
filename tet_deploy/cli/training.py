"""Commands that train: demo, train, finetune, experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tet_deploy import terminal
from tet_deploy.cli.options import Json, Out, any_of
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.data.frames import samples_of, which_samples
from tet_deploy.errors import ExecutionError
from tet_deploy.experiments import EXPERIMENTS, run_experiment
from tet_deploy.models import MODELS
from tet_deploy.recipes import RECIPES


def _data_sets() -> list[str]:
    from tet_deploy.data import DATA

    return list(DATA)


Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training of --out that was interrupted.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the finished or interrupted training that --out names.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read samples.")]
EvaluateEvery = Annotated[int, typer.Option(min=0, help="Test accuracy for the log, every N epochs; 0: at the end.")]
SaveEvery = Annotated[int, typer.Option(min=0, help="Keep the state every N batches too; 0: after epochs only.")]


def demo(
    data: Annotated[
        str, typer.Option(help="event-digits or digits.", autocompletion=any_of(("event-digits", "digits")))
    ] = "event-digits",
    out: Annotated[Path, typer.Option(help="Folder for the networks, the Lava bundle and the report.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the camera, the weights and the order of samples.")] = 0,
    model: Annotated[str | None, typer.Option(help="Another network: resnet19, sew_resnet34, ...")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the network's channels.")] = None,
    lava_samples: Annotated[
        int | None, typer.Option(min=1, help="Prove this many test samples equal on Lava, instead of all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on real digits, fold, quantize, run on ONNX Runtime and Lava, prove equality, count energy, write a report."""
    from tet_deploy.demo import run_demo

    result = run_demo(data, out, seed=seed, model=model, width=width, lava_samples=lava_samples)
    if as_json:
        print_json(result.as_dict())
    else:
        result.show()
    raise typer.Exit(0 if result.equal else 1)


def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, event-digits (the default), cifar10, ..., an .npz of frames and labels, a folder of events.",
            autocompletion=_data_sets,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a recipe (digits-tit, cifar10-resnet19-t2, ...) or a TOML file of your own.",
            autocompletion=any_of(RECIPES),
        ),
    ] = None,
    out: Out = Path("checkpoint.safetensors"),
    resume: Resume = False,
    force: Force = False,
    model: Annotated[
        str | None, typer.Option(help="Name of a network, in place of the recipe's.", autocompletion=any_of(MODELS))
    ] = None,
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
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto (bf16 on CUDA), fp32 or bf16.")] = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Take each batch in so many parts, to need less memory.")] = 1,
    sync_batch_norm: Annotated[
        bool, typer.Option("--sync-batch-norm", help="Batch norm's statistics over all processes, not each its own.")
    ] = False,
    encode_every_step: Annotated[
        bool, typer.Option("--encode-every-step", help="Compute the first layer of a still image at every step, not once.")
    ] = False,
    workers: Workers = 0,
    evaluate_every: EvaluateEvery = 1,
    save_every: SaveEvery = 0,
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
        overwrite=force,
        **session.files_beside(out),
    )
    chosen = session.choose(
        settings, out=out, data=data, recipe=recipe, stage=stage, weights=weights, width=width, root=root, changes=changes
    )
    try:
        trained = session.train_into(
            out, chosen, settings, weights=weights, device=device, workers=workers, bar=terminal.progress_bar
        )
    except KeyboardInterrupt:
        raise ExecutionError(f"interrupted. {session.how_to_go_on(out)}") from None
    if trained is None:  # another process of the group prints
        return
    which = which_samples(trained.test_samples, trained.test_samples, samples_of(chosen.data))
    steps_text = " ".join(f"{accuracy:.2%}" for accuracy in trained.accuracy_by_step)
    print_result(
        as_json,
        {
            "checkpoint": str(out),
            "log": str(settings.log),
            "accuracy_by_step": list(trained.accuracy_by_step),
            "of": which,
            "seconds": trained.result.seconds,
        },
        f"accuracy after 1..{chosen.steps} steps, {which}: {steps_text}\nwrote {out}",
    )


def finetune(
    checkpoint: Annotated[Path, typer.Argument(help="What `train` wrote.")],
    bits: Annotated[int | None, typer.Option(min=2, max=8, help="Width of the signed weights; 8 by default.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="3 by default.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the start, in steps of the integers; 0.03 by default.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per update; by default as in training.")] = None,
    data: Annotated[
        str | None, typer.Option(help="By default what the checkpoint was trained on.", autocompletion=_data_sets)
    ] = None,
    out: Out = Path("network.finetuned.safetensors"),
    resume: Resume = False,
    force: Force = False,
    device: Device = "auto",
    workers: Workers = 0,
    evaluate_every: EvaluateEvery = 1,
    save_every: SaveEvery = 0,
    as_json: Json = False,
) -> None:
    """Quantize a checkpoint and train its integers for a few epochs, so that few bits cost little accuracy.

    It trains exactly what a Loihi core computes, and writes the integers that it ended with: there is no second rounding.
    Beside the network lie a log, one JSON object an epoch, and until it is done its state, for --resume.
    """
    from tet_deploy.training import Settings, finetuning_session, session

    files = session.files_beside(out)
    settings = Settings(
        precision="fp32",
        evaluate_every=evaluate_every,
        state_every=save_every,
        resume=resume,
        overwrite=force,
        state=files["state"],
        log=files["log"],
    )
    asked = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "data": data}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    plan = finetuning_session.choose(settings, checkpoint, bits, changes)
    try:
        found = finetuning_session.finetune_into(
            out, checkpoint, plan, settings, device=device, workers=workers, bar=terminal.progress_bar
        )
    except KeyboardInterrupt:
        raise ExecutionError(f"interrupted. {finetuning_session.how_to_go_on(checkpoint, out)}") from None
    if found is None:  # another process of the group prints
        return
    which = which_samples(found.test_samples, found.test_samples, samples_of(plan.recipe.data))
    values = {
        "network": str(out),
        "digest": found.graph.digest(),
        "bits": plan.bits,
        "trained": found.trained,
        "quantized": found.before[-1],
        "finetuned": found.accuracy_by_step[-1],
        "accuracy_by_step": list(found.accuracy_by_step),
        "of": which,
        "seconds": found.result.seconds,
    }
    float_text = "" if found.trained is None else f"float {found.trained:.2%}, "
    text = (
        f"accuracy, {which}: {float_text}{plan.bits} bits {found.before[-1]:.2%}, "
        f"fine-tuned {found.accuracy_by_step[-1]:.2%}\nwrote {out}"
    )
    print_result(as_json, values, text)


def experiment(
    name: Annotated[str, typer.Argument(help=", ".join(EXPERIMENTS) + ".", autocompletion=any_of(EXPERIMENTS))],
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
        print_json({"experiment": name, **files, **outcome.values})
        return
    terminal.say(f"The paper: {outcome.claim}")
    for table in outcome.tables:
        terminal.say(table)
    terminal.say(f"wrote {files['json']} and {files['figure']}")
