"""Type-check what ships: install into a folder without dependencies and run mypy strict there.

At the root of the repository mypy does not see that exporters/, runtimes/ and models/ belong to the package.
"""

import shutil
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
target = root / "build" / "typecheck"
shutil.rmtree(root / "build", ignore_errors=True)  # what an earlier build left would be installed too
pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target", target, root]
subprocess.run(pip, check=True)
mypy = [sys.executable, "-m", "mypy", "--config-file", root / "pyproject.toml", "-p", "tet_deploy"]
sys.exit(subprocess.run(mypy, cwd=target, check=False).returncode)
