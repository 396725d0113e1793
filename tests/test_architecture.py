"""Who may import whom, read from the code's own import statements."""

import ast
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
    "mapped",
}
CORE |= {"meaning", "node_agreement", "plain", "range_totals", "ranges", "reprs"}
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
    "contracts": {"errors", "ir", "ranges", "range_totals"},
    "batches": {"errors", "ir", "contracts", "mapped"},
    "importing": {"errors", "file_kinds", "hdf5_file", "ir"},
    "passes": {"arguments", "errors", "ir", "dynamics", "meaning", "contracts", "batches", "units"},
    "counting": CORE | {"layout"},
    "chips": CORE | {"exporters", "layout"},  # what the Lava plan adds takes cores too
    "intervals": set(),
    "calibration_table": {"errors", "layout"},
    "units": {"contracts", "dynamics", "ir"},
    "validation": CORE | {"layout", "units"},
    "debugging": CORE | {"layout", "passes", "units", "validation"},
    "reporting": CORE | {"chips", "counting", "intervals", "layout", "units", "validation"} | {"calibration_table"},
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
    | {"counting", "decisions", "deployment", "energy_curve", "layout", "pipeline", "reporting"},
    "terminal": {"contracts", "errors", "layout"},
}
CHECKED_ON_BOTH_SIDES = {"exporters", "validation", "debugging"}
ANYTHING = {
    "cli",
    "demo",
    "deployment",
    "doctor",
    "energy_curve",
    "links",
    "live",
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


def imports(path):
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level and LAVA_SIDE in path.parents:
                continue  # it runs in a bundle and in the package, under two names
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    """Each area imports only the areas below it, by their full names."""
    here = area(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top not in ("exporters", "runtimes", "models", "recipes"), f"{path}: write tet_deploy.{top}"
        target = rest.split(".")[0]
        if name.startswith("tet_deploy.runtimes.loihi.bundle.loihi_checks.") and here in CHECKED_ON_BOTH_SIDES:
            continue  # numpy only: what a bundle checks its checksums and compares its vectors with
        if top == "tet_deploy" and here not in ANYTHING and target not in (here, "__version__"):
            assert target in ALLOWED[here], f"{here} may not import {target}"


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_stay_at_home(path):
    """A heavy library is imported only in the areas that exist for it."""
    for name in imports(path):
        library = name.split(".")[0]
        if library in HEAVY:
            assert area(path) in HEAVY[library], f"{area(path)} may not import {library}"


def test_the_lava_side_needs_numpy_and_lava_only():
    """What runs beside Lava imports the standard library, numpy, lava and itself."""
    import sys

    files = sorted(LAVA_SIDE.rglob("*.py"))
    assert files
    own = {path.stem for path in files} | {path.name for path in LAVA_SIDE.rglob("*") if path.is_dir()}
    for path in files:
        for name in imports(path):
            top = name.split(".")[0]
            assert top in own or top in ("numpy", "lava") or top in sys.stdlib_module_names, f"{path}: {name}"
