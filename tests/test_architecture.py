"""Who may import whom, read from the code's own import statements."""

import ast
import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

CORE = {
    "_version",
    "arguments",
    "batches",
    "contracts",
    "dynamics",
    "errors",
    "file_kinds",
    "files",
    "hdf5_file",
    "ir",
    "loss_digest",
    "mapped",
}
CORE |= {"meaning", "node_agreement", "plain", "range_totals", "ranges", "reprs", "wording"}
TORCH_SIDE = {"nn", "models", "training", "tracing", "data"}
ALLOWED = {  # area -> areas of ours that it may import, besides itself
    "errors": set(),
    "arguments": {"errors"},
    "_version": set(),
    "files": {"errors"},
    "file_kinds": {"errors", "files"},
    "hdf5_file": {"errors"},
    "latency": {"errors"},
    "layout": set(),
    "wording": set(),
    "loss_digest": set(),
    "reprs": set(),
    "mapped": set(),
    "plain": {"errors"},
    "decisions": {"contracts", "errors", "plain", "range_totals", "reprs"},
    "ir": {"errors", "file_kinds", "files", "layout", "reprs", "_version", "dynamics"},  # values.py: the range of a chip
    "dynamics": {"errors", "ir"},
    "meaning": {"errors", "ir", "dynamics"},
    "node_agreement": {"errors", "ir", "dynamics", "meaning"},
    "ranges": {"errors", "ir", "dynamics", "reprs"},
    "range_totals": {"errors", "ir", "dynamics", "plain", "ranges"},
    "contracts": {"errors", "ir", "ranges", "range_totals", "wording"},
    "batches": {"errors", "ir", "contracts", "mapped"},
    "importing": {"errors", "file_kinds", "hdf5_file", "ir"},
    "passes": {"arguments", "errors", "ir", "dynamics", "meaning", "contracts", "batches", "units"},
    "counting": CORE | {"layout"},
    "chips": CORE | {"exporters", "layout"},  # what the Lava plan adds takes cores too
    "intervals": set(),
    "totals": set(),
    "calibration_table": {"errors", "layout"},
    "sensitivity_table": {"calibration_table", "errors", "ir", "layout"},
    "units": {"contracts", "dynamics", "ir"},
    "validation": CORE | {"layout", "units"},
    "debugging": CORE | {"layout", "passes", "units", "validation"},
    "reporting": CORE
    | {"chips", "counting", "intervals", "layout", "units", "validation"}
    | {"calibration_table", "sensitivity_table"},
    "testing": CORE,
    "onnx_file": {"errors", "files", "ir", "ranges"},
    "exporters": CORE | {"testing", "onnx_file", "units"},
    "runtimes": CORE | {"onnx_file"} | {"nn", "tracing"},  # torch_model.py: a torch model is a runtime by itself
    "nn": CORE,
    "models": CORE | {"nn"},
    "data": CORE,
    "recipes": set(),
    "training": CORE | TORCH_SIDE | {"recipes", "passes", "units"},
    "tracing": CORE | {"nn"},
    "experiments": CORE
    | TORCH_SIDE
    | {"counting", "decisions", "deployment", "energy_curve", "layout", "pipeline", "reporting", "totals"},
    "terminal": {"contracts", "errors", "layout"},
}
CHECKED_ON_BOTH_SIDES = {"exporters", "validation", "debugging"}
ANYTHING = {
    "cli",
    "demo",
    "demo_result",
    "deployment",
    "doctor",
    "energy_curve",
    "links",
    "live",
    "network_report",
    "part_files",
    "pipeline",
    "spread",
    "stopping",
    "stream",
    "support",
    "vectors",
    "work",
    "__init__",
    "__main__",
}
HEAVY = {  # library -> areas that exist for it
    "torch": TORCH_SIDE - {"data"} | {"experiments", "runtimes"},
    "onnx": {"exporters"},
    "onnxruntime": {"runtimes"},
    "tonic": {"data"},
    "sklearn": {"data"},
    "PIL": {"data"},
    "h5py": {"data", "exporters", "importing"},
    "aedat": {"data"},
    "matplotlib": {"reporting", "experiments"},
    "jinja2": {"reporting"},
    "rich": {"terminal"},
    "typer": {"cli"},
    "distributed": {"spread"},
    "spikingjelly": set(),  # what its user has imported is found, never imported
    "snntorch": set(),
}
LAVA_SIDE = ROOT / "runtimes" / "loihi" / "bundle"


def sources():
    """Every file of ours, but the Lava side."""
    for top in ("tet_deploy", "exporters", "runtimes", "models", "recipes"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if LAVA_SIDE not in path.parents:
                yield path


def area(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "tet_deploy" else parts[0]


@functools.cache
def imports(path):
    """Dotted names that a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level and LAVA_SIDE in path.parents:
                continue  # it runs in a bundle and in the package, under two names
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_imports_follow_the_layers():
    """Each area imports only the areas below it, by their full names."""
    assert not [found for path in sources() for name in imports(path) if (found := misplaced(path, name))]


def misplaced(path, name):
    """What is wrong with an import, in words, or None."""
    here, (top, _, rest) = area(path), name.partition(".")
    if top in ("exporters", "runtimes", "models", "recipes"):
        return f"{path}: write tet_deploy.{top}"
    target = rest.split(".")[0]
    if top != "tet_deploy" or here in ANYTHING or target in (here, "__version__"):
        return None
    if name.startswith("tet_deploy.runtimes.loihi.bundle.loihi_checks.") and here in CHECKED_ON_BOTH_SIDES:
        return None  # numpy only: what a bundle checks its checksums and compares its vectors with
    return None if target in ALLOWED[here] else f"{path}: {here} may not import {target}"


def test_heavy_libraries_stay_at_home():
    """A heavy library is imported only in the areas that exist for it."""
    found = [(path, name.split(".")[0]) for path in sources() for name in imports(path)]
    assert not [(path, library) for path, library in found if area(path) not in HEAVY.get(library, {area(path)})]


@pytest.mark.parametrize("name", ["runtimes.reference", "tet_deploy.cli", "tet_deploy.training.trainer"])
def test_an_import_from_above_is_found(name):
    """The check of the layers can fail: a pass may import neither commands nor training, nor a folder by its short name."""
    assert misplaced(ROOT / "tet_deploy/passes/fold_linear.py", name)


def test_the_lava_side_needs_numpy_and_lava_only():
    """What runs beside Lava imports the standard library, numpy, lava and itself."""
    files = sorted(LAVA_SIDE.rglob("*.py"))
    assert files
    own = {path.stem for path in files} | {path.name for path in LAVA_SIDE.rglob("*") if path.is_dir()}
    for path in files:
        for name in imports(path):
            top = name.split(".")[0]
            assert top in own or top in ("numpy", "lava") or top in sys.stdlib_module_names, f"{path}: {name}"
