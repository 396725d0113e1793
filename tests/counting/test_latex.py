"""LaTeX for a paper: it holds what the tables hold, and nothing in it means anything to TeX but what should."""

import dataclasses
import re
import shutil
import subprocess

import numpy as np
import pytest

from tet_deploy.counting import energy_table, estimate, table, write_latex
from tet_deploy.counting.latex import latex
from tet_deploy.counting.latex_text import escaped
from tet_deploy.errors import ArtifactError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime

NAMES = {"begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "medskip", "ref"}
NAMES |= {"resizebox", "ifdim", "width", "linewidth", "else", "fi"}
SIGNS = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "symbol", "pm", "mu"}
SIGNS |= {"ss", "textendash", "times", "c", "v"}
HOSTILE = "a_b & 100% {of} #1 \\input{x} ~^ $2$ <|>\" `q' 'q' -- ''"
LETTERS = "é ß Ç ž ï 中 Ж \N{EN DASH} ± µ \u00d7"


def report(name="fc"):
    nodes = [Input(name="input", shape=(2,)), Linear(name=name, weight=np.ones((2, 2), np.float32)), LIF(name="lif")]
    nodes += [Linear(name="last", weight=np.ones((2, 2), np.float32)), Readout(name="readout")]
    graph, frames = chain(nodes), np.ones((2, 3, 2), np.float32)
    own = dataclasses.replace(table("45nm-fp32"), name="own_100% é", description=f"{HOSTILE} {LETTERS}")
    return estimate(graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames, table=[own, "loihi1"])


def check(text):
    """Every command is one that is meant, braces, environments and dollars close, and each row has its columns."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    assert body.isascii()
    assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= NAMES | SIGNS
    assert set(re.findall(r"\\[^a-zA-Z]", body)) <= {*(f"\\{sign}" for sign in "&%$#_{}'\""), "\\\\"}
    bare = re.sub(r"\\[&%$#_{}]", "", body.replace("Table~\\ref", ""))
    assert not re.findall(r"[#_~^]|%(?!$)", bare, re.MULTILINE)
    depth = np.cumsum([(sign == "{") - (sign == "}") for sign in bare])
    assert depth.min() == 0 == depth[-1] and bare.count("$") % 2 == 0
    opened = re.findall(r"\\(begin|end)\{([a-z*]+)\}", body)
    assert opened == [("begin", "table*"), ("begin", "tabular"), ("end", "tabular"), ("end", "table*")] * 4
    for columns, rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL):
        cells = [row for row in rows.splitlines() if not row.startswith("\\")]
        assert cells and all(row.endswith(r" \\") for row in cells)
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in cells)


def test_what_is_written_is_latex(tmp_path):
    """Names of layers, tables and samples that are full of TeX's signs."""
    check(write_latex(report(name="fc_1"), tmp_path / "energy.tex", samples=HOSTILE + LETTERS).read_text())


def has_latex():
    """Whether there is a LaTeX with the packages that the tables say they need."""
    found = shutil.which("pdflatex") and shutil.which("kpsewhich")
    return found and not subprocess.run(["kpsewhich", "booktabs.sty", "graphicx.sty"], capture_output=True).returncode


# Half a gigabyte that only this test would need; `check` above judges the same tables without it.
@pytest.mark.skipif(not has_latex(), reason="needs a LaTeX with booktabs")
@pytest.mark.parametrize("layout", ["onecolumn", "twocolumn"])
def test_tables_compile_and_are_no_wider_than_the_text(tmp_path, layout):
    """Nothing is too wide or missing, with all tables of prices and long names of one's own too; references are found."""
    samples = f"{HOSTILE} {LETTERS}"
    write_latex(report(name="a_layer_of_a_very_long_name_" * 4), tmp_path / "fc_1.tex", samples)
    nodes = [Input(name="input", shape=(2,)), Linear(name="fc", weight=np.ones((2, 2), np.float32)), Readout(name="readout")]
    graph, frames = chain(nodes), np.ones((2, 3, 2), np.float32)
    write_latex(estimate(graph, ReferenceRuntime(graph).run(frames), frames, table="all"), tmp_path / "all.tex")
    packages = "\\usepackage{booktabs,graphicx}"
    inputs = "\\listoftables\\input{fc_1}\\input{all}Table \\ref{tab:fc-1-layers}"
    page = f"\\documentclass[{layout}]{{article}}{packages}\\begin{{document}}{inputs}\\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    for _ in range(2):  # the second finds the references of the first
        command = ["pdflatex", "-halt-on-error", "-interaction=batchmode", "page"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    log = (tmp_path / "page.log").read_text(errors="replace")
    assert not re.findall(
        r"^Overfull .hbox.*|^LaTeX Warning: .*(?:undefined|multiply).*|^Missing character.*", log, re.MULTILINE
    )


def test_a_long_table_goes_on_on_the_next_page():
    """Each part has the head of the table and a label of its own, and no row is lost."""
    nodes = [Input(name="input", shape=(1,))]
    for number in range(95):
        nodes += [Linear(name=f"fc{number}", weight=np.ones((1, 1), np.float32)), LIF(name=f"lif{number}")]
    graph, frames = chain([*nodes[:-1], Readout(name="readout")]), np.ones((1, 1, 1), np.float32)
    report = estimate(graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames)
    text = latex(report).partition("Per layer")[2]
    assert re.findall(r"label\{tab:(.*)\}", text) == [f"energy-layers{end}" for end in ("", "-from-41", "-from-81")]
    assert re.findall(r"^fc\d+", text, re.MULTILINE) == [f"fc{number}" for number in range(95)]


def test_captions_say_what_the_numbers_rest_on():
    """Samples, steps, conventions and network in each; tables and sources in the first, to which the others point."""
    given = report()
    text = latex(given, "all 3 samples of a test", "sdt")
    first, *others = captions = re.findall(r"\\caption\[\{.*?\}\]\{(.*)\}", text)
    for caption in captions:
        for part in ("all 3 samples of a test, 2 steps each", given.digest[:16], "of the runtime reference"):
            assert part in caption
        assert "input dense; pool fold; zero weights counted; ones multiplied" in caption
    for part in ("Horowitz, ISSCC 2014", "loihi1 (estimate)", "own\\_100\\%"):
        assert part in first
    assert len(others) == 3 and all(caption.endswith("\\ref{tab:sdt}.") for caption in others)
    for row in energy_table(given).rows:
        assert f"{escaped(str(row[0]))} & {row[1]} $\\pm$ {row[2]} & " in text


def test_each_sign_is_itself_again():
    """Nothing that is printed is lost; two signs of which LaTeX would make one stay two."""
    assert escaped("a_b\\") == r"a\_b\textbackslash{}"
    assert escaped("é中\n") == r"\'{e}(U+4E2D)(U+000A)" == escaped("e\u0301中\n")
    assert escaped("ạ") == "(U+1EA1)"
    assert escaped("it's 'one' ('two') ``three'' a--b") == (r"it's `one' (`two') \symbol{96}\symbol{96}three'{}' a-{}-b")


def test_another_file_is_not_replaced(tmp_path):
    """Only tables that were written before are."""
    paper = tmp_path / "paper.tex"
    paper.write_text("\\documentclass{article}")
    with pytest.raises(ArtifactError, match="is not LaTeX tables that tet_deploy wrote"):
        write_latex(report(), paper)
    paper.unlink()
    assert write_latex(report(), write_latex(report(), paper)) == paper
