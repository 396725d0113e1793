"""What mkdocs does not do by itself: pages that lie elsewhere or are made of code, their links, and a look at the result.

Pages stay plain Markdown, whose links also lead somewhere on a forge. Here each link to another file of the repository
leads to its page.
"""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
from command_line import command_line
from notebooks import page_of_notebook

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/results/*.md", "examples/*.py", "examples/*.ipynb")
COMMAND_LINE = "reference/command_line.md"
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")
_ELSEWHERE = r"""=["']?((?:https?:)?//[^"'\s>]+)"""
_LOADED = re.compile(
    rf"<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc{_ELSEWHERE}|<link\b(?![^>]*rel=.?canonical)[^>]*?\bhref{_ELSEWHERE}"
)


def on_files(files, config):
    """Add the pages that do not lie in docs/."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        files.append(File.generated(config, page_of(path), content=_content(path)))
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links lead to pages of the site."""
    here = page.file.src_uri
    home = next((path for pattern in OUTSIDE for path in ROOT.glob(pattern) if page_of(path) == here), DOCS / here)

    def lead(match):
        target = (home.parent / match[1]).resolve()
        return match[1] if not target.is_file() else posixpath.relpath(page_of(target), posixpath.dirname(here) or ".")

    return _LINK.sub(lead, markdown)


def on_post_build(config):
    """Refuse a site that would load something from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        found = _LOADED.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path.name} loads {found[1] or found[2]}: pages must need nothing from the network.")


def page_of(path):
    """Where a file of the repository stands on the site."""
    where = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT)
    return (where.with_suffix(".md") if where.suffix in (".py", ".ipynb") else where).as_posix()


def _content(path):
    if path.suffix == ".ipynb":
        return page_of_notebook(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    title, where = path.stem.replace("_", " "), path.relative_to(ROOT).as_posix()
    return f"# {title[0].upper()}{title[1:]}\n\n`{where}`, run by a test.\n\n```python\n{text}```\n"
