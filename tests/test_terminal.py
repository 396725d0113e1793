"""What is printed is data: no bracket is eaten, no control character gets through, no digit is cut."""

import io
import re

import pytest
from rich.console import Console

from tet_deploy import terminal
from tet_deploy.doctor import Examination
from tet_deploy.layout import Table

HOSTILE = "rec[red].npz [/] [link=x]y[/link] :smile: \\[bold]"


@pytest.fixture
def width(monkeypatch, request):
    monkeypatch.setenv("COLUMNS", str(getattr(request, "param", 200)))
    for name, stderr in (("console", True), ("output", False)):
        monkeypatch.setattr(terminal, name, Console(stderr=stderr, markup=False, emoji=False, highlight=False))


def test_brackets_are_printed_everywhere(width, capsys):
    """In texts, titles, headings, cells, remarks and progress bars."""
    terminal.say(HOSTILE)
    terminal.say(Table(f"title {HOSTILE}", (f"column {HOSTILE}",), [(f"cell {HOSTILE}",)]))
    terminal.tell(HOSTILE)
    with terminal.progress_bar("on [red]x[/]"):
        pass
    out, err = capsys.readouterr()
    assert out.count(HOSTILE) == 4
    assert HOSTILE in err and "on [red]x[/]" in err


def test_doctor_says_what_to_install_with_its_brackets(width, capsys):
    """The extra of a missing package is printed."""
    Examination(versions={}, missing={"torch": "train"}, lava_problem="none").show()
    assert "pip install 'tet-deploy[train]'" in capsys.readouterr().out


def test_control_characters_are_written_out(width, capsys):
    """An escape sequence or half a character in a name cannot change the terminal or stop the program."""
    terminal.say("a\x1b[31mb\x07\udcff\nc")
    assert capsys.readouterr().out == "a\\x1b[31mb\\x07\\udcff\nc\n"


def test_a_long_path_is_not_broken(width, capsys):
    """What is longer than a line stays one line, so that it can be copied."""
    terminal.say("wrote " + "/folder" * 60)
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200], indirect=True)
def test_progress_shows_its_count_whole(width):
    """However narrow the terminal, the numbers of a bar are whole, and what is cut ends with a sign."""
    file = io.StringIO()
    terminal.console = Console(file=file, width=terminal.console.width, force_terminal=True, color_system=None)
    with terminal.progress_bar("running reference, onnx, lava on event-digits") as progress:
        progress(100_000, 100_000)
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").strip().split("\n")[-1]
    assert "100000/100000" in last
    assert "event-digits" in last or "…" in last or "running" not in last
