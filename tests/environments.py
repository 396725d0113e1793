"""Run the fast tests in environments of their own: `python tests/environments.py floors 3.10 3.12 3.13`.

"floors" is CPython 3.11 with the oldest version of everything that pyproject.toml admits; a number is that CPython with the
newest of everything but torch, tonic and the other parts of training. Each lies in .venv-NAME, and is built again when what
it is made from changes. A CPython that is not here is skipped in a line, or fails where TET_DEPLOY_REQUIRE_PYTHONS is set.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from tet_deploy.runtimes.loihi.sidecar import find_python

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [ROOT / name for name in ("pyproject.toml", "constraints.txt", "tests/environments.py")]
PYTHON_OF_FLOORS = "3.11"  # numpy 1.26 has no wheel for 3.13
_FLOOR = re.compile(r"([\w-]+)>=([\w.]+)")


def floors():
    """The oldest version of each requirement, as pip's constraints; what constraints.txt pins stays as it is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [
        project["dependencies"],
        *(group for name, group in project["optional-dependencies"].items() if name not in ("dev", "docs")),
    ]
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    found = {match[1]: match[2] for group in groups for text in group if (match := _FLOOR.match(text))}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in pinned]


def built(name):
    """The interpreter of an environment, which is built if need be; None where there is no such CPython."""
    lowest = name == "floors"
    python = find_python(PYTHON_OF_FLOORS if lowest else name)
    if python is None:
        return None
    folder = ROOT / f".venv-{name}"
    made_from = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES) + bytes(python)).hexdigest()
    marker = folder / "made-from"
    if not marker.exists() or marker.read_text() != made_from:
        print(f"building {folder.name} from {python}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(floors() if lowest else []) + "\n")
        pip = [folder / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-warn-conflicts"]
        extras = "all,test" if lowest else "onnx,report,nir,test"
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", "-c", constraints, "-e", f"{ROOT}[{extras}]"], check=True)
        marker.write_text(made_from)
    return folder / "bin/python"


def main():
    """Run the tests in each environment that was asked for; the exit code says whether all passed."""
    failed = []
    for name in sys.argv[1:]:
        python = built(name)
        if python is None and os.environ.get("TET_DEPLOY_REQUIRE_PYTHONS"):
            failed.append(f"{name}: no such CPython, and TET_DEPLOY_REQUIRE_PYTHONS is set")
        elif python is None:
            print(f"skipping the tests in {name}: no such CPython")
        else:
            print(f"{name}: {', '.join(floors()) if name == 'floors' else f'CPython {name}'}", flush=True)
            parallel = ["-n", "auto", "--dist", "loadfile"]  # as in the Makefile
            pytest = [python, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *parallel]
            code = subprocess.run(pytest, cwd=ROOT).returncode
            failed += [f"{name}: pytest ended with {code}"] if code else []
    sys.exit("\n".join(failed) or None)  # an empty text would exit with 1


if __name__ == "__main__":
    main()
