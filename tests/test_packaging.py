"""What ships is what is in the repository, and importing it is light."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAPPED = ("exporters", "runtimes", "models", "recipes")


def test_every_folder_of_code_is_listed_as_a_package():
    """pyproject's explicit list names every folder with an __init__.py, and no other."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"\npackages = \[(.*?)\]", text, re.DOTALL)[1]
    listed = set(re.findall(r'"([\w.]+)"', block))
    found = {_package(path.parent) for top in ("tet_deploy", *MAPPED) for path in (ROOT / top).rglob("__init__.py")}
    assert listed == found


def test_a_wheel_holds_every_file_that_is_read_at_run_time(tmp_path):
    """The Lava side, the report's template and the recipes are in the wheel, byte for byte."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        tmp_path,
        ".",
    ]
    subprocess.run(pip, cwd=ROOT, check=True, capture_output=True)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    shipped = {"runtimes/loihi/bundle": "*.py", "tet_deploy/reporting/template": "*", "recipes": "*.toml"}
    for folder, pattern in shipped.items():
        files = list((ROOT / folder).rglob(pattern))
        assert files
        for file in files:
            parts = file.relative_to(ROOT).parts
            installed = tmp_path.joinpath(*(parts if parts[0] == "tet_deploy" else ("tet_deploy", *parts)))
            assert installed.read_bytes() == file.read_bytes()


def _package(folder):
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "tet_deploy" else ("tet_deploy", *parts))


def test_importing_the_package_needs_numpy_only():
    """`import tet_deploy` and every public name of the torch-free core import no heavy library."""
    heavy = ("torch", "onnx", "onnxruntime", "lava", "tonic", "sklearn", "matplotlib", "jinja2", "h5py")
    code = (
        "import sys, tet_deploy as td; assert not {'rich', 'typer', 'safetensors'} & set(sys.modules)\n"
        "td.lower, td.quantize, td.save, td.load, td.export, td.run, td.validate, td.energy, td.Recording, td.load_nir\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_command_line_starts_without_heavy_libraries():
    """`tet-deploy --help` imports neither torch nor onnx."""
    code = "import sys, tet_deploy.cli; print([n for n in ('torch', 'onnx', 'matplotlib') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_resolves():
    """Each name in __all__ exists, and stays what it is after its submodules were imported."""
    pytest.importorskip("torch", reason="td.trace and td.load_checkpoint need it")
    code = (
        "import tet_deploy as td\n"
        "before = {name: getattr(td, name) for name in td.__all__}\n"
        "import tet_deploy.cli, tet_deploy.demo, tet_deploy.tracing, tet_deploy.passes.quantize, tet_deploy.validation\n"
        "assert all(getattr(td, name) is value for name, value in before.items())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
