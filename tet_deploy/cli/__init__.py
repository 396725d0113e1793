"""The command line: each command parses, calls one public function and prints its result.

Results go to standard output, progress and errors to standard error. Exit codes: 0 all is well, 1 a check or a run failed,
2 the request was wrong.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, TextIO

import typer

from tet_deploy import terminal
from tet_deploy._version import __version__
from tet_deploy.cli import deploying, looking, reporting, running, splitting, streaming, training
from tet_deploy.errors import TetDeployError, TetDeployWarning, cut, with_notes

COMMANDS: dict[str, tuple[Callable[..., None], str]] = {  # in the order of --help, each with an example
    "demo": (training.demo, "tet-deploy demo --data digits --seed 1 --out out/digits"),
    "train": (training.train, "tet-deploy train --recipe digits-tit --out net.ckpt.safetensors"),
    "finetune": (
        training.finetune,
        "tet-deploy finetune checkpoint.safetensors --bits 4 --out net.int4.safetensors",
    ),
    "convert": (deploying.convert, "tet-deploy convert checkpoint.safetensors --out net.safetensors"),
    "quantize": (
        deploying.quantize,
        "tet-deploy quantize network.safetensors --calibration frames.npz --out net.int8.safetensors",
    ),
    "export": (deploying.export, "tet-deploy export network.int8.safetensors --to lava --out bundle"),
    "run": (running.run, "tet-deploy run network.int8.safetensors --runtime lava --samples 16 --out recording.npz"),
    "stream": (streaming.stream, "tet-deploy stream network.int8.safetensors --events recording.aedat4 --late merge"),
    "validate": (running.validate, "tet-deploy validate network.int8.safetensors --samples 64"),
    "energy": (reporting.energy, "tet-deploy energy network.int8.safetensors --table 45nm-fp32 --csv layers.csv"),
    "merge": (splitting.merge, "tet-deploy merge network.safetensors.energy.*.json"),
    "report": (reporting.report, "tet-deploy report network.int8.safetensors --out report.html"),
    "experiment": (training.experiment, "tet-deploy experiment table4 --data event-digits --seeds 3 --out out/experiments"),
    "inspect": (looking.inspect_file, "tet-deploy inspect network.int8.safetensors"),
    "doctor": (looking.doctor, "tet-deploy doctor --setup-lava"),
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Spiking networks from TET training to Lava, ONNX and an exact energy count. Add --debug to see a traceback.",
    epilog="Start with: `tet-deploy demo`",
)

for _name, (_command, _example) in COMMANDS.items():
    app.command(_name, epilog=f"Example: `{_example}`")(_command)


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
    terminal.let_readers_leave()
    warnings.showwarning = _show_warning
    debug = "--debug" in sys.argv or bool(os.environ.get("TET_DEPLOY_DEBUG"))
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except SystemExit as error:
        if error.code == 130:  # Ctrl-C
            _fail("interrupted; no file was left half-written.", 1)
        raise
    except Exception as error:
        if debug:
            raise
        said = with_notes(error)
        if isinstance(error, TetDeployError):
            _fail(said, error.exit_code)
        if isinstance(error, OSError) and error.filename is not None:
            _fail(f"{cut(str(error.filename))}: {error.strerror}. Give a path that this user can read or write.", 2)
        _fail(f"{type(error).__name__}: {said}\nThis is a fault of tet_deploy. Run it again with --debug and report it.", 1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own in a line; a library's as Python prints them."""
    ours = issubclass(category, TetDeployWarning)
    terminal.tell(f"warning: {message}" if ours else warnings.formatwarning(message, category, filename, lineno).rstrip())


def _fail(message: str, code: int) -> None:
    terminal.tell(f"error: {message}")
    sys.exit(code)
