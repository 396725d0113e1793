"""The pages of docs/ lead somewhere, and the reference has every public name and command."""

import ast
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from tet_deploy.cli import COMMANDS
from tet_deploy.ir.nodes import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
_INSTALL = re.compile(r"`pip\s+install\s+'tet-deploy\[([\w,]+)\]'([^`]*)`")
NEEDY = [page for page in PAGES if _INSTALL.search(page.read_text(encoding="utf-8")[:800])]  # they say so in their heads
PACKAGES = {"tet_deploy": "tet_deploy", "nn": "tet_deploy.nn", "training": "tet_deploy.training", "data": "tet_deploy.data"}


def _of_site(name):
    """A module of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _extras():
    """Names of the packages that the base and each extra bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {"base": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [re.match(r"[\w-]+", line)[0] for line in lines] for extra, lines in asked.items()}


def _prose(path):
    """What a page says outside its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_links_lead_to_files_of_the_repository(path):
    """As a forge shows the page: files from where it lies, anchors to headings that are there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}, (
                target
            )


@pytest.mark.parametrize("path", NEEDY, ids=_name)
def test_a_page_says_what_its_code_needs(path):
    """Who installs what the head of a page names has every package that its code imports, data of the page's too."""
    text = path.read_text(encoding="utf-8")
    extras, others = _INSTALL.search(text).groups()
    given = [*_extras()["base"], *(name for extra in extras.split(",") for name in _extras()[extra]), *others.split()]
    code = ast.parse("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    imports = {alias.name for node in ast.walk(code) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)}
    imports |= {"sklearn"} if re.search(r'(load\(|data=)"(event-)?digits"', text) else set()
    needed = {name.partition(".")[0] for name in imports} - {*sys.stdlib_module_names, "tet_deploy"}
    assert {"scikit-learn" if name == "sklearn" else name for name in needed} <= set(given)


def test_every_page_has_a_place_in_the_navigation():
    """And the navigation has no page that is not there, but those that are made elsewhere."""
    listed = Counter(re.findall(r": ([\w/]+\.md)$", (DOCS / "site" / "mkdocs.yml").read_text(), re.MULTILINE))
    lying = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    made = {f"examples/{path.stem}.md" for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(listed) == lying | made | {"reference/command_line.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    assert max(listed.values()) == 1


@pytest.mark.parametrize("page", PACKAGES)
def test_the_reference_has_every_public_name_once(page):
    """All of `__all__`, as the source has it."""
    package = PACKAGES[page]
    source = ROOT.joinpath(*package.split("."), "__init__.py").read_text()
    assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    public = next(ast.literal_eval(node.value) for node in assignments if node.targets[0].id == "__all__")
    named = re.findall(rf"^::: {package}\.(\w+)$", (DOCS / "reference" / f"{page}.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(name for name in public if name != "__version__")


def test_the_reference_has_every_kind_of_node():
    """Each that a network may consist of."""
    named = re.findall(r"^::: tet_deploy\.ir\.nodes\.(\w+)$", (DOCS / "reference" / "nodes.md").read_text(), re.MULTILINE)
    assert named == [*KINDS, "Quantization"]


def test_the_page_of_the_command_line_is_the_application_s():
    """Each command in its order, with its example; nothing of it is kept by hand."""
    page = _of_site("command_line").command_line()
    assert re.findall(r"^## `tet-deploy ([\w-]+)`$", page, re.MULTILINE) == list(COMMANDS)
    assert all(f"Example: `{example}`" in page for _, example in COMMANDS.values())
    assert "* `--bits" in page and "* `--threshold-classes" in page


def test_a_notebook_becomes_a_page():
    """Text, code, and the richest that each output has; pictures lie inside."""
    page = _of_site("notebooks").page_of_notebook(ROOT / "examples" / "from_checkpoint_to_chip.ipynb")
    assert page.startswith("# From a checkpoint to a chip") and page.count("data:image/png;base64,") == 5
    assert (
        "```python\nmodel, about = training.load_checkpoint" in page
        and "<table" in page
        and "values over 64 samples differ" in page
    )
