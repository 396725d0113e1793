"""Install what is released as a stranger does, and use it: `python tests/wheels.py 3.10 3.11 3.12 3.13`.

The source archive is built from the checkout, and the wheel from that archive. In a clean environment of each CPython the
wheel brings numpy, rich, safetensors and typer, with what these need (newer typers need pydantic), and nothing else; from
another folder the chain then runs from a network to its energy. A CPython that is not here is skipped in a line, or fails
where TET_DEPLOY_REQUIRE_PYTHONS is set.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tet_deploy.runtimes.loihi.sidecar import find_python

ROOT = Path(__file__).resolve().parent.parent
BASE = {"numpy", "rich", "safetensors", "typer"}
OF_RICH = {"markdown-it-py", "mdurl", "pygments"}
OF_TYPER = {"annotated-doc", "annotated-types", "click", "pydantic", "pydantic-core", "shellingham"}
OF_TYPER |= {"typing-extensions", "typing-inspection"}
THEIRS = OF_RICH | OF_TYPER
CHAIN = """
import numpy as np, tet_deploy as td
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout

rng = np.random.default_rng(0)
graph = chain([
    Input(name="input", shape=(2, 8, 8), encoding="events"),
    Conv(name="conv", weight=rng.normal(size=(4, 2, 3, 3)).astype(np.float32), padding=(1, 1)),
    LIF(name="lif"),
    Flatten(name="flatten"),
    Linear(name="fc", weight=rng.normal(size=(3, 256)).astype(np.float32)),
    Readout(name="readout"),
])
frames = rng.poisson(0.5, (4, 6, 2, 8, 8)).astype(np.float32)
int8 = td.quantize(td.lower(graph, frames), calibration=frames)
td.save(int8, "net.safetensors")
recording = td.run(int8, frames)
assert recording.spikes["lif"].any()
assert np.array_equal(td.run(td.load("net.safetensors"), frames).readout, recording.readout)
td.export(int8, "net.lava", to="lava")
np.save("frames.npy", frames)
print(td.energy(int8, frames))
"""
COMMANDS = (
    ["-m", "tet_deploy", "--version"],
    ["-m", "tet_deploy", "inspect", "net.safetensors", "--chip", "loihi2"],
    ["-m", "tet_deploy", "energy", "net.safetensors", "--frames", "frames.npy", "--json"],
    ["net.lava/run.py", "frames.npy", "recording.npz", "--engine", "numpy"],
)


def built(folder):
    """The source archive, and the wheel that is made of it."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    code = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=_copied(folder), check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tar.gz")
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, archive], check=True)
    (wheel,) = folder.glob("*.whl")
    return archive, wheel


def _copied(folder):
    """What git tracks, as a checkout has it: building leaves files beside the sources."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        target = folder / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return folder / "checkout"


def told(archive, wheel):
    """Everything that is imported is in both, and no tests, benchmarks or documents are in the wheel."""
    with zipfile.ZipFile(wheel) as opened:
        inside = {name for name in opened.namelist() if ".dist-info/" not in name}
    with tarfile.open(archive) as opened:
        sources = {name.partition("/")[2] for name in opened.getnames()}
    assert all(name.startswith("tet_deploy/") for name in inside), sorted(inside)
    assert not {name for name in inside if "/tests/" in name}
    lacking = {name for name in inside if name not in sources and name.removeprefix("tet_deploy/") not in sources}
    assert not lacking, lacking
    return f"{wheel.name}: {len(inside)} files, {wheel.stat().st_size / 1e6:.1f} MB; {archive.name}: {len(sources)} files"


def installed(python, wheel, folder):
    """Install the wheel, run the chain from an empty folder, and say what came with it."""
    venv, empty = folder / "venv", folder / "empty"
    empty.mkdir(parents=True)
    subprocess.run([python, "-m", "venv", venv], check=True)
    python = venv / "bin/python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", wheel], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout.split()
    came = {line.partition("==")[0].lower().replace("_", "-") for line in listed} - {"pip", "setuptools", "tet-deploy"}
    assert came >= BASE, came
    assert came <= BASE | THEIRS, f"unasked for: {sorted(came - BASE - THEIRS)}"
    for command in (["-c", CHAIN], *COMMANDS):
        subprocess.run([python, *command], cwd=empty, check=True, stdout=subprocess.DEVNULL)
    return f"the chain runs; {len(came)} packages: {' '.join(sorted(came))}"


def main():
    """Build once, then install in each CPython that was asked for; the exit code says whether all went well."""
    failed = []
    os.environ.pop("PYTHONPATH", None)  # pip would find the checkout there, and be content with it
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        archive, wheel = built(folder)
        print(told(archive, wheel), flush=True)
        for name in sys.argv[1:]:
            python = find_python(name)
            if python is not None:
                print(f"CPython {name}: {installed(python, wheel, folder / name)}", flush=True)
            elif os.environ.get("TET_DEPLOY_REQUIRE_PYTHONS"):
                failed.append(f"{name}: no such CPython, and TET_DEPLOY_REQUIRE_PYTHONS is set")
            else:
                print(f"skipping CPython {name}: it is not here")
    sys.exit("\n".join(failed) or None)


if __name__ == "__main__":
    main()
