"""One safe writer and one careful opener for every file."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tet_deploy.errors import ArtifactError, cut, first_line, shown
from tet_deploy.files import Kind, check_distinct, check_writable, head, regular_file, written_whole

OURS = Kind("a note of ours", lambda path: head(path).startswith(b"ours"))
ROOT = Path(__file__).resolve().parent.parent


def write(path, text="ours, new", own=OURS):
    with written_whole(path, own) as temporary:
        temporary.write_text(text)


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    """The file has its content, mode and suffix; no temporary file or folder stays."""
    with written_whole(tmp_path / "note.txt", OURS) as temporary:
        assert (temporary.name, temporary.parent.parent) == ("note.txt", tmp_path)
        assert stat.S_IMODE(temporary.parent.stat().st_mode) == 0o700
        temporary.write_text("ours")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "note.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_where_writing_fails_the_old_file_stays(tmp_path, error):
    """After an exception, Ctrl-C or the end of the program the folder is as it was."""
    write(tmp_path / "note")
    with pytest.raises(error), written_whole(tmp_path / "note", OURS) as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "note").read_text() == "ours, new"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_temporary_names_cannot_be_guessed(tmp_path):
    """Two writings of one process use different names, so no link can be planted under either."""
    names = set()
    for _ in range(2):
        with written_whole(tmp_path / "note", OURS) as temporary:
            temporary.write_text("ours")
            names.add(temporary)
    assert len(names) == 2
    assert not any(str(os.getpid()) in path.name or path.exists() for path in names)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    """Who could read the old file can read the new one, and nobody else."""
    write(tmp_path / "note")
    (tmp_path / "note").chmod(mode)
    write(tmp_path / "note", "ours, newer")
    assert stat.S_IMODE((tmp_path / "note").stat().st_mode) == mode
    assert (tmp_path / "note").read_text() == "ours, newer"


@pytest.mark.parametrize("there", ["ours, old", "", None])
def test_what_a_link_points_to_is_replaced(tmp_path, there):
    """The link stays, also one to a file that is not there yet; the temporary file lies beside the target."""
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "note", tmp_path / "link"
    if there is not None:
        target.write_text(there)
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "ours, new"


def special_files(folder):
    """One of each kind of thing that is no regular file, by what it is called."""
    (folder / "a folder").mkdir()
    os.mkfifo(folder / "a FIFO")
    (folder / "a device").symlink_to("/dev/zero")
    os.mknod(folder / "a socket", stat.S_IFSOCK | 0o600)
    (folder / "no regular file").symlink_to("no regular file")  # a link to itself
    return sorted(folder.iterdir())


def test_only_regular_files_are_replaced(tmp_path):
    """A folder, FIFO, socket, device or a loop of links is named and left alone, at once."""
    for path in special_files(tmp_path):
        with pytest.raises(ArtifactError, match=rf"cannot be written, as it is {path.name}"):
            write(path)
    assert len(list(tmp_path.iterdir())) == 5


REPLACED = {  # what lies there, its mode -> part of the refusal
    "of our kind": (b"ours, old", 0o644, None),
    "empty": (b"", 0o644, None),
    "another's": (b"diary", 0o644, "exists and is not a note of ours, so it is not replaced. Remove it or choose another"),
    "bytes": (b"\xff\x00" * 5000, 0o644, "is not a note of ours"),
    "read-only": (b"ours, old", 0o444, "read-only"),
}


@pytest.mark.parametrize("case", REPLACED)
def test_only_files_of_our_own_kind_are_replaced(tmp_path, case):
    """The check before long work and the writing itself refuse the same, and leave the file as it was."""
    content, mode, message = REPLACED[case]
    path = tmp_path / "note"
    path.write_bytes(content)
    path.chmod(mode)
    if message is None:
        check_writable(path, OURS)
        write(path)
        assert path.read_text() == "ours, new"
        return
    for attempt in (check_writable, write):
        with pytest.raises(ArtifactError, match=message):
            attempt(path, own=OURS)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["note"]


def test_what_appears_while_we_write_is_not_replaced_either(tmp_path):
    """The kind is looked at again before the file takes its name."""
    with pytest.raises(ArtifactError, match="is not a note of ours"), written_whole(tmp_path / "note", OURS) as temporary:
        temporary.write_text("ours")
        (tmp_path / "note").write_text("diary")
    assert (tmp_path / "note").read_text() == "diary"


def test_two_files_of_one_name_are_found_before_either_is_written(tmp_path, monkeypatch):
    """Spelled otherwise or by a link too; what is not asked for has no name."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("a")
    check_distinct("a", None, "b", None)
    for other in ("a", "./a", tmp_path / "a", "link"):
        with pytest.raises(ArtifactError, match="would be written twice"):
            check_distinct("a", "b", other)


@pytest.mark.parametrize("name", ["no/where", "note/in a file"])
def test_a_folder_that_is_not_there_is_named(tmp_path, name):
    """One line with the reason."""
    write(tmp_path / "note")
    with pytest.raises(ArtifactError, match=r"cannot be written \((No such file or directory|Not a directory)\)"):
        write(tmp_path / name)


KILLED = """
import sys, os, signal
from tet_deploy.files import BY_NAME, written_whole
with written_whole(sys.argv[1], BY_NAME) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_kill_leaves_is_harmless(tmp_path):
    """Killed in the middle, the old file is there, and the next writing works; a later one removes what was left."""
    write(tmp_path / "note")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "note")]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (tmp_path / "note").read_text() == "ours, new"
    assert [path.name.startswith(".tet_deploy-") for path in tmp_path.iterdir() if path.name != "note"] == [True]
    write(tmp_path / "note", "ours, newer")
    assert (tmp_path / "note").read_text() == "ours, newer"
    (left,) = tmp_path.glob(".tet_deploy-*")
    os.utime(left, (1, 1))
    write(tmp_path / "note", "ours, newest")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_what_living_writers_and_users_have_is_not_swept(tmp_path):
    """A folder that is being written in, however old; one that holds more than one file; a file, a link."""
    mine, linked = tmp_path / ".tet_deploy-abcdefgh", tmp_path / ".tet_deploy-linkedto"
    mine.mkdir()
    for name in ("one", "two"):
        (mine / name).touch()
    (tmp_path / "elsewhere").mkdir()
    linked.symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".tet_deploy-justfile").touch()
    for path in tmp_path.glob(".tet_deploy-*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    with written_whole(tmp_path / "slow", OURS) as temporary:
        os.utime(temporary.parent, (1, 1))
        write(tmp_path / "note")
        temporary.write_text("slow")
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"slow", "note", "elsewhere", mine.name, linked.name, ".tet_deploy-justfile"}


def test_only_regular_files_are_opened(tmp_path):
    """A FIFO does not hang and a device does not fill the memory: what stands there is named."""
    started = time.monotonic()
    for path in special_files(tmp_path):
        with pytest.raises(
            ArtifactError, match=rf"{path.name}: (must be a file; it is {path.name}|cannot be read)\b.* Do it\."
        ):
            regular_file(path, "Do it.")
    assert time.monotonic() - started < 5


def test_a_file_is_neither_empty_nor_larger_than_it_may_be(tmp_path):
    """Sizes are looked at before anything is read; a link to a file is a file."""
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("large")
    assert regular_file(tmp_path / "link", "", largest=5) == tmp_path / "link"
    for name, message in {"empty": "is empty", "large": "has 5 bytes; 4 are read at most", "absent": "no such file"}.items():
        with pytest.raises(ArtifactError, match=message + r"\. Do it\."):
            regular_file(tmp_path / name, "Do it.", largest=4)


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


HUGE = ["x" * 10**6, ["y" * 300] * 999, deep(10**5), {i: i for i in range(999)}, 10**4000, 10**5000, [[10**5000]], None]


@pytest.mark.parametrize("value", HUGE, ids=range(len(HUGE)))  # Python writes no integer of 5,000 digits
def test_messages_show_little_of_what_a_file_says(value):
    """200 characters at most, in one line, of anything that JSON can hold."""
    assert len(shown(value)) <= 200
    assert "\n" not in shown(value)
    assert len(first_line(ValueError(cut("z" * 10**6)))) == 200


@pytest.mark.parametrize(
    ("text", "expected"), [("a\0b", r"a\x00b"), ("\x1b[2J", r"\x1b[2J"), ("\ud800", r"\ud800"), ("é\n日", r"é\n日")]
)
def test_what_cannot_be_printed_is_shown_as_its_escape(text, expected):
    """No control sequence of a file reaches a terminal, and every message can be encoded."""
    assert cut(text) == expected


def test_short_values_are_shown_as_they_are():
    """Nothing is cut that need not be."""
    for value in ("name", [1, 2, 3, 4, 5, 6, 7, 8], {"a": [1.5, None]}, (1, "b")):
        assert shown(value) == repr(value)
