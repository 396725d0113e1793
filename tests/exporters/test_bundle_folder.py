import contextlib
import hashlib
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.errors import ArtifactError
from tet_deploy.exporters import bundle_folder
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.nodes import LIF, Conv
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import read_bundle, read_plan
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused
from tet_deploy.testing import random_quantized_network

OF_VERSION_1 = Path(__file__).parents[1] / "versions" / "v0_1" / "digits.int8.lava.zip"
FORK = multiprocessing.get_context("fork")  # a process of its own that is quickly made


def network(seed: int):
    """A network that is known by the threshold of its first population."""
    graph = random_quantized_network(np.random.default_rng(5), encoding="events", layers=2)
    conv, lif = graph.of_kind(Conv)[0], graph.of_kind(LIF)[0]
    changes = {conv.name: replace(conv, weight=conv.weight // (seed + 1)), lif.name: replace(lif, threshold=1000 + seed)}
    return graph.replace(changes)


def seed_of(bundle: Path) -> int:
    plan, _ = read_bundle(bundle)
    return plan["nodes"][1]["threshold"] - 1000


def snapshot(folder: Path) -> dict[str, str]:
    """Each path below a folder with what is there."""

    def what(path):
        if path.is_symlink():
            return f"-> {path.readlink()}"
        return "a folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()

    return {str(path.relative_to(folder)): what(path) for path in folder.rglob("*")}


@pytest.fixture
def bundle(tmp_path):
    """A bundle, and the user's files in it."""
    bundle = to_lava(network(0), tmp_path / "net.lava")
    for name in ("notes.txt", "frames.npy", "recording.npz", "loihi_models/mine.py", "results/table.csv", ".hidden"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text(f"mine: {name}")
    (bundle / "link").symlink_to("notes.txt")
    (bundle / "empty").mkdir()
    return bundle


def with_files(bundle: Path, others: dict[str, bytes]):
    """The bundle as it would be if other files belonged to it."""
    plan, names = read_plan(bundle)
    files = {name: (bundle / name).read_bytes() for name in names}
    bundle_folder.write_bundle(bundle, plan, {**files, **others})


def users(files: dict[str, str], bundle: Path) -> dict[str, str]:
    return {name: what for name, what in files.items() if name != "plan.json" and name not in read_plan(bundle)[1]}


def test_exporting_again_replaces_its_own_files_and_no_others(bundle):
    """Notes, frames, recordings, folders and links that lie in a bundle stay as they are."""
    before = snapshot(bundle)
    to_lava(network(1), bundle)
    after = snapshot(bundle)
    assert seed_of(bundle) == 1
    assert users(after, bundle) == users(before, bundle)
    assert set(after) == set(before)
    assert after["arrays.npz"] != before["arrays.npz"]


def test_what_a_newer_bundle_no_longer_has_is_removed(tmp_path):
    """Files of the older bundle go, and their folder if nothing else is in it."""
    bundle = to_lava(network(0), tmp_path / "net.lava")
    digests = read_plan(bundle)[1]
    with_files(bundle, {"old.py": b"1", "old_models/one.py": b"2", "older_models/two.py": b"3"})
    (bundle / "older_models" / "mine.py").write_text("mine")
    to_lava(network(1), bundle)
    assert seed_of(bundle) == 1
    assert set(snapshot(bundle)) - {"plan.json", *digests} == {
        *("loihi_checks", "loihi_engine", "loihi_models", "older_models"),
        "older_models/mine.py",
    }


CHANGES = {
    "an edited program": lambda bundle: (bundle / "run.py").write_text("print('mine')"),
    "an edited README": lambda bundle: (bundle / "README.md").write_text("mine"),
    "an edited model": lambda bundle: (bundle / "loihi_models" / "frames.py").write_text("mine"),
    "other arrays": lambda bundle: np.savez(bundle / "arrays.npz", mine=np.ones(3)),
    "an edited plan": lambda bundle: (bundle / "plan.json").write_text(
        (bundle / "plan.json").read_text().replace("1000", "9")
    ),
    "a link to a file": lambda bundle: ((bundle / "run.py").unlink(), (bundle / "run.py").symlink_to("notes.txt")),
    "a link to the plan": lambda bundle: (bundle / "plan.json").symlink_to(
        (bundle / "plan.json").rename(bundle / "my.json")
    ),
    "a link to a folder": lambda bundle: (
        shutil.rmtree(bundle / "loihi_checks"),
        (bundle / "loihi_checks").symlink_to("results"),
    ),
    "a folder": lambda bundle: ((bundle / "run.py").unlink(), (bundle / "run.py").mkdir()),
    "a file for a folder": lambda bundle: (
        shutil.rmtree(bundle / "loihi_checks"),
        (bundle / "loihi_checks").write_text("mine"),
    ),
    "a FIFO": lambda bundle: ((bundle / "network.py").unlink(), os.mkfifo(bundle / "network.py")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_was_changed_is_never_lost(bundle, change):
    """An edited file, or something else in its place, stops the export before anything is written."""
    change(bundle)
    before = {path: path.lstat().st_mtime_ns for path in bundle.rglob("*")}
    with pytest.raises(ArtifactError, match=r"(Move it away|Remove it) or choose another folder\.$") as caught:
        to_lava(network(1), bundle)
    assert len(str(caught.value).splitlines()) == 1
    assert {path: path.lstat().st_mtime_ns for path in bundle.rglob("*")} == before


def test_a_file_that_was_moved_away_is_written_anew(bundle):
    """The way out that the error names works, and so does removing a file."""
    (bundle / "run.py").write_text("print('mine')")
    (bundle / "run.py").rename(bundle / "my_run.py")
    shutil.rmtree(bundle / "loihi_checks")
    to_lava(network(1), bundle)
    assert seed_of(bundle) == 1
    assert (bundle / "my_run.py").read_text() == "print('mine')"


def test_a_bundle_of_version_1_is_replaced(tmp_path):
    """It does not list its files; exactly those that version 0.1 wrote are replaced, and links in their place are not."""
    bundle = tmp_path / "net.lava"
    shutil.unpack_archive(OF_VERSION_1, bundle)
    (bundle / "frames.npy").write_text("mine")
    moved = (bundle / "supervision.py").rename(tmp_path / "supervision.py")
    (bundle / "supervision.py").symlink_to(moved)
    with pytest.raises(ArtifactError, match=r"supervision.py: is not what was exported"):
        to_lava(network(1), bundle)
    (bundle / "supervision.py").unlink()
    to_lava(network(1), bundle)
    assert seed_of(bundle) == 1
    assert (bundle / "frames.npy").read_text() == "mine"


@pytest.mark.parametrize(
    "kind", ["file", "link to a file", "link to a bundle", "dangling link", "folder", "other plan", "FIFO"]
)
def test_what_is_no_bundle_is_left_alone(tmp_path, kind):
    """Something else at the path stops the export in one line, and stays."""
    target, mine = tmp_path / "target", tmp_path / "mine"
    mine.write_text("mine")
    if kind == "link to a bundle":
        target.symlink_to(to_lava(network(0), tmp_path / "net.lava"))
    elif kind.endswith("link") or kind.startswith("link"):
        target.symlink_to(mine if kind != "dangling link" else tmp_path / "nowhere")
    elif kind == "FIFO":
        os.mkfifo(target)
    elif kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / ("plan.json" if kind == "other plan" else "notes.txt")).write_text('{"format": "other"}')
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ArtifactError, match=r"[Cc]hoose another (name|folder)\.$") as caught:
        to_lava(network(1), target)
    assert len(str(caught.value).splitlines()) == 1
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_empty_folders_are_filled(tmp_path):
    """So is one that holds only what a killed export left of its first file."""
    for left in ([], [".tet_deploy-abc"]):
        folder = tmp_path / f"empty{len(left)}"
        folder.mkdir()
        for name in left:
            (folder / name).mkdir()
        assert seed_of(to_lava(network(3), folder)) == 3


def killed_at(count: int, bundle: Path):
    """Export in this process, which dies when it is about to write its file number `count`, or in the middle of it."""
    real = bundle_folder.written_whole

    @contextlib.contextmanager
    def written_whole(path, own):
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        with real(path, own) as temporary:
            yield temporary
            if count == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    bundle_folder.written_whole = written_whole
    to_lava(network(1), bundle)


def test_a_kill_at_any_moment_is_noticed_and_mended(tmp_path):
    """Before, in and after every file: the old bundle, the new one, or one that says that it was cut short."""
    bundle, seen = tmp_path / "net.lava", set()
    for count in range(1, 20):
        to_lava(network(0), bundle)
        with_files(bundle, {"network.py": b"older", "gone.py": b"older"})
        (bundle / "notes.txt").write_text("mine")
        process = FORK.Process(target=killed_at, args=(count, bundle))
        process.start()
        process.join()
        try:
            seen.add(seed_of(bundle))
        except Refused as error:
            seen.add("cut short" if "was cut short. Export the network again" in str(error) else str(error))
        assert seed_of(to_lava(network(2), bundle)) == 2
        assert (bundle / "notes.txt").read_text() == "mine"
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert seen == {0, "cut short", 1}


def test_a_second_export_into_the_same_folder_is_refused(tmp_path):
    """It says so at once and writes nothing; afterwards it works."""
    bundle = to_lava(network(0), tmp_path / "net.lava")
    with bundle_folder._only_export(bundle), pytest.raises(ArtifactError, match="another export is writing there"):
        to_lava(network(1), bundle)
    assert seed_of(bundle) == 0
    assert seed_of(to_lava(network(1), bundle)) == 1


def export_often(seed: int, bundle: Path):
    for _ in range(15):
        with contextlib.suppress(ArtifactError):
            to_lava(network(seed), bundle)


def test_exports_at_once_do_not_mix(tmp_path):
    """Whoever comes last, the bundle is one network's throughout."""
    processes = [FORK.Process(target=export_often, args=(seed, tmp_path / "net.lava")) for seed in (0, 1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert seed_of(tmp_path / "net.lava") in (0, 1, 2)
