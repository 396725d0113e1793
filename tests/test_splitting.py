"""Work that is split gives the numbers of work that is not: over ranges, processes and a real cluster, killed or not."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import part_files, spread
from tet_deploy.errors import ArgumentError, ArtifactError, ExecutionError
from tet_deploy.part_files import PartsFolder, read_part, write_part
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.work import KINDS, Work, put_together

SAMPLES = 60
SETTINGS = {
    "run": {"runtime": "reference"},
    "validate": {"runtimes": ["reference", "onnx"], "snap_frames": False},
    "compare": {"other": "FOLDER/float.safetensors"},
    "energy": {"table": None},
    "curve": {"table": None, "policies": {"ones": "added"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network and its frames in files, as a user has them."""
    folder = tmp_path_factory.mktemp("splitting")
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, encoding="events")
    frames = random_frames(graph, rng, 4, SAMPLES)
    graph = td.lower(graph, frames)
    td.save(graph, folder / "float.safetensors")
    td.save(td.quantize(graph, frames, bits=4), folder / "net.safetensors")
    np.savez(folder / "frames.npz", frames=frames, labels=rng.integers(0, 2, SAMPLES))
    return folder


def opened(folder, kind):
    settings = json.loads(json.dumps(SETTINGS[kind]).replace("FOLDER", str(folder)))
    work = Work(kind=kind, network=f"{folder}/net.safetensors", frames=f"{folder}/frames.npz", settings=settings)
    return work.opened()


def state(done):
    return json.dumps(part_files.to_state(done))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_in_any_order_make_the_whole(folder, kind, tmp_path):
    """Through files: ranges of any size, merged twice over, equal one run in every value."""
    work = opened(folder, kind)
    whole = work.do(0, SAMPLES)
    paths = [write_part(work.do(a, b), tmp_path / f"{a}.json") for a, b in ((40, 60), (0, 7), (7, 8), (8, 40))]
    first, last = put_together(map(read_part, paths[:2])), put_together(map(read_part, paths[2:]))
    assert first.missing(0, SAMPLES) == [(7, 40)] and first.which == f"0:7, 40:60 of {SAMPLES} samples of frames.npz"
    assert state(put_together([last, first])) == state(whole)
    with pytest.raises(ArgumentError, match="samples 7:8 are in two of them"):
        put_together([last, first, read_part(paths[2])])


def test_results_of_other_work_are_not_added(folder, tmp_path):
    """Another network, other samples, other options: named, and refused."""
    part = opened(folder, "run").do(0, 4)
    with pytest.raises(ArgumentError, match="of different work: kind 'run' and 'energy'"):
        put_together([part, opened(folder, "energy").do(4, 8)])
    np.savez(tmp_path / "frames.npz", frames=np.load(folder / "frames.npz")["frames"] * 2)
    other = Work(kind="run", network=f"{folder}/net.safetensors", frames=f"{tmp_path}/frames.npz", settings=SETTINGS["run"])
    with pytest.raises(ArgumentError, match="of different work"):
        put_together([part, other.opened().do(4, 8)])


DAMAGE = {
    "is no JSON": lambda text: text[:-9],
    "is no part of a result": lambda text: "{}",
    "newer tet_deploy": lambda text: text.replace('"format": 1', '"format": 2'),
    "kind: must be": lambda text: text.replace('"kind": "run"', '"kind": "rum"'),
    "is no range": lambda text: text.replace('"stop": 4', '"stop": 4000'),
    "of other samples": lambda text: text.replace('"stop": 4', '"stop": 5'),
    "whole numbers": lambda text: text.replace('"decisions": [', '"decisions": [-1, '),
    "runtime: must be a string": lambda text: text.replace('"runtime": "reference", "steps"', '"runtime": 7, "steps"'),
    "spans: must be a list": lambda text: text[: text.index('"spans"')] + '"spans": []}',
    "must be an object": lambda text: "[" * 500 + "]" * 500,
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_part_is_refused(folder, tmp_path, message):
    """The error names the file and what is wrong, in a line."""
    path = write_part(opened(folder, "run").do(0, 4), tmp_path / "part.json")
    path.write_text(DAMAGE[message](path.read_text()))
    with pytest.raises(ArtifactError, match=message) as caught:
        read_part(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def spread_out(folder, kind, tmp_path, resume=False, **options):
    work, lines = opened(folder, kind), []
    kept = PartsFolder(tmp_path / "parts", work.what(), resume=resume)
    return spread.carry_out(work, 0, SAMPLES, kept=kept, tell=lines.append, **options), lines


@pytest.mark.parametrize("kind", KINDS)
def test_processes_give_what_one_process_gives(folder, kind, tmp_path):
    """Two workers, every number equal."""
    done, lines = spread_out(folder, kind, tmp_path, workers=2)
    assert state(done) == state(opened(folder, kind).do(0, SAMPLES)) and not lines


def kill_one_of(find):
    """Kill the first process that `find` gives, from a thread."""

    def kill():
        while not (found := find()):
            time.sleep(0.01)
        os.kill(found[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def children(marker):
    """Process ids of this process's descendants whose command line holds a word."""
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in found if is_ours(int(pid))]


def is_ours(pid):
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds its processes in /proc")
def test_a_process_that_is_killed_is_named_and_its_range_done_again(folder, tmp_path):
    """Nothing is lost, and nothing counts twice."""
    thread = kill_one_of(lambda: children("spawn_main"))
    done, lines = spread_out(folder, "energy", tmp_path, workers=2)
    thread.join(5)
    assert state(done) == state(opened(folder, "energy").do(0, SAMPLES))
    assert len(lines) == 1 and "killed by signal 9" in lines[0] and "are done again" in lines[0]


def test_a_range_that_kills_every_worker_is_given_up(folder, tmp_path, monkeypatch):
    """After three deaths the error says which samples, and what to look at."""
    monkeypatch.setattr(spread, "_serve", _die)
    with pytest.raises(ExecutionError, match=r"3 workers died over them.*--range"):
        spread_out(folder, "run", tmp_path, workers=1)


def _die(work, connection, cores):
    connection.recv()
    os._exit(9)


def test_a_run_that_was_cut_short_goes_on(folder, tmp_path):
    """What is kept is not done again; without --resume, or for other work, it is in the way and named."""
    work = opened(folder, "energy")
    kept = PartsFolder(tmp_path / "parts", work.what(), resume=False)
    kept.keep(work.do(10, 30))
    with pytest.raises(ArtifactError, match="Go on with --resume"):
        PartsFolder(tmp_path / "parts", work.what(), resume=False)
    with pytest.raises(ArtifactError, match="of other work"):
        PartsFolder(tmp_path / "parts", opened(folder, "run").what(), resume=True)
    done, _ = spread_out(folder, "energy", tmp_path, resume=True, workers=2)
    assert "10-30.part.json" in {path.name for path in (tmp_path / "parts").iterdir()}
    assert state(done) == state(work.do(0, SAMPLES))


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers on loopback, as `--cluster ADDRESS` finds them; none of them knows this process."""
    pytest.importorskip("distributed")
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        stderr=subprocess.PIPE,
        text=True,
    )
    address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
    threading.Thread(target=lambda: [None for _ in scheduler.stderr], daemon=True).start()
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
    ]
    workers = [subprocess.Popen([*worker, "--name", f"w{i}"], stderr=subprocess.DEVNULL) for i in range(2)]
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_cluster_gives_what_one_process_gives_though_a_worker_is_killed(folder, tmp_path, cluster):
    """Its death is named, its ranges are done again, and nothing counts twice."""
    address, workers = cluster
    done, lines = spread_out(folder, "validate", tmp_path / "a", cluster=address)
    assert state(done) == state(opened(folder, "validate").do(0, SAMPLES)) and not lines
    thread = kill_one_of(lambda: list((tmp_path / "b" / "parts").glob("*.json")) and [workers[0].pid])
    done, lines = spread_out(folder, "energy", tmp_path / "b", cluster=address)
    thread.join(5)
    workers[0].wait(10)
    assert state(done) == state(opened(folder, "energy").do(0, SAMPLES))


def test_a_cluster_that_is_not_there_is_named(folder, tmp_path):
    """No scheduler, or no number of workers."""
    pytest.importorskip("distributed")
    with pytest.raises(ArgumentError, match="must be local:N"):
        spread_out(folder, "run", tmp_path / "a", cluster="local:many")
    with pytest.raises(ExecutionError, match="no scheduler answers there"):
        spread_out(folder, "run", tmp_path / "b", cluster="tcp://127.0.0.1:9")
    assert not [path for name in "ab" if (path := tmp_path / name / "parts").exists()]  # nothing was done that could be kept
