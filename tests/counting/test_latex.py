"""LaTeX for a paper: it holds what the tables hold, and nothing in it means anything to TeX but what should."""

import dataclasses
import re
import shutil
import subprocess

import numpy as np
import pytest

from tet_deploy.counting import energy_table, estimate, table, write_latex
from tet_deploy.counting.latex import escaped, latex
from tet_deploy.errors import ArtifactError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime

NAMES = {"\\begin", "\\end", "\\centering", "\\caption", "\\label", "\\toprule", "\\midrule", "\\bottomrule"}
SIGNS = {"\\textbackslash", "\\textasciitilde", "\\textasciicircum", "\\textless", "\\textgreater", "\\textbar"}
SIGNS |= {"\\textquotedbl", "\\pm", "\\times", "\\mu"}
HOSTILE = 'a_b & 100% {of} #1 \\input{x} ~^ $2$ <|>" é 中 ± µ'


def report(name="fc"):
    nodes = [Input(name="input", shape=(2,)), Linear(name=name, weight=np.ones((2, 2), np.float32)), LIF(name="lif")]
    nodes += [Linear(name="last", weight=np.ones((2, 2), np.float32)), Readout(name="readout")]
    graph, frames = chain(nodes), np.ones((2, 3, 2), np.float32)
    own = dataclasses.replace(table("45nm-fp32"), name="own_100%", description=HOSTILE)
    return estimate(graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames, table=[own, "loihi1"])


def check(text):
    """Every command is one that is meant, braces, environments and dollars close, and each row has its columns."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    assert body.isascii()
    assert set(re.findall(r"\\[a-zA-Z]+", body)) <= NAMES | SIGNS
    assert set(re.findall(r"\\[^a-zA-Z]", body)) <= {*(f"\\{sign}" for sign in "&%$#_{}"), "\\\\"}
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    assert not re.findall(r"[%#_~^]", re.sub(r"\\label\{[a-z:-]+\}", "", bare))
    depth = np.cumsum([(sign == "{") - (sign == "}") for sign in bare])
    assert depth.min() == 0 == depth[-1] and bare.count("$") % 2 == 0
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", body)
    assert opened == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")] * 4
    for columns, rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL):
        cells = [row for row in rows.splitlines() if not row.startswith("\\")]
        assert cells and all(row.endswith(r" \\") for row in cells)
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in cells)


def test_what_is_written_is_latex(tmp_path):
    """Names of layers, tables and samples that are full of TeX's signs; compiled where a LaTeX has booktabs."""
    path = write_latex(report(name="fc_1"), tmp_path / "energy.tex", samples=HOSTILE)
    text = path.read_text()
    check(text)
    found = shutil.which("pdflatex")
    if found and subprocess.run(["kpsewhich", "booktabs.sty"], stdout=subprocess.DEVNULL).returncode == 0:
        page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{energy}\\end{document}"
        (tmp_path / "page.tex").write_text(page)
        subprocess.run([found, "-halt-on-error", "-interaction=batchmode", "page"], cwd=tmp_path, check=True, timeout=120)


def test_the_caption_says_what_the_numbers_rest_on():
    """Table, sources, conventions, samples and network; and the rows are those of the energies."""
    given = report()
    text = latex(given, "all 3 samples of a test")
    caption = re.search(r"\\caption\{(.*)\}", text).group(1)
    for part in ("all 3 samples of a test", given.digest[:16], "Horowitz, ISSCC 2014", "loihi1 (estimate)", "own\\_100\\%"):
        assert part in caption
    assert "input dense; pool fold; zero weights counted; ones multiplied" in caption
    for row in energy_table(given).rows:
        assert f"{escaped(str(row[0]))} & {row[1]} & " in text


def test_each_sign_is_itself_again():
    """Nothing that is printed is lost."""
    assert escaped("a_b\\") == r"a\_b\textbackslash{}"
    assert escaped("é中\n") == "(U+00E9)(U+4E2D)(U+000A)"


def test_another_file_is_not_replaced(tmp_path):
    """Only tables that were written before are."""
    paper = tmp_path / "paper.tex"
    paper.write_text("\\documentclass{article}")
    with pytest.raises(ArtifactError, match="is not LaTeX tables that tet_deploy wrote"):
        write_latex(report(), paper)
    paper.unlink()
    assert write_latex(report(), write_latex(report(), paper)) == paper
