"""The reference of the command line, as typer tells it of the application itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command_line():
    """Markdown of every command with its options, in the order of `tet-deploy --help`."""
    command = [sys.executable, "-m", "typer", "tet_deploy.cli", "utils", "docs", "--name", "tet-deploy"]
    page = subprocess.run([*command, "--title", "Command line"], cwd=ROOT, check=True, capture_output=True, text=True)
    return page.stdout
